//! Leases: taking them, keeping them, giving them back. One statement each, by the database's clock.

use super::Settings;
use super::attempt::{Attempt, Lease, Pauses};
use super::outcome::Ticket;
use super::settle::seconds_from_now;
use crate::database::Pool;
use jiff_sqlx::Timestamp;
use sqlx::{Row as _, postgres::PgRow};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;
use tokio::time::Instant;

/// What a look at the queue brought.
pub(crate) struct Claimed {
    pub(crate) attempts: Vec<ClaimedAttempt>,
    /// When the queue was looked at.
    pub(crate) sent: Instant,
    /// How long after `sent` the next job is due that was not claimed; zero if it is due but somebody holds its row.
    pub(crate) next_in: Option<Duration>,
}

pub(crate) struct ClaimedAttempt {
    pub(crate) attempt: Attempt,
    /// The job was cancelled while a worker that has vanished executed it: nothing is left to do but remove it.
    pub(crate) cancelled: bool,
}

/// Counts the claims of this process. With the owner, a number names a claim for good: two never have the same name, even if
/// the database forgets one of them when it fails over to a replica that was behind.
static CLAIMS: AtomicU64 = AtomicU64::new(0);

/// Claims up to `slots` jobs of these kinds that are due, oldest first, and tells when the next one is.
///
/// A lease that has ended is claimed like any job; that its holder vanished counts as a failure. A time that was asked for
/// during the vanished attempt and is yet to come is kept.
pub(crate) async fn claim(
    pool: &Pool,
    settings: &Arc<Settings>,
    pauses: &Arc<Pauses>,
    owner: &str,
    kinds: &[&'static str],
    slots: usize,
) -> Result<Claimed, sqlx::Error> {
    let sent = Instant::now();
    let claim = format!("{owner}/{}", CLAIMS.fetch_add(1, Ordering::Relaxed));
    let claim: Arc<str> = claim.into();
    let rows = sqlx::query(CLAIM)
        .bind(kinds)
        .bind(i64::try_from(slots).unwrap_or(i64::MAX))
        .bind(&*claim)
        .bind(settings.lease.as_secs_f64())
        .fetch_all(pool)
        .await?;
    let mut claimed = Claimed { attempts: Vec::with_capacity(rows.len()), sent, next_in: None };
    for row in &rows {
        claimed.next_in = row.try_get::<Option<f64>, _>("next_in")?.map(seconds_from_now);
        if let Some(id) = row.try_get("id")? {
            claimed.attempts.push(attempt(row, (id, &claim), kinds, settings, pauses, sent)?);
        }
    }
    Ok(claimed)
}

/// The statement that claims, public so that its plan can be checked.
///
/// Rows are locked and picked first, then updated by key: the plan does not depend on statistics of a table that is empty
/// one moment and full the next.
pub const CLAIM: &str = "
    WITH due AS MATERIALIZED (
        SELECT id, due_at FROM jobs
         WHERE failed_at IS NULL AND due_at <= now() AND kind = ANY ($1)
         ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
    claimed AS (
        UPDATE jobs
           SET lease_owner = $3, lease_until = now() + make_interval(secs => $4), attempt = attempt + 1,
               run_at = CASE WHEN run_at > now() THEN run_at END,
               cancelled = cancelled AND run_at IS NULL,
               failures = CASE WHEN lease_until IS NULL THEN failures ELSE failures + 1 END,
               last_error = CASE WHEN lease_until IS NULL THEN last_error ELSE lease_owner || ' lost its lease' END
         WHERE id = ANY (ARRAY(SELECT id FROM due))
        RETURNING id, kind, subject, payload, trace, attempt, failures, cancelled, enqueued_at),
    next AS (
        SELECT due_at FROM jobs
         WHERE failed_at IS NULL AND kind = ANY ($1) AND id <> ALL (ARRAY(SELECT id FROM due))
         ORDER BY due_at, id LIMIT 1)
    SELECT (SELECT extract(epoch FROM due_at - now())::float8 FROM next) AS next_in,
           claimed.*, due.due_at
      FROM (SELECT) AS always LEFT JOIN (claimed JOIN due USING (id)) ON true
     ORDER BY due.due_at, id";

fn attempt(
    row: &PgRow,
    (id, claim): (i64, &Arc<str>),
    kinds: &[&'static str],
    settings: &Arc<Settings>,
    pauses: &Arc<Pauses>,
    sent: Instant,
) -> Result<ClaimedAttempt, sqlx::Error> {
    let kind: &str = row.try_get("kind")?;
    let kind = kinds.iter().copied().find(|known| *known == kind).ok_or(sqlx::Error::RowNotFound)?;
    let failures: i32 = row.try_get("failures")?;
    Ok(ClaimedAttempt {
        cancelled: row.try_get("cancelled")?,
        attempt: Attempt {
            id,
            kind,
            subject: row.try_get("subject")?,
            payload: row.try_get("payload")?,
            trace: row.try_get("trace")?,
            attempt: row.try_get("attempt")?,
            claim: Arc::clone(claim),
            failures: failures.unsigned_abs(),
            enqueued_at: row.try_get::<Timestamp, _>("enqueued_at")?.to_jiff(),
            due_at: row.try_get::<Timestamp, _>("due_at")?.to_jiff(),
            settings: Arc::clone(settings),
            lease: Arc::new(Lease::new(sent, settings.lease)),
            pauses: Arc::clone(pauses),
            settled: Mutex::new(None),
        },
    })
}

/// A lease that was renewed.
pub(crate) struct Renewed {
    pub(crate) ticket: Ticket,
    pub(crate) cancelled: bool,
}

/// Renews these leases. A row that is being settled or cancelled right now is passed over rather than waited for: one slow
/// transaction must not cost the others their leases.
pub(crate) async fn renew(pool: &Pool, lease: Duration, held: &[Ticket]) -> Result<Vec<Renewed>, sqlx::Error> {
    let rows = sqlx::query(
        "WITH mine AS MATERIALIZED (
             SELECT id FROM jobs WHERE id = ANY ($1) AND lease_owner = ANY ($2) FOR NO KEY UPDATE SKIP LOCKED)
         UPDATE jobs SET lease_until = now() + make_interval(secs => $3)
          WHERE id = ANY (ARRAY(SELECT id FROM mine))
         RETURNING id, lease_owner, cancelled",
    )
    .bind(held.iter().map(|ticket| ticket.id).collect::<Vec<_>>())
    .bind(held.iter().map(|ticket| &*ticket.claim).collect::<Vec<_>>())
    .bind(lease.as_secs_f64())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let claim: String = row.try_get("lease_owner")?;
            Ok(Renewed {
                ticket: Ticket { id: row.try_get("id")?, claim: claim.into() },
                cancelled: row.try_get("cancelled")?,
            })
        })
        .collect()
}

/// Gives back every lease this owner still holds: the jobs are due at once, and nobody has failed. Cancelled ones are
/// removed unless enqueued again since. Tells the other workers. Returns how many there were.
pub(crate) async fn give_back(pool: &Pool, owner: &str) -> Result<u64, sqlx::Error> {
    let given_back = sqlx::query(
        "WITH mine AS MATERIALIZED (
             SELECT id, cancelled AND run_at IS NULL AS finished FROM jobs WHERE lease_owner ^@ $1 FOR UPDATE),
         removed AS (
             DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM mine WHERE finished))),
         returned AS (
             UPDATE jobs
                SET lease_owner = NULL, lease_until = NULL, cancelled = false,
                    run_at = CASE WHEN cancelled THEN run_at ELSE least(run_at, now()) END
              WHERE id = ANY (ARRAY(SELECT id FROM mine WHERE NOT finished)))
         SELECT pg_notify($2, '') FROM mine",
    )
    .bind(format!("{owner}/"))
    .bind(super::CHANNEL)
    .execute(pool)
    .await?;
    Ok(given_back.rows_affected())
}
