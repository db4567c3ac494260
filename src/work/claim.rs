//! Claims, renews and gives back leases. One statement each, by the database's clock.

use super::Settings;
use super::attempt::{Attempt, Lease, Pauses};
use super::outcome::Ticket;
use super::quarantine::{self, SUSPECT_AFTER, Verdict};
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

/// The answer to one claim.
pub(crate) struct Claimed {
    pub(crate) attempts: Vec<ClaimedAttempt>,
    /// When the statement was sent.
    pub(crate) sent: Instant,
    /// How long after `sent` the next job is due that was not claimed. Zero if it is due, but another transaction holds its row or
    /// it may not be executed together with what was claimed.
    pub(crate) next_in: Option<Duration>,
}

pub(crate) struct ClaimedAttempt {
    pub(crate) attempt: Attempt,
    /// The job was cancelled while a worker that has vanished executed it. It is removed, not executed.
    pub(crate) cancelled: bool,
}

impl Claimed {
    /// Whether the claimed job is a suspect. Then it was claimed alone.
    pub(crate) fn is_suspect(&self) -> bool {
        self.attempts.iter().any(|claimed| quarantine::verdict(claimed.attempt.vanished) != Verdict::Trusted)
    }
}

/// Counts the claims of this process. The owner and this number name a claim. No two claims ever have the same name, even if the
/// database forgets one of them because it fails over to a replica that was behind.
static CLAIMS: AtomicU64 = AtomicU64::new(0);

/// Claims up to `slots` jobs of these kinds that are due, oldest first, and returns when the next one is due.
///
/// A job whose lease has ended is claimed like any other. Its last attempt vanished, which counts as a failure and in
/// `vanished`. A `run_at` that was asked for during that attempt and is still to come is kept.
///
/// A suspect ([`quarantine`]) is claimed alone, and only if `suspects` is true.
pub(crate) async fn claim(
    pool: &Pool,
    settings: &Arc<Settings>,
    pauses: &Arc<Pauses>,
    owner: &str,
    kinds: &[&'static str],
    slots: usize,
    suspects: bool,
) -> Result<Claimed, sqlx::Error> {
    let sent = Instant::now();
    let claim = format!("{owner}/{}", CLAIMS.fetch_add(1, Ordering::Relaxed));
    let claim: Arc<str> = claim.into();
    let rows = sqlx::query(CLAIM)
        .bind(kinds)
        .bind(i64::try_from(slots).unwrap_or(i64::MAX))
        .bind(&*claim)
        .bind(settings.lease.as_secs_f64())
        .bind(SUSPECT_AFTER.cast_signed())
        .bind(suspects)
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

/// The statement that claims. Public, so that a test can check its plan. Parameters: kinds, slots, name of the claim, seconds of
/// the lease, count from which a job is a suspect, whether a suspect may be claimed.
///
/// Rows are locked and picked first, then updated by key. So the plan does not depend on the statistics of a table that is
/// empty one moment and full the next.
pub const CLAIM: &str = "
    WITH locked AS MATERIALIZED (
        SELECT id, due_at, vanished + (lease_until IS NOT NULL)::int >= $5 AS suspect FROM jobs
         WHERE failed_at IS NULL AND due_at <= now() AND kind = ANY ($1)
           AND ($6 OR vanished + (lease_until IS NOT NULL)::int < $5)
         ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
    oldest AS MATERIALIZED (SELECT id, suspect FROM locked ORDER BY due_at, id LIMIT 1),
    due AS MATERIALIZED (
        SELECT locked.id, locked.due_at FROM locked CROSS JOIN oldest
         WHERE CASE WHEN oldest.suspect THEN locked.id = oldest.id ELSE NOT locked.suspect END),
    claimed AS (
        UPDATE jobs
           SET lease_owner = $3, lease_until = now() + make_interval(secs => $4), attempt = attempt + 1,
               run_at = CASE WHEN run_at > now() THEN run_at END,
               cancelled = cancelled AND run_at IS NULL,
               failures = failures + (lease_until IS NOT NULL)::int,
               vanished = vanished + (lease_until IS NOT NULL)::int,
               last_error = CASE WHEN lease_until IS NULL THEN last_error ELSE lease_owner || ' lost its lease' END
         WHERE id = ANY (ARRAY(SELECT id FROM due))
        RETURNING id, kind, subject, payload, trace, attempt, failures, vanished, cancelled,
                  enqueued_at),
    next AS (
        SELECT due_at FROM jobs
         WHERE failed_at IS NULL AND kind = ANY ($1) AND id <> ALL (ARRAY(SELECT id FROM due))
           AND ($6 OR vanished + (lease_until IS NOT NULL)::int < $5)
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
    let vanished: i32 = row.try_get("vanished")?;
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
            vanished: vanished.unsigned_abs(),
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

/// Renews these leases, and returns those that were renewed. A row that another transaction is settling or cancelling is skipped,
/// so that one slow transaction does not end the leases of other jobs.
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

/// Gives back every lease that this owner still holds, and returns how many. The jobs are due at once, and no failure is counted.
/// A cancelled job is removed, unless it was enqueued again since. Other workers are notified.
pub(crate) async fn give_back(pool: &Pool, owner: &str) -> Result<u64, sqlx::Error> {
    // `run_at` is that of the row when it was locked, for the reason given in `queue::cancel`.
    let given_back = sqlx::query(
        "WITH mine AS MATERIALIZED (
             SELECT id, cancelled AND run_at IS NULL AS finished,
                    CASE WHEN cancelled THEN run_at ELSE least(run_at, now()) END AS run_at
               FROM jobs WHERE lease_owner ^@ $1 FOR UPDATE),
         removed AS (
             DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM mine WHERE finished))),
         returned AS (
             UPDATE jobs
                SET lease_owner = NULL, lease_until = NULL, cancelled = false, run_at = mine.run_at
               FROM mine WHERE jobs.id = mine.id AND NOT mine.finished)
         SELECT pg_notify($2, '') FROM mine",
    )
    .bind(format!("{owner}/"))
    .bind(super::CHANNEL)
    .execute(pool)
    .await?;
    Ok(given_back.rows_affected())
}
