//! Leases: one attempt at a time, no job lost, and no write without the lease.

use super::support::*;
use crate::harness::{eventually, postgres::database};
use fleet_manager::work::{FenceError, NewJob, Outcome, Settings, cancel, cancel_prefix, enqueue, enqueue_all};
use sqlx::Executor as _;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pools_execute_every_job_once_and_none_at_once() {
    let db = database().await;
    let jobs: Vec<NewJob> = (0..500).map(|n| NewJob::new(KIND, n.to_string())).collect();
    let running: Arc<Mutex<HashSet<String>>> = Arc::default();
    let times: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let handler = || {
        let (running, times) = (Arc::clone(&running), Arc::clone(&times));
        on(move |attempt| {
            let (running, times) = (Arc::clone(&running), Arc::clone(&times));
            Box::pin(async move {
                assert!(running.lock().unwrap().insert(attempt.subject.clone()), "{} at once", attempt.subject);
                tokio::task::yield_now().await;
                *times.lock().unwrap().entry(attempt.subject.clone()).or_default() += 1;
                running.lock().unwrap().remove(&attempt.subject);
                Outcome::Done
            })
        })
    };
    let pools = [run(&db.pool, settings(), handler()), run(&db.pool, settings(), handler())];
    enqueue_all(&mut db.pool.acquire().await.unwrap(), &jobs).await.unwrap();
    eventually("all done", async || rows(&db.pool).await.is_empty()).await;
    let times = times.lock().unwrap().clone();
    assert_eq!(times.len(), 500);
    assert!(times.values().all(|n| *n == 1));
    for pool in pools {
        pool.stop().await;
    }
}

#[tokio::test]
async fn an_attempt_without_its_lease_changes_nothing() {
    let db = database().await;
    put(&db.pool, "a").await;
    let (tried, mut tries) = mpsc::unbounded_channel();
    let pool = db.pool.clone();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let (pool, tried) = (pool.clone(), tried.clone());
            Box::pin(async move {
                attempt.begin(&pool).await.unwrap().commit().await.unwrap();
                let taken_over = "UPDATE jobs SET attempt = attempt + 1, lease_owner = 'other',
                                         lease_until = now() + interval '1 hour'";
                pool.execute(taken_over).await.unwrap();
                let refused = matches!(attempt.begin(&pool).await, Err(FenceError::LeaseLost));
                let mut conn = pool.acquire().await.unwrap();
                let outcome = Outcome::Fail { error: "late".to_owned() };
                let unsettled = matches!(attempt.settle(&mut conn, outcome).await, Err(FenceError::LeaseLost));
                tried.send((refused, unsettled)).unwrap();
                Outcome::Done
            })
        }),
    );
    assert_eq!(tries.recv().await.unwrap(), (true, true));
    workers.stop().await;
    let row = row(&db.pool).await;
    assert_eq!((row.attempt, row.leased, row.failed), (2, true, false));
}

#[tokio::test]
async fn a_job_is_executed_again_when_the_lease_of_a_crashed_worker_ends() {
    let db = database().await;
    put(&db.pool, "a").await;
    let short = || Settings { lease: Duration::from_millis(600), ..settings() };
    let (started, mut starts) = mpsc::unbounded_channel();
    let stuck = on(move |_| {
        started.send(()).unwrap();
        Box::pin(std::future::pending())
    });
    let first = run(&db.pool, short(), stuck);
    starts.recv().await.unwrap();
    // A run that was enqueued during the attempt is not lost.
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(500);
    enqueue(&mut db.pool.acquire().await.unwrap(), NewJob::new(KIND, "a").run_at(later)).await.unwrap();
    first.crash().await;
    let crashed = Instant::now();

    let (seen, mut sees) = mpsc::unbounded_channel();
    let second = run(
        &db.pool,
        short(),
        on(move |attempt| {
            seen.send((attempt.attempt, attempt.failures)).unwrap();
            Box::pin(async { Outcome::Done })
        }),
    );
    assert_eq!(sees.recv().await.unwrap(), (2, 1));
    assert!(crashed.elapsed() < Duration::from_secs(5), "not by the fallback poll");
    eventually("left for later", async || row(&db.pool).await.goes_in > Some(400.0)).await;
    second.stop().await;
}

