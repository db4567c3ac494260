//! The service's OpenAPI document: the committed one equals the one that the binary prints and serves, and contains all of the
//! official one.

use std::{collections::BTreeSet, process::Command};

use serde_json::{Map, Value};

use super::document::{self, Contract, Schema};
use crate::harness::world::{SUBSCRIPTION, World};

/// Resource types that come with later versions of the service.
const LATER: [&str; 1] = ["managedNamespaces"];

fn committed() -> Value {
    document::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/fleets-2026-06-01.json"))
}

#[test]
fn the_document_in_the_repository_is_the_one_that_is_printed() {
    let printed = Command::new(env!("CARGO_BIN_EXE_fleet-manager")).arg("openapi").env_clear().output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/fleets-2026-06-01.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let same = committed == String::from_utf8(printed.stdout).unwrap();
    assert!(same, "run 'make openapi' and commit what it changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_without_a_token() {
    let world = World::start().await;
    let answer = world.call_with("GET", "/openapi.json", None, &[("authorization", "")]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.body, committed());
}

/// Each documented operation has a route; a path or verb without a route has a specific error.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_described_has_a_route() {
    let world = World::start().await;
    let document = committed();
    for (path, verbs) in document["paths"].as_object().unwrap() {
        let names = path.split('/').map(|part| match part {
            "{subscriptionId}" => SUBSCRIPTION,
            part if part.starts_with('{') => "x",
            part => part,
        });
        let url = names.collect::<Vec<_>>().join("/");
        for verb in verbs.as_object().unwrap().keys() {
            let answer = world.call(&verb.to_uppercase(), &url, Some(serde_json::json!({}))).await;
            let unknown = ["InvalidResourceType", "NotFound", "MethodNotAllowed"].contains(&answer.code());
            assert!(!unknown && answer.status < 500, "{verb} {path}: {} {}", answer.status, answer.body);
        }
    }
}

#[test]
fn every_reference_resolves_and_nothing_is_null() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref") {
                    let pointer = reference.as_str().unwrap().trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                object.values().for_each(|value| walk(value, document));
            }
            other => assert_ne!(other, "null"),
        }
    }
    let document = committed();
    walk(&document, &document);
}

/// All that `allOf` brings together, of either document.
#[derive(Default)]
struct Parts<'a> {
    properties: Vec<(&'a str, &'a Value, &'a Value)>,
    required: BTreeSet<&'a str>,
    additional: Option<(&'a Value, &'a Value)>,
}

struct Comparison<'a> {
    official: &'a Contract,
    ours: &'a Value,
    missing: Vec<String>,
    extra: Vec<String>,
    /// Pairs of schemas that are being compared: some contain themselves.
    open: Vec<(*const Value, *const Value)>,
    /// Whether the schema is part of a request, where `required` and `readOnly` matter.
    asks: bool,
}

impl<'a> Comparison<'a> {
    fn official_parts(&self, schema: Schema<'a>, parts: &mut Parts<'a>) {
        let schema = self.official.resolve(schema);
        for base in schema.value["allOf"].as_array().into_iter().flatten() {
            self.official_parts(Schema { value: base, ..schema }, parts);
        }
        self.gather(schema.home, schema.value, parts);
    }

    fn our_parts(&self, schema: &'a Value, parts: &mut Parts<'a>) {
        let schema = self.resolve(schema);
        for base in schema["allOf"].as_array().into_iter().flatten() {
            self.our_parts(base, parts);
        }
        self.gather(self.ours, schema, parts);
    }

