//! A start is visible at once. After a stop no member begins that has not begun; it begins after the next start.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{World, members, upgrade_to},
};

const LATE: Duration = Duration::from_secs(60);

fn one_group(max: &str) -> Value {
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": max}]}]});
    json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})
}

fn state_of<'a>(status: &'a Value, name: &str) -> &'a Value {
    &members(status).into_iter().find(|member| member["name"] == name).unwrap()["status"]["state"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_not_begun_does_not_begin_after_a_stop() {
    let world = World::start().await;
    let broken = json!({"status": 503, "code": "ServiceUnavailable", "message": "bad day", "retryAfter": 0});
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    world.fault(json!({"match": {"method": "GET", "cluster": "aks-1"}, "times": 100_000, "action": broken})).await;
    let run = world.start_run(&fleet, "r", one_group("1")).await;
    let says = |status: &Value| members(status)[0]["message"].as_str().is_some_and(|m| m.contains("bad day"));
    world.until(&run, LATE, "m1 says that AKS cannot be read", says).await;
    assert_eq!(world.post(&format!("{run}/stop"), None).await.status, 200);
    let status = world.reaches(&run, "Stopped", LATE).await;
    assert_eq!((state_of(&status, "m1"), state_of(&status, "m2")), (&json!("Stopped"), &json!("NotStarted")));
    world.emulator("DELETE", "/emulator/faults", None).await;
    assert!(world.applied().await.is_empty());
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    world.reaches(&run, "Completed", LATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_not_begun_does_not_begin_after_too_many_failures() {
    let world = World::start().await;
    let broken = json!({"status": 503, "code": "ServiceUnavailable", "message": "bad day", "retryAfter": 0});
    let failure = json!({"code": "NodesNotReady", "message": "no nodes"});
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    world.fault(json!({"match": {"method": "GET", "cluster": "aks-1"}, "times": 100_000, "action": broken})).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-2"}, "action": {"failOperation": failure}})).await;
    let run = world.start_run(&fleet, "r", one_group("2")).await;
    let status = world.reaches(&run, "Failed", LATE).await;
    assert_eq!((state_of(&status, "m1"), state_of(&status, "m2")), (&json!("Stopped"), &json!("Failed")));
    world.emulator("DELETE", "/emulator/faults", None).await;
    let log = world.emulator_log().await;
    assert!(log.iter().all(|entry| entry["cluster"] == "aks-2"), "{log:?}");
}

/// The intent to upgrade is recorded only while the run goes on, however late the stop comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_just_before_the_intent_is_recorded_counts() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    // The worker has read the run's state, and waits for the lock to check the membership.
    let mut tx = world.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM resources WHERE name = 'm1' FOR UPDATE").execute(&mut *tx).await.unwrap();
    let run = world.start_run(&fleet, "r", one_group("1")).await;
    eventually("the worker waits for the member", async || {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%memberships%'";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(world.pool()).await.unwrap() == 1
    })
    .await;
    assert_eq!(world.post(&format!("{run}/stop"), None).await.status, 200);
    tx.rollback().await.unwrap();
    let status = world.reaches(&run, "Stopped", LATE).await;
    assert_eq!(state_of(&status, "m1"), "Stopped");
    assert!(world.applied().await.is_empty());
}

/// A window that does not open while a test lasts.
async fn close_window(world: &World, cluster: &str) {
    let never = json!({"maintenanceWindow": {"schedule": {"daily": {"intervalDays": 1}}, "durationHours": 4,
        "startDate": "2123-01-01", "startTime": "02:30"}});
    let path = format!("/emulator/clusters/{cluster}/maintenance/aksManagedAutoUpgradeSchedule");
    world.emulator("PUT", &path, Some(never)).await;
}

async fn state(world: &World, run: &str) -> Value {
    world.get(run).await.body["properties"]["status"]["status"]["state"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_stop_right_after_it_end_stopped_a_hundred_times_of_a_hundred() {
    let world = World::start().await;
    for cluster in ["aks-1", "aks-2"] {
        close_window(&world, cluster).await;
    }
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    for round in 0..100 {
        let run = world.start_run(&fleet, &format!("r{round}"), one_group("2")).await;
        let stopped = world.post(&format!("{run}/stop"), None).await;
        assert_eq!(stopped.status, 200, "{round}: {}", stopped.body);
        world.reaches(&run, "Stopped", LATE).await;
        // A late job of the start changes nothing: the run stays in this state.
        if round % 10 == 0 {
            let query = "SELECT count(*) FROM jobs WHERE kind = 'run.plan' AND subject IN (SELECT run_id::text FROM update_runs)";
            eventually("the jobs of the start are over", async || {
                sqlx::query_scalar::<_, i64>(query).fetch_one(world.pool()).await.unwrap() == 0
            })
            .await;
            assert_eq!(state(&world, &run).await, "Stopped", "{round}");
        }
    }
    assert!(world.applied().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_visible_at_once_and_asking_again_for_a_start_or_a_stop_is_the_same() {
    let world = World::start().await;
    for cluster in ["aks-1", "aks-2"] {
        close_window(&world, cluster).await;
    }
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "h")]).await;
    let run = world.start_run(&fleet, "r", one_group("2")).await;
    let (start, stop) = (format!("{run}/start"), format!("{run}/stop"));
    for restart in 0..20 {
        let now = state(&world, &run).await;
        assert!(now == "Running" || now == "Pending", "{restart}: {now}");
        let edited = world.put(&run, json!({"properties": one_group("1")})).await;
        assert_eq!((edited.status, edited.code()), (409, "UpdateRunAlreadyStarted"), "{restart}");
        assert_eq!(world.post(&start, None).await.status, 200, "{restart}: started again");
        assert_eq!(world.post(&stop, None).await.status, 200, "{restart}");
        world.reaches(&run, "Stopped", LATE).await;
        let restarted = world.post(&start, None).await;
        assert_eq!(restarted.status, 200, "{restart}");
        assert_ne!(restarted.body["properties"]["status"]["status"]["state"], "Stopped", "{restart}");
    }
    assert_eq!(world.post(&stop, None).await.status, 200);

    let hang = json!({"match": {"method": "PUT", "cluster": "aks-3"}, "action": {"hangOperation": true}});
    world.fault(hang).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "h"}]}]});
    let wanted = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "stopping", wanted).await;
    eventually("m3 is upgraded", async || world.applied().await.len() == 1).await;
    for _ in 0..3 {
        let stopping = world.post(&format!("{run}/stop"), None).await;
        assert_eq!(stopping.status, 200, "{}", stopping.body);
        assert_eq!(stopping.body["properties"]["status"]["status"]["state"], "Stopping");
    }
}
