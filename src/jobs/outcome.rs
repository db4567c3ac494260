//! What the handlers of all job kinds share: their errors, the transactions of an attempt, and the row that a job is about.

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    database::{CommitError, Pool, Transaction},
    engine::{EngineError, queue::InvalidSubject},
    store::{StoreError, runs},
    work::{self, Attempt},
};

/// Why an attempt could not go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another worker has the job: change nothing.
    #[error(transparent)]
    Fence(#[from] work::FenceError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database, outside the store.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A COMMIT whose answer was lost.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A stored document does not read: a fault of ours.
    #[error("a stored document does not read")]
    Document(#[from] serde_json::Error),
    /// A use case of the engine was refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The job is about nothing that its kind knows.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// What cannot go on as it is.
    #[error("{0}")]
    Unexpected(String),
}

/// A job's outcome from a handler's result: whatever went wrong inside is tried again, visibly.
pub(crate) fn outcome(result: Result<work::Outcome, JobError>) -> work::Outcome {
    match result {
        Ok(outcome) => outcome,
        Err(error) => {
            let error = anyhow::Error::from(error);
            work::Outcome::Retry { error: format!("{error:#}"), after: None }
        }
    }
}

/// The row that a job is about.
pub(super) fn subject(attempt: &Attempt) -> Result<Uuid, JobError> {
    attempt.subject.parse().map_err(|_| JobError::Unexpected(format!("'{}' is no row", attempt.subject)))
}

/// The time for a timer that is due: now, or the time when the job was due where the database's clock is ahead of this
/// process's. Otherwise the timer would seem early, and be set again until this process's clock has caught up.
pub(super) fn timer_now(attempt: &Attempt) -> Timestamp {
    Timestamp::now().max(attempt.due_at)
}

/// Begins a transaction under an attempt's lease that changes a run. It locks the run before the job, in the same order as a
/// transaction that cancels the run's jobs.
pub(super) async fn begin(attempt: &Attempt, pool: &Pool, run_id: Uuid) -> Result<Transaction, JobError> {
    let mut tx = pool.begin_locking(run_id).await?;
    runs::lock(&mut tx, run_id).await?;
    attempt.fence(&mut tx).await?;
    Ok(tx)
}
