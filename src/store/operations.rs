//! The `operations` table: ARM asynchronous operations.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use super::StoreError;
use crate::arm::{
    ErrorDetail, ResourceId,
    operation::{OperationState, OperationStatus},
};
use crate::database::Connection;
use crate::model::provisioning_state::ProvisioningState;

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

/// An operation that begins.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// Its ID.
    pub id: Uuid,
    /// The region in whose URLs it is.
    pub location: String,
    /// The HTTP verb that begins it.
    pub verb: &'static str,
    /// Who begins it: the principal's object ID.
    pub begun_by: Uuid,
}

/// Records a new operation, in the transaction that begins it. A write of a resource records its own: see
/// [`Draft::operation`](super::resources::Draft::operation).
pub async fn begin(
    conn: &mut Connection,
    resource: &ResourceId,
    new: &NewOperation,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time, begun_by)
         VALUES ($1, lower($2), $3, $4, $5, 'InProgress', $6, $7)",
    )
    .bind(new.id)
    .bind(resource.subscription())
    .bind(&new.location)
    .bind(resource.to_string())
    .bind(new.verb)
    .bind(now.to_sqlx())
    .bind(new.begun_by)
    .execute(conn)
    .await
    .map_err(StoreError::while_("recording an operation"))?;
    Ok(())
}

/// Ends an operation, and sets the state in which it leaves its resource (a row), unless another operation has begun on that since.
/// Returns whether the resource was changed. An operation that has ended already keeps its end.
pub async fn settle(
    conn: &mut Connection,
    resource: Uuid,
    id: Uuid,
    error: Option<&ErrorDetail>,
    observed: Option<&Value>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "WITH ended AS (
             UPDATE operations SET status = $7, error = $4, end_time = $8 WHERE id = $2 AND status = 'InProgress')
         UPDATE resources SET provisioning_state = $3, last_operation_error = $4, etag = $5,
             observed = coalesce($6, observed)
         WHERE id = $1 AND last_operation_id = $2",
    )
    .bind(resource)
    .bind(id)
    .bind(if error.is_some() { ProvisioningState::Failed } else { ProvisioningState::Succeeded }.as_str())
    .bind(error.map(sqlx::types::Json))
    .bind(Uuid::new_v4())
    .bind(observed)
    .bind(outcome(error))
    .bind(now.to_sqlx())
    .execute(conn)
    .await
    .map_err(StoreError::while_("settling a resource"))?;
    Ok(done.rows_affected() == 1)
}

/// Ends an operation whose resource is gone; one that has ended already keeps its end.
pub async fn end(conn: &mut Connection, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE operations SET status = $2, end_time = $3 WHERE id = $1 AND status = 'InProgress'")
        .bind(id)
        .bind(outcome(None))
        .bind(now.to_sqlx())
        .execute(conn)
        .await
        .map_err(StoreError::while_("ending an operation"))?;
    Ok(())
}

/// The status of an operation that has ended.
fn outcome(error: Option<&ErrorDetail>) -> &'static str {
    if error.is_some() { "Failed" } else { "Succeeded" }
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
