//! Deliveries of events: how far webhooks are, and what was given up.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::Serialize;
use sqlx::{FromRow, Row, postgres::PgRow};
use uuid::Uuid;

use super::StoreError;
use crate::database::Connection;
use crate::webhooks::RecordedEvent;

/// How far a webhook is with a run, and what comes next.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    /// Consecutive failures.
    pub failures: u32,
    /// Until it is to be tried again.
    pub wait: Duration,
    /// The next events, in order; all of them replays, or none.
    pub events: Vec<Queued>,
}

/// An event that a webhook is still to get.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The event.
    pub event: RecordedEvent,
    /// How long ago it was recorded.
    pub age: Duration,
    /// It was given up, and somebody asked for it.
    pub replay: bool,
}

impl FromRow<'_, PgRow> for Queued {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let age: f64 = row.try_get("age")?;
        Ok(Self { event: RecordedEvent::from_row(row)?, age: seconds(age), replay: row.try_get("replay")? })
    }
}

impl FromRow<'_, PgRow> for RecordedEvent {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            sequence: row.try_get("sequence")?,
            kind: row.try_get("type")?,
            subject: row.try_get("subject")?,
            at: row.try_get::<SqlTimestamp, _>("at")?.to_jiff(),
            data: row.try_get("data")?,
        })
    }
}

/// What a webhook is still to get of a run: at most so many events. `None` when there is no such webhook.
pub async fn backlog(
    conn: &mut Connection,
    webhook: &str,
    run_id: Uuid,
    most: usize,
) -> Result<Option<Backlog>, StoreError> {
    let failed = "reading what a webhook is still to get";
    let cursor = sqlx::query(
        "SELECT coalesce(d.failures, 0) AS failures, coalesce(extract(epoch FROM d.not_before - now()), 0)::float8 AS wait
         FROM webhooks w LEFT JOIN event_deliveries d ON d.webhook = w.name AND d.run_id = $2 WHERE w.name = $1",
    )
    .bind(webhook)
    .bind(run_id)
    .fetch_optional(&mut *conn)
    .await
    .map_err(StoreError::while_(failed))?;
    let Some(cursor) = cursor else { return Ok(None) };
    let read = || -> Result<(i32, f64), sqlx::Error> { Ok((cursor.try_get("failures")?, cursor.try_get("wait")?)) };
    let (failures, wait) = read().map_err(StoreError::while_(failed))?;
    let mut backlog = Backlog { failures: failures.unsigned_abs(), wait: seconds(wait), events: Vec::new() };
    if !backlog.wait.is_zero() {
        return Ok(Some(backlog));
    }
    backlog.events = sqlx::query_as(
        "(SELECT e.*, extract(epoch FROM now() - e.recorded_at)::float8 AS age, true AS replay
             FROM event_dead_letters l JOIN events e USING (run_id, sequence)
             WHERE l.webhook = $1 AND l.run_id = $2 AND l.replay_at IS NOT NULL ORDER BY sequence LIMIT $3)
         UNION ALL
         (SELECT e.*, extract(epoch FROM now() - e.recorded_at)::float8, false
             FROM webhooks w JOIN events e ON e.run_id = $2 AND e.recorded_at >= w.since
                 AND (w.types IS NULL OR e.type = ANY (w.types))
             WHERE w.name = $1 AND e.sequence >
                 coalesce((SELECT delivered FROM event_deliveries WHERE webhook = $1 AND run_id = $2), 0)
             ORDER BY sequence LIMIT $3)
         ORDER BY replay DESC, sequence LIMIT $3",
    )
    .bind(webhook)
    .bind(run_id)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    if backlog.events.first().is_some_and(|first| first.replay) {
        backlog.events.retain(|queued| queued.replay);
    }
    Ok(Some(backlog))
}

/// The webhooks and runs in which something is still to be delivered, whether a job is at it or not.
pub async fn backlogs(conn: &mut Connection) -> Result<Vec<(String, Uuid)>, StoreError> {
    sqlx::query_as(
        "SELECT w.name, s.run_id FROM webhooks w CROSS JOIN event_streams s
             LEFT JOIN event_deliveries d ON d.webhook = w.name AND d.run_id = s.run_id
         WHERE s.last_sequence > coalesce(d.delivered, 0)
             AND EXISTS (SELECT FROM events e
                 WHERE e.run_id = s.run_id AND e.sequence > coalesce(d.delivered, 0) AND e.recorded_at >= w.since
                     AND (w.types IS NULL OR e.type = ANY (w.types)))",
    )
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("looking for events that are still to be delivered"))
}

