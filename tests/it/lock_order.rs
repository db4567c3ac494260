//! The order of locks: deletions and concurrent requests.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{
    eventually,
    world::{Options, World, members, upgrade_to},
};

const LATE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_does_not_starve_under_repeated_stops() {
    let world = World::start().await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    for round in 0..4 {
        let fleet = world.fleet_of(&format!("f{round}"), &[("m1", 1, "g")]).await;
        let runs: Vec<String> = (0..6).map(|n| format!("{fleet}/updateRuns/r{n}")).collect();
        for run in &runs {
            let made = world.put(run, json!({"properties": properties.clone()})).await;
            assert_eq!(made.status, 201, "{}", made.body);
        }
        let gone = async {
            let deleted = world.delete(&fleet).await;
            assert_eq!(deleted.status, 202, "{}", deleted.body);
            eventually("the fleet is gone", async || world.get(&fleet).await.status == 404).await;
        };
        let stops = join_all(runs.iter().map(async |run| {
            // Repeats the stop until the run is gone.
            while world.post(&format!("{run}/stop"), None).await.status != 404 {}
        }));
        tokio::join!(gone, stops);
    }
    let log = world.log_text();
    assert!(!log.contains("deadlock"), "{}", world.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_upgrades_that_began_before_it() {
    let world = World::start_with(Options { upgrade_seconds: 3.0, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.until(&run, LATE, "at work", |s| members(s).iter().any(|m| m["status"]["state"] == "Running")).await;
    // The state after a start that was executed between the check of a DELETE and the job of the DELETE.
    delete_unchecked(&world, &fleet).await;
    let started = world.post(&format!("{run}/start"), None).await;
    assert_eq!(started.status, 409, "{}", started.body);
    eventually("the run stops", async || {
        let status = world.get(&run).await.body["properties"]["status"].clone();
        matches!(status["status"]["state"].as_str(), Some("Stopping" | "Stopped")) || status.is_null()
    })
    .await;
    eventually("the fleet is gone", async || world.get(&fleet).await.status == 404).await;
    // The first member's upgrade was followed to its end; the second one's did not begin.
    let applied = world.applied().await;
    assert_eq!(applied.values().sum::<usize>(), 1, "{applied:?}");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE kind LIKE 'run.%' OR kind LIKE 'member.%'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_in_a_fleet_that_is_being_deleted() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let run = format!("{fleet}/updateRuns/r");
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    assert_eq!(world.put(&run, json!({"properties": properties})).await.status, 201);
    sqlx::query("UPDATE resources SET provisioning_state = 'Deleting' WHERE key = $1")
        .bind(fleet.to_lowercase())
        .execute(world.pool())
        .await
        .unwrap();
    let started = world.post(&format!("{run}/start"), None).await;
    assert_eq!(started.status, 409, "{}", started.body);
}

/// A job that records how far its member is locks itself and then the member's row. Who skips the member keeps to that order, or each
/// would wait for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_skip_of_a_running_member_waits_for_its_job_before_it_changes_the_member() {
    let world = World::start().await;
    world.fault(json!({"match": {"method": "PUT"}, "action": {"hangOperation": true}})).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.until(&run, LATE, "at work", |s| members(s).iter().any(|m| m["status"]["state"] == "Running")).await;
    let mut job = world.pool().begin().await.unwrap();
    let fence = "SELECT FROM jobs WHERE kind = 'member.upgrade' FOR KEY SHARE";
    assert_eq!(sqlx::query(fence).execute(&mut *job).await.unwrap().rows_affected(), 1);
    let (path, targets) = (format!("{run}/skip"), json!({"targets": [{"type": "RunningMember", "name": "m1"}]}));
    let skip = world.post(&path, Some(targets));
    let record = async {
        eventually("the skip waits for the job", async || {
            let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock' AND query LIKE '%FROM jobs WHERE kind = $1 AND subject%')";
            sqlx::query_scalar(waits).fetch_one(world.pool()).await.unwrap()
        })
        .await;
        sqlx::query("UPDATE run_members SET message = message").execute(&mut *job).await.expect("a deadlock");
        job.commit().await.unwrap();
    };
    let (skipped, ()) = tokio::join!(skip, record);
    assert_eq!(skipped.status, 200, "{}", skipped.body);
    world.until(&run, LATE, "left out", |s| members(s).iter().all(|m| m["status"]["state"] == "Skipped")).await;
    assert!(!world.log_text().contains("deadlock"), "{}", world.log_tail());
}

/// A deletion whose check saw no member in flight.
async fn delete_unchecked(world: &World, fleet: &str) {
    let (key, operation) = (fleet.to_lowercase(), Uuid::new_v4());
    let mut tx = world.pool().begin().await.unwrap();
    sqlx::query("UPDATE resources SET provisioning_state = 'Deleting', last_operation_id = $2 WHERE key = $1")
        .bind(&key)
        .bind(operation)
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time)
         SELECT $2, subscription, location, arm_id, 'DELETE', 'InProgress', now() FROM resources WHERE key = $1",
    )
    .bind(&key)
    .bind(operation)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO jobs (kind, subject, payload, run_at)
         SELECT 'fleet.delete', id::text, $2, now() FROM resources WHERE key = $1",
    )
    .bind(&key)
    .bind(json!({"operation": operation}))
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query("SELECT pg_notify('jobs', '')").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}
