//! Secrets that all replicas share, kept in the database.

use super::StoreError;
use crate::database::Connection;

/// The secret of 32 bytes for a purpose; `fresh` becomes it when there is none yet.
///
/// # Errors
/// When the database fails, or holds a secret of another length.
pub async fn shared_secret(conn: &mut Connection, purpose: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
    let failed = StoreError::while_("reading a shared secret");
    let secret: Vec<u8> = sqlx::query_scalar(
        "INSERT INTO service_keys (purpose, secret) VALUES ($1, $2)
         ON CONFLICT (purpose) DO UPDATE SET secret = service_keys.secret RETURNING secret",
    )
    .bind(purpose)
    .bind(fresh.as_slice())
    .fetch_one(conn)
    .await
    .map_err(failed)?;
    secret.try_into().map_err(|_| StoreError {
        doing: "reading a shared secret",
        source: sqlx::Error::Decode("a shared secret must have 32 bytes".into()),
    })
}
