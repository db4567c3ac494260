//! Ends an attempt: an outcome becomes one statement on the job's row.

use super::attempt::{Attempt, FenceError};
use super::outcome::{Outcome, Settlement, Ticket};
use super::quarantine::{self, Verdict};
use crate::database::Connection;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{Postgres, QueryBuilder};
use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

/// Errors are kept in the job's row for people to read; this many characters of them.
const ERROR_CHARS: usize = 4_000;

/// No job waits longer than this (ten years): an absurd `Retry-After` must not overflow the database's arithmetic.
const LONGEST_DELAY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Finishes the jobs of many attempts in the caller's transaction, which thereby is fenced for them: one statement. After
/// the commit each of their handlers calls [`Attempt::finished`]. The answer leaves out the attempts of which the lease is
/// lost, and those whose job was cancelled or enqueued again meanwhile: their handlers settle as usual.
///
/// `push` adds what else the statement changes for the finished jobs: more parts of its `WITH`, each after a comma. They find the
/// finished jobs in `finished`, whose column `number` is the place of the attempt in `attempts`, from 1.
pub async fn finish_all(
    conn: &mut Connection,
    attempts: &[Ticket],
    push: impl FnOnce(&mut QueryBuilder<Postgres>),
) -> Result<HashSet<Ticket>, sqlx::Error> {
    let (ids, claims): (Vec<i64>, Vec<String>) =
        attempts.iter().map(|ticket| (ticket.id, ticket.claim.to_string())).unzip();
    let mut statement = QueryBuilder::new("WITH finished AS (DELETE FROM jobs USING unnest(");
    statement.push_bind(ids).push("::bigint[], ").push_bind(claims);
    statement.push(
        "::text[]) WITH ORDINALITY AS ended (id, claim, number)
          WHERE jobs.id = ended.id AND jobs.lease_owner = ended.claim AND run_at IS NULL AND NOT cancelled
         RETURNING jobs.id, jobs.lease_owner, ended.number)",
    );
    push(&mut statement);
    statement.push(" SELECT id, lease_owner FROM finished");
    let rows: Vec<(i64, String)> = statement.build_query_as().fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(id, claim)| Ticket { id, claim: claim.into() }).collect())
}

impl Attempt {
    /// Settles the job inside the handler's own transaction, so that its effects and the job's end are one. After the
    /// commit the handler returns [`Outcome::Settled`].
    ///
    /// This fences the transaction as [`Attempt::fence`] does: one that settles its job last needs no other fence.
    ///
    /// # Errors
    /// [`FenceError::LeaseLost`] if the attempt may not write any more: roll back.
    pub async fn settle(&self, tx: &mut Connection, outcome: Outcome) -> Result<(), FenceError> {
        let settlement = match settle_held(tx, self, &outcome).await? {
            Some(settlement) => settlement,
            None => {
                self.fence(tx).await?;
                drop_result(tx, self).await?
            }
        };
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(settlement);
        Ok(())
    }
}

/// Settles an attempt with an outcome that is not [`Outcome::Settled`] (which changes nothing).
pub(crate) async fn settle(
    conn: &mut Connection,
    attempt: &Attempt,
    outcome: &Outcome,
) -> Result<Settlement, sqlx::Error> {
    match settle_held(conn, attempt, outcome).await? {
        Some(settlement) => Ok(settlement),
        None => drop_result(conn, attempt).await,
    }
}

/// [`settle`] while the attempt may write. `None`, and nothing is changed, in the rare rest: the job was cancelled or enqueued again
/// during the attempt, or the lease is lost.
async fn settle_held(
    conn: &mut Connection,
    attempt: &Attempt,
    outcome: &Outcome,
) -> Result<Option<Settlement>, sqlx::Error> {
    let failures = attempt.failures.saturating_add(1);
    match outcome {
        Outcome::Done => finish(conn, attempt).await,
        Outcome::Again { at } => reschedule(conn, attempt, When::At(*at), 0, None).await,
        Outcome::AgainAfter { delay } => reschedule(conn, attempt, When::After(*delay), 0, None).await,
        Outcome::Retry { error, .. } if failures >= attempt.settings.max_failures => {
            give_up(conn, attempt, failures, error).await
        }
        Outcome::Retry { error, after } => {
            let delay = after.unwrap_or_else(|| attempt.settings.backoff.wait(failures, rand::random()));
            reschedule(conn, attempt, When::After(delay), failures, Some(error)).await
        }
        Outcome::Fail { error } => give_up(conn, attempt, failures, error).await,
        Outcome::Settled => Ok(Some(Settlement::Ended)),
    }
}

enum When {
    At(Timestamp),
    After(Duration),
}

async fn finish(conn: &mut Connection, attempt: &Attempt) -> Result<Option<Settlement>, sqlx::Error> {
    let removed =
        sqlx::query("DELETE FROM jobs WHERE id = $1 AND lease_owner = $2 AND run_at IS NULL AND NOT cancelled")
            .bind(attempt.id)
            .bind(&*attempt.claim)
            .execute(conn)
            .await?;
    Ok((removed.rows_affected() > 0).then_some(Settlement::Ended))
}

