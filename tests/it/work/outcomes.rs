//! Outcomes of a handler, and their effect on the job.

use super::support::*;
use crate::harness::{eventually, postgres::database};
use fleet_manager::work::{FenceError, NewJob, Outcome, cancel, enqueue};
use jiff::Timestamp;
use sqlx::Executor as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[tokio::test]
async fn a_handler_sees_what_was_enqueued() {
    let db = database().await;
    let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let what = (attempt.subject.clone(), attempt.payload.clone(), attempt.trace.clone(), attempt.attempt);
            seen.send(what).unwrap();
            Box::pin(async { Outcome::Done })
        }),
    );
    let job = NewJob::new(KIND, "a").payload(serde_json::json!([1])).trace("t");
    enqueue(&mut db.pool.acquire().await.unwrap(), job).await.unwrap();
    assert_eq!(sees.recv().await.unwrap(), ("a".to_owned(), serde_json::json!([1]), Some("t".to_owned()), 1));
    eventually("the job is removed", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
}

#[tokio::test]
async fn a_repeated_job_costs_one_update_each_time() {
    let db = database().await;
    db.pool.execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    put(&db.pool, "a").await;
    let workers = run(
        &db.pool,
        settings(),
        on(move |_| {
            let n = counted.fetch_add(1, SeqCst);
            Box::pin(async move {
                match n {
                    0..20 => Outcome::Again { at: Timestamp::now() },
                    20..40 => Outcome::AgainAfter { delay: Duration::from_millis(1) },
                    _ => Outcome::Done,
                }
            })
        }),
    );
    eventually("it is done", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
    assert_eq!(attempts.load(SeqCst), 41);
    let statements: Vec<(String, i64)> = sqlx::query_as(
        "SELECT left(query, 40), calls FROM pg_stat_statements
          WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query ~ 'jobs'",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let calls = |start: &str| -> i64 {
        statements.iter().filter(|(query, _)| query.trim_start().starts_with(start)).map(|(_, calls)| calls).sum()
    };
    assert_eq!((calls("UPDATE jobs"), calls("DELETE FROM jobs")), (40, 1), "{statements:?}");
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let db = database().await;
    put(&db.pool, "a").await;
    let workers = run(
        &db.pool,
        settings(),
        on(|attempt| {
            Box::pin(async move {
                assert!(attempt.failures > 0, "the first one fails");
                Outcome::AgainAfter { delay: Duration::from_secs(600) }
            })
        }),
    );
    eventually("the second attempt is done", async || row(&db.pool).await.goes_in > Some(500.0)).await;
    let row = row(&db.pool).await;
    assert_eq!((row.attempt, row.failures, row.last_error), (2, 0, None));
    workers.stop().await;
}

#[tokio::test]
async fn a_job_fails_after_too_many_attempts_and_can_be_enqueued_again() {
    let db = database().await;
    put(&db.pool, "a").await;
    let fail = on(|_| Box::pin(async { Outcome::Retry { error: "no \0luck".to_owned(), after: None } }));
    let workers = run(&db.pool, settings(), fail);
    eventually("given up", async || row(&db.pool).await.failed).await;
    let given_up = row(&db.pool).await;
    assert_eq!((given_up.attempt, given_up.failures, given_up.last_error.as_deref()), (3, 3, Some("no luck")));
    workers.stop().await;

    put(&db.pool, "a").await;
    assert_eq!(row(&db.pool).await.failures, 0);
    let workers = run(&db.pool, settings(), on(|_| Box::pin(async { Outcome::Done })));
    eventually("done", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
}

#[tokio::test]
async fn the_upstreams_retry_after_replaces_the_backoff() {
    for (after, least) in [(Duration::from_secs(300), 290.0), (Duration::MAX, 1e8)] {
        let db = database().await;
        put(&db.pool, "a").await;
        let retry =
            on(move |_| Box::pin(async move { Outcome::Retry { error: "429".to_owned(), after: Some(after) } }));
        let workers = run(&db.pool, settings(), retry);
        eventually("failed once", async || row(&db.pool).await.failures == 1).await;
        assert!(row(&db.pool).await.goes_in.unwrap() > least);
        workers.stop().await;
    }
}

#[tokio::test]
async fn a_failed_job_is_not_retried() {
    let db = database().await;
    put(&db.pool, "a").await;
    let fail = on(|_| Box::pin(async { Outcome::Fail { error: "impossible".to_owned() } }));
    let workers = run(&db.pool, settings(), fail);
    eventually("failed", async || row(&db.pool).await.failed).await;
    assert_eq!(row(&db.pool).await.attempt, 1);
    workers.stop().await;
}

#[tokio::test]
async fn a_job_enqueued_while_running_runs_once_more() {
    for first in [
        Outcome::Done,
        Outcome::AgainAfter { delay: Duration::from_secs(600) },
        Outcome::Fail { error: "impossible".to_owned() },
    ] {
        let db = database().await;
        put(&db.pool, "a").await;
        let (pool, running, most) = (db.pool.clone(), Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let most_at_once = Arc::clone(&most);
        let answer = first.clone();
        let workers = run(
            &db.pool,
            settings(),
            on(move |attempt| {
                let (pool, running, most, answer) =
                    (pool.clone(), running.clone(), most_at_once.clone(), answer.clone());
                let number = attempt.attempt;
                Box::pin(async move {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    if number == 1 {
                        put(&pool, "a").await;
                        put(&pool, "a").await;
                    }
                    running.fetch_sub(1, SeqCst);
                    if number == 1 { answer } else { Outcome::AgainAfter { delay: Duration::from_secs(900) } }
                })
            }),
        );
        eventually("gone twice", async || row(&db.pool).await.goes_in > Some(800.0)).await;
        assert_eq!((row(&db.pool).await.attempt, most.load(SeqCst)), (2, 1), "after {first:?}");
        workers.stop().await;
    }
}

#[tokio::test]
async fn a_job_settled_in_its_transaction_takes_effect_exactly_once() {
    let db = database().await;
    db.pool.execute("CREATE TABLE effects (attempt bigint)").await.unwrap();
    put(&db.pool, "a").await;
    let pool = db.pool.clone();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let pool = pool.clone();
            Box::pin(async move {
                let mut tx = attempt.begin(&pool).await.unwrap();
                sqlx::query("INSERT INTO effects VALUES ($1)").bind(attempt.attempt).execute(&mut *tx).await.unwrap();
                attempt.settle(&mut tx, Outcome::Done).await.unwrap();
                if attempt.attempt == 1 {
                    tx.rollback().await.unwrap();
                    panic!("crashed before the commit");
                }
                tx.commit().await.unwrap();
                Outcome::Settled
            })
        }),
    );
    eventually("settled", async || rows(&db.pool).await.is_empty()).await;
    let effects: Vec<i64> = sqlx::query_scalar("SELECT attempt FROM effects").fetch_all(&db.pool).await.unwrap();
    assert_eq!(effects, [2]);
    workers.stop().await;
}