/// Keeps that a webhook has got these events.
pub async fn delivered(
    conn: &mut Connection,
    webhook: &str,
    run_id: Uuid,
    events: &[Queued],
) -> Result<(), StoreError> {
    let Some(last) = events.last() else { return Ok(()) };
    let failed = "keeping what was delivered";
    // Dead letters before cursors, as whoever replays them locks them.
    if last.replay {
        sqlx::query("DELETE FROM event_dead_letters WHERE webhook = $1 AND run_id = $2 AND sequence = ANY ($3)")
            .bind(webhook)
            .bind(run_id)
            .bind(events.iter().map(|queued| queued.event.sequence).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await
            .map_err(StoreError::while_(failed))?;
    }
    sqlx::query(
        "INSERT INTO event_deliveries AS d (run_id, webhook, delivered) VALUES ($1, $2, $3)
         ON CONFLICT (run_id, webhook) DO UPDATE SET delivered = greatest(d.delivered, excluded.delivered),
             failures = 0, last_error = NULL, not_before = NULL",
    )
    .bind(run_id)
    .bind(webhook)
    .bind(if last.replay { 0 } else { last.event.sequence })
    .execute(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    Ok(())
}

/// Keeps that a delivery failed for the `failures`-th time in a row, and when to try again.
pub async fn failed(
    conn: &mut Connection,
    webhook: &str,
    run_id: Uuid,
    failures: u32,
    error: &str,
    wait: Duration,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO event_deliveries (run_id, webhook, failures, last_error, not_before)
         VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
         ON CONFLICT (run_id, webhook) DO UPDATE SET failures = excluded.failures, last_error = excluded.last_error,
             not_before = excluded.not_before",
    )
    .bind(run_id)
    .bind(webhook)
    .bind(i32::try_from(failures).unwrap_or(i32::MAX))
    .bind(error)
    .bind(wait.as_secs_f64())
    .execute(conn)
    .await
    .map_err(StoreError::while_("keeping that a delivery failed"))?;
    Ok(())
}

/// What is given up.
#[derive(Debug, Clone, Copy)]
pub enum GivenUp {
    /// One event, of this sequence.
    One(i64),
    /// All up to the last one that was recorded so long ago.
    OlderThan(Duration),
}

/// Gives events up that a webhook is still to get of a run: they become dead letters, and it goes on behind them. Answers how
/// many there were. The cursor's row is there.
pub async fn give_up(
    conn: &mut Connection,
    webhook: &str,
    run_id: Uuid,
    which: GivenUp,
    attempts: u32,
    error: &str,
) -> Result<u64, StoreError> {
    let (one, age) = match which {
        GivenUp::One(sequence) => (Some(sequence), 0.0),
        GivenUp::OlderThan(age) => (None, age.as_secs_f64()),
    };
    let dead = sqlx::query(
        "WITH pending AS MATERIALIZED (
             SELECT e.run_id, e.sequence, e.recorded_at
             FROM webhooks w JOIN event_deliveries d ON d.webhook = w.name AND d.run_id = $2
                 JOIN events e ON e.run_id = d.run_id AND e.sequence > d.delivered AND e.recorded_at >= w.since
                     AND (w.types IS NULL OR e.type = ANY (w.types))
             WHERE w.name = $1),
         dead AS (
             INSERT INTO event_dead_letters (webhook, run_id, sequence, attempts, error)
             SELECT $1, run_id, sequence, $5, $6 FROM pending
             WHERE CASE WHEN $3::bigint IS NULL
                 THEN sequence <= (SELECT max(sequence) FROM pending
                     WHERE recorded_at <= now() - make_interval(secs => $4))
                 ELSE sequence = $3 END
             ON CONFLICT (webhook, run_id, sequence) DO NOTHING RETURNING sequence),
         moved AS (
             UPDATE event_deliveries d SET delivered = greatest(d.delivered, (SELECT max(sequence) FROM dead))
             WHERE webhook = $1 AND run_id = $2)
         SELECT FROM dead",
    )
    .bind(webhook)
    .bind(run_id)
    .bind(one)
    .bind(age)
    .bind(i32::try_from(attempts).unwrap_or(i32::MAX))
    .bind(error)
    .execute(conn)
    .await
    .map_err(StoreError::while_("giving events up"))?;
    Ok(dead.rows_affected())
}

