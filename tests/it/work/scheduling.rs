//! When jobs are executed: on time, after a notification, and after outages.

use super::support::*;
use crate::harness::eventually;
use crate::harness::postgres::{database, migrate};
use fleet_manager::database::{Limits, Pool};
use fleet_manager::local::postgres::{PostgresSettings, PrivatePostgres};
use fleet_manager::work::{NewJob, Outcome, Settings, SettingsError, Workers, enqueue, enqueue_all};
use jiff::{SignedDuration, Timestamp};
use sqlx::Executor as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_jobs_go_on_time() {
    let db = database().await;
    let (late, mut delays) = mpsc::unbounded_channel();
    let pool = db.pool.clone();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let (pool, late) = (pool.clone(), late.clone());
            Box::pin(async move {
                let now: jiff_sqlx::Timestamp =
                    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&pool).await.unwrap();
                late.send(now.to_jiff().duration_since(attempt.due_at).as_secs_f64()).unwrap();
                Outcome::Done
            })
        }),
    );
    let start = Timestamp::now() + SignedDuration::from_millis(300);
    let jobs: Vec<NewJob> = (0..200)
        .map(|n| NewJob::new(KIND, n.to_string()).run_at(start + SignedDuration::from_millis(n * 10)))
        .collect();
    enqueue_all(&mut db.pool.acquire().await.unwrap(), &jobs).await.unwrap();
    let mut seconds = Vec::new();
    for _ in 0..jobs.len() {
        seconds.push(delays.recv().await.unwrap());
    }
    seconds.sort_by(f64::total_cmp);
    let (first, median, p99) = (seconds[0], seconds[100], seconds[197]);
    println!("lateness: median {:.1} ms, p99 {:.1} ms", median * 1e3, p99 * 1e3);
    assert!(first >= 0.0, "never early: {first}");
    // A job found by the poll, and not by its timer, would be seconds late. How late the timer is on a quiet machine is a
    // benchmark's matter.
    assert!(median <= 0.250, "median {median}, p99 {p99}");
    workers.stop().await;
}

#[tokio::test]
async fn an_earlier_job_wakes_a_worker_that_waits_for_a_later_one() {
    let db = database().await;
    let (seen, mut sees) = mpsc::unbounded_channel();
    let later = Timestamp::now() + SignedDuration::from_secs(30);
    enqueue(&mut db.pool.acquire().await.unwrap(), NewJob::new(KIND, "later").run_at(later)).await.unwrap();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            seen.send(attempt.subject.clone()).unwrap();
            Box::pin(async { Outcome::Done })
        }),
    );
    for n in 0..5 {
        let enqueued = Instant::now();
        let soon = Timestamp::now() + SignedDuration::from_millis(n * 20);
        enqueue(&mut db.pool.acquire().await.unwrap(), NewJob::new(KIND, n.to_string()).run_at(soon)).await.unwrap();
        assert_eq!(sees.recv().await.unwrap(), n.to_string());
        assert!(enqueued.elapsed() < Duration::from_secs(5));
    }
    workers.stop().await;
}

#[tokio::test]
async fn all_jobs_are_executed_with_few_slots_and_unknown_kinds_are_not_claimed() {
    let db = database().await;
    let jobs: Vec<NewJob> = (0..50).map(|n| NewJob::new(KIND, n.to_string())).collect();
    enqueue(&mut db.pool.acquire().await.unwrap(), NewJob::new("unknown", "x")).await.unwrap();
    enqueue_all(&mut db.pool.acquire().await.unwrap(), &jobs).await.unwrap();
    let narrow = Settings { concurrency: 3, ..settings() };
    let workers = run(&db.pool, narrow, on(|_| Box::pin(async { Outcome::Done })));
    eventually("all but the stranger are done", async || rows(&db.pool).await.len() == 1).await;
    workers.stop().await;
    assert_eq!(row(&db.pool).await.attempt, 0);
}

