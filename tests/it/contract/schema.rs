//! The responses of a session with a fleet, including errors, match the schema of their operation and status.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Deviations,
    checker::{Checker, Way},
    document::{Contract, Schema},
    judge,
};
use crate::harness::world::{Answer, World, upgrade_to};

const DEVIATIONS: Deviations = &[];

/// Operations of the contract that belong to later versions of the service.
const LATER: [&str; 1] = ["managedNamespaces"];

/// A world in which each response is checked.
struct Checked<'a> {
    world: &'a World,
    contract: &'a Contract,
    findings: Mutex<Vec<String>>,
    seen: Mutex<BTreeMap<String, BTreeSet<u16>>>,
}

impl<'a> Checked<'a> {
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let answer = self.world.call(method, path, body.clone()).await;
        let mut findings = Vec::new();
        self.check(method, path, body.as_ref(), &answer, &mut findings);
        self.findings.lock().unwrap().extend(findings);
        answer
    }

    fn check(&self, method: &str, path: &str, body: Option<&Value>, answer: &Answer, findings: &mut Vec<String>) {
        let schema = if path.contains("/locations/") {
            (answer.status == 200).then(|| self.contract.common("OperationStatusResult"))
        } else {
            let operation = self.contract.operation(method, path).unwrap_or_else(|| panic!("{method} {path}"));
            let id = operation.id().to_owned();
            self.seen.lock().unwrap().entry(id.clone()).or_default().insert(answer.status);
            let responses = &operation.value["responses"];
            let mut response = &responses[answer.status.to_string()];
            if response.is_null() && answer.status >= 400 {
                response = &responses["default"];
            } else if let Some(body) = body.filter(|_| answer.status < 300) {
                let parameters = operation.value["parameters"].as_array().unwrap();
                let parameter = parameters.iter().find(|parameter| parameter["in"] == "body").unwrap();
                let mut checker = Checker::new(self.contract, Way::Request);
                checker.check(self.contract.schema(&parameter["schema"]), body, &format!("{id} request"));
                findings.append(&mut checker.findings);
            }
            if response.is_null() {
                findings.push(format!("{id}: the status code {} is unknown", answer.status));
            }
            // A deletion's 202 shows the resource, as recorded; the contract describes no body there.
            let of_get = &self.contract.fleets["paths"][operation.path]["get"]["responses"]["200"]["schema"];
            let described = [&response["schema"], of_get].into_iter().find(|schema| !schema.is_null());
            described.map(|schema| self.contract.schema(schema))
        };
        let at = format!("{method} {} {}", path.rsplit("/providers/").next().unwrap_or_default(), answer.status);
        match schema {
            Some(schema) if !answer.body.is_null() => self.conforms(schema, &answer.body, &at, findings),
            Some(_) if answer.status == 200 && method != "DELETE" => findings.push(format!("{at}: no body")),
            None if !answer.body.is_null() => findings.push(format!("{at}: a body that is not described")),
            _ => {}
        }
    }

    fn conforms(&self, schema: Schema<'a>, body: &Value, at: &str, findings: &mut Vec<String>) {
        let mut checker = Checker::new(self.contract, Way::Answer);
        checker.check(schema, body, at);
        findings.append(&mut checker.findings);
    }

    async fn ok(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> Answer {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer
    }

    /// Reads until a condition holds, and checks each answer.
    async fn until(&self, path: &str, what: &str, holds: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let answer = self.call("GET", path, None).await;
            if holds(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} is not {what}: {:#}", answer.body);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn settled(&self, path: &str) {
        let done = |answer: &Answer| answer.body["properties"]["provisioningState"] == "Succeeded";
        self.until(path, "Succeeded", done).await;
    }

    async fn reaches(&self, run: &str, state: &str) -> Answer {
        self.until(run, state, |answer| answer.body["properties"]["status"]["status"]["state"] == state).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_fits_its_schema() {
    let Some(contract) = Contract::load() else { return };
    let world = World::start().await;
    let checked = Checked { world: &world, contract: &contract, findings: Mutex::default(), seen: Mutex::default() };
    live(&checked).await;
    let seen = checked.seen.into_inner().unwrap();
    let unseen: Vec<&str> = contract
        .operations()
        .filter(|(_, operation)| !LATER.iter().any(|later| operation.path.contains(later)))
        .map(|(_, operation)| operation.value["operationId"].as_str().unwrap())
        .filter(|id| !seen.contains_key(*id))
        .collect();
    assert_eq!(unseen, Vec::<&str>::new(), "operations that were not tried");
    println!("checked: {seen:?}");
    judge("schema", &checked.findings.into_inner().unwrap(), DEVIATIONS);
}

async fn live(c: &Checked<'_>) {
    // All regions offer the same images, so that a consistent image can be chosen.
    for (family, version) in [
        ("AKSUbuntu-2204gen2containerd", "202602.01.0"),
        ("AKSAzureLinux-V3gen2", "202602.01.0"),
        ("AKSWindows-2022-containerd", "20348.9999.260201"),
    ] {
        for region in ["eastus", "westeurope", "swedencentral"] {
            let body = json!({"region": region, "family": family, "version": version});
            c.world.emulator("POST", "/emulator/images", Some(body)).await;
        }
    }
    let fleet = c.world.fleet("f");
    let provider = "/providers/Microsoft.ContainerService";
    c.ok("GET", &format!("{provider}/operations"), None, 200).await;

    // Fleets.
    let body = json!({"location": "East US", "tags": {"a": "b"}, "identity": {"type": "SystemAssigned"}});
    let made = c.ok("PUT", &fleet, Some(body.clone()), 201).await;
    c.until(made.header("azure-asyncoperation").unwrap(), "over", |a| a.body["status"] == "Succeeded").await;
    c.settled(&fleet).await;
    c.ok("PUT", &fleet, Some(body), 200).await;
    c.settled(&fleet).await;
    c.ok("PATCH", &fleet, Some(json!({"tags": {"a": "c"}})), 200).await;
    let (group, subscription) = (fleet.trim_end_matches("/f"), fleet.split("/resourceGroups").next().unwrap());
    c.ok("GET", group, None, 200).await;
    c.ok("GET", &format!("{subscription}{provider}/fleets?api-version=2026-06-01&$top=1"), None, 200).await;
    c.ok("POST", &format!("{fleet}/listCredentials"), None, 400).await;
    c.ok("PUT", &fleet, Some(json!({"location": 5})), 400).await;
    c.ok("PUT", &fleet, Some(json!({"location": "westus"})), 409).await;
    c.ok("GET", &c.world.fleet("none"), None, 404).await;
    c.ok("PATCH", &c.world.fleet("none"), Some(json!({})), 404).await;
    c.ok("DELETE", &c.world.fleet("none"), None, 204).await;

    // Members.
    let member = |name: &str| format!("{fleet}/members/{name}");
    for (n, name) in ["m1", "m2", "m3"].into_iter().enumerate() {
        let properties =
            json!({"clusterResourceId": World::cluster(n + 1), "group": format!("g{}", n + 1), "labels": {"x": "y"}});
        c.ok("PUT", &member(name), Some(json!({"properties": properties})), 201).await;
    }
    for name in ["m1", "m2", "m3"] {
        c.settled(&member(name)).await;
    }
    c.ok("PATCH", &member("m1"), Some(json!({"properties": {"labels": {"x": "z"}}})), 200).await;
    let again = json!({"properties": {"clusterResourceId": World::cluster(1), "group": "g1"}});
    c.ok("PUT", &member("m1"), Some(again.clone()), 200).await;
    c.settled(&member("m1")).await;
    c.ok("PUT", &member("m9"), Some(again), 409).await;
    c.ok("GET", &format!("{fleet}/members?api-version=2026-06-01&$top=2"), None, 200).await;
    let missing = json!({"properties": {"clusterResourceId": World::cluster(999)}});
    c.ok("PUT", &member("gone"), Some(missing), 201).await;
    c.until(&member("gone"), "Failed", |a| a.body["properties"]["provisioningState"] == "Failed").await;
    let left = c.ok("DELETE", &member("gone"), None, 202).await;
    c.until(left.header("azure-asyncoperation").unwrap(), "over", |a| a.body["status"] == "Succeeded").await;
    c.until(left.header("location").unwrap(), "over", |a| a.status == 204).await;
    c.ok("GET", &member("gone"), None, 404).await;
    c.ok("DELETE", &member("gone"), None, 204).await;

    // Strategies.
    let strategy = format!("{fleet}/updateStrategies/s");
    let gate = |text: &str| json!([{"type": "Approval", "displayName": text}]);
    let stages = json!({"stages": [
        {"name": "one", "groups": [{"name": "g1", "maxConcurrency": "50%"}], "beforeGates": gate("before"), "afterStageWaitInSeconds": 3600},
        {"name": "two", "maxConcurrency": "2", "groups": [{"name": "g2"}, {"name": "g3", "afterGates": gate("after")}, {"name": "nobody"}]},
    ]});
    let body = json!({"properties": {"strategy": stages}});
    c.ok("PUT", &strategy, Some(body.clone()), 201).await;
    c.ok("PUT", &strategy, Some(body), 200).await;
    c.ok("GET", &strategy, None, 200).await;
    c.ok("GET", &format!("{fleet}/updateStrategies"), None, 200).await;
    c.ok("PUT", &strategy, Some(json!({"properties": {"strategy": {"stages": []}}})), 400).await;

    // Auto-upgrade profiles.
    let profile = |name: &str| format!("{fleet}/autoUpgradeProfiles/{name}");
    let properties = json!({"properties": {"channel": "Rapid", "updateStrategyId": strategy, "nodeImageSelection": {"type": "Latest"}}});
    c.ok("PUT", &profile("p"), Some(properties.clone()), 201).await;
    c.ok("PUT", &profile("p"), Some(properties), 200).await;
    c.ok("GET", &profile("p"), None, 200).await;
    let target = json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "1.33", "disabled": true});
    c.ok("PUT", &profile("target"), Some(json!({"properties": target})), 201).await;
    c.ok("GET", &format!("{fleet}/autoUpgradeProfiles?api-version=2026-06-01&$top=1"), None, 200).await;
    c.ok("PUT", &profile("q"), Some(json!({"properties": {"channel": "Stable", "longTermSupport": true}})), 400).await;
    let generate = |name: &str| format!("{}/generateUpdateRun", profile(name));
    let generated = c.ok("POST", &generate("p"), None, 200).await;
    c.ok("GET", generated.body["id"].as_str().unwrap(), None, 200).await;
    c.ok("POST", &generate("none"), None, 404).await;
    c.ok("GET", &profile("none"), None, 404).await;
    c.ok("DELETE", &profile("p"), None, 204).await;
    c.ok("DELETE", &profile("p"), None, 204).await;
    c.ok("DELETE", &profile("target"), None, 204).await;
    c.ok("DELETE", generated.body["id"].as_str().unwrap(), None, 200).await;

    // A run through its states.
    let run = format!("{fleet}/updateRuns/r");
    let act = |action: &str| format!("{run}/{action}");
    let properties = json!({"updateStrategyId": strategy, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    c.ok("PUT", &run, Some(json!({"properties": properties})), 201).await;
    c.ok("PUT", &run, Some(json!({"properties": properties})), 200).await;
    c.ok("POST", &act("stop"), None, 409).await;
    c.ok("POST", &act("start"), None, 200).await;
    c.reaches(&run, "Pending").await;
    c.ok("POST", &act("start"), None, 200).await;
    let gates = c.ok("GET", &format!("{fleet}/gates"), None, 200).await;
    let first = gates.body["value"][0]["id"].as_str().unwrap().to_owned();
    c.ok("GET", &first, None, 200).await;
    c.ok("PATCH", &first, Some(json!({"properties": {"state": "Pending"}})), 400).await;
    c.ok("PATCH", &first, Some(json!({"properties": {"state": "Completed"}})), 200).await;
    c.until(&run, "waiting", |a| {
        a.body["properties"]["status"]["stages"][0]["afterStageWaitStatus"]["status"]["state"] == "Running"
    })
    .await;
    c.ok("POST", &act("stop"), None, 200).await;
    c.reaches(&run, "Stopped").await;
    c.ok("POST", &act("stop"), None, 409).await;
    c.ok("POST", &act("start"), None, 200).await;
    c.until(&run, "going on", |a| a.body["properties"]["status"]["status"]["state"] != "Stopped").await;
    let skip = |kind: &str, name: &str| Some(json!({"targets": [{"type": kind, "name": name}]}));
    c.ok("POST", &act("skip"), skip("Group", "nobody-knows-it"), 400).await;
    c.ok("POST", &act("skip"), skip("Member", "m2"), 200).await;
    c.ok("POST", &act("skip"), skip("AfterStageWait", "one"), 200).await;
    c.reaches(&run, "Pending").await;
    c.ok("POST", &act("skip"), skip("Group", "g3"), 200).await;
    c.reaches(&run, "Completed").await;
    c.ok("GET", &format!("{fleet}/updateRuns"), None, 200).await;

    // A run that fails, with an error on every level; and one whose images were chosen for it.
    c.world
        .fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "times": 9, "action": {"status": 400, "code": "BadRequest", "message": "no"}}))
        .await;
    let fails = format!("{fleet}/updateRuns/fails");
    c.ok("PUT", &fails, Some(json!({"properties": {"managedClusterUpdate": upgrade_to("Full", "1.34.0")}})), 201).await;
    c.ok("POST", &format!("{fails}/start"), None, 200).await;
    let ended = |a: &Answer| {
        let state = a.body["properties"]["status"]["status"]["state"].as_str().unwrap().to_owned();
        ["Failed", "Completed", "Skipped", "Pending"].contains(&state.as_str())
    };
    c.until(&fails, "over", ended).await;
    let images = format!("{fleet}/updateRuns/images");
    let update = json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Consistent"}});
    c.ok("PUT", &images, Some(json!({"properties": {"managedClusterUpdate": update}})), 201).await;
    c.until(&images, "readable", |a| {
        a.body["properties"]["status"]["nodeImageSelection"]["selectedNodeImageVersions"].is_array()
    })
    .await;
    c.ok("DELETE", &images, None, 200).await;
    c.ok("DELETE", &images, None, 204).await;
    c.ok("GET", &images, None, 404).await;
    c.ok("DELETE", &strategy, None, 200).await;
    c.ok("DELETE", &strategy, None, 204).await;

    // Deletion, once no upgrade of the fleet is in progress.
    let deadline = Instant::now() + Duration::from_secs(40);
    let gone = loop {
        let answer = c.call("DELETE", &fleet, None).await;
        if answer.status == 202 {
            break answer;
        }
        assert!(answer.status == 409 && Instant::now() < deadline, "{}", answer.body);
        c.call("POST", &format!("{fails}/stop"), None).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    c.until(gone.header("location").unwrap(), "gone", |a| a.status == 204).await;
    c.ok("GET", &format!("{fleet}/members"), None, 404).await;
}
