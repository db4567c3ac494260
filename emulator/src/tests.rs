//! The world under test without network and with a clock of our own.

use std::collections::BTreeMap;

use axum::http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::call::{Body, Call, Reply};
use crate::config::Config;
use crate::faults::{Action, Failure, Fault};
use crate::world::{Outcome, World};

const RG1: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService/managedClusters";

/// A world, and the seconds that have passed in it.
struct Bench {
    world: World,
    start: Timestamp,
    now: Timestamp,
}

struct Answered {
    status: u16,
    headers: BTreeMap<&'static str, String>,
    body: Value,
}

impl Answered {
    fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or(""))
    }
}

impl Bench {
    fn new(config: Config) -> Self {
        let start: Timestamp = "2026-11-20T12:00:00.1234567Z".parse().unwrap();
        Self { world: World::new(&config, start), start, now: start }
    }

    fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = self.start + SignedDuration::from_secs_f64(seconds);
        self
    }

    fn call(method: Method, url: &str, body: Option<Value>) -> Call {
        let (path, query) = url.split_once('?').unwrap_or((url, "api-version=2026-08-01"));
        let query = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_lowercase(), value.into()));
        Call {
            method,
            path: path.into(),
            segments: Call::split(path),
            query: query.collect(),
            if_match: None,
            if_none_match: None,
            body: Ok(body),
            base: "http://emulator".into(),
            caller: Some("me".into()),
            authenticated: true,
        }
    }

    fn run(&mut self, call: &Call) -> Answered {
        match self.world.apply(call, self.now) {
            Outcome::Answer(reply) | Outcome::Late(reply, _) => read(reply),
            Outcome::Cut(_) => panic!("cut"),
        }
    }

    fn send(&mut self, method: Method, url: &str, body: Option<Value>) -> Answered {
        self.run(&Self::call(method, url, body))
    }

    fn get(&mut self, url: &str) -> Value {
        let answered = self.send(Method::GET, url, None);
        assert_eq!(answered.status, 200, "{url}: {}", answered.body);
        answered.body
    }

    fn cluster(&mut self, name: &str) -> Value {
        self.get(&format!("{RG1}/{name}"))
    }

    fn put(&mut self, url: &str, body: Value) -> Answered {
        self.send(Method::PUT, url, Some(body))
    }

    fn post(&mut self, url: &str) -> Answered {
        self.send(Method::POST, url, None)
    }

    /// The cluster as read, with the control plane and maybe the pools at another version.
    fn raised(&mut self, name: &str, version: &str, pools: bool) -> Value {
        let mut cluster = self.cluster(name);
        cluster["properties"]["kubernetesVersion"] = version.into();
        if pools {
            for pool in cluster["properties"]["agentPoolProfiles"].as_array_mut().unwrap() {
                pool["orchestratorVersion"] = version.into();
            }
        }
        cluster
    }

    fn operation(&mut self, answered: &Answered) -> Value {
        let url = answered.headers["azure-asyncoperation"].strip_prefix("http://emulator").unwrap().to_owned();
        self.get(&url)
    }

    fn log(&self) -> Value {
        self.world.log.read(0, None, |id| json!(id))["value"].clone()
    }
}

fn read(reply: Reply) -> Answered {
    let body = match reply.body {
        Body::Empty => Value::Null,
        Body::Json(value) => value,
        Body::Text(text) => serde_json::from_str(&text).unwrap(),
        Body::Garbage => "garbage".into(),
    };
    Answered { status: reply.status.as_u16(), headers: reply.headers.into_iter().collect(), body }
}

/// A cluster whose three pools we know.
fn three_pools(bench: &mut Bench) -> String {
    let body = json!({
        "location": "East US",
        "properties": {"kubernetesVersion": "1.32.7", "agentPoolProfiles": [
            {"name": "sys", "mode": "System", "count": 3, "vmSize": "Standard_D2s_v3"},
            {"name": "az", "osSKU": "AzureLinux"},
            {"name": "win", "osType": "Windows"},
        ]},
    });
    let url = format!("{RG1}/three");
    let created = bench.put(&url, body);
    assert_eq!((created.status, &created.body["properties"]["provisioningState"]), (201, &json!("Creating")));
    let later = (bench.now - bench.start).total(jiff::Unit::Second).unwrap() + 5.0;
    bench.at(later);
    url
}

