//! PostgreSQL crashes in the middle of a run: requests get an error to retry, and the run continues.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use fleet_manager::local::postgres::{PostgresSettings, PrivatePostgres};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use crate::harness::world::{Options, World, members, upgrade_to};

const LATE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_a_crash_of_the_database() {
    // With durable commits, so that the crash loses no commit that PostgreSQL has confirmed.
    let settings = PostgresSettings { durable: true, ..PostgresSettings::default() };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres-crashes");
    let postgres = PrivatePostgres::start_with(&directory, &settings).await.unwrap();
    let mut admin = postgres.options().connect().await.unwrap();
    for statement in ["DROP DATABASE IF EXISTS crashes WITH (FORCE)", "CREATE DATABASE crashes"] {
        admin.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    drop(admin);
    let url = postgres.options().database("crashes").to_url_lossy().to_string();
    let env = vec![("DATABASE_URL", url.clone()), ("FLEET_LEASE_SECONDS", "1".to_owned())];
    let world = World::start_with(Options { upgrade_seconds: 1.0, env, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g"), ("m4", 4, "g")]).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "2"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.until(&run, LATE, "at work", |s| members(s).iter().any(|m| m["status"]["state"] == "Running")).await;

    // SIGQUIT: immediate shutdown, with recovery at the next start.
    let pid = std::fs::read_to_string(directory.join("postgres/postmaster.pid")).unwrap();
    let signalled = Command::new("kill").args(["-QUIT", pid.lines().next().unwrap()]).status().unwrap();
    assert!(signalled.success());
    drop(postgres);
    let http = reqwest::Client::new();
    let deadline = Instant::now() + LATE;
    loop {
        let ready = http.get(format!("{}/readyz", world.url)).send().await.unwrap().status().as_u16();
        if ready == 503 {
            break;
        }
        assert!(ready == 200 && Instant::now() < deadline, "/readyz answers {ready}");
    }
    let away = world.get(&run).await;
    assert_eq!(away.status, 503, "{}\n{}", away.body, world.log_tail());
    assert!(!away.code().is_empty() && away.header("retry-after").is_some(), "{away:?}");
    assert_eq!(http.get(format!("{}/healthz", world.url)).send().await.unwrap().status(), 200);

    let postgres = PrivatePostgres::start_with(&directory, &settings).await.unwrap();
    assert_eq!(postgres.options().database("crashes").to_url_lossy().to_string(), url, "the same address");
    world.ready().await;
    world.reaches(&run, "Completed", LATE).await;
    let applied = world.applied().await;
    assert!(applied.len() >= 8 && applied.values().all(|times| *times == 1), "{applied:?}");
    assert!(!world.log_tail().contains("panicked"), "{}", world.log_tail());
    drop(world);
    postgres.stop().await.unwrap();
}
