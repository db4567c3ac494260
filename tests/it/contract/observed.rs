//! Exchanges recorded with the real service, replayed in order: same status codes, asynchronous headers, and shapes.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Deviations, document, judge};
use crate::harness::world::{Answer, SUBSCRIPTION, World};

const DEVIATIONS: Deviations = &[
    (
        "retry-after: sent, not recorded",
        "clients wait 30 s without it (the specification has it); the real service leaves it out",
    ),
    (
        "labels.fleet.azure.com/location: is missing",
        "a new member's region is known once the job has asked AKS, which no request does",
    ),
];

/// The subscription and the cluster of the recording.
const RECORDED_SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
const RECORDED_CLUSTER: &str =
    "/resourcegroups/cli-000001/providers/Microsoft.ContainerService/managedClusters/flmc-000003";

/// Replaces recorded names and IDs in a value by those of the test's world.
fn ours(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let cluster = "/resourcegroups/rg1/providers/Microsoft.ContainerService/managedClusters/aks-1";
            Value::from(text.replace(RECORDED_CLUSTER, cluster).replace(RECORDED_SUBSCRIPTION, SUBSCRIPTION))
        }
        Value::Array(items) => items.iter().map(ours).collect(),
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), ours(value))).collect(),
        other => other.clone(),
    }
}

/// Replaces times, GUIDs, users and cluster names in a text, so that the rest can be compared.
fn shape(name: &str, text: &str) -> String {
    if text.parse::<Timestamp>().is_ok() {
        return "{time}".to_owned();
    }
    match name {
        "eTag" if text.starts_with('"') && text.ends_with('"') && text.len() > 2 => return "{etag}".to_owned(),
        "createdBy" | "lastModifiedBy" => return "{user}".to_owned(),
        "name" if uuid::Uuid::try_parse(text).is_ok() => return "{guid}".to_owned(),
        // The name of an auto-upgrade run contains the newest version and a hash, which differ here.
        "id" if text.contains("/updateRuns/auto-") => {
            let (fleet, run) = text.rsplit_once('/').unwrap_or_default();
            let kind: Vec<&str> = run.split("-rapid-").collect();
            return format!("{fleet}/{}-rapid-{{version and hash}} of {}", kind[0], run.len());
        }
        _ if name.starts_with("fleet.azure.com/") => return "{label}".to_owned(),
        _ => {}
    }
    let guid = |part: &str| uuid::Uuid::try_parse(part).is_ok() && part != SUBSCRIPTION;
    text.split('/').map(|part| if guid(part) { "{guid}" } else { part }).collect::<Vec<_>>().join("/")
}

fn compare(name: &str, recorded: &Value, given: &Value, at: &str, findings: &mut Vec<String>) {
    match (recorded, given) {
        (Value::Object(recorded), Value::Object(given)) => {
            let names: BTreeSet<&String> = recorded.keys().chain(given.keys()).collect();
            for name in names {
                let at = format!("{at}.{name}");
                match (recorded.get(name), given.get(name)) {
                    (Some(recorded), Some(given)) => compare(name, recorded, given, &at, findings),
                    (Some(_), None) => findings.push(format!("{at}: is missing")),
                    _ => findings.push(format!("{at}: is not recorded")),
                }
            }
        }
        (Value::Array(recorded), Value::Array(given)) if recorded.len() == given.len() => {
            for (index, (recorded, given)) in recorded.iter().zip(given).enumerate() {
                compare(name, recorded, given, &format!("{at}[{index}]"), findings);
            }
        }
        (Value::String(recorded), Value::String(given)) if shape(name, recorded) == shape(name, given) => {}
        (recorded, given) if recorded == given => {}
        _ => findings.push(format!("{at}: recorded {recorded}, given {given}")),
    }
}

struct Replay<'a> {
    world: &'a World,
    /// Recorded operation IDs, and the URLs of the operations here.
    operations: HashMap<String, String>,
    gates: HashMap<String, String>,
    findings: Vec<String>,
}

/// The operation's GUID in the URL of an operation.
fn operation_of(url: &str) -> Option<&str> {
    let (_, after) = url.split_once("/operations/").or_else(|| url.split_once("/operationresults/"))?;
    after.split('?').next()
}

