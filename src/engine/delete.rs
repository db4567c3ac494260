//! Deleting runs, with the gates and jobs that they have.

use jiff::Timestamp;
use uuid::Uuid;

use super::{EngineError, deliveries, queue};
use crate::database::Connection;
use crate::store::{gates, resources, runs};

/// Deletes a run, a fleet or a resource group, by its row, with all that is in it. The jobs of its runs are taken back, and
/// webhooks hear of its gates.
pub async fn delete(tx: &mut Connection, row: Uuid, now: Timestamp, trace: Option<&str>) -> Result<(), EngineError> {
    // Whoever completes a gate locks its run first, and a statement of its own sees what was done before.
    let unfinished = runs::lock_under(tx, row).await?;
    let deleted = gates::delete_under(tx, row).await?;
    deliveries::gates_deleted(tx, &deleted, now, trace).await?;
    for run in unfinished {
        queue::cancel_run(tx, run).await?;
    }
    if !deleted.is_empty() {
        tracing::debug!(gates = deleted.len(), "gates are deleted with what they belong to");
    }
    resources::delete(tx, row).await?;
    Ok(())
}
