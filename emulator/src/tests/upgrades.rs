//! How upgrades of control planes, agent pools and node images go.

use axum::http::Method;
use serde_json::json;

use super::{Bench, RG1, three_pools};
use crate::config::Config;
use crate::faults::{Action, Failure, Fault};

#[test]
fn a_control_plane_upgrade_shows_its_target_at_once_and_ends_after_its_duration() {
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
fn a_full_upgrade_upgrades_pools_to_the_newest_image() {
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
fn a_pool_upgrade_sets_the_requested_or_the_newest_image() {
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
fn a_put_of_an_unchanged_body_changes_the_etag_only() {
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
fn a_failed_upgrade_shows_its_target_and_can_be_retried() {
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
