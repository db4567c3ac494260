//! Who did, or tried to do, what to which resource.

use crate::database::Pool;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

use super::StoreError;

/// One action of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent<'a> {
    /// Its ID.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Whose: the principal's object ID.
    pub object_id: Uuid,
    /// The caller as people know it.
    pub caller: &'a str,
    /// `User`, `Application` or `ManagedIdentity`.
    pub caller_type: &'a str,
    /// The client application.
    pub app_id: Option<&'a str>,
    /// Such as `Microsoft.ContainerService/fleets/write`.
    pub action: &'a str,
    /// The resource ID, or the scope.
    pub resource: &'a str,
    /// Whether the caller may.
    pub allowed: bool,
    /// Of the request.
    pub correlation_id: &'a str,
}

/// Writes an event down, before what it is about is done.
pub async fn begin(pool: &Pool, event: &AuditEvent<'_>) -> Result<(), StoreError> {
    insert(
        pool,
        "INSERT INTO audit_events (id, at, object_id, caller, caller_type, app_id, action, resource, allowed, correlation_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        event,
    )
    .await
    .map_err(StoreError::while_("writing an audit event"))
}

/// Counts a denied read: in the row of the same principal, action, resource and hour, or in a new one. The row keeps the time and
/// the correlation ID of its first request. The status is known: a denied read is answered 403.
pub async fn count_denied_read(pool: &Pool, event: &AuditEvent<'_>) -> Result<(), StoreError> {
    insert(
        pool,
        "INSERT INTO audit_events
             (id, at, object_id, caller, caller_type, app_id, action, resource, allowed, correlation_id, status, hour)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 403, date_trunc('hour', $2, 'UTC'))
         ON CONFLICT (object_id, hour, action, lower(resource)) WHERE hour IS NOT NULL
         DO UPDATE SET requests = audit_events.requests + 1, last_at = excluded.at",
        event,
    )
    .await
    .map_err(StoreError::while_("counting a denied read"))
}

/// Executes a statement whose parameters are the fields of an event, in their order.
async fn insert(pool: &Pool, statement: &'static str, event: &AuditEvent<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(statement)
        .bind(event.id)
        .bind(event.at.to_sqlx())
        .bind(event.object_id)
        .bind(event.caller)
        .bind(event.caller_type)
        .bind(event.app_id)
        .bind(event.action)
        .bind(event.resource)
        .bind(event.allowed)
        .bind(event.correlation_id)
        .execute(pool)
        .await?;
    Ok(())
}

/// Adds how the events' request was answered, as an HTTP status.
pub async fn conclude(pool: &Pool, events: &[Uuid], status: u16) -> Result<(), StoreError> {
    sqlx::query("UPDATE audit_events SET status = $2 WHERE id = ANY($1)")
        .bind(events)
        .bind(i32::from(status))
        .execute(pool)
        .await
        .map_err(StoreError::while_("concluding an audit event"))?;
    Ok(())
}