#[tokio::test]
async fn settling_is_a_fence_of_its_transaction() {
    // The end of a job that was cancelled or taken over during the transaction undoes the transaction; that of a job which was
    // enqueued again does not.
    for (meanwhile, outcome, effects) in [
        ("cancelled", Outcome::Done, 0),
        ("cancelled", Outcome::AgainAfter { delay: Duration::from_secs(60) }, 0),
        ("cancelled", Outcome::Fail { error: "e".to_owned() }, 0),
        ("taken over", Outcome::Done, 0),
        ("enqueued again", Outcome::Done, 1),
    ] {
        let db = database().await;
        db.pool.execute("CREATE TABLE effects (attempt bigint)").await.unwrap();
        put(&db.pool, "a").await;
        let (pool, case) = (db.pool.clone(), outcome.clone());
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let workers = run(
            &db.pool,
            settings(),
            on(move |attempt| {
                let (pool, outcome, ended) = (pool.clone(), outcome.clone(), ended.clone());
                Box::pin(async move {
                    if attempt.attempt == 2 {
                        return Outcome::Done;
                    }
                    let mut tx = pool.begin().await.unwrap();
                    sqlx::query("INSERT INTO effects VALUES (1)").execute(&mut *tx).await.unwrap();
                    match meanwhile {
                        "cancelled" => assert!(cancel(&mut pool.acquire().await.unwrap(), KIND, "a").await.unwrap()),
                        "taken over" => _ = pool.execute("UPDATE jobs SET lease_owner = 'other'").await.unwrap(),
                        _ => put(&pool, "a").await,
                    }
                    let outcome = match attempt.settle(&mut tx, outcome).await {
                        Ok(()) => {
                            tx.commit().await.unwrap();
                            Outcome::Settled
                        }
                        Err(FenceError::LeaseLost) => Outcome::Done,
                        Err(error) => panic!("{error}"),
                    };
                    ended.send(()).unwrap();
                    outcome
                })
            }),
        );
        ends.recv().await.unwrap();
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM effects").fetch_one(&db.pool).await.unwrap();
        assert_eq!(found, effects, "{meanwhile}, {case:?}");
        workers.stop().await;
    }
}

#[tokio::test]
async fn a_job_settled_for_later_is_executed_then() {
    let db = database().await;
    put(&db.pool, "a").await;
    let pool = db.pool.clone();
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let pool = pool.clone();
            Box::pin(async move {
                if attempt.attempt == 3 {
                    return Outcome::Done;
                }
                let mut tx = attempt.begin(&pool).await.unwrap();
                attempt.settle(&mut tx, Outcome::AgainAfter { delay: Duration::from_millis(50) }).await.unwrap();
                tx.commit().await.unwrap();
                Outcome::Settled
            })
        }),
    );
    eventually("done", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
}

#[tokio::test]
async fn claiming_to_have_settled_is_a_failure() {
    let db = database().await;
    put(&db.pool, "a").await;
    let workers = run(&db.pool, settings(), on(|_| Box::pin(async { Outcome::Settled })));
    eventually("given up", async || row(&db.pool).await.failed).await;
    workers.stop().await;
}
