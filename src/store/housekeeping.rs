//! Removing what nobody needs any more: in bounded batches, each on an index.

use super::StoreError;
use crate::database::Connection;

/// Most rows that one statement removes.
pub const BATCH: u64 = 1000;

/// What grows with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grows {
    /// ARM operations that have ended.
    Operations,
    /// The audit trail.
    AuditEvents,
    /// Dead letters.
    DeadLetters,
    /// Events that all webhooks have got (or given up, with the dead letter gone).
    Events,
    /// The order of events of runs that are gone, with how far webhooks were.
    EventStreams,
}

impl Grows {
    /// All, dead letters before the events that they hold, and these before their streams.
    pub const ALL: [Self; 5] =
        [Self::Operations, Self::AuditEvents, Self::DeadLetters, Self::Events, Self::EventStreams];

    /// The statement. Takes the number of days and of rows.
    const fn statement(self) -> &'static str {
        match self {
            Self::Operations => {
                "DELETE FROM operations WHERE id IN (SELECT id FROM operations
                     WHERE end_time < now() - make_interval(days => $1) ORDER BY end_time LIMIT $2)"
            }
            Self::AuditEvents => {
                "DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events
                     WHERE at < now() - make_interval(days => $1) ORDER BY at LIMIT $2)"
            }
            Self::DeadLetters => {
                "DELETE FROM event_dead_letters WHERE (webhook, run_id, sequence) IN (
                     SELECT webhook, run_id, sequence FROM event_dead_letters
                     WHERE dead_at < now() - make_interval(days => $1) ORDER BY dead_at LIMIT $2)"
            }
            Self::Events => {
                "DELETE FROM events WHERE (run_id, sequence) IN (
                     SELECT e.run_id, e.sequence FROM events e
                     WHERE e.recorded_at < now() - make_interval(days => $1)
                         AND NOT EXISTS (SELECT FROM event_dead_letters l
                             WHERE l.run_id = e.run_id AND l.sequence = e.sequence)
                         AND NOT EXISTS (SELECT FROM webhooks w
                             LEFT JOIN event_deliveries d ON d.webhook = w.name AND d.run_id = e.run_id
                             WHERE w.since <= e.recorded_at AND (w.types IS NULL OR e.type = ANY (w.types))
                                 AND coalesce(d.delivered, 0) < e.sequence)
                     ORDER BY e.recorded_at LIMIT $2)"
            }
            // A stream whose run is there keeps its sequence, however long nothing happens.
            Self::EventStreams => {
                "DELETE FROM event_streams WHERE run_id IN (
                     SELECT run_id FROM event_streams s
                     WHERE last_at < now() - make_interval(days => $1)
                         AND NOT EXISTS (SELECT FROM update_runs r WHERE r.run_id = s.run_id)
                         AND NOT EXISTS (SELECT FROM events e WHERE e.run_id = s.run_id)
                     ORDER BY last_at LIMIT $2)"
            }
        }
    }
}

/// Removes what is older than so many days, at most [`BATCH`] rows, and answers how many there were.
pub async fn remove(conn: &mut Connection, what: Grows, days: u32) -> Result<u64, StoreError> {
    let removed = sqlx::query(what.statement())
        .bind(i32::try_from(days).unwrap_or(i32::MAX))
        .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
        .execute(conn)
        .await
        .map_err(StoreError::while_("removing what is old"))?;
    Ok(removed.rows_affected())
}
