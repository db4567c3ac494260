//! Concurrency: runs with the same clusters, AKS's throttles, and a replica that stops while another continues.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{Options, World, members, upgrade_to},
};

const LATE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn no_cluster_has_two_operations_at_a_time() {
    let world = World::start_with(Options { upgrade_seconds: 2.0, ..Options::default() }).await;
    let list = [("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g"), ("m4", 4, "g")];
    let fleet = world.fleet_of("f", &list).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "4"}]}]});
    let properties =
        |version: &str| json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", version)});
    let first = world.start_run(&fleet, "r1", properties("1.33.2")).await;
    // In another order, the first run would find nothing left to upgrade.
    eventually("the first run upgrades all clusters", async || world.applied().await.len() == 4).await;
    let second = world.start_run(&fleet, "r2", properties("1.33.5")).await;
    world.reaches(&first, "Completed", LATE).await;
    world.reaches(&second, "Completed", LATE).await;
    let mut spans: HashMap<String, Vec<(jiff::Timestamp, jiff::Timestamp)>> = HashMap::new();
    for entry in world.emulator_log().await {
        assert_ne!(entry["status"], 409, "{entry}");
        if entry["applied"] == true {
            let time = |name: &str| entry["operation"][name].as_str().unwrap().parse().unwrap();
            let cluster = entry["cluster"].as_str().unwrap().to_owned();
            spans.entry(cluster).or_default().push((time("startTime"), time("endTime")));
        }
    }
    assert_eq!(spans.len(), 4);
    for (cluster, mut of) in spans {
        of.sort();
        assert!(of.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{cluster}: {of:?}");
    }
}

/// A POST of a node image has no condition: what was read before another run's upgrade must not be acted on after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_image_is_not_upgraded_again_after_another_run() {
    let world = World::start_with(Options { clusters: 1, upgrade_seconds: 0.05, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let properties = json!({"managedClusterUpdate": {"upgrade": {"type": "NodeImageOnly"}}});
    // AKS tells the slow run how the pools were before the quick run.
    let read = json!({"method": "GET", "cluster": "aks-1"});
    world.fault(json!({"match": read, "action": {"delay": 4}})).await;
    let slow = world.start_run(&fleet, "slow", properties.clone()).await;
    while world.emulator("GET", "/emulator/faults", None).await.body.to_string().contains("aks-1") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let quick = world.start_run(&fleet, "quick", properties).await;
    world.reaches(&quick, "Completed", LATE).await;
    let over = |s: &Value| matches!(s["status"]["state"].as_str(), Some("Completed" | "Skipped" | "Failed"));
    let slow = world.until(&slow, LATE, "over", over).await;
    assert_eq!(members(&slow)[0]["status"]["state"], "Skipped", "{slow:#}");
    let applied = world.applied().await;
    assert!(!applied.is_empty() && applied.values().all(|times| *times == 1), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_replica_releases_its_work_at_once() {
    // Leases outlast the test, so that another replica can go on only after they are released.
    let env = vec![("FLEET_LEASE_SECONDS", "300".to_owned()), ("FLEET_SHUTDOWN_SECONDS", "10".to_owned())];
    let mut world = World::start_with(Options { upgrade_seconds: 1.0, env, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g"), ("m4", 4, "g")]).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "2"}]}]});
    // A call to AKS is in progress when the process gets the signal.
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"delay": 3}})).await;
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    let at_work = |s: &Value| members(s).iter().any(|m| m["status"]["state"] == "Running");
    world.until(&run, LATE, "at work", at_work).await;
    // The fault is gone once AKS has received the request.
    while world.emulator("GET", "/emulator/faults", None).await.body.to_string().contains("aks-1") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stopped_at = Instant::now();
    world.stop();
    assert!(stopped_at.elapsed() < Duration::from_secs(20), "{:?}", stopped_at.elapsed());
    world.restart().await;
    world.reaches(&run, "Completed", LATE).await;
    assert!(world.applied().await.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_clusters_stay_within_the_throttles_of_aks() {
    let world = World::start_with(Options { clusters: 90, ..Options::default() }).await;
    let path = "/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/managedClusters?api-version=2026-08-01";
    let listed = world.emulator("GET", path, None).await;
    let ids: Vec<Value> = listed.body["value"].as_array().unwrap().iter().take(60).map(|c| c["id"].clone()).collect();
    assert_eq!(ids.len(), 60);
    let fleet = world.fleet_of("f", &[]).await;
    for (n, id) in ids.iter().enumerate() {
        let properties = json!({"clusterResourceId": id, "group": "g"});
        assert_eq!(world.put(&format!("{fleet}/members/m{n}"), json!({"properties": properties})).await.status, 201);
    }
    for n in 0..ids.len() {
        world.settled(&format!("{fleet}/members/m{n}")).await;
    }
    world.emulator("PATCH", "/emulator/settings", Some(json!({"enforceThrottles": true}))).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "50"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.reaches(&run, "Completed", Duration::from_secs(120)).await;
    let log = world.emulator_log().await;
    let throttled = log.iter().filter(|entry| entry["status"] == 429).count();
    assert!(throttled <= 5, "{throttled} writes were throttled");
    let applied = world.applied().await;
    assert!(applied.len() == 60 && applied.values().all(|times| *times == 1), "{applied:?}");
}
