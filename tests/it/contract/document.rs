//! The official OpenAPI 2.0 document and what it refers to.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Where the contract's documents are: `FLEET_CONTRACT_DIR`, else a folder beside the checkout. Prints a warning if there is none.
pub fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/contract");
    let folder = std::env::var_os("FLEET_CONTRACT_DIR").map_or_else(beside, PathBuf::from);
    if folder.join(FLEETS).is_file() {
        return Some(folder);
    }
    // `println!` would be captured while the test passes.
    let line = format!("SKIPPED: contract documents not found at {}: set FLEET_CONTRACT_DIR\n", folder.display());
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

const FLEETS: &str = "fleets/2026-06-01/fleets.json";
const PREVIEW: &str = "fleets/2026-06-02-preview/fleets.reconstructed.json";

pub fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A schema and the document that its own references are relative to.
#[derive(Clone, Copy)]
pub struct Schema<'a> {
    pub home: &'a Value,
    pub value: &'a Value,
}

/// The document of the newest stable version, or of the newest preview, with the common types.
pub struct Contract {
    pub fleets: Value,
    types: Value,
    identity: Value,
}

/// An operation of the contract.
pub struct Operation<'a> {
    pub path: &'a str,
    pub value: &'a Value,
}

impl Operation<'_> {
    pub fn id(&self) -> &str {
        self.value["operationId"].as_str().unwrap()
    }
}

impl Contract {
    pub fn load() -> Option<Self> {
        Self::read(FLEETS)
    }

    /// Reconstructed from an official SDK.
    pub fn load_preview() -> Option<Self> {
        Self::read(PREVIEW)
    }

    fn read(fleets: &str) -> Option<Self> {
        let folder = folder()?;
        Some(Self {
            fleets: read(&folder.join(fleets)),
            types: read(&folder.join("common-types/v5-types.subset.json")),
            identity: read(&folder.join("common-types/v4-managedidentity.subset.json")),
        })
    }

    /// Follows `$ref`s. `fleets.json` refers to the common types by a longer path: the file's name decides.
    pub fn resolve<'a>(&'a self, mut schema: Schema<'a>) -> Schema<'a> {
        while let Some(reference) = schema.value["$ref"].as_str() {
            let (file, pointer) = reference.split_once('#').unwrap();
            let home = match file.rsplit('/').next().unwrap() {
                "" => schema.home,
                "types.json" => &self.types,
                "managedidentity.json" => &self.identity,
                other => panic!("an unknown document: {other}"),
            };
            let value = home.pointer(pointer).unwrap_or_else(|| panic!("a dangling reference: {reference}"));
            schema = Schema { home, value };
        }
        schema
    }

    pub fn schema<'a>(&'a self, value: &'a Value) -> Schema<'a> {
        Schema { home: &self.fleets, value }
    }

    /// A definition of the common types.
    pub fn common<'a>(&'a self, name: &str) -> Schema<'a> {
        Schema { home: &self.types, value: &self.types["definitions"][name] }
    }

    pub fn operations(&self) -> impl Iterator<Item = (&str, Operation<'_>)> {
        self.fleets["paths"].as_object().unwrap().iter().flat_map(|(path, verbs)| {
            let verbs = verbs.as_object().unwrap().iter();
            verbs.map(move |(verb, value)| (verb.as_str(), Operation { path, value }))
        })
    }

    /// Returns the operation of a request.
    pub fn operation(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let path = path.split('?').next().unwrap_or_default();
        let path = path.find("/subscriptions/").or_else(|| path.find("/providers/")).map_or(path, |at| &path[at..]);
        let segments: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let template: Vec<&str> = template.split('/').collect();
            template.len() == segments.len()
                && template.iter().zip(&segments).all(|(t, s)| t.starts_with('{') || t.eq_ignore_ascii_case(s))
        };
        self.operations()
            .find(|(verb, operation)| verb.eq_ignore_ascii_case(method) && fits(operation.path))
            .map(|(_, operation)| operation)
    }
}
