//! PostgreSQL that falls silent on single connections, and runs that are locked for long.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::ConnectOptions as _;

use crate::harness::{
    eventually,
    postgres::database,
    proxy::{Proxy, Swallow},
    world::{Options, World, members, upgrade_to},
};

const LEASE: Duration = Duration::from_secs(5);
/// Generous: the machine may be busy.
const BUSY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_whatever_statement_is_never_answered() {
    let db = database().await;
    let proxy = Proxy::start(&db.options).await;
    let env = vec![
        ("DATABASE_URL", proxy.options().to_url_lossy().to_string()),
        ("FLEET_LEASE_SECONDS", LEASE.as_secs().to_string()),
        ("FLEET_DATABASE_TIMEOUT_SECONDS", "2".to_owned()),
        // Fewer connections than fall silent: the pool must replace each of them.
        ("FLEET_DATABASE_CONNECTIONS", "4".to_owned()),
    ];
    let world = World::start_with(Options { upgrade_seconds: 1.0, env, ..Options::default() }).await;
    const LOCK: &str = "FROM update_runs WHERE run_id = $1 FOR UPDATE";
    let moments = [
        Swallow::From("BEGIN"),
        Swallow::After("BEGIN"),
        Swallow::From(LOCK),
        Swallow::After(LOCK),
        Swallow::From("COMMIT"),
        Swallow::After("COMMIT"),
    ];
    for (n, moment) in moments.into_iter().enumerate() {
        let fleet = world.fleet_of(&format!("f{n}"), &[("m1", 2 * n + 1, "g"), ("m2", 2 * n + 2, "g")]).await;
        let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
        let run = world.start_run(&fleet, "r", properties).await;
        proxy.swallow(moment);
        eventually("the statement is sent", async || proxy.has_swallowed()).await;
        let silent = Instant::now();
        let fleet_read = async {
            let asked = Instant::now();
            let answer = world.get(&fleet).await;
            assert_eq!(answer.status, 200, "{moment:?}: {}", answer.body);
            assert!(asked.elapsed() < Duration::from_secs(5) + BUSY, "{moment:?}: {:?}", asked.elapsed());
        };
        let (status, ()) = tokio::join!(world.reaches(&run, "Completed", 2 * LEASE + BUSY), fleet_read);
        assert!(members(&status).iter().all(|member| member["status"]["state"] == "Completed"), "{moment:?}: {status}");
        eprintln!("{moment:?}: completed after {:?}", silent.elapsed());
    }
    let applied = world.applied().await;
    assert!(applied.len() == 12 && applied.values().all(|times| *times == 1), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_for_a_locked_run_hold_up_neither_heartbeats_nor_requests() {
    let env = vec![
        ("FLEET_LEASE_SECONDS", "2".to_owned()),
        ("FLEET_DATABASE_CONNECTIONS", "6".to_owned()),
        ("FLEET_DATABASE_TIMEOUT_SECONDS", "20".to_owned()),
    ];
    let world = World::start_with(Options { upgrade_seconds: 3.0, env, ..Options::default() }).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let locked = world.fleet_of("locked", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let other = world.fleet_of("other", &[("m3", 3, "g"), ("m4", 4, "g")]).await;
    let run = world.start_run(&locked, "r", properties.clone()).await;
    world.until(&run, BUSY, "at work", |s| members(s).iter().any(|m| m["status"]["state"] == "Running")).await;
    let mut holder = world.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM update_runs FOR UPDATE").execute(&mut *holder).await.unwrap();

    let stop = format!("{run}/stop");
    let stops = futures_util::future::join_all((0..20).map(|_| world.post(&stop, None)));
    let others = async {
        eventually("a request waits for the lock", async || {
            let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
            sqlx::query_scalar::<_, bool>(waits).fetch_one(world.pool()).await.unwrap()
        })
        .await;
        // The upgrade of another fleet's members takes longer than a lease.
        let second = world.start_run(&other, "r", properties).await;
        while world.get(&second).await.body["properties"]["status"]["status"]["state"] != "Completed" {
            let answer = world.get(&other).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let lost: Vec<String> =
            sqlx::query_scalar("SELECT last_error FROM jobs WHERE last_error LIKE '%lost its lease'")
                .fetch_all(world.pool())
                .await
                .unwrap();
        assert_eq!(lost, [] as [String; 0]);
        holder.commit().await.unwrap();
    };
    let (stops, ()) = tokio::join!(stops, others);
    // A stop that waited for too long is answered 503. No stop gets another error.
    assert!(stops.iter().all(|answer| matches!(answer.status, 200 | 409 | 503)), "{stops:?}");
    world.until(&run, BUSY, "ended", |s| matches!(s["status"]["state"].as_str(), Some("Stopped" | "Completed"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_is_not_ready() {
    let env = vec![("FLEET_SHUTDOWN_DELAY_SECONDS", "5".to_owned())];
    let mut world = World::start_with(Options { env, ..Options::default() }).await;
    world.terminate();
    let ready = format!("{}/readyz", world.url);
    let reason = "the process is stopping";
    eventually("not ready", async || {
        let answer = world.get(&ready).await;
        answer.status == 503 && answer.body["reason"] == reason
    })
    .await;
    // Other requests are still answered.
    assert_eq!(world.get("/subscriptions").await.status, 200);
    world.kill();
}