impl Replay<'_> {
    async fn exchange(&mut self, index: usize, exchange: &Value) {
        let text = |name: &str| exchange[name].as_str().unwrap();
        let (method, path) = (text("method"), text("path"));
        let short = path.rsplit("/providers/Microsoft.ContainerService").next().unwrap_or_default();
        let title = format!("{index} {method} {}", short.split('?').next().unwrap());
        let target = match operation_of(path) {
            Some(id) => {
                let kind = if path.contains("/operationresults/") { "operationresults" } else { "operations" };
                match self.operations.get(&format!("{kind}/{id}")) {
                    Some(url) => url.clone(),
                    None => {
                        println!("observed: not of a fleet (the recording's cluster): {title}");
                        return;
                    }
                }
            }
            None => {
                self.gates.iter().fold(path.replace(RECORDED_SUBSCRIPTION, SUBSCRIPTION), |path, (recorded, given)| {
                    path.replace(recorded, given)
                })
            }
        };
        let body = Some(&exchange["requestBody"]).filter(|body| !body.is_null()).map(ours);
        let body = match body {
            Some(body) if title.contains("/members/") => Some(self.with_labels_as_read(&target, body).await),
            body => body,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let (answer, findings) = loop {
            let answer = self.world.call(method, &target, body.clone()).await;
            let findings = self.differences(&title, exchange, &answer);
            // The effect of a job shows a moment later, as in the recording.
            let comes = method == "GET" && findings.iter().any(|finding| !finding.contains("retry-after"));
            if !comes || Instant::now() > deadline {
                break (answer, findings);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        self.learn(exchange, &answer);
        self.findings.extend(findings);
    }

    /// Clients send back the automatic labels that they have read.
    async fn with_labels_as_read(&self, target: &str, mut body: Value) -> Value {
        let shown = self.world.get(target).await.body;
        if let Some(Value::Object(labels)) = body.pointer_mut("/properties/labels") {
            for (name, value) in labels.iter_mut().filter(|(name, _)| name.starts_with("fleet.azure.com/")) {
                *value = shown["properties"]["labels"][name].clone();
            }
        }
        body
    }

    fn differences(&self, title: &str, exchange: &Value, answer: &Answer) -> Vec<String> {
        let mut findings = Vec::new();
        if answer.status != exchange["status"] {
            findings.push(format!("{title}: status {} recorded, {} given", exchange["status"], answer.status));
        }
        for header in ["azure-asyncoperation", "location", "retry-after"] {
            match (exchange["responseHeaders"][header].is_string(), answer.header(header)) {
                (true, None) => findings.push(format!("{title}: {header}: recorded, not sent")),
                (false, Some(_)) => findings.push(format!("{title}: {header}: sent, not recorded")),
                _ => {}
            }
        }
        // An operation that was in progress in the recording may have ended here.
        let recorded = ours(&exchange["responseBody"]);
        if recorded["status"] != "InProgress" {
            compare("", &recorded, &answer.body, title, &mut findings);
        }
        findings
    }

    /// Maps recorded operations and gates to those of the test.
    fn learn(&mut self, exchange: &Value, answer: &Answer) {
        for (header, kind) in [("azure-asyncoperation", "operations"), ("location", "operationresults")] {
            let recorded = exchange["responseHeaders"][header].as_str().and_then(operation_of);
            if let (Some(id), Some(url)) = (recorded, answer.header(header)) {
                self.operations.insert(format!("{kind}/{id}"), url.to_owned());
            }
        }
        let recorded = &exchange["responseBody"]["value"][0];
        if recorded["type"] == "Microsoft.ContainerService/fleets/gates" {
            let name = |gate: &Value| gate["name"].as_str().unwrap_or_default().to_owned();
            self.gates.insert(name(recorded), name(&answer.body["value"][0]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_equal_those_recorded_from_azure() {
    let Some(folder) = document::folder() else { return };
    let recording = document::read(&folder.join("observed/fleet-hubless.json"));
    let world = World::start().await;
    // The recording begins with an existing resource group.
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/cli-000001");
    assert_eq!(world.put(&group, json!({"location": "westus"})).await.status, 201);
    // The region offered the minor version of a recorded profile at that time.
    let published = json!({"region": "eastus", "version": "1.30.14"});
    world.emulator("POST", "/emulator/versions", Some(published)).await;
    let mut replay = Replay { world: &world, operations: HashMap::new(), gates: HashMap::new(), findings: Vec::new() };
    let exchanges = recording["exchanges"].as_array().unwrap();
    for (index, exchange) in exchanges.iter().enumerate() {
        replay.exchange(index, exchange).await;
    }
    println!("observed: {} exchanges", exchanges.len());
    judge("observed", &replay.findings, DEVIATIONS);
}