#[test]
fn a_control_plane_upgrade_shows_its_target_at_once_and_ends_by_the_clock() {
    let mut bench = Bench::new(Config::default());
    let before = bench.cluster("aks-1");
    let body = bench.raised("aks-1", "1.33.2", false);
    let put = bench.put(&format!("{RG1}/AKS-1"), body);
    assert_eq!(put.status, 200);
    assert!(!put.headers.contains_key("location") && !put.headers.contains_key("retry-after"), "{:?}", put.headers);
    let properties = &put.body["properties"];
    assert_eq!(properties["provisioningState"], "Upgrading");
    assert_eq!(
        (&properties["kubernetesVersion"], &properties["currentKubernetesVersion"]),
        (&json!("1.33.2"), &json!("1.33.2"))
    );
    assert_eq!(properties["agentPoolProfiles"][0]["provisioningState"], "Succeeded");
    assert_eq!(
        properties["agentPoolProfiles"][0]["orchestratorVersion"],
        before["properties"]["agentPoolProfiles"][0]["orchestratorVersion"]
    );
    assert_ne!(put.body["eTag"], before["eTag"]);
    assert_eq!(put.body["name"], "aks-1", "the name keeps its first casing");

    let running = bench.at(4.9).operation(&put);
    assert_eq!(running["status"], "InProgress");
    assert_eq!(running["startTime"], "2026-11-20T12:00:00.1234567Z");
    assert!(running.get("endTime").is_none());
    let done = bench.at(60.0).operation(&put);
    assert_eq!((&done["status"], &done["endTime"]), (&json!("Succeeded"), &json!("2026-11-20T12:00:05.1234567Z")));
    assert!(done.get("error").is_none());
    assert_eq!(bench.cluster("aks-1")["properties"]["provisioningState"], "Succeeded");
    let log = bench.log();
    assert_eq!(
        (&log[0]["step"], &log[0]["target"], &log[0]["applied"]),
        (&json!("ControlPlane"), &json!("1.33.2"), &json!(true))
    );
    assert_eq!(
        (&log[0]["caller"], &log[0]["cluster"], &log[0]["status"]),
        (&json!("me"), &json!("aks-1"), &json!(200))
    );
}

