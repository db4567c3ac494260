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
    /// A stored document cannot be parsed: a fault of the service.
    #[error("a stored document does not read")]
    Document(#[from] serde_json::Error),
    /// Stored rows contradict each other: a fault of the service.
    #[error("{0}")]
    Inconsistent(String),
}