    fn gather(&self, home: &'a Value, schema: &'a Value, parts: &mut Parts<'a>) {
        let properties = schema["properties"].as_object().into_iter().flatten();
        parts.properties.extend(properties.map(|(name, value)| (name.as_str(), value, home)));
        parts.required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        if schema["additionalProperties"].is_object() {
            parts.additional = Some((&schema["additionalProperties"], home));
        }
    }

    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema["$ref"].as_str() {
            schema = self.ours.pointer(reference.trim_start_matches('#')).unwrap();
        }
        schema
    }

    fn missing(&mut self, at: &str, what: impl std::fmt::Display) {
        self.missing.push(format!("{at}: {what}"));
    }

    fn schema(&mut self, official: Schema<'a>, ours: &'a Value, at: &str) {
        let official = self.official.resolve(official);
        let ours = self.resolve(ours);
        let pair = (std::ptr::from_ref(official.value), std::ptr::from_ref(ours));
        if self.open.contains(&pair) {
            return;
        }
        self.open.push(pair);
        self.constraints(official.value, ours, at);
        let (mut theirs, mut own) = (Parts::default(), Parts::default());
        self.official_parts(official, &mut theirs);
        self.our_parts(ours, &mut own);
        for (name, value, home) in &theirs.properties {
            let at = format!("{at}.{name}");
            match own.properties.iter().find(|(known, ..)| known == name) {
                Some((_, ours, _)) => {
                    if self.asks && value["readOnly"] == true && ours["readOnly"] != true {
                        self.extra.push(format!("{at}: may be written"));
                    }
                    let asks = self.asks;
                    self.asks = asks && ours["readOnly"] != true;
                    self.schema(Schema { home, value }, ours, &at);
                    self.asks = asks;
                }
                None => self.missing(&at, "is missing"),
            }
        }
        for (name, ..) in own.properties.iter().filter(|(name, ..)| !theirs.properties.iter().any(|(n, ..)| n == name))
        {
            self.extra.push(format!("{at}.{name}: is ours"));
        }
        for name in theirs.required.difference(&own.required) {
            self.missing(at, format!("'{name}' is required"));
        }
        for name in own.required.difference(&theirs.required).filter(|_| self.asks) {
            self.extra.push(format!("{at}: '{name}' is required here"));
        }
        match (theirs.additional, own.additional) {
            (Some((value, home)), Some((ours, _))) => self.schema(Schema { home, value }, ours, &format!("{at}.*")),
            (Some(_), None) => self.missing(at, "takes no further properties"),
            _ => {}
        }
        if official.value["type"] == "array" {
            let items = Schema { value: &official.value["items"], ..official };
            self.schema(items, &ours["items"], &format!("{at}[]"));
        }
        self.open.pop();
    }

    fn constraints(&mut self, official: &Value, ours: &Value, at: &str) {
        let kind = official["type"].as_str().unwrap_or("object");
        let composed = ours["allOf"].is_array();
        if ours["type"].as_str().unwrap_or("object") != kind || (composed && kind != "object") {
            self.missing(at, format!("type {kind}, ours {}", ours["type"]));
        }
        for name in ["pattern", "minLength", "maxLength"] {
            if official[name] != ours[name] {
                self.missing(at, format!("{name} {}, ours {}", official[name], ours[name]));
            }
        }
        // The kind of an ARM ID is checked, but has no name in OpenAPI 3.
        if official["format"] != "arm-id" && !official["format"].is_null() && official["format"] != ours["format"] {
            self.missing(at, format!("format {}, ours {}", official["format"], ours["format"]));
        }
        let values = |schema: &Value| -> BTreeSet<String> {
            schema["enum"].as_array().into_iter().flatten().map(Value::to_string).collect()
        };
        let (theirs, own) = (values(official), values(ours));
        for value in theirs.difference(&own) {
            self.missing(at, format!("the value {value}"));
        }
        for value in own.difference(&theirs) {
            self.extra.push(format!("{at}: the value {value} is ours"));
        }
    }

    fn parameters(&mut self, official: &'a [Value], ours: &'a Value, at: &str) {
        let empty = Vec::new();
        let own = ours["parameters"].as_array().unwrap_or(&empty);
        let place = |parameter: &Value| (parameter["name"].to_string(), parameter["in"].to_string());
        let mut known = BTreeSet::new();
        for parameter in official {
            let schema = self.official.resolve(self.official.schema(parameter));
            let parameter = schema.value;
            if parameter["in"] == "body" {
                let wanted = Schema { value: &parameter["schema"], ..schema };
                let body = &ours["requestBody"];
                if body["required"] != parameter["required"] {
                    self.missing(at, "a required request body");
                }
                self.asks = true;
                self.schema(wanted, &body["content"]["application/json"]["schema"], &format!("{at} request"));
                self.asks = false;
                continue;
            }
            known.insert(place(parameter));
            let at = format!("{at} {}", parameter["name"]);
            match own.iter().find(|own| place(own) == place(parameter)) {
                None => self.missing(&at, "the parameter is missing"),
                Some(own) => {
                    self.constraints(parameter, &own["schema"], &at);
                    if parameter["required"].as_bool().unwrap_or(false) != own["required"].as_bool().unwrap_or(false) {
                        self.missing(&at, "required or not differs");
                    }
                }
            }
        }
        for parameter in own.iter().filter(|own| !known.contains(&place(own))) {
            self.extra.push(format!("{at}: the parameter {} is ours", parameter["name"]));
        }
    }

    fn responses(&mut self, official: &'a Map<String, Value>, ours: &'a Value, at: &str) {
        for (status, response) in official {
            let at = format!("{at} {status}");
            let own = &ours["responses"][status];
            if own.is_null() {
                self.missing(&at, "the status code is missing");
                continue;
            }
            for (name, wanted) in response["headers"].as_object().into_iter().flatten() {
                if own["headers"][name]["schema"]["type"] != wanted["type"] {
                    self.missing(&at, format!("the header {name}"));
                }
            }
            let schema = &own["content"]["application/json"]["schema"];
            match (&response["schema"], schema) {
                (Value::Null, Value::Null) => {}
                (Value::Null, _) => self.extra.push(format!("{at}: has a body")),
                (_, Value::Null) => self.missing(&at, "the body"),
                (wanted, schema) => self.schema(self.official.schema(wanted), schema, &at),
            }
        }
        for status in ours["responses"].as_object().unwrap().keys().filter(|status| !official.contains_key(*status)) {
            self.extra.push(format!("{at}: the status code {status} is ours"));
        }
    }
}