#[test]
fn a_full_upgrade_moves_pools_and_brings_the_newest_image() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    bench.world.catalogue.region_or_new("eastus").publish_image("AKSUbuntu-2204gen2containerd", "202601.01.0");
    let body = bench.raised("three", "1.33", true);
    let put = bench.put(&url, body);
    assert_eq!(put.status, 200, "{}", put.body);
    let pools = put.body["properties"]["agentPoolProfiles"].as_array().unwrap().clone();
    assert!(
        pools
            .iter()
            .all(|pool| pool["provisioningState"] == "Upgrading" && pool["currentOrchestratorVersion"] == "1.33.5")
    );
    assert_eq!(pools[0]["orchestratorVersion"], "1.33");
    assert_eq!(pools[0]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202510.29.0", "the image comes at the end");
    let busy = bench.put(&url, json!({"location": "eastus", "properties": {}}));
    assert_eq!(busy.code(), (409, "OperationNotAllowed"));
    assert!(busy.body["error"]["message"].as_str().unwrap().contains("Another operation (Upgrading) is in progress"));
    assert_eq!(
        bench.post(&format!("{url}/agentPools/az/upgradeNodeImageVersion")).code(),
        (409, "OperationNotAllowed")
    );
    bench.at(20.0);
    let cluster = bench.cluster("three");
    let pools = &cluster["properties"]["agentPoolProfiles"];
    assert_eq!(pools[0]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202601.01.0");
    assert!(pools.as_array().unwrap().iter().all(|pool| pool["provisioningState"] == "Succeeded"));
    let profile = bench.get(&format!("{url}/agentPools/sys/upgradeProfiles/default"));
    let recent = &profile["properties"]["recentlyUsedVersions"][0];
    assert_eq!(recent["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202510.29.0");
    assert_eq!(recent["orchestratorVersion"], "1.32.7");
    assert!(profile["properties"].get("upgrades").is_none(), "{profile}");
    assert_eq!(bench.log()[1]["step"], "Cluster");
}

#[test]
fn skew_and_version_rules_refuse_with_aks_codes_and_change_nothing() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let mut refused = |version: &str, pools: bool| {
        let body = bench.raised("three", version, pools);
        let answered = bench.put(&url, body);
        (answered.status, answered.body["error"]["code"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(refused("1.34.1", true), (400, "OperationNotAllowed".into()));
    assert_eq!(refused("1.31.9", false), (400, "OperationNotAllowed".into()));
    assert_eq!(refused("1.33.99", false), (400, "K8sVersionNotSupported".into()));
    assert_eq!(refused("newest", false), (400, "InvalidParameter".into()));
    let pool = |version: &str| json!({"properties": {"orchestratorVersion": version}});
    assert_eq!(
        bench.put(&format!("{url}/agentPools/sys"), pool("1.33.2")).code(),
        (400, "NodePoolMcVersionIncompatible")
    );
    assert_eq!(
        bench.put(&format!("{url}/agentPools/sys"), pool("1.32.5")).code(),
        (400, "AgentPoolUpgradeVersionNotAllowed")
    );
    assert_eq!(
        bench.put(&format!("{url}/agentPools/sys"), pool("1.32.77")).code(),
        (400, "AgentPoolK8sVersionNotSupported")
    );
    let cluster = bench.cluster("three");
    assert_eq!(cluster["properties"]["kubernetesVersion"], "1.32.7");
    let log = bench.log();
    assert!(log.as_array().unwrap().iter().skip(1).all(|entry| entry["applied"] == false && entry["status"] == 400));
    assert_eq!(log[1]["step"], "Cluster", "refusals say what was wanted");
}

#[test]
fn pools_fall_at_most_three_minors_behind() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let region = bench.world.catalogue.region_or_new("eastus");
    for version in ["1.34.1", "1.35.0", "1.36.0"] {
        region.versions.insert(version.parse().unwrap(), false);
    }
    let mut at = 10.0;
    for version in ["1.33.2", "1.34.1", "1.35.0"] {
        let body = bench.raised("three", version, false);
        assert_eq!(bench.put(&url, body).status, 200);
        at += 10.0;
        bench.at(at);
    }
    let body = bench.raised("three", "1.36.0", false);
    assert_eq!(bench.put(&url, body).code(), (400, "NodePoolMcVersionIncompatible"));
    let profile = bench.get(&format!("{url}/agentPools/sys/upgradeProfiles/default"));
    let upgrades = profile["properties"]["upgrades"].as_array().unwrap();
    assert_eq!(upgrades.last().unwrap()["kubernetesVersion"], "1.35.0");
}

#[test]
fn pool_operations_overlap_with_each_other_but_not_with_the_cluster() {
    let mut bench = Bench::new(Config::default());
    bench.world.settings.accept_any_published_image = true;
    let url = three_pools(&mut bench);
    let older =
        |family: &str, version: &str| json!({"properties": {"nodeImageVersion": format!("{family}-{version}")}});
    let first = bench.put(&format!("{url}/agentPools/sys"), older("AKSUbuntu-2204gen2containerd", "202508.20.1"));
    assert_eq!(
        (first.status, &first.body["properties"]["provisioningState"]),
        (200, &json!("UpgradingNodeImageVersion"))
    );
    let second = bench.put(&format!("{url}/agentPools/az"), older("AKSAzureLinux-V3gen2", "202508.20.1"));
    assert_eq!(second.status, 200);
    assert_eq!(bench.cluster("three")["properties"]["provisioningState"], "Succeeded", "the cluster does not show it");
    let again = bench.post(&format!("{url}/agentPools/sys/upgradeNodeImageVersion"));
    assert_eq!(again.code(), (409, "OperationNotAllowed"));
    assert!(again.body["error"]["message"].as_str().unwrap().contains("(sys - UpgradingNodeImageVersion)"));
    assert_eq!(bench.post(&format!("{url}/stop")).code(), (409, "OperationNotAllowed"));
    bench.at(30.0);
    let pool = bench.get(&format!("{url}/agentPools/sys"));
    assert_eq!(pool["properties"]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202508.20.1");
}

#[test]
fn images_other_than_recent_ones_need_the_extension() {
    let mut bench = Bench::new(Config::default());
    let url = format!("{}/agentPools/sys", three_pools(&mut bench));
    let image =
        |version: &str| json!({"properties": {"nodeImageVersion": format!("AKSUbuntu-2204gen2containerd-{version}")}});
    assert_eq!(bench.put(&url, image("202509.11.0")).code(), (400, "InvalidParameter"));
    bench.world.catalogue.region_or_new("eastus").publish_image("AKSUbuntu-2204gen2containerd", "202601.01.0");
    let upgraded = bench.post(&format!("{url}/upgradeNodeImageVersion"));
    assert_eq!(upgraded.status, 202);
    assert!(upgraded.headers["location"].contains("/operationresults/"));
    assert_eq!(
        upgraded.body["properties"]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202510.29.0",
        "still the old one"
    );
    let location = upgraded.headers["location"].strip_prefix("http://emulator").unwrap().to_owned();
    assert_eq!(bench.send(Method::GET, &location, None).status, 202);
    bench.at(20.0);
    assert_eq!(bench.send(Method::GET, &location, None).status, 204);
    let newest = bench.post(&format!("{url}/upgradeNodeImageVersion"));
    assert_eq!((newest.status, &newest.body["properties"]["provisioningState"]), (202, &json!("Succeeded")));
    assert_eq!(bench.operation(&newest)["status"], "Succeeded");
    assert_eq!(bench.put(&url, image("202510.29.0")).status, 200, "recently used");
    bench.at(40.0);
    bench.world.settings.accept_any_published_image = true;
    assert_eq!(bench.put(&url, image("202509.11.0")).status, 200);
    bench.at(60.0);
    assert_eq!(bench.put(&url, image("209901.01.0")).code(), (400, "InvalidParameter"), "not published");
    let other = json!({"properties": {"nodeImageVersion": "AKSAzureLinux-V3gen2-202509.11.0"}});
    assert_eq!(bench.put(&url, other).code(), (400, "InvalidParameter"), "another family");
    assert_eq!(bench.log().as_array().unwrap().last().unwrap()["step"], "NodeImage:sys");
}

#[test]
fn a_pool_takes_version_and_image_together_or_the_newest_image() {
    let mut bench = Bench::new(Config::default());
    bench.world.settings.accept_any_published_image = true;
    let url = three_pools(&mut bench);
    let body = bench.raised("three", "1.33.5", false);
    bench.put(&url, body);
    bench.at(20.0);
    let both = json!({"properties": {"orchestratorVersion": "1.33.2", "nodeImageVersion": "AKSUbuntu-2204gen2containerd-202509.11.0"}});
    let put = bench.put(&format!("{url}/agentPools/sys"), both);
    assert_eq!((put.status, &put.body["properties"]["provisioningState"]), (200, &json!("Upgrading")));
    let only = json!({"properties": {"orchestratorVersion": "1.33.2"}});
    assert_eq!(bench.put(&format!("{url}/agentPools/win"), only).status, 200);
    bench.at(40.0);
    let sys = bench.get(&format!("{url}/agentPools/sys"));
    assert_eq!(sys["properties"]["currentOrchestratorVersion"], "1.33.2");
    assert_eq!(sys["properties"]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202509.11.0");
    assert_eq!(sys["properties"]["vmSize"], "Standard_D2s_v3", "chosen once, kept");
    assert_eq!(sys["properties"]["mode"], "System");
    let log = bench.log();
    assert_eq!((&log[2]["step"], &log[2]["target"]), (&json!("AgentPool:sys"), &json!("1.33.2")));
    assert_eq!(log[2]["nodeImage"], "AKSUbuntu-2204gen2containerd-202509.11.0");
}

#[test]
fn etags_guard_clusters_and_pools() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let cluster = bench.cluster("three");
    let mut call = Bench::call(Method::PUT, &url, Some(cluster.clone()));
    call.if_match = Some("\"old\"".into());
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"));
    call.if_match = None;
    call.if_none_match = Some("*".into());
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"));
    call.if_none_match = None;
    call.if_match = Some(format!("\"{}\"", cluster["eTag"].as_str().unwrap()));
    assert_eq!(bench.run(&call).status, 200);
    bench.at(20.0);
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"), "used up");
    let pool = bench.get(&format!("{url}/agentPools/sys"));
    let mut call = Bench::call(Method::PUT, &format!("{url}/agentPools/sys"), Some(pool.clone()));
    call.if_match = Some("old".into());
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"));
    call.if_match = Some(pool["properties"]["eTag"].as_str().unwrap().into());
    assert_eq!(bench.run(&call).status, 200);
    let mut absent = Bench::call(Method::PUT, &format!("{RG1}/absent"), Some(json!({})));
    absent.if_match = Some("*".into());
    assert_eq!(bench.run(&absent).status, 412);
}

#[test]
fn a_put_of_what_was_read_changes_nothing_but_the_etag() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let before = bench.cluster("three");
    let put = bench.put(&url, before.clone());
    assert_eq!((put.status, &put.body["properties"]["provisioningState"]), (200, &json!("Updating")));
    bench.at(20.0);
    let mut after = bench.cluster("three");
    after["eTag"] = before["eTag"].clone();
    assert_eq!(after, before);
    assert_eq!(bench.log()[1]["step"], "Update");
}

#[test]
fn a_failed_upgrade_looks_done_and_can_be_taken_up_again() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    bench.world.catalogue.region_or_new("eastus").publish_image("AKSUbuntu-2204gen2containerd", "202601.01.0");
    let failure = Failure { code: "PodDrainFailure".into(), message: "pdb web".into() };
    bench.world.faults.add(Fault {
        matches: Default::default(),
        times: 1,
        action: Action::FailOperation { fail_operation: failure },
    });
    let body = bench.raised("three", "1.33.2", true);
    let put = bench.put(&url, body);
    bench.at(20.0);
    let operation = bench.operation(&put);
    assert_eq!((&operation["status"], &operation["error"]["code"]), (&json!("Failed"), &json!("PodDrainFailure")));
    let properties = &bench.cluster("three")["properties"];
    assert_eq!(
        (&properties["provisioningState"], &properties["kubernetesVersion"]),
        (&json!("Failed"), &json!("1.33.2"))
    );
    assert_eq!(properties["status"]["provisioningError"]["code"], "PodDrainFailure");
    assert_eq!(properties["agentPoolProfiles"][0]["provisioningState"], "Failed");
    let body = bench.raised("three", "1.33.2", true);
    assert_eq!(bench.put(&url, body).status, 200);
    bench.at(40.0);
    let properties = &bench.cluster("three")["properties"];
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert_eq!(properties["agentPoolProfiles"][0]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202601.01.0");
    assert!(properties.get("status").is_none());
}

#[test]
fn a_hanging_operation_waits_for_release_or_abort() {
    let mut bench = Bench::new(Config::default());
    let hang =
        || Fault { matches: Default::default(), times: 1, action: Action::HangOperation { hang_operation: true } };
    bench.world.faults.add(hang());
    let body = bench.raised("aks-1", "1.33.2", false);
    let put = bench.put(&format!("{RG1}/aks-1"), body);
    assert_eq!(bench.at(1e6).operation(&put)["status"], "InProgress");
    let now = bench.now;
    assert_eq!(bench.world.release(Some("aks-2"), now), 0);
    assert_eq!(bench.world.release(None, now), 1);
    assert_eq!(bench.operation(&put)["status"], "Succeeded");
    bench.world.faults.add(hang());
    assert_eq!(bench.post(&format!("{RG1}/aks-1/stop")).status, 202);
    assert_eq!(bench.post(&format!("{RG1}/aks-1/abort")).status, 202);
    let properties = &bench.cluster("aks-1")["properties"];
    assert_eq!(
        (&properties["provisioningState"], &properties["powerState"]["code"]),
        (&json!("Canceled"), &json!("Running"))
    );
    assert_eq!(bench.post(&format!("{RG1}/aks-1/abort")).status, 204);
}

#[test]
fn a_stopped_cluster_refuses_upgrades() {
    let mut bench = Bench::new(Config::default());
    let url = format!("{RG1}/aks-2");
    let stop = bench.post(&format!("{url}/stop"));
    assert_eq!((stop.status, &stop.body), (202, &Value::Null));
    assert!(
        stop.headers["location"].starts_with("http://emulator/subscriptions/")
            && stop.headers.contains_key("azure-asyncoperation")
    );
    assert_eq!(bench.cluster("aks-2")["properties"]["provisioningState"], "Stopping");
    bench.at(10.0);
    let operation = bench.operation(&stop);
    assert_eq!(
        (&operation["status"], &operation["error"]["code"]),
        (&json!("Succeeded"), &json!("NotLatestOperation"))
    );
    let stopped = bench.cluster("aks-2");
    assert_eq!(stopped["properties"]["powerState"]["code"], "Stopped");
    assert_eq!(stopped["properties"]["provisioningState"], "Succeeded");
    let body = bench.raised("aks-2", "1.33.2", false);
    assert_eq!(bench.put(&url, body).code(), (409, "OperationNotAllowed"));
    assert_eq!(bench.post(&format!("{url}/stop")).status, 204);
    assert_eq!(bench.post(&format!("{url}/start")).status, 202);
    bench.at(20.0);
    let body = bench.raised("aks-2", "1.33.2", false);
    assert_eq!(bench.put(&url, body).status, 200);
}

#[test]
fn throttles_are_per_resource_and_refill() {
    let mut bench = Bench::new(Config { enforce_throttles: true, ..Config::default() });
    for _ in 0..60 {
        bench.cluster("aks-1");
    }
    let refused = bench.send(Method::GET, &format!("{RG1}/aks-1"), None);
    assert_eq!(refused.code(), (429, "Throttled"));
    assert_eq!(refused.headers["retry-after"], "1");
    bench.cluster("aks-2");
    bench.at(1.1).cluster("aks-1");
    for _ in 0..20 {
        bench.put(&format!("{RG1}/aks-3"), json!({}));
    }
    let refused = bench.put(&format!("{RG1}/aks-3"), json!({}));
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (429, "60"));
    assert_eq!(bench.log().as_array().unwrap().last().unwrap()["applied"], false);
    let polls = "/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/locations/eastus/operations";
    let statuses: Vec<u16> = (0..201)
        .map(|n| bench.send(Method::GET, &format!("{polls}/00000000-0000-0000-0000-{n:012}"), None).status)
        .collect();
    assert_eq!((statuses[199], statuses[200]), (404, 429), "operation polls share one bucket a subscription");
}

#[test]
fn the_catalogue_is_a_function_of_the_seed() {
    let clusters = |seed, clusters| {
        let mut bench = Bench::new(Config { seed, clusters, ..Config::default() });
        ["aks-1", "aks-2", "aks-12"].map(|name| bench.cluster(name))
    };
    assert_eq!(clusters(7, 12), clusters(7, 500), "however many there are");
    assert_ne!(clusters(7, 12), clusters(8, 12));
    for cluster in clusters(3, 12) {
        let properties = &cluster["properties"];
        assert!(["1.32.5", "1.32.7"].contains(&properties["kubernetesVersion"].as_str().unwrap()));
        assert!((1..=3).contains(&properties["agentPoolProfiles"].as_array().unwrap().len()));
        assert_eq!(cluster["identity"]["tenantId"], "11111111-1111-1111-1111-111111111111");
    }
}

#[test]
fn bodies_have_the_keys_of_the_recordings() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let cluster = bench.cluster("three");
    let id = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/rg1/providers/Microsoft.ContainerService/managedClusters/three";
    assert_eq!((&cluster["id"], &cluster["type"]), (&json!(id), &json!("Microsoft.ContainerService/ManagedClusters")));
    for key in ["location", "name", "identity", "sku", "eTag"] {
        assert!(cluster.get(key).is_some(), "{key}");
    }
    let recorded = "provisioningState powerState kubernetesVersion currentKubernetesVersion dnsPrefix fqdn azurePortalFQDN \
                    agentPoolProfiles linuxProfile servicePrincipalProfile nodeResourceGroup enableRBAC networkProfile maxAgentPools \
                    identityProfile disableLocalAccounts securityProfile storageProfile oidcIssuerProfile workloadAutoScalerProfile";
    for key in recorded.split_whitespace() {
        assert!(cluster["properties"].get(key).is_some(), "{key}");
    }
    let recorded = "name count vmSize osDiskSizeGB osDiskType kubeletDiskType workloadRuntime maxPods type enableAutoScaling \
                    provisioningState powerState orchestratorVersion currentOrchestratorVersion enableNodePublicIP mode \
                    enableEncryptionAtHost enableUltraSSD osType osSKU nodeImageVersion upgradeSettings enableFIPS networkProfile";
    for key in recorded.split_whitespace() {
        assert!(cluster["properties"]["agentPoolProfiles"][2].get(key).is_some(), "{key}");
    }
    assert_eq!(cluster["properties"]["agentPoolProfiles"][2]["osSKU"], "Windows2022");
    let pool = bench.get(&format!("{url}/agentPools/win"));
    assert_eq!(
        (&pool["id"], &pool["type"]),
        (&json!(format!("{id}/agentPools/win")), &json!("Microsoft.ContainerService/managedClusters/agentPools"))
    );
    assert!(pool["properties"]["nodeImageVersion"].as_str().unwrap().starts_with("AKSWindows-2022-containerd-20348."));

    let profile = bench.get(&format!("{url}/upgradeProfiles/default"));
    assert_eq!(profile["id"], format!("{id}/upgradeprofiles/default"));
    assert!(profile["properties"]["agentPoolProfiles"].is_null());
    let control_plane = &profile["properties"]["controlPlaneProfile"];
    assert_eq!(control_plane["upgrades"][0], json!({"kubernetesVersion": "1.33.5"}), "newest first");
    let versions = bench.get("/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/locations/eastus/kubernetesVersions");
    let minors = versions["values"].as_array().unwrap();
    let find = |minor: &str| minors.iter().find(|value| value["version"] == minor).unwrap();
    assert_eq!(find("1.33")["patchVersions"]["1.33.2"]["upgrades"], json!(["1.33.5", "1.34.0", "1.34.1"]));
    assert_eq!((&find("1.33")["isDefault"], &find("1.35")["isPreview"]), (&json!(true), &json!(true)));
    assert!(find("1.33").get("isPreview").is_none());
    let sweden = bench.get("/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/locations/swedencentral/kubernetesVersions");
    assert!(!sweden.to_string().contains("1.34"), "lag");
    let available = bench.get(&format!("{url}/availableAgentPoolVersions"));
    let offered = available["properties"]["agentPoolVersions"].as_array().unwrap();
    assert_eq!(offered.last().unwrap()["kubernetesVersion"], "1.32.7");
    let kubeconfigs = bench.post(&format!("{url}/listClusterUserCredential")).body;
    assert_eq!(kubeconfigs["kubeconfigs"][0]["name"], "clusterUser");
}

#[test]
fn errors_are_those_of_arm() {
    let mut bench = Bench::new(Config::default());
    let mut get = |url: &str| {
        let answered = bench.send(Method::GET, url, None);
        (answered.status, answered.body["error"]["code"].as_str().unwrap_or("").to_owned())
    };
    let known = "/subscriptions/00000000-0000-0000-0000-000000000001";
    let provider = "providers/Microsoft.ContainerService/managedClusters";
    assert_eq!(get(&format!("{RG1}/none")), (404, "ResourceNotFound".into()));
    assert_eq!(get(&format!("{RG1}/aks-1/agentPools/none")), (404, "ResourceNotFound".into()));
    assert_eq!(get(&format!("{known}/resourceGroups/none/{provider}/aks-1")), (404, "ResourceGroupNotFound".into()));
    assert_eq!(
        get(&format!("/subscriptions/00000000-0000-0000-0000-000000000009/{provider}")),
        (404, "SubscriptionNotFound".into())
    );
    assert_eq!(get(&format!("/subscriptions/x/{provider}")), (400, "InvalidSubscriptionId".into()));
    assert_eq!(get(&format!("{RG1}?x=1")), (400, "MissingApiVersionParameter".into()));
    assert_eq!(get(&format!("{RG1}?api-version=newest")), (400, "InvalidApiVersionParameter".into()));
    assert_eq!(get(&format!("{RG1}?api-version=2018-03-31")), (400, "NoRegisteredProviderFound".into()));
    assert_eq!(get(&format!("{RG1}/aks-1/stop")), (405, "MethodNotAllowed".into()));
    assert_eq!(get(&format!("{RG1}/aks-1/unheardOf")), (404, "InvalidResourceType".into()));
    assert_eq!(bench.put(&format!("{RG1}/aks-1"), json!([])).code(), (400, "InvalidRequestContent"));
    let moved = json!({"location": "westeurope", "properties": {}});
    assert_eq!(bench.put(&format!("{RG1}/aks-1"), moved).code(), (409, "InvalidResourceLocation"));
    let dropped = json!({"location": "eastus", "properties": {"agentPoolProfiles": []}});
    assert_eq!(bench.put(&format!("{RG1}/aks-1"), dropped).code(), (400, "InvalidParameter"));
    assert_eq!(bench.send(Method::DELETE, &format!("{RG1}/none"), None).status, 204);
}

#[test]
fn deletion_takes_its_time_and_keeps_one_system_pool() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let delete = |bench: &mut Bench, url: &str| bench.send(Method::DELETE, url, None);
    assert_eq!(delete(&mut bench, &format!("{url}/agentPools/sys")).code(), (400, "OperationNotAllowed"));
    assert_eq!(delete(&mut bench, &format!("{url}/agentPools/win")).status, 202);
    bench.at(20.0);
    assert_eq!(bench.get(&format!("{url}/agentPools"))["value"].as_array().unwrap().len(), 2);
    let deleted = delete(&mut bench, &url);
    assert_eq!(deleted.status, 202);
    assert_eq!(bench.cluster("three")["properties"]["provisioningState"], "Deleting");
    bench.at(40.0);
    assert_eq!(bench.send(Method::GET, &url, None).code(), (404, "ResourceNotFound"));
    assert_eq!(bench.operation(&deleted)["status"], "Succeeded", "operations outlive their cluster");
}

