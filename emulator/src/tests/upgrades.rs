//! Upgrades of control planes, agent pools and node images.

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
fn only_recently_used_images_can_be_written() {
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
    assert_eq!(bench.put(&url, image("202509.11.0")).code(), (400, "InvalidParameter"), "published, and never run");
    let other = json!({"properties": {"nodeImageVersion": "AKSAzureLinux-V3gen2-202509.11.0"}});
    assert_eq!(bench.put(&url, other).code(), (400, "InvalidParameter"), "another family");
    assert_eq!(bench.log().as_array().unwrap().last().unwrap()["step"], "NodeImage:sys");
    // A rollback is to a pair of image and Kubernetes version.
    let body = bench.raised("three", "1.33.2", true);
    bench.put(&format!("{RG1}/three"), body);
    bench.at(60.0);
    let previous = json!({"properties": {"nodeImageVersion": "AKSUbuntu-2204gen2containerd-202510.29.0"}});
    assert_eq!(bench.put(&url, previous).code(), (400, "InvalidParameter"), "run with another Kubernetes version");
}

#[test]
fn a_pool_moves_to_a_snapshot_or_to_the_newest_image() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    // The snapshot is of a pool in westeurope, where the newest image is older.
    let source = format!("{RG1}/source");
    let pools = json!([{"name": "a", "mode": "System", "vmSize": "Standard_D8s_v5"}, {"name": "n", "vmSize": "Standard_NC6s_v3"}]);
    let properties = json!({"kubernetesVersion": "1.33.2", "agentPoolProfiles": pools});
    assert_eq!(bench.put(&source, json!({"location": "westeurope", "properties": properties})).status, 201);
    let snapshots = RG1.replace("managedClusters", "snapshots");
    let take = |pool: &str, location: &str| json!({"location": location, "properties": {"creationData": {"sourceResourceId": format!("{source}/agentPools/{pool}")}}});
    let first = format!("{snapshots}/first");
    assert_eq!(bench.put(&first, take("a", "westeurope")).code(), (409, "OperationNotAllowed"), "still being created");
    bench.at(10.0);
    assert_eq!(bench.put(&first, take("a", "eastus")).code(), (400, "InvalidParameter"), "not the pool's region");
    assert_eq!(bench.put(&first, take("b", "westeurope")).code(), (404, "ResourceNotFound"));
    assert_eq!(bench.put(&first, take("a", "westeurope")).status, 201);
    assert_eq!(bench.put(&format!("{snapshots}/gpu"), take("n", "westeurope")).status, 201);
    let taken = bench.get(&first);
    assert_eq!(taken["properties"]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202510.03.0");
    assert_eq!(taken["properties"]["kubernetesVersion"], "1.33.2");
    assert_eq!(bench.get(&snapshots)["value"].as_array().unwrap().len(), 2);

    // The pools of eastus have newer images. The test sets their images back.
    let key = url.to_lowercase();
    for pool in &mut bench.world.clusters.get_mut(&key).unwrap().pools {
        pool.image = crate::catalogue::oldest_image(crate::catalogue::family(&pool.image));
    }
    let old = |version: &str, snapshot: &str| json!({"properties": {"orchestratorVersion": version, "creationData": {"sourceResourceId": snapshot}}});
    let sys = format!("{url}/agentPools/sys");
    assert_eq!(
        bench.put(&sys, old("1.32.7", &first)).code(),
        (400, "InvalidParameter"),
        "of another Kubernetes version"
    );
    let body = bench.raised("three", "1.33.5", false);
    bench.put(&url, body);
    bench.at(20.0);
    assert_eq!(
        bench.put(&sys, old("1.33.2", &format!("{snapshots}/gpu"))).code(),
        (400, "InvalidParameter"),
        "VM family"
    );
    assert_eq!(bench.put(&sys, old("1.33.2", &format!("{snapshots}/none"))).code(), (404, "ResourceNotFound"));
    assert_eq!(
        bench.put(&format!("{url}/agentPools/az"), old("1.33.2", &first)).code(),
        (400, "InvalidParameter"),
        "family"
    );
    let put = bench.put(&sys, old("1.33.2", &first));
    assert_eq!((put.status, &put.body["properties"]["provisioningState"]), (200, &json!("Upgrading")));
    let only = json!({"properties": {"orchestratorVersion": "1.33.2"}});
    assert_eq!(bench.put(&format!("{url}/agentPools/win"), only).status, 200);
    bench.at(40.0);
    let sys = bench.get(&format!("{url}/agentPools/sys"));
    assert_eq!(sys["properties"]["currentOrchestratorVersion"], "1.33.2");
    assert_eq!(sys["properties"]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202510.03.0");
    assert_eq!(sys["properties"]["creationData"]["sourceResourceId"], first.as_str(), "bound to it");
    assert_eq!(sys["properties"]["vmSize"], "Standard_D2s_v3", "chosen once, kept");
    assert_eq!(sys["properties"]["mode"], "System");
    let log = bench.log();
    let moved = log
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["nodeImage"].is_string() && entry["applied"] == true)
        .unwrap();
    assert_eq!((&moved["step"], &moved["target"]), (&json!("AgentPool:sys"), &json!("1.33.2")));
    assert_eq!(moved["nodeImage"], "AKSUbuntu-2204gen2containerd-202510.03.0");

    // An image alone, by a header of upgradeNodeImageVersion, as Azure's CLI sends it.
    let win_image =
        |bench: &mut Bench| bench.get(&format!("{url}/agentPools/win"))["properties"]["nodeImageVersion"].clone();
    assert_eq!(win_image(&mut bench), "AKSWindows-2022-containerd-20348.4405.251112");
    let key = url.to_lowercase();
    bench.world.clusters.get_mut(&key).unwrap().pools[0].image =
        crate::catalogue::oldest_image(crate::catalogue::UBUNTU);
    let mut call = Bench::call(Method::POST, &format!("{url}/agentPools/sys/upgradeNodeImageVersion"), None);
    call.snapshot_id = Some(first.clone());
    assert_eq!(bench.run(&call).status, 202);
    bench.at(60.0);
    let sys = bench.get(&format!("{url}/agentPools/sys"));
    assert_eq!(sys["properties"]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202510.03.0");
    assert_eq!(bench.send(Method::DELETE, &first, None).status, 200);
    assert_eq!(bench.send(Method::DELETE, &first, None).status, 204);
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
