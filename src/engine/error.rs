//! Why a use case was not carried out.

use crate::{rollout::Refused, store::StoreError};

/// Why a use case was not carried out. Nothing changed, once the caller has rolled back.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The state of a run does not allow it, or it names what is not there.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database, outside the store.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A stored document does not read: a fault of ours.
    #[error("a stored document does not read")]
    Document(#[from] serde_json::Error),
    /// What is stored contradicts itself: a fault of ours.
    #[error("{0}")]
    Inconsistent(String),
}