#[test]
fn maintenance_configurations_are_checked_and_completed() {
    let mut bench = Bench::new(Config::default());
    let url = format!("{RG1}/aks-1/maintenanceConfigurations");
    assert_eq!(bench.get(&url), json!({"value": []}));
    let window = |hours: u32| {
        json!({"properties": {"maintenanceWindow": {
            "schedule": {"weekly": {"intervalWeeks": 3, "dayOfWeek": "Friday"}}, "durationHours": hours, "startTime": "00:00",
        }}})
    };
    let put = bench.put(&format!("{url}/aksmanagedautoupgradeschedule"), window(8));
    assert_eq!(put.status, 200);
    assert_eq!(put.body["name"], "aksManagedAutoUpgradeSchedule");
    assert!(put.body["id"].as_str().unwrap().contains("/resourceGroups/"));
    let kept = &put.body["properties"]["maintenanceWindow"];
    assert_eq!((&kept["startDate"], &kept["utcOffset"]), (&json!("2026-11-20"), &json!("+00:00")));
    assert_eq!(bench.get(&url)["value"][0], put.body);
    assert_eq!(bench.put(&format!("{url}/aksManagedNodeOSUpgradeSchedule"), window(3)).status, 400);
    assert_eq!(bench.put(&format!("{url}/mine"), window(8)).status, 400);
    let two = json!({"properties": {"maintenanceWindow": {
        "schedule": {"daily": {"intervalDays": 1}, "weekly": {"intervalWeeks": 1, "dayOfWeek": "Friday"}}, "durationHours": 4, "startTime": "00:00",
    }}});
    assert_eq!(bench.put(&format!("{url}/default"), two).status, 400);
    let delete = format!("{url}/aksManagedAutoUpgradeSchedule");
    assert_eq!(bench.send(Method::DELETE, &delete, None).status, 200);
    assert_eq!(bench.send(Method::DELETE, &delete, None).status, 204);
}
