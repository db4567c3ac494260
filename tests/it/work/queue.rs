//! Enqueuing and cancelling jobs.

use super::support::*;
use crate::harness::postgres::database;
use fleet_manager::work::{CLAIM, NewJob, cancel, cancel_prefix, enqueue, enqueue_all};
use jiff::{SignedDuration, Timestamp};
use sqlx::{AssertSqlSafe, Executor as _};

fn after(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn a_job_enqueued_twice_is_one_job_at_the_earlier_time() {
    let db = database().await;
    let mut conn = db.pool.acquire().await.unwrap();
    for seconds in [500, 100, 300] {
        enqueue(&mut conn, NewJob::new(KIND, "a").run_at(after(seconds))).await.unwrap();
    }
    let goes_in = row(&db.pool).await.goes_in.unwrap();
    assert!((90.0..=101.0).contains(&goes_in), "{goes_in}");
}

#[tokio::test]
async fn a_job_enqueued_in_a_rolled_back_transaction_does_not_exist() {
    let db = database().await;
    let mut tx = db.pool.begin().await.unwrap();
    enqueue(&mut tx, NewJob::new(KIND, "a")).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(rows(&db.pool).await, []);
}

#[tokio::test]
async fn one_batch_may_contain_the_same_job_twice() {
    let db = database().await;
    let jobs: Vec<NewJob> = (0..1_000)
        .map(|n| {
            NewJob::new(KIND, format!("{:03}", n % 500))
                .run_at(after(1_000 - n))
                .payload(serde_json::json!({ "n": n }))
                .trace("t")
        })
        .collect();
    enqueue_all(&mut db.pool.acquire().await.unwrap(), &jobs).await.unwrap();
    enqueue_all(&mut db.pool.acquire().await.unwrap(), &[]).await.unwrap();
    let rows = rows(&db.pool).await;
    assert_eq!(rows.len(), 500);
    assert!(rows.iter().all(|row| row.goes_in.unwrap() <= 500.0), "the earlier of both");
}

#[tokio::test]
async fn callers_with_overlapping_jobs_do_not_deadlock() {
    let db = database().await;
    let forth: Vec<NewJob> = (0..200).map(|n| NewJob::new(KIND, n.to_string())).collect();
    let back: Vec<NewJob> = forth.iter().rev().cloned().collect();
    let put = async |jobs: &[NewJob]| {
        for _ in 0..20 {
            enqueue_all(&mut db.pool.acquire().await.unwrap(), jobs).await.unwrap();
        }
    };
    tokio::join!(put(&forth), put(&back), put(&forth), put(&back));
}

#[tokio::test]
async fn cancelling_removes_what_is_not_executed() {
    let db = database().await;
    for subject in ["run/1/a", "run/1/b", "run/2/a", "x%"] {
        put(&db.pool, subject).await;
    }
    let mut conn = db.pool.acquire().await.unwrap();
    assert!(!cancel(&mut conn, KIND, "run/1").await.unwrap());
    assert!(cancel(&mut conn, KIND, "x%").await.unwrap());
    assert_eq!(cancel_prefix(&mut conn, KIND, "run/1/").await.unwrap(), 2);
    assert_eq!(cancel_prefix(&mut conn, KIND, "%").await.unwrap(), 0);
    assert_eq!(row(&db.pool).await.subject, "run/2/a");
}

#[tokio::test]
async fn the_claim_uses_the_index() {
    let db = database().await;
    let mut conn = db.pool.acquire().await.unwrap();
    conn.execute("SET enable_seqscan = off").await.unwrap();
    conn.execute(AssertSqlSafe(format!("PREPARE claim (text[], bigint, text, float8, int, bool) AS {CLAIM}")))
        .await
        .unwrap();
    let plan: Vec<String> = sqlx::query_scalar("EXPLAIN EXECUTE claim ('{test}', 8, 'me', 30, 2, true)")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    let plan = plan.join("\n");
    assert_eq!(plan.matches("Index Scan using jobs_due").count(), 2, "due and next:\n{plan}");
    assert!(plan.contains("Index Cond: (due_at <= now())"), "{plan}");
    assert!(plan.contains("jobs_pkey") && !plan.contains("Seq Scan on jobs"), "{plan}");
}

#[tokio::test]
async fn constraints_refuse_invalid_jobs() {
    let db = database().await;
    for (columns, values) in [
        ("run_at", "NULL"),
        ("run_at, lease_owner", "now(), 'me'"),
        ("run_at, lease_until", "now(), now()"),
        ("lease_owner, lease_until, attempt", "'me', now(), 0"),
        ("run_at, failed_at, last_error", "now(), now(), 'x'"),
        ("failed_at", "now()"),
        ("run_at, failures", "now(), 1"),
        ("run_at, failures", "now(), -1"),
        ("run_at, cancelled", "now(), true"),
    ] {
        let statement = format!("INSERT INTO jobs (kind, subject, {columns}) VALUES ('k', 's', {values})");
        let error = db.pool.execute(AssertSqlSafe(statement.clone())).await.unwrap_err();
        let database_error = error.as_database_error().unwrap_or_else(|| panic!("{statement}: {error}"));
        assert!(database_error.is_check_violation(), "{statement}: {error}");
    }
    for job in [NewJob::new("", "a"), NewJob::new(KIND, "")] {
        assert!(enqueue(&mut db.pool.acquire().await.unwrap(), job).await.is_err());
    }
}
