//! Kills at any moment: no work is lost, and no upgrade is started twice.

use std::time::Duration;

use serde_json::json;

use crate::harness::world::{Options, World, members, upgrade_to};

/// Times between kills, in milliseconds: from before the first step to after several. Generated from a fixed seed, so that a failure
/// can be reproduced.
fn instants() -> impl Iterator<Item = u64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        10 + state % 400
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn after_fifty_kills_every_cluster_was_upgraded_once() {
    let options = Options {
        clusters: 40,
        upgrade_seconds: 1.0,
        env: vec![("FLEET_LEASE_SECONDS", "1".to_owned())],
        ..Options::default()
    };
    let mut world = World::start_with(options).await;
    // From the thirteenth on, the emulator spreads clusters over groups and subscriptions. It lists their IDs.
    let groups = ["a", "b", "c", "d"];
    let mut ids = world.cluster_ids().await;
    ids.truncate(40);
    assert_eq!(ids.len(), 40);
    let fleet = world.fleet_of("f", &[]).await;
    for (n, id) in ids.iter().enumerate() {
        let properties = json!({"clusterResourceId": id, "group": groups[n % groups.len()]});
        assert_eq!(world.put(&format!("{fleet}/members/m{n}"), json!({"properties": properties})).await.status, 201);
    }
    for n in 0..ids.len() {
        world.settled(&format!("{fleet}/members/m{n}")).await;
    }
    let stage = |name: &str, groups: &[&str]| {
        let groups: Vec<_> = groups.iter().map(|g| json!({"name": g, "maxConcurrency": "3"})).collect();
        json!({"name": name, "groups": groups, "afterStageWaitInSeconds": 1})
    };
    let strategy = json!({"stages": [stage("one", &["a"]), stage("two", &["b", "c", "d"])]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;

    for pause in instants().take(50) {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        world.kill();
        world.restart().await;
    }
    let after = world.get(&run).await.body["properties"]["status"]["status"]["state"].clone();
    assert_eq!(after, "Running", "all kills should hit the run");
    let status = world.reaches(&run, "Completed", Duration::from_secs(120)).await;
    let members = members(&status);
    assert_eq!(members.len(), 40);
    for member in members {
        assert_eq!(member["status"]["state"], "Completed", "{member}");
    }
    let applied = world.applied().await;
    // Each cluster has a control plane and at least one pool.
    assert!(applied.len() >= 80, "{applied:?}");
    for (step, times) in applied {
        assert_eq!(times, 1, "{step:?}");
    }
    // AKS refused no repeated call either: a worker reads the cluster before it repeats a call.
    let log = world.emulator_log().await;
    let refused: Vec<_> = log.iter().filter(|entry| entry["status"] == 409).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_a_run() {
    let mut world = World::start().await;
    world.add_replica();
    let names: Vec<String> = (1..=12).map(|n| format!("m{n}")).collect();
    let list: Vec<(&str, usize, &str)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), n + 1, "g")).collect();
    let fleet = world.fleet_of("f", &list).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "4"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.reaches(&run, "Completed", Duration::from_secs(60)).await;
    assert!(world.applied().await.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_exits_cleanly_and_another_continues_its_work() {
    let mut world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let run = world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("Full", "1.33.2")})).await;
    world.until(&run, Duration::from_secs(20), "Running", |s| s["status"]["state"] == "Running").await;
    world.stop();
    world.restart().await;
    world.reaches(&run, "Completed", Duration::from_secs(30)).await;
    assert!(world.applied().await.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_never_upgrade_a_cluster_together() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let first = world.start_run(&fleet, "r1", properties.clone()).await;
    let second = world.start_run(&fleet, "r2", properties).await;
    world.until(&first, Duration::from_secs(60), "ended", ended).await;
    world.until(&second, Duration::from_secs(60), "ended", ended).await;
    let applied = world.applied().await;
    assert_eq!(applied.values().sum::<usize>(), 2, "{applied:?}");
}

fn ended(status: &serde_json::Value) -> bool {
    matches!(status["status"]["state"].as_str(), Some("Completed" | "Skipped"))
}
