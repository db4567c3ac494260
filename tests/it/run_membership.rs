//! A run upgrades the members of its fleet, and no cluster that left the fleet or never joined it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{Options, World, members, upgrade_to},
};

const LATE: Duration = Duration::from_secs(60);

fn member<'a>(status: &'a Value, name: &str) -> &'a Value {
    members(status).into_iter().find(|member| member["name"] == name).unwrap()
}

fn is(state: &'static str, name: &'static str) -> impl Fn(&Value) -> bool {
    move |status| member(status, name)["status"]["state"] == state
}

fn control_plane(max: &str) -> Value {
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": max}]}]});
    json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})
}

async fn leave(world: &World, fleet: &str, member: &str) {
    let path = format!("{fleet}/members/{member}");
    assert_eq!(world.delete(&path).await.status, 202);
    eventually("the member has left", async || world.get(&path).await.status == 404).await;
}

/// Returns how many upgrades of a cluster AKS started.
async fn begun(world: &World, cluster: &str) -> usize {
    let applied = world.applied().await;
    applied.iter().filter(|((of, _), _)| of == cluster).map(|(_, times)| times).sum()
}

#[track_caller]
fn assert_left(status: &Value, name: &str) {
    let member = member(status, name);
    assert_eq!(member["status"]["state"], "Skipped", "{member}");
    assert!(member["message"].as_str().unwrap().contains("left the fleet"), "{member}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_member_that_left_is_not_upgraded_at_the_restart() {
    let world = World::start().await;
    let failure = json!({"code": "NodesNotReady", "message": "no nodes"});
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"failOperation": failure}})).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    world.reaches(&run, "Failed", LATE).await;
    leave(&world, &fleet, "m1").await;
    let before = begun(&world, "aks-1").await;
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let status = world.reaches(&run, "Completed", LATE).await;
    assert_left(&status, "m1");
    assert_eq!(begun(&world, "aks-1").await, before);
    assert_eq!(begun(&world, "aks-2").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_join_failed_is_skipped_and_its_cluster_is_left_to_its_own_fleet() {
    let world = World::start().await;
    let foreign = json!({"name": "aks-foreign", "resourceGroup": "rg1", "location": "eastus",
        "tenantId": "22222222-2222-2222-2222-222222222222"});
    world.emulator("POST", "/emulator/clusters", Some(foreign)).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    for (name, cluster) in [("foreign", "aks-foreign"), ("missing", "aks-none")] {
        let path = format!("{fleet}/members/{name}");
        let id = World::cluster(1).replace("aks-1", cluster);
        let made = world.put(&path, json!({"properties": {"clusterResourceId": id, "group": "g"}})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        assert_eq!(world.settled(&path).await["properties"]["provisioningState"], "Failed");
    }
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    for name in ["foreign", "missing"] {
        let member = member(&status, name);
        assert_eq!(member["status"]["state"], "Skipped", "{member}");
        assert!(member["message"].as_str().unwrap().contains("has not joined the fleet"), "{member}");
    }
    assert_eq!(begun(&world, "aks-foreign").await, 0);
    assert_eq!(begun(&world, "aks-1").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_at_any_point_of_a_run_is_not_upgraded_after_that() {
    let world = World::start_with(Options {
        env: vec![("FLEET_WINDOW_RECHECK_SECONDS", "1".to_owned())],
        ..Options::default()
    })
    .await;
    let names = ["m1", "m2", "m3", "m4", "m5"];
    let fleet_of = async |fleet: &str, first: usize, count: usize| {
        let members: Vec<_> = (0..count).map(|n| (names[n], first + n, "g")).collect();
        world.fleet_of(fleet, &members).await
    };
    let hang =
        |cluster: &str| json!({"match": {"method": "PUT", "cluster": cluster}, "action": {"hangOperation": true}});

    // m1 is in flight, m2 queues, m3 leaves before the start, m4 while the start is being carried out.
    let fleet = fleet_of("queued", 1, 4).await;
    world.fault(hang("aks-1")).await;
    let run = format!("{fleet}/updateRuns/r");
    assert_eq!(world.put(&run, json!({"properties": control_plane("1")})).await.status, 201);
    leave(&world, &fleet, "m3").await;
    let windows = json!({"method": "GET", "path": "maintenanceConfigurations"});
    world.fault(json!({"match": windows, "times": 3, "action": {"delay": 1.0}})).await;
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    leave(&world, &fleet, "m4").await;
    eventually("m1 is upgraded", async || begun(&world, "aks-1").await == 1).await;
    leave(&world, &fleet, "m2").await;
    let status = world.until(&run, LATE, "m2 skipped", is("Skipped", "m2")).await;
    assert_left(&status, "m2");
    assert!(members(&status).iter().all(|member| member["name"] != "m3"), "{status:#}");
    // The upgrade in progress goes on.
    leave(&world, &fleet, "m1").await;
    assert!(is("Running", "m1")(&world.get(&run).await.body["properties"]["status"]));
    world.emulator("POST", "/emulator/operations/release?cluster=aks-1", None).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert!(is("Completed", "m1")(&status), "{status:#}");

    // m1 has a slot, and AKS cannot be called; m2 waits for its window; after a stop, m3 is left for the next start.
    let fleet = fleet_of("slots", 5, 3).await;
    let broken = json!({"status": 503, "code": "ServiceUnavailable", "message": "bad day", "retryAfter": 0});
    world.fault(json!({"match": {"method": "GET", "cluster": "aks-5"}, "times": 100_000, "action": broken})).await;
    let never = json!({"maintenanceWindow": {"schedule": {"daily": {"intervalDays": 1}}, "durationHours": 4,
        "startDate": "2123-01-01", "startTime": "02:30"}});
    let window = |cluster: &str| format!("/emulator/clusters/{cluster}/maintenance/aksManagedAutoUpgradeSchedule");
    for cluster in ["aks-6", "aks-7"] {
        world.emulator("PUT", &window(cluster), Some(never.clone())).await;
    }
    let run = world.start_run(&fleet, "r", control_plane("3")).await;
    let waiting = |status: &Value| is("Pending", "m2")(status) && is("Pending", "m3")(status);
    world.until(&run, LATE, "m2 and m3 wait", waiting).await;
    let read = |status: &Value| member(status, "m1")["message"].as_str().is_some_and(|m| m.contains("bad day"));
    world.until(&run, LATE, "m1 says that AKS cannot be read", read).await;
    leave(&world, &fleet, "m1").await;
    leave(&world, &fleet, "m2").await;
    world.emulator("DELETE", "/emulator/faults", None).await;
    world.until(&run, LATE, "m1 skipped", is("Skipped", "m1")).await;
    assert_eq!(world.post(&format!("{run}/stop"), None).await.status, 200);
    let status = world.reaches(&run, "Stopped", LATE).await;
    assert_left(&status, "m1");
    assert_left(&status, "m2");
    assert!(is("Stopped", "m3")(&status), "{status:#}");
    leave(&world, &fleet, "m3").await;
    for cluster in ["aks-6", "aks-7"] {
        world.emulator("DELETE", &window(cluster), None).await;
    }
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let status = world.reaches(&run, "Skipped", LATE).await;
    assert_left(&status, "m3");

    let log = world.emulator_log().await;
    let upgraded: Vec<&str> = log.iter().filter_map(|entry| entry["cluster"].as_str()).collect();
    assert_eq!(upgraded, ["aks-1"], "{log:?}");
}
