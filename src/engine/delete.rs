//! Deleting runs, with their gates and jobs.

use jiff::Timestamp;
use uuid::Uuid;

use super::{EngineError, deliveries, queue};
use crate::database::Connection;
use crate::store::{
    gates,
    resources::{self, RowByService},
};

/// Deletes a run with its gates and its jobs. The caller has locked the run's resource and then the run, and has seen under
/// the lock that no member of it is being upgraded.
pub async fn run(tx: &mut Connection, run: Uuid, now: Timestamp, trace: Option<&str>) -> Result<(), EngineError> {
    queue::cancel_run(tx, run).await?;
    let deleted = gates::delete_of_run(tx, run).await?;
    deliveries::gates_deleted(tx, &deleted, now, trace).await?;
    resources::delete(tx, &RowByService(run)).await?;
    Ok(())
}