async fn reschedule(
    conn: &mut Connection,
    attempt: &Attempt,
    when: When,
    failures: u32,
    error: Option<&str>,
) -> Result<Option<Settlement>, sqlx::Error> {
    let (at, after) = match when {
        When::At(at) => (Some(at.to_sqlx()), None),
        When::After(delay) => (None, Some(delay.min(LONGEST_DELAY).as_secs_f64())),
    };
    // Any answer of the handler resets the count. What was answered for a job in quarantine is no answer of its handler.
    let vanished = match quarantine::verdict(attempt.vanished) {
        Verdict::Trusted | Verdict::Suspect => 0,
        Verdict::Quarantine | Verdict::GiveUp => attempt.vanished,
    };
    let due_in: Option<f64> = sqlx::query_scalar(
        "UPDATE jobs
            SET lease_owner = NULL, lease_until = NULL, failures = $5, last_error = $6, vanished = $7,
                run_at = least(run_at, coalesce($3, clock_timestamp() + make_interval(secs => $4)))
          WHERE id = $1 AND lease_owner = $2 AND NOT cancelled
         RETURNING extract(epoch FROM run_at - clock_timestamp())::float8",
    )
    .bind(attempt.id)
    .bind(&*attempt.claim)
    .bind(at)
    .bind(after)
    .bind(failures.cast_signed())
    .bind(error.map(storable))
    .bind(vanished.cast_signed())
    .fetch_optional(conn)
    .await?;
    Ok(due_in.map(|seconds| Settlement::Goes(seconds_from_now(seconds))))
}

/// Terminal, unless somebody has enqueued the job again during the attempt: that is a new request, and its failures are counted from zero.
async fn give_up(
    conn: &mut Connection,
    attempt: &Attempt,
    failures: u32,
    error: &str,
) -> Result<Option<Settlement>, sqlx::Error> {
    let due_in: Option<Option<f64>> = sqlx::query_scalar(
        "UPDATE jobs
            SET lease_owner = NULL, lease_until = NULL, last_error = $4,
                failures = CASE WHEN run_at IS NULL THEN $3 ELSE 0 END,
                vanished = CASE WHEN run_at IS NULL THEN vanished ELSE 0 END,
                failed_at = CASE WHEN run_at IS NULL THEN clock_timestamp() END
          WHERE id = $1 AND lease_owner = $2 AND NOT cancelled
         RETURNING extract(epoch FROM run_at - clock_timestamp())::float8",
    )
    .bind(attempt.id)
    .bind(&*attempt.claim)
    .bind(failures.cast_signed())
    .bind(storable(error))
    .fetch_optional(conn)
    .await?;
    Ok(due_in.map(|due_in| due_in.map_or(Settlement::Ended, |seconds| Settlement::Goes(seconds_from_now(seconds)))))
}

/// The rare rest: the job was cancelled or enqueued again during the attempt, or the lease is lost.
async fn drop_result(conn: &mut Connection, attempt: &Attempt) -> Result<Settlement, sqlx::Error> {
    // `run_at` is written as it was when the row was locked, for the reason given in `cancel`.
    let held: Option<Option<f64>> = sqlx::query_scalar(
        "WITH held AS MATERIALIZED (
             SELECT id, run_at FROM jobs WHERE id = $1 AND lease_owner = $2 FOR UPDATE),
         removed AS (
             DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM held WHERE run_at IS NULL))),
         returned AS (
             UPDATE jobs
                SET lease_owner = NULL, lease_until = NULL, cancelled = false, failures = 0, vanished = 0, last_error = NULL,
                    run_at = held.run_at
               FROM held WHERE jobs.id = held.id AND held.run_at IS NOT NULL)
         SELECT extract(epoch FROM run_at - clock_timestamp())::float8 FROM held",
    )
    .bind(attempt.id)
    .bind(&*attempt.claim)
    .fetch_optional(conn)
    .await?;
    Ok(match held {
        None => Settlement::Lost,
        Some(None) => Settlement::Ended,
        Some(Some(seconds)) => Settlement::Goes(seconds_from_now(seconds)),
    })
}

/// Ends the attempt if its job was cancelled; otherwise changes nothing.
pub(crate) async fn drop_cancelled(conn: &mut Connection, attempt: &Attempt) -> Result<Settlement, sqlx::Error> {
    let cancelled: Option<bool> = sqlx::query_scalar("SELECT cancelled FROM jobs WHERE id = $1 AND lease_owner = $2")
        .bind(attempt.id)
        .bind(&*attempt.claim)
        .fetch_optional(&mut *conn)
        .await?;
    if cancelled == Some(true) { drop_result(conn, attempt).await } else { Ok(Settlement::Lost) }
}

/// What PostgreSQL can store of an error: text has no NUL character.
fn storable(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(ERROR_CHARS).collect()
}

/// A span the database has computed, which is negative for what is overdue.
pub(crate) fn seconds_from_now(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
