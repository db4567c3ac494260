//! One execution of a job, as its handler sees it.

use super::outcome::{Settlement, Ticket};
use super::{Settings, quarantine};
use crate::database::{Connection, Pool, Transaction};
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// One claimed execution of a job. Valid as long as its lease.
#[derive(Debug)]
pub struct Attempt {
    /// The job's row.
    pub id: i64,
    /// The job's kind.
    pub kind: &'static str,
    /// What the job is about.
    pub subject: String,
    /// What the enqueuer gave along.
    pub payload: serde_json::Value,
    /// Correlation with what caused the job.
    pub trace: Option<String>,
    /// Which claim of this job it is, from 1.
    pub attempt: i64,
    /// The fencing token: the name of the claim, which no other claim has or will have.
    pub(crate) claim: Arc<str>,
    /// Consecutive failures before this attempt.
    pub failures: u32,
    /// Attempts in a row before this one that vanished with their process.
    pub vanished: u32,
    /// When the job was first enqueued (or revived).
    pub enqueued_at: Timestamp,
    /// Since when this attempt was due.
    pub due_at: Timestamp,
    pub(crate) settings: Arc<Settings>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) settled: Mutex<Option<Settlement>>,
}

/// Why a fenced transaction was refused.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The job was cancelled, given back or taken over. Stop; whatever is returned is dropped.
    #[error("the lease of this attempt is lost")]
    LeaseLost,
    /// The database did not answer as expected.
    #[error("checking the lease of an attempt")]
    Database(#[from] sqlx::Error),
}

impl Attempt {
    /// Begins a transaction that commits only under this attempt's lease: until it ends, nobody can claim, remove or cancel
    /// the job (heartbeats and enqueuing it again are not held up). Keep it short.
    ///
    /// To enqueue this very job again from inside, use this transaction or [`Outcome::Again`](super::Outcome::Again).
    ///
    /// # Errors
    /// [`FenceError::LeaseLost`] if the attempt may not write any more.
    pub async fn begin(&self, pool: &Pool) -> Result<Transaction, FenceError> {
        let mut tx = pool.begin().await?;
        self.fence(&mut tx).await?;
        Ok(tx)
    }

    /// [`Attempt::begin`] for a transaction that must lock something else before the job: a transaction that cancels the job
    /// takes that lock first, and in another order both would wait for each other.
    ///
    /// # Errors
    /// [`FenceError::LeaseLost`] if the attempt may not write any more: roll back.
    pub async fn fence(&self, tx: &mut Connection) -> Result<(), FenceError> {
        let mut fence = QueryBuilder::new("");
        self.ticket().push_fence(&mut fence);
        match fence.build().fetch_optional(tx).await? {
            Some(_) => Ok(()),
            None => Err(FenceError::LeaseLost),
        }
    }

    /// Returns the name of this attempt.
    pub fn ticket(&self) -> Ticket {
        Ticket { id: self.id, claim: Arc::clone(&self.claim) }
    }