#[tokio::test]
async fn a_job_that_ended_its_process_ten_times_is_not_executed_again() {
    let db = database().await;
    put(&db.pool, "a").await;
    db.pool
        .execute(
            "UPDATE jobs SET attempt = 9, lease_owner = 'gone', lease_until = now(), run_at = NULL,
                             vanished = 9",
        )
        .await
        .unwrap();
    let workers = run(&db.pool, settings(), on(|_| panic!("must not be tried again")));
    eventually("given up", async || row(&db.pool).await.failed).await;
    assert!(row(&db.pool).await.last_error.unwrap().contains("10 times in a row"));
    workers.stop().await;
}

#[tokio::test]
async fn the_heartbeat_keeps_a_long_attempt_even_while_its_row_is_locked() {
    let db = database().await;
    put(&db.pool, "a").await;
    let short = || Settings { lease: Duration::from_millis(600), ..settings() };
    let pool = db.pool.clone();
    let handler = move || {
        let pool = pool.clone();
        on(move |attempt| {
            let pool = pool.clone();
            Box::pin(async move {
                let fenced = attempt.begin(&pool).await.unwrap();
                let until = Instant::now() + Duration::from_millis(1_500);
                while Instant::now() < until {
                    assert!(attempt.lease_remaining() > Duration::ZERO && !attempt.lost().is_cancelled());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                fenced.commit().await.unwrap();
                Outcome::AgainAfter { delay: Duration::from_secs(600) }
            })
        })
    };
    let pools = [run(&db.pool, short(), handler()), run(&db.pool, short(), handler())];
    eventually("done", async || row(&db.pool).await.goes_in > Some(500.0)).await;
    assert_eq!(row(&db.pool).await.attempt, 1);
    for pool in pools {
        pool.stop().await;
    }
}

/// Signals when it is dropped.
struct Dropped(mpsc::UnboundedSender<Instant>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(Instant::now());
    }
}

#[tokio::test]
async fn the_handler_is_dropped_before_the_lease_ends_when_renewal_fails() {
    let db = database().await;
    put(&db.pool, "a").await;
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let (started, mut starts) = mpsc::unbounded_channel();
    let lease = Duration::from_secs(2);
    let workers = run(
        &db.pool,
        Settings { lease, ..settings() },
        on(move |_| {
            let guard = Dropped(dropped.clone());
            started.send(Instant::now()).unwrap();
            Box::pin(async move {
                let _guard = guard;
                std::future::pending().await
            })
        }),
    );
    let started = starts.recv().await.unwrap();
    let mut blocking = db.pool.begin().await.unwrap();
    blocking.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let dropped = drops.recv().await.unwrap();
    assert!(dropped - started < lease, "{:?}", dropped - started);
    blocking.rollback().await.unwrap();
    // And the job is delivered again.
    starts.recv().await.unwrap();
    workers.crash().await;
}

#[tokio::test]
async fn cancelling_ends_a_running_attempt_and_drops_its_result() {
    let db = database().await;
    put(&db.pool, "a").await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            started.send(attempt.attempt).unwrap();
            let first = attempt.attempt == 1;
            Box::pin(async move {
                if first {
                    std::future::pending().await
                } else {
                    Outcome::AgainAfter { delay: Duration::from_secs(600) }
                }
            })
        }),
    );
    starts.recv().await.unwrap();
    assert!(cancel(&mut db.pool.acquire().await.unwrap(), KIND, "a").await.unwrap());
    assert!(row(&db.pool).await.cancelled);
    eventually("removed", async || rows(&db.pool).await.is_empty()).await;

    // The job is cancelled and enqueued again: the old attempt ends, then a new one starts.
    put(&db.pool, "b").await;
    assert_eq!(starts.recv().await.unwrap(), 1);
    cancel(&mut db.pool.acquire().await.unwrap(), KIND, "b").await.unwrap();
    put(&db.pool, "b").await;
    assert_eq!(starts.recv().await.unwrap(), 2);
    eventually("waits", async || row(&db.pool).await.goes_in > Some(500.0)).await;
    workers.stop().await;
}