/// Parts that the service's document lacks, and parts that only this document has.
fn compare(contract: &Contract, ours: &Value) -> (Vec<String>, Vec<String>) {
    let (missing, extra, open) = (Vec::new(), Vec::new(), Vec::new());
    let mut comparison = Comparison { official: contract, ours, missing, extra, open, asks: false };
    let mut known = BTreeSet::new();
    let mut later = Vec::new();
    for (verb, operation) in contract.operations() {
        if LATER.iter().any(|later| operation.path.contains(later)) {
            later.push(format!("{}: not yet there", operation.id()));
            continue;
        }
        known.insert((operation.path, verb));
        let own = &ours["paths"][operation.path][verb];
        let at = operation.id().to_owned();
        if own["operationId"] != operation.id() {
            comparison.missing(&at, format!("{verb} {} is missing", operation.path));
            continue;
        }
        let parameters = operation.value["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        comparison.parameters(parameters, own, &at);
        comparison.responses(operation.value["responses"].as_object().unwrap(), own, &at);
    }
    for (path, verbs) in ours["paths"].as_object().unwrap() {
        for verb in verbs.as_object().unwrap().keys().filter(|verb| !known.contains(&(path.as_str(), verb.as_str()))) {
            comparison.extra.push(format!("{verb} {path} is ours"));
        }
    }
    assert!(known.len() > 20, "{known:?}");
    comparison.extra.extend(later);
    (comparison.missing, comparison.extra)
}

#[test]
fn nothing_of_the_official_document_is_missing() {
    let Some(contract) = Contract::load() else { return };
    let (missing, extra) = compare(&contract, &committed());
    println!("openapi: {} differences that take nothing away:\n{extra:#?}", extra.len());
    assert!(missing.is_empty(), "{} missing: {missing:#?}", missing.len());
}

/// The comparison itself works: it reports each part that is removed from the service's document.
#[test]
fn the_comparison_detects_every_removed_part() {
    let Some(contract) = Contract::load() else { return };
    let whole = committed();
    let schema = |rest: &str| format!("/components/schemas/{rest}");
    let run = "/paths/~1subscriptions~1{subscriptionId}~1resourceGroups~1{resourceGroupName}~1providers~1Microsoft.ContainerService~1fleets~1{fleetName}~1updateRuns~1{updateRunName}";
    let cases = [
        (schema("UpdateStage/properties"), "afterStageWaitInSeconds"),
        (schema("UpdateStage/properties/name"), "pattern"),
        (schema("UpdateGroup/properties/maxConcurrency"), "pattern"),
        (schema("GateConfiguration/properties/displayName"), "maxLength"),
        (schema("ErrorDetail/properties"), "additionalInfo"),
        (schema("MemberUpdateStatus/properties"), "operationId"),
        (schema("UpdateState"), "enum"),
        (schema("UpdateStatus/properties/startTime"), "format"),
        (schema("GateListResult"), "required"),
        (schema("AutoUpgradeProfileStatus/properties"), "lastTriggerError"),
        (schema("UpgradeChannel"), "enum"),
        (schema("GenerateResponse"), "required"),
        (run.to_owned(), "delete"),
        (format!("{run}/put"), "requestBody"),
        (format!("{run}/put"), "parameters"),
        (format!("{run}/put/responses"), "201"),
        (format!("{run}~1start/post/responses/202/headers"), "Retry-After"),
    ];
    for (place, name) in cases {
        let mut less = whole.clone();
        let object = less.pointer_mut(&place).and_then(Value::as_object_mut);
        assert!(object.is_some_and(|object| object.remove(name).is_some()), "there is no {place}/{name}");
        let (missing, _) = compare(&contract, &less);
        assert!(!missing.is_empty(), "{place}/{name} is not missed");
    }
}