    /// Tells that [`finish_all`](super::finish_all) has finished this attempt, and was committed. The handler then returns
    /// [`Outcome::Settled`](super::Outcome::Settled).
    pub fn finished(&self) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Settlement::Ended);
    }

    /// Waits here, under the lease, rather than as a row, so that looking again soon costs no statement. Whether it did:
    /// `false` at once when the wait is longer than [`Settings::longest_pause`] or half the slots pause already, and
    /// `false` early when the workers are to stop. The handler then answers [`Outcome::AgainAfter`](super::Outcome::AgainAfter).
    pub async fn pause(&self, delay: Duration) -> bool {
        if !self.may_pause(delay) {
            return false;
        }
        let Ok(_slot) = self.pauses.slots.try_acquire() else { return false };
        tokio::select! {
            () = sleep(delay) => true,
            () = self.pauses.ended.cancelled() => false,
        }
    }

    /// Whether [`Attempt::pause`] would wait, as things are now.
    pub fn may_pause(&self, delay: Duration) -> bool {
        // A suspect answers as soon as it can: no other suspect is executed before.
        quarantine::verdict(self.vanished) == quarantine::Verdict::Trusted
            // The end of an attempt resets these counts: after a failure, or a process that ended, it comes soon.
            && self.failures == 0
            && delay <= self.settings.longest_pause
            && self.pauses.slots.available_permits() > 0
            && !self.pauses.ended.is_cancelled()
    }

    /// What [`Attempt::settle`] has settled, if it was called.
    pub(crate) fn settlement(&self) -> Option<Settlement> {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when the lease is lost, the job cancelled, or the process stops without waiting any longer. The handler
    /// itself is dropped at that moment; the token is for what it has started elsewhere.
    pub fn lost(&self) -> &CancellationToken {
        &self.lease.lost
    }

    /// How long the attempt may certainly go on if no renewal succeeds from now on.
    pub fn lease_remaining(&self) -> Duration {
        self.lease.deadline().saturating_duration_since(Instant::now())
    }
}

impl Ticket {
    /// Executes one statement that changes rows only under the attempt's lease, and so needs no transaction. `push` adds the
    /// statement; its condition must include `EXISTS (SELECT FROM held)`.
    ///
    /// # Errors
    /// [`FenceError::LeaseLost`] if the attempt may not write any more. Nothing was changed then.
    pub async fn execute_fenced(
        &self,
        conn: &mut Connection,
        push: impl FnOnce(&mut QueryBuilder<Postgres>),
    ) -> Result<(), FenceError> {
        let mut statement = QueryBuilder::new("WITH held AS MATERIALIZED (");
        self.push_fence(&mut statement);
        statement.push("), changed AS (");
        push(&mut statement);
        statement.push(") SELECT FROM held");
        match statement.build().fetch_optional(conn).await? {
            Some(_) => Ok(()),
            None => Err(FenceError::LeaseLost),
        }
    }

    /// Adds the query that finds the job's row as long as the lease is held. Its key-share lock conflicts with exactly what would
    /// end the lease: claiming, removing and cancelling.
    fn push_fence(&self, statement: &mut QueryBuilder<Postgres>) {
        statement.push("SELECT FROM jobs WHERE id = ").push_bind(self.id);
        statement.push(" AND lease_owner = ").push_bind(self.claim.to_string());
        statement.push(" AND NOT cancelled FOR KEY SHARE");
    }
}

/// What attempts of one pool that wait in memory share.
#[derive(Debug)]
pub(crate) struct Pauses {
    slots: Semaphore,
    /// The workers are to stop.
    pub(crate) ended: CancellationToken,
}

impl Pauses {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self { slots: Semaphore::new(concurrency / 2), ended: CancellationToken::new() }
    }
}

/// The local side of a lease: until when it is safe to act. Counted from *before* the statement that took it was sent, and
/// ending earlier than the lease in the database.
#[derive(Debug)]
pub(crate) struct Lease {
    deadline: Mutex<Instant>,
    pub(crate) lost: CancellationToken,
}

impl Lease {
    pub(crate) fn new(sent: Instant, length: Duration) -> Self {
        Self { deadline: Mutex::new(Self::end(sent, length)), lost: CancellationToken::new() }
    }

    pub(crate) fn renewed(&self, sent: Instant, length: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Self::end(sent, length);
    }

    /// A tenth is left for the handler to be dropped and for clocks that do not tick alike.
    fn end(sent: Instant, length: Duration) -> Instant {
        sent + length.mul_f64(0.9)
    }

    fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once the lease is lost, and marks it so.
    pub(crate) async fn ended(&self) {
        let expired = async {
            loop {
                let deadline = self.deadline();
                if deadline <= Instant::now() {
                    break;
                }
                tokio::time::sleep_until(deadline).await;
            }
        };
        tokio::select! {
            () = self.lost.cancelled() => {}
            () = expired => self.lost.cancel(),
        }
    }
}
