//! Dependencies of the workspace: permissive licences, crates.io only, and none unused. These tests need no network, since
//! `cargo metadata` reads what the build has downloaded. `.ci/advisories` checks for known vulnerabilities.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Permissive licences, which require a notice at most.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns `cargo metadata` of the workspace and of all packages for this platform.
fn metadata() -> Value {
    let version = run(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()), &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform", host];
    serde_json::from_str(&run(&cargo, &arguments)).unwrap()
}

/// Whether a licence is permitted. `expression` is an SPDX expression, or has alternatives separated by slashes.
fn is_permitted(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    let any = |alternatives: &str| alternatives.split(" OR ").any(|one| LICENCES.contains(&one.trim()));
    expression.split(" AND ").all(any)
}

#[test]
fn licences_are_permissive_and_packages_from_crates_io() {
    for package in metadata()["packages"].as_array().unwrap() {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_permitted(licence), "{name} has the licence {licence}");
        let source = package["source"].as_str();
        assert!(source.is_none_or(|source| source == CRATES_IO), "{name} is from {source:?}");
    }
}

#[test]
fn licence_expressions() {
    for permitted in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(is_permitted(permitted), "{permitted}");
    }
    for forbidden in ["GPL-3.0", "MIT AND GPL-3.0", "none", "(MIT OR Apache-2.0) AND LGPL-2.1"] {
        assert!(!is_permitted(forbidden), "{forbidden}");
    }
}

/// Returns the words of all Rust sources below some folders.
fn words(folders: &[PathBuf]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut open = folders.to_vec();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let all = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
            words.extend(all.map(str::to_owned));
        }
    }
    words
}

#[test]
fn each_dependency_is_used() {
    let metadata = metadata();
    let members = metadata["workspace_members"].as_array().unwrap();
    let mut used_by_members = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap().iter().filter(|package| members.contains(&package["id"])) {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned();
        let source = words(&[folder.join("src")]);
        let with_tests = words(&["src", "tests", "benches"].map(|name| folder.join(name)));
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            used_by_members.insert(name.to_owned());
            let words = if dependency["kind"] == "dev" { &with_tests } else { &source };
            assert!(words.contains(&name.replace('-', "_")), "{} does not use {name}", package["name"]);
        }
    }
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let shared = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for name in shared.lines().filter_map(|line| line.split(" =").next()).filter(|name| !name.is_empty()) {
        assert!(used_by_members.contains(name), "no crate of the workspace uses {name}");
    }
}
