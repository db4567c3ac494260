//! The `operations` table: ARM asynchronous operations.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use sqlx::Row;
use uuid::Uuid;

use super::StoreError;
use crate::arm::{
    ErrorDetail, ResourceId,
    operation::{OperationState, OperationStatus},
};
use crate::database::Connection;

/// An operation as stored.
#[derive(Debug, Clone)]
pub struct Operation {
    /// What the status monitor shows.
    pub status: OperationStatus,
    /// Which resource it changes.
    pub resource_arm_id: String,
    /// The HTTP verb that began it.
    pub verb: String,
    /// Who began it: the principal's object ID.
    pub begun_by: Option<Uuid>,
}

/// Records a new operation, in the transaction that begins it.
pub async fn begin(
    conn: &mut Connection,
    id: Uuid,
    resource: &ResourceId,
    location: &str,
    verb: &'static str,
    begun_by: Uuid,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time, begun_by)
         VALUES ($1, lower($2), $3, $4, $5, 'InProgress', $6, $7)",
    )
    .bind(id)
    .bind(resource.subscription())
    .bind(location)
    .bind(resource.to_string())
    .bind(verb)
    .bind(now.to_sqlx())
    .bind(begun_by)
    .execute(conn)
    .await
    .map_err(StoreError::while_("recording an operation"))?;
    Ok(())
}

/// Ends an operation; one that has ended already keeps its end.
pub async fn end(
    conn: &mut Connection,
    id: Uuid,
    error: Option<&ErrorDetail>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE operations SET status = $2, error = $3, end_time = $4 WHERE id = $1 AND status = 'InProgress'")
        .bind(id)
        .bind(if error.is_some() { "Failed" } else { "Succeeded" })
        .bind(error.map(sqlx::types::Json))
        .bind(now.to_sqlx())
        .execute(conn)
        .await
        .map_err(StoreError::while_("ending an operation"))?;
    Ok(())
}

/// The operation with this ID in this subscription.
pub async fn get(conn: &mut Connection, subscription: &str, id: Uuid) -> Result<Option<Operation>, StoreError> {
    let failed = "reading an operation";
    let row = sqlx::query("SELECT * FROM operations WHERE id = $1 AND subscription = lower($2)")
        .bind(id)
        .bind(subscription)
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_(failed))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<Operation, sqlx::Error> {
        let state = match row.try_get::<&str, _>("status")? {
            "Succeeded" => OperationState::Succeeded,
            "Failed" => OperationState::Failed,
            "Canceled" => OperationState::Canceled,
            _ => OperationState::InProgress,
        };
        Ok(Operation {
            status: OperationStatus {
                name: id.to_string(),
                status: state,
                start_time: row.try_get::<SqlTimestamp, _>("start_time")?.to_jiff(),
                end_time: row.try_get::<Option<SqlTimestamp>, _>("end_time")?.map(SqlTimestamp::to_jiff),
                error: row.try_get::<Option<sqlx::types::Json<ErrorDetail>>, _>("error")?.map(|json| json.0),
            },
            resource_arm_id: row.try_get("resource_arm_id")?,
            begun_by: row.try_get("begun_by")?,
            verb: row.try_get("verb")?,
        })
    };
    read().map(Some).map_err(StoreError::while_(failed))
}
