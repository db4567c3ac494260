//! Pauses, and batches of outcomes.

use super::support::*;
use crate::harness::{eventually, postgres::database};
use fleet_manager::work::{CLAIM, NewJob, Outcome, Settings, cancel, enqueue, finish_all};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

#[tokio::test]
async fn a_batch_of_outcomes_excludes_attempts_without_a_lease() {
    let db = database().await;
    for subject in ["cancelled", "kept", "lost", "wanted-again"] {
        put(&db.pool, subject).await;
    }
    let tickets = Arc::new(Mutex::new(Vec::new()));
    let (collected, pool) = (Arc::clone(&tickets), db.pool.clone());
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let (tickets, pool) = (Arc::clone(&collected), pool.clone());
            Box::pin(async move {
                tickets.lock().unwrap().push((attempt.subject.clone(), attempt.ticket()));
                eventually("all are executed", async || tickets.lock().unwrap().len() == 4).await;
                if attempt.subject != "kept" {
                    return std::future::pending().await;
                }
                let mut conn = pool.acquire().await.unwrap();
                cancel(&mut conn, KIND, "cancelled").await.unwrap();
                enqueue(&mut conn, NewJob::new(KIND, "wanted-again")).await.unwrap();
                conn.execute("UPDATE jobs SET attempt = attempt + 1, lease_owner = 'other' WHERE subject = 'lost'")
                    .await
                    .unwrap();
                let tickets: Vec<_> = tickets.lock().unwrap().iter().map(|(_, ticket)| ticket.clone()).collect();
                let finished = finish_all(&mut conn, &tickets, |_| ()).await.unwrap();
                assert_eq!(finished.into_iter().collect::<Vec<_>>(), [attempt.ticket()]);
                attempt.finished();
                Outcome::Settled
            })
        }),
    );
    eventually("the job is gone", async || rows(&db.pool).await.iter().all(|row| row.subject != "kept")).await;
    let left: Vec<String> = rows(&db.pool).await.into_iter().map(|row| row.subject).collect();
    assert!(left.contains(&"lost".to_owned()) && left.contains(&"wanted-again".to_owned()), "{left:?}");
    workers.crash().await;
}

#[tokio::test]
async fn a_pause_costs_no_statement_and_ends_when_the_workers_stop() {
    let db = database().await;
    put(&db.pool, "a").await;
    let (paused, mut pauses) = mpsc::unbounded_channel();
    let workers = run(
        &db.pool,
        Settings { longest_pause: Duration::from_secs(3600), ..settings() },
        on(move |attempt| {
            let paused = paused.clone();
            Box::pin(async move {
                assert!(attempt.pause(Duration::ZERO).await);
                assert!(!attempt.pause(Duration::from_secs(3601)).await, "longer than the longest");
                paused.send(()).unwrap();
                let delay = Duration::from_secs(3600);
                assert!(!attempt.pause(delay).await, "an hour has not passed");
                assert!(!attempt.may_pause(Duration::ZERO), "the workers are to stop");
                Outcome::AgainAfter { delay }
            })
        }),
    );
    pauses.recv().await.unwrap();
    let row_before = row(&db.pool).await;
    assert!(row_before.leased && row_before.attempt == 1);
    workers.stop().await;
    let row = row(&db.pool).await;
    assert!(!row.leased && row.goes_in.unwrap() > 3000.0, "{row:?}");
}

#[tokio::test]
async fn at_most_half_of_the_slots_pause() {
    let db = database().await;
    for n in 0..8 {
        put(&db.pool, &n.to_string()).await;
    }
    let (told, mut tells) = mpsc::unbounded_channel();
    let workers = run(
        &db.pool,
        Settings { longest_pause: Duration::from_secs(3600), ..settings() },
        on(move |attempt| {
            let told = told.clone();
            Box::pin(async move {
                let delay = Duration::from_secs(3600);
                if !attempt.pause(delay).await {
                    told.send(()).unwrap();
                }
                Outcome::AgainAfter { delay }
            })
        }),
    );
    for _ in 0..4 {
        tells.recv().await.unwrap();
    }
    eventually("the others pause", async || rows(&db.pool).await.iter().filter(|row| row.leased).count() == 4).await;
    assert!(tells.try_recv().is_err());
    workers.stop().await;
}

/// A job that becomes due during a claim is not leased: the worker must not wait for the end of a lease.
#[tokio::test]
async fn a_job_that_becomes_due_during_a_claim_is_not_taken_for_leased() {
    let db = database().await;
    let mut tx = db.pool.begin().await.unwrap();
    // now() of the claim is the time at which its transaction began.
    tx.execute("INSERT INTO jobs (kind, subject, run_at) VALUES ('test', 'a', now() + interval '20 ms')")
        .await
        .unwrap();
    tx.execute("SELECT pg_sleep(0.05)").await.unwrap();
    let row = sqlx::query(AssertSqlSafe(CLAIM))
        .bind([KIND].as_slice())
        .bind(8_i64)
        .bind("me")
        .bind(30.0)
        .bind(2_i32)
        .bind(true);
    let row = row.fetch_one(&mut *tx).await.unwrap();
    assert_eq!(row.get::<Option<i64>, _>("id"), None);
    let next_in: f64 = row.get("next_in");
    assert!((next_in - 0.02).abs() < 1e-6, "{next_in}");
}