#[tokio::test]
async fn a_cancelled_attempt_changes_nothing() {
    for answer in
        [Outcome::Done, Outcome::AgainAfter { delay: Duration::ZERO }, Outcome::Fail { error: "x".to_owned() }]
    {
        let db = database().await;
        put(&db.pool, "a").await;
        let (tried, mut tries) = mpsc::unbounded_channel();
        let pool = db.pool.clone();
        let workers = run(
            &db.pool,
            settings(),
            on(move |attempt| {
                let (pool, tried, answer) = (pool.clone(), tried.clone(), answer.clone());
                Box::pin(async move {
                    cancel(&mut pool.acquire().await.unwrap(), KIND, "a").await.unwrap();
                    tried.send(matches!(attempt.begin(&pool).await, Err(FenceError::LeaseLost))).unwrap();
                    answer
                })
            }),
        );
        assert!(tries.recv().await.unwrap());
        eventually("removed", async || rows(&db.pool).await.is_empty()).await;
        workers.stop().await;
        assert!(tries.try_recv().is_err(), "executed once");
    }
}

#[tokio::test]
async fn a_cancelled_job_of_a_crashed_worker_is_removed_and_not_executed() {
    let db = database().await;
    put(&db.pool, "a").await;
    let leased = "UPDATE jobs SET attempt = 1, lease_owner = 'gone', lease_until = now(), run_at = NULL";
    db.pool.execute(leased).await.unwrap();
    cancel(&mut db.pool.acquire().await.unwrap(), KIND, "a").await.unwrap();
    let workers = run(&db.pool, settings(), on(|_| panic!("must not be executed")));
    eventually("removed", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_attempts_and_claims_no_more() {
    let db = database().await;
    put(&db.pool, "a").await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let finish = Arc::new(Notify::new());
    let finished = Arc::clone(&finish);
    let workers = run(
        &db.pool,
        settings(),
        on(move |_| {
            started.send(()).unwrap();
            let finished = Arc::clone(&finished);
            Box::pin(async move {
                finished.notified().await;
                Outcome::Done
            })
        }),
    );
    starts.recv().await.unwrap();
    let stopping = tokio::spawn(workers.stop());
    // The listener ends with the last claim.
    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    eventually("no more claims", async || {
        sqlx::query_scalar::<_, i64>(listeners).fetch_one(&db.pool).await.unwrap() == 0
    })
    .await;
    put(&db.pool, "b").await;
    finish.notify_one();
    stopping.await.unwrap();
    assert_eq!(rows(&db.pool).await.iter().map(|row| (&*row.subject, row.attempt)).collect::<Vec<_>>(), [("b", 0)]);
}

#[tokio::test]
async fn a_stop_releases_jobs_that_exceed_the_deadline() {
    let db = database().await;
    for subject in ["a", "b"] {
        put(&db.pool, subject).await;
    }
    let (started, mut starts) = mpsc::unbounded_channel();
    let stuck = on(move |_| {
        started.send(()).unwrap();
        Box::pin(std::future::pending())
    });
    let hasty = Settings { drain: Duration::from_millis(100), lease: Duration::from_secs(60), ..settings() };
    let workers = run(&db.pool, hasty, stuck);
    for _ in 0..2 {
        starts.recv().await.unwrap();
    }
    workers.stop().await;
    for row in rows(&db.pool).await {
        assert_eq!((row.leased, row.failures), (false, 0));
        assert!(row.goes_in.unwrap() <= 0.0);
    }
}

#[tokio::test]
async fn a_cancel_waits_for_an_open_fenced_transaction_and_an_enqueue_does_not() {
    let db = database().await;
    put(&db.pool, "a").await;
    let (tried, mut tries) = mpsc::unbounded_channel();
    let pool = db.pool.clone();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let (pool, tried) = (pool.clone(), tried.clone());
            Box::pin(async move {
                let fenced = attempt.begin(&pool).await.unwrap();
                tokio::time::timeout(Duration::from_secs(5), put(&pool, "a")).await.expect("enqueuing is not held up");
                let cancelling = tokio::spawn({
                    let pool = pool.clone();
                    async move { cancel(&mut pool.acquire().await.unwrap(), KIND, "a").await.unwrap() }
                });
                eventually("the cancel waits", async || {
                    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                                   AND wait_event_type = 'Lock')";
                    sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap()
                })
                .await;
                fenced.commit().await.unwrap();
                assert!(cancelling.await.unwrap());
                tried.send(matches!(attempt.begin(&pool).await, Err(FenceError::LeaseLost))).unwrap();
                Outcome::Done
            })
        }),
    );
    assert!(tries.recv().await.unwrap());
    eventually("removed", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
}

