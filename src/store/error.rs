//! What can go wrong between the service and its database.

/// A failed database call, with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("the database failed while {doing}")]
pub struct StoreError {
    /// Such as "reading a resource".
    pub doing: &'static str,
    /// The driver's error.
    #[source]
    pub source: sqlx::Error,
}

impl StoreError {
    /// For `map_err`: names what was being done.
    pub fn while_(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self { doing, source }
    }
}