#[tokio::test]
async fn an_idle_worker_is_quiet() {
    let db = database().await;
    db.pool.execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let later = Timestamp::now() + SignedDuration::from_secs(300);
    enqueue(&mut db.pool.acquire().await.unwrap(), NewJob::new(KIND, "later").run_at(later)).await.unwrap();
    let claims = async || -> i64 {
        sqlx::query_scalar(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
              WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query ~ 'SKIP LOCKED'",
        )
        .fetch_one(&db.pool)
        .await
        .unwrap()
    };
    let workers = run(&db.pool, settings(), on(|_| Box::pin(async { Outcome::Done })));
    eventually("it has looked and listens", async || claims().await >= 2).await;
    // One poll at the start and one after LISTEN. On a busy machine LISTEN may have to connect again, which adds a poll each time; and
    // PostgreSQL may forget counts, so that they fall.
    let mut looks = Vec::new();
    while !looks.contains(&0) {
        assert!(looks.len() < 30, "{looks:?}");
        let before = claims().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        looks.push(claims().await - before);
    }
    workers.stop().await;
}

#[tokio::test]
async fn a_listener_that_was_cut_off_listens_again() {
    let db = database().await;
    let (seen, mut sees) = mpsc::unbounded_channel();
    let workers = run(
        &db.pool,
        settings(),
        on(move |_| {
            seen.send(()).unwrap();
            Box::pin(async { Outcome::Done })
        }),
    );
    let listeners = async || -> Vec<i32> {
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^LISTEN'")
            .fetch_all(&db.pool)
            .await
            .unwrap()
    };
    eventually("it listens", async || listeners().await.len() == 1).await;
    let first = listeners().await[0];
    sqlx::query("SELECT pg_terminate_backend($1)").bind(first).execute(&db.pool).await.unwrap();
    eventually("it listens again", async || listeners().await.iter().any(|pid| *pid != first)).await;
    put(&db.pool, "a").await;
    tokio::time::timeout(Duration::from_secs(5), sees.recv()).await.unwrap().unwrap();
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_database_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let fast = PostgresSettings { durable: false, ..Default::default() };
    let postgres = PrivatePostgres::start_with(dir.path(), &fast).await.unwrap();
    migrate(&postgres.options()).await;
    let pool = Pool::new(postgres.options(), 5, Limits::default());
    let (seen, mut sees) = mpsc::unbounded_channel();
    let (slow_started, mut slow_starts) = mpsc::unbounded_channel();
    let workers = run(
        &pool,
        Settings { lease: Duration::from_secs(30), ..settings() },
        on(move |attempt| {
            let (seen, slow_started) = (seen.clone(), slow_started.clone());
            Box::pin(async move {
                if attempt.subject == "during" {
                    // Answers while the database is away.
                    slow_started.send(()).unwrap();
                    tokio::time::sleep(Duration::from_millis(700)).await;
                }
                seen.send((attempt.subject.clone(), attempt.attempt)).unwrap();
                Outcome::Done
            })
        }),
    );
    put(&pool, "before").await;
    assert_eq!(sees.recv().await.unwrap(), ("before".to_owned(), 1));
    put(&pool, "during").await;
    slow_starts.recv().await.unwrap();
    postgres.stop().await.unwrap();
    assert_eq!(sees.recv().await.unwrap(), ("during".to_owned(), 1));

    let postgres = PrivatePostgres::start_with(dir.path(), &fast).await.unwrap();
    eventually("enqueued after the restart", async || {
        let Ok(mut conn) = pool.acquire().await else { return false };
        enqueue(&mut conn, NewJob::new(KIND, "after")).await.is_ok()
    })
    .await;
    assert_eq!(sees.recv().await.unwrap(), ("after".to_owned(), 1));
    eventually("both are settled", async || rows(&pool).await.is_empty()).await;
    workers.stop().await;
    pool.close().await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let db = database().await;
    let done = || on(|_| Box::pin(async { Outcome::Done }));
    let twice = Workers::new(db.pool.clone(), settings(), vec![done(), done()]);
    assert_eq!(twice.err(), Some(SettingsError::DuplicateHandler(KIND)));
    for wrong in [
        Settings { concurrency: 0, ..settings() },
        Settings { lease: Duration::ZERO, ..settings() },
        Settings { poll: Duration::from_secs(61), ..settings() },
        Settings { max_failures: 0, ..settings() },
    ] {
        assert!(Workers::new(db.pool.clone(), wrong, vec![done()]).is_err());
    }
}