#[tokio::test]
async fn a_claim_that_a_failover_forgot_writes_nothing() {
    let db = database().await;
    put(&db.pool, "a").await;
    let (began, mut tries) = tokio::sync::mpsc::unbounded_channel();
    let forgotten = Arc::new(Notify::new());
    let (pool, wait) = (db.pool.clone(), Arc::clone(&forgotten));
    let first = AtomicBool::new(true);
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let (pool, wait, began) = (pool.clone(), Arc::clone(&wait), began.clone());
            let first = first.swap(false, Ordering::Relaxed);
            Box::pin(async move {
                began.send((attempt.attempt, None)).unwrap();
                if first {
                    wait.notified().await;
                }
                let lost = matches!(attempt.begin(&pool).await, Err(FenceError::LeaseLost));
                began.send((attempt.attempt, Some(lost))).unwrap();
                std::future::pending().await
            })
        }),
    );
    assert_eq!(tries.recv().await.unwrap(), (1, None));
    // The state after a failover to a replica of the database that did not have the claim yet.
    sqlx::query(
        "WITH told AS (SELECT pg_notify('jobs', ''))
         UPDATE jobs SET lease_owner = NULL, lease_until = NULL, attempt = 0, run_at = now() FROM told",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    assert_eq!(tries.recv().await.unwrap(), (1, None), "claimed again, under the same number");
    assert_eq!(tries.recv().await.unwrap(), (1, Some(false)), "the new claim may write");
    forgotten.notify_one();
    assert_eq!(tries.recv().await.unwrap(), (1, Some(true)), "the forgotten claim may not");
    workers.crash().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn jobs_are_cancelled_at_the_moment_when_they_are_given_back() {
    const ROUNDS: usize = 300;
    let db = database().await;
    let pool = db.pool.clone();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let pool = pool.clone();
            Box::pin(async move {
                let settled = async {
                    let mut tx = attempt.begin(&pool).await?;
                    attempt.settle(&mut tx, Outcome::AgainAfter { delay: Duration::ZERO }).await?;
                    tx.commit().await.unwrap();
                    Ok::<_, FenceError>(Outcome::Settled)
                };
                settled.await.unwrap_or(Outcome::Done)
            })
        }),
    );
    let lanes = (0..4).map(async |lane| {
        let jobs: Vec<NewJob> = (0..4).map(|n| NewJob::new(KIND, format!("{lane}/{n}"))).collect();
        for _ in 0..ROUNDS {
            enqueue_all(&mut db.pool.acquire().await.unwrap(), &jobs).await.unwrap();
            let mut tx = db.pool.begin().await.unwrap();
            cancel_prefix(&mut tx, KIND, &format!("{lane}/")).await.unwrap();
            tx.commit().await.unwrap();
            let going_on: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM jobs WHERE subject ^@ $1 AND NOT cancelled AND failed_at IS NULL",
            )
            .bind(format!("{lane}/"))
            .fetch_one(&db.pool)
            .await
            .unwrap();
            assert_eq!(going_on, 0, "not cancelled");
        }
    });
    futures_util::future::join_all(lanes).await;
    eventually("all cancelled", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
}
