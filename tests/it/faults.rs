//! Faults of AKS: the run goes on by itself, sends no cluster the same upgrade twice, and says what is wrong.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::world::{Options, World, members, upgrade_to};

const LATE: Duration = Duration::from_secs(60);

async fn run_of(world: &World, members: &[(&str, usize, &str)], kind: &str) -> String {
    let fleet = world.fleet_of("f", members).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "2"}]}]});
    world
        .start_run(&fleet, "r", json!({"strategy": strategy, "managedClusterUpdate": upgrade_to(kind, "1.33.2")}))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_faults_are_waited_out() {
    let world = World::start().await;
    for (cluster, action) in [
        ("aks-1", json!({"status": 429, "code": "Throttled", "message": "slow down", "retryAfter": 1})),
        ("aks-2", json!({"status": 500, "code": "InternalServerError", "message": "oops"})),
        ("aks-2", json!({"garbage": true})),
        ("aks-3", json!({"cut": "before"})),
        ("aks-3", json!({"cut": "after"})),
        ("aks-4", json!({"status": 409, "code": "OperationNotAllowed", "message": "Another operation is in progress"})),
        ("aks-4", json!({"status": 412, "code": "EtagMismatch", "message": "changed"})),
    ] {
        world.fault(json!({"match": {"method": "PUT", "cluster": cluster}, "times": 1, "action": action})).await;
    }
    for action in [json!({"status": 503, "code": "ServerTimeout", "message": "away"}), json!({"cut": "after"})] {
        world.fault(json!({"match": {"method": "GET", "path": "/operations/"}, "times": 2, "action": action})).await;
    }
    let run = run_of(&world, &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g"), ("m4", 4, "g")], "Full").await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert!(members(&status).iter().all(|m| m["status"]["state"] == "Completed"), "{status:#}");
    let applied = world.applied().await;
    assert!(applied.len() >= 8 && applied.values().all(|times| *times == 1), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_operation_fails_the_run_and_a_restart_retries() {
    let world = World::start().await;
    let action = json!({"failOperation": {"code": "PodDrainFailure", "message": "the budget of 'web' forbids it"}});
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "times": 1, "action": action})).await;
    // The upgrade of aks-2 is still in progress when that of aks-1 has failed.
    world.emulator("PATCH", "/emulator/clusters/aks-2", Some(json!({"upgradeSeconds": 2}))).await;
    let run = run_of(&world, &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g")], "ControlPlaneOnly").await;
    let status = world.reaches(&run, "Failed", LATE).await;
    let state = |status: &Value, name: &str| {
        members(status).into_iter().find(|m| m["name"] == name).unwrap()["status"]["state"].clone()
    };
    assert_eq!(state(&status, "m1"), "Failed");
    assert_eq!(state(&status, "m2"), "Completed", "what is in flight ends by itself");
    assert_eq!(state(&status, "m3"), "NotStarted", "nothing new begins");
    let error = &members(&status)[0]["status"]["error"];
    assert!(error.to_string().contains("PodDrainFailure"), "AKS's own code is inside: {error}");
    world.post(&format!("{run}/start"), None).await;
    world.reaches(&run, "Completed", LATE).await;
    let applied = world.applied().await;
    // After a failure the versions already show the target. A retry upgrades the cluster nevertheless.
    let times = |cluster: &str| applied.iter().filter(|((of, _), _)| of == cluster).map(|(_, n)| n).sum::<usize>();
    let counted = ["aks-1", "aks-2", "aks-3"].map(times);
    assert_eq!(counted, [2, 1, 1], "only what failed is tried again: {applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_cluster_is_pending_and_a_stopped_one_fails() {
    let world = World::start().await;
    world.emulator("PATCH", "/emulator/clusters/aks-2", Some(json!({"powerState": "Stopped"}))).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "h")]).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g"}, {"name": "h"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    world.emulator("PATCH", "/emulator/clusters/aks-1", Some(json!({"outsideOperation": {"seconds": 4}}))).await;
    let run = world.start_run(&fleet, "r", properties).await;
    let find = |status: &Value, name: &str| members(status).into_iter().find(|m| m["name"] == name).unwrap().clone();
    let pending = |s: &Value| find(s, "m1")["status"]["error"]["code"] == "ClusterOperationInProgress";
    let status = world.until(&run, LATE, "m1 pending", pending).await;
    // The member is Stopped if the failure of m2 has ended the run before this read.
    let state = find(&status, "m1")["status"]["state"].clone();
    assert!(state == "Pending" || state == "Stopped", "{state}");
    let status = world.until(&run, LATE, "m2 failed", |s| find(s, "m2")["status"]["state"] == "Failed").await;
    assert_eq!(find(&status, "m2")["status"]["error"]["code"], "ClusterStopped");
    world.until(&run, LATE, "ended", |s| s["status"]["state"] == "Failed").await;
    world.post(&format!("{run}/skip"), Some(json!({"targets": [{"type": "Member", "name": "m2"}]}))).await;
    world.post(&format!("{run}/start"), None).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert_eq!(find(&status, "m1")["status"]["state"], "Completed", "it goes on when the cluster is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_clusters_can_be_skipped_and_missing_ones_fail() {
    let env = vec![("FLEET_STOPPED_CLUSTERS", "Skip".to_owned())];
    let world = World::start_with(Options { env, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "h")]).await;
    world.emulator("PATCH", "/emulator/clusters/aks-1", Some(json!({"powerState": "Stopped"}))).await;
    world.emulator("DELETE", "/emulator/clusters/aks-3", None).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g"}, {"name": "h"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    let status = world.until(&run, LATE, "ended", |s| s["status"]["state"] == "Failed").await;
    let find = |name: &str| members(&status).into_iter().find(|m| m["name"] == name).unwrap().clone();
    assert_eq!(find("m3")["status"]["error"]["code"], "ClusterNotFound");
    assert!(matches!(find("m1")["status"]["state"].as_str(), Some("Skipped" | "Stopped" | "NotStarted")), "{status:#}");
    // An upgrade over two minor versions is refused before any call to AKS.
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let fleet = world.fleet_of("e", &[("m4", 5, "g")]).await;
    world.emulator("PATCH", "/emulator/clusters/aks-5", Some(json!({"kubernetesVersion": "1.31.9"}))).await;
    let run = world.start_run(&fleet, "r", properties).await;
    let status = world.reaches(&run, "Failed", LATE).await;
    let error = &members(&status)[0]["status"]["error"];
    assert!(matches!(error["code"].as_str(), Some("KubernetesVersionSkipped")), "{error}");
}
