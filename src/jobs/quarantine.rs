//! What a resource says when the job that works on it is quarantined.

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::outcome::{JobError, outcome, subject};
use crate::{
    arm::ErrorDetail,
    database::Pool,
    engine::queue::{self, OperationJob},
    store::{memberships, operations},
    work::{Attempt, Outcome},
};

/// Fails the ARM operation of the job, and its resource.
pub(super) fn fail_operation<'a>(pool: &'a Pool, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
    Box::pin(async move { outcome(operation_failed(pool, attempt, reason).await) })
}

async fn operation_failed(pool: &Pool, attempt: &Attempt, reason: String) -> Result<Outcome, JobError> {
    let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
    let error = ErrorDetail::new(
        "InternalServerError",
        format!(
            "{reason} The operation was given up, and is not tried again by itself. Ask an operator to find the cause in the log of the workers, then send the request again."
        ),
    );
    let row = subject(attempt)?;
    let mut tx = attempt.begin(pool).await?;
    let settled = operations::settle(&mut tx, row, operation, Some(&error), None, Timestamp::now()).await?;
    if settled && attempt.kind == queue::JOIN {
        // Another fleet may have the cluster. Joining again takes it again.
        memberships::release(&mut tx, row).await?;
    }
    attempt.settle(&mut tx, Outcome::Fail { error: reason }).await?;
    tx.commit().await?;
    Ok(Outcome::Settled)
}
