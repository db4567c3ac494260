//! Enqueues and cancels jobs, in the caller's transaction. All functions return the errors of the database as they are.

use crate::database::Connection;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;

/// The `NOTIFY` channel that wakes workers. Its messages are empty: workers then look at the queue.
pub const CHANNEL: &str = "jobs";

/// A job to be enqueued: its kind, its subject and the time from which it is due.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    kind: &'static str,
    subject: String,
    run_at: Option<Timestamp>,
    payload: serde_json::Value,
    trace: Option<String>,
}

impl NewJob {
    /// Returns a job that is due at once. `kind` selects the handler, `subject` says what the job is about. Neither may be empty.
    /// Both together name the job.
    pub fn new(kind: &'static str, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), run_at: None, payload: serde_json::Value::Null, trace: None }
    }

    /// Makes the job due at `at`, by the database's clock.
    #[must_use]
    pub fn run_at(mut self, at: Timestamp) -> Self {
        self.run_at = Some(at);
        self
    }

    /// Adds data that the handler cannot find by the subject. Keep it small. When a job is enqueued twice, the later payload counts.
    #[must_use]
    pub fn payload(mut self, payload: serde_json::Value) -> Self {
        self.payload = payload;
        self
    }

    /// Adds a correlation ID, which is part of every log line of the job's attempts.
    #[must_use]
    pub fn trace(mut self, trace: impl Into<String>) -> Self {
        self.trace = Some(trace.into());
        self
    }
}

/// Enqueues one job in the caller's transaction. See [`enqueue_all`].
pub async fn enqueue(conn: &mut Connection, job: NewJob) -> Result<(), sqlx::Error> {
    enqueue_all(conn, std::slice::from_ref(&job)).await
}

/// Enqueues many jobs in one statement of the caller's transaction.
///
/// A job that exists already is due at the earlier of both times. While it is being executed, it is executed once more
/// afterwards. If it had failed for good or was quarantined, its counts are reset and it is executed again. Workers are notified on
/// commit when a job is due within a minute. They find later jobs without a notification. An empty name violates a
/// constraint.
pub async fn enqueue_all(conn: &mut Connection, jobs: &[NewJob]) -> Result<(), sqlx::Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let kinds: Vec<&str> = jobs.iter().map(|job| job.kind).collect();
    let subjects: Vec<&str> = jobs.iter().map(|job| job.subject.as_str()).collect();
    let times: Vec<Option<jiff_sqlx::Timestamp>> = jobs.iter().map(|job| job.run_at.map(|at| at.to_sqlx())).collect();
    let payloads: Vec<&serde_json::Value> = jobs.iter().map(|job| &job.payload).collect();
    let traces: Vec<Option<&str>> = jobs.iter().map(|job| job.trace.as_deref()).collect();
    // Rows are locked in the order of their names, so that two callers with overlapping jobs do not deadlock. No worker is notified
    // of a row under lease: the worker that settles it sees the new time.
    sqlx::query(
        "WITH stored AS (
             INSERT INTO jobs (kind, subject, run_at, payload, trace)
             SELECT DISTINCT ON (kind, subject) kind, subject, coalesce(run_at, now()), payload, trace
               FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::jsonb[], $5::text[])
                 AS new (kind, subject, run_at, payload, trace)
              ORDER BY kind, subject, coalesce(run_at, now())
             ON CONFLICT (kind, subject) DO UPDATE
                SET run_at = least(jobs.run_at, excluded.run_at),
                    payload = excluded.payload,
                    trace = coalesce(excluded.trace, jobs.trace),
                    enqueued_at = CASE WHEN jobs.failed_at IS NULL THEN jobs.enqueued_at ELSE now() END,
                    failures = CASE WHEN jobs.failed_at IS NULL THEN jobs.failures ELSE 0 END,
                    vanished = CASE WHEN jobs.failed_at IS NULL THEN jobs.vanished ELSE 0 END,
                    failed_at = NULL
             RETURNING run_at, lease_until)
         SELECT pg_notify($6, '') FROM stored
          WHERE lease_until IS NULL AND run_at <= now() + interval '60 s' LIMIT 1",
    )
    .bind(kinds)
    .bind(subjects)
    .bind(times)
    .bind(payloads)
    .bind(traces)
    .bind(CHANNEL)
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns whether the job exists and has not failed for good: it waits, or is being executed.
pub async fn is_queued(conn: &mut Connection, kind: &str, subject: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM jobs WHERE kind = $1 AND subject = $2 AND failed_at IS NULL)")
        .bind(kind)
        .bind(subject)
        .fetch_one(conn)
        .await
}

/// Locks jobs of a kind, in the order of their subjects, until the caller's transaction ends. A transaction that cancels jobs after
/// it has changed what their fenced statements change locks them first: in another order both would wait for each other.
pub async fn hold(conn: &mut Connection, kind: &str, subjects: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT FROM jobs WHERE kind = $1 AND subject = ANY ($2) ORDER BY subject FOR UPDATE")
        .bind(kind)
        .bind(subjects)
        .execute(conn)
        .await?;
    Ok(())
}

/// Cancels a job in the caller's transaction, and returns whether the job existed. A job that waits is removed. Of a job that is
/// being executed, the result is dropped, and [`Attempt::lost`](super::Attempt::lost) is cancelled at the next heartbeat. Waits for
/// a fenced transaction of the job that is open. After the commit, no fenced transaction of that attempt succeeds.
pub async fn cancel(conn: &mut Connection, kind: &str, subject: &str) -> Result<bool, sqlx::Error> {
    // The lease is written as it was when the row was locked. PostgreSQL first applies an UPDATE to the row of the statement's
    // snapshot, and checks the constraints, before it sees that the row has changed since. In the snapshot, a job that was
    // claimed meanwhile has no lease.
    let cancelled = sqlx::query(
        "WITH held AS MATERIALIZED (
             SELECT id, attempt, lease_owner, lease_until FROM jobs WHERE kind = $1 AND subject = $2 FOR UPDATE),
         removed AS (
             DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM held WHERE lease_until IS NULL))),
         marked AS (
             UPDATE jobs
                SET cancelled = true, run_at = NULL, failed_at = NULL,
                    attempt = held.attempt, lease_owner = held.lease_owner, lease_until = held.lease_until
               FROM held WHERE jobs.id = held.id AND held.lease_until IS NOT NULL)
         SELECT id FROM held",
    )
    .bind(kind)
    .bind(subject)
    .fetch_all(conn)
    .await?;
    Ok(!cancelled.is_empty())
}

/// Cancels all jobs of a kind whose subject starts with `prefix` as [`cancel`] does, and returns how many there were.
pub async fn cancel_prefix(conn: &mut Connection, kind: &str, prefix: &str) -> Result<usize, sqlx::Error> {
    let cancelled = sqlx::query(
        "WITH held AS MATERIALIZED (
             SELECT id, attempt, lease_owner, lease_until FROM jobs WHERE kind = $1 AND subject ^@ $2 ORDER BY subject FOR UPDATE),
         removed AS (
             DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM held WHERE lease_until IS NULL))),
         marked AS (
             UPDATE jobs
                SET cancelled = true, run_at = NULL, failed_at = NULL,
                    attempt = held.attempt, lease_owner = held.lease_owner, lease_until = held.lease_until
               FROM held WHERE jobs.id = held.id AND held.lease_until IS NOT NULL)
         SELECT id FROM held",
    )
    .bind(kind)
    .bind(prefix)
    .fetch_all(conn)
    .await?;
    Ok(cancelled.len())
}