/// Leaves the replays of a run dead, as they failed again: one of them, or all.
pub async fn give_up_replays(
    conn: &mut Connection,
    webhook: &str,
    run_id: Uuid,
    one: Option<i64>,
    attempts: u32,
    error: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE event_dead_letters SET replay_at = NULL, attempts = attempts + $4, error = $5
         WHERE webhook = $1 AND run_id = $2 AND replay_at IS NOT NULL AND sequence = coalesce($3, sequence)",
    )
    .bind(webhook)
    .bind(run_id)
    .bind(one)
    .bind(i32::try_from(attempts).unwrap_or(i32::MAX))
    .bind(error)
    .execute(conn)
    .await
    .map_err(StoreError::while_("giving events up again"))?;
    Ok(())
}

/// An event that was given up.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Whose.
    pub webhook: String,
    /// The event.
    #[serde(flatten)]
    pub event: RecordedEvent,
    /// How often it was tried.
    pub attempts: i32,
    /// Why the last time failed.
    pub error: String,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// Since when it is to be delivered again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_at: Option<Timestamp>,
}

impl FromRow<'_, PgRow> for DeadLetter {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            webhook: row.try_get("webhook")?,
            event: RecordedEvent::from_row(row)?,
            attempts: row.try_get("attempts")?,
            error: row.try_get("error")?,
            dead_at: row.try_get::<SqlTimestamp, _>("dead_at")?.to_jiff(),
            replay_at: row.try_get::<Option<SqlTimestamp>, _>("replay_at")?.map(SqlTimestamp::to_jiff),
        })
    }
}

/// Which dead letters. Neither: all.
#[derive(Debug, Clone, Default)]
pub struct DeadLetters<'a> {
    /// Of this webhook.
    pub webhook: Option<&'a str>,
    /// Of events with these IDs; empty: whatever they are.
    pub ids: &'a [Uuid],
}

/// Dead letters, the oldest first.
pub async fn dead_letters(
    conn: &mut Connection,
    which: &DeadLetters<'_>,
    most: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    sqlx::query_as(
        "SELECT e.*, l.webhook, l.attempts, l.error, l.dead_at, l.replay_at
         FROM event_dead_letters l JOIN events e USING (run_id, sequence)
         WHERE webhook = coalesce($1, webhook) AND (cardinality($2::uuid[]) = 0 OR e.id = ANY ($2))
         ORDER BY dead_at, run_id, sequence LIMIT $3",
    )
    .bind(which.webhook)
    .bind(which.ids)
    .bind(i64::from(most))
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("reading dead letters"))
}

/// Has dead letters delivered again, at once; not those of webhooks that are gone. Answers the webhook and the run of each.
pub async fn replay(conn: &mut Connection, which: &DeadLetters<'_>) -> Result<Vec<(String, Uuid)>, StoreError> {
    sqlx::query_as(
        "WITH asked AS (
             UPDATE event_dead_letters l SET replay_at = now() FROM events e, webhooks w
             WHERE e.run_id = l.run_id AND e.sequence = l.sequence AND w.name = l.webhook
                 AND l.webhook = coalesce($1, l.webhook) AND (cardinality($2::uuid[]) = 0 OR e.id = ANY ($2))
             RETURNING l.webhook, l.run_id),
         at_once AS (
             UPDATE event_deliveries d SET not_before = NULL, failures = 0, last_error = NULL FROM asked a
             WHERE d.webhook = a.webhook AND d.run_id = a.run_id)
         SELECT webhook, run_id FROM asked",
    )
    .bind(which.webhook)
    .bind(which.ids)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("replaying dead letters"))
}

/// A span that the database has computed; negative is none.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
