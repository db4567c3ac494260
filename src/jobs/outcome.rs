//! Errors of a job, and what the job engine makes of them.

use crate::{database::CommitError, store::StoreError, work};

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
    /// The database, at the end of a transaction.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A stored document does not read: a fault of ours.
    #[error("a stored document does not read")]
    Document(#[from] serde_json::Error),
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
