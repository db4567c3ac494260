//! Deleting resource groups.

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::{
    fleets,
    outcome::{JobError, outcome, subject},
    quarantine,
};
use crate::{
    database::Pool,
    engine::queue::{self, OperationJob},
    model::types,
    store::{
        operations,
        resources::{self, RowByService},
    },
    work::{Attempt, Handler, Outcome},
};

/// Deletes a resource group with the fleets in it, which are `Deleting` since the request. Clusters are left alone.
#[derive(Debug)]
pub struct Delete {
    /// The database.
    pub pool: Pool,
}

impl Handler for Delete {
    fn kind(&self) -> &'static str {
        queue::DELETE_GROUP
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        quarantine::fail_operation(&self.pool, attempt, reason)
    }
}

impl Delete {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
        let (group, now) = (subject(attempt)?, Timestamp::now());
        let fleets_of_group =
            resources::child_rows(&mut self.pool.acquire().await?, RowByService(group), types::FLEETS).await?;
        for fleet in fleets_of_group {
            if let Some(waits) = fleets::empty(attempt, &self.pool, fleet).await? {
                return Ok(waits);
            }
            let mut tx = attempt.begin(&self.pool).await?;
            resources::delete(&mut tx, &RowByService(fleet)).await?;
            tx.commit().await?;
        }
        let mut tx = attempt.begin(&self.pool).await?;
        resources::delete(&mut tx, &RowByService(group)).await?;
        operations::end(&mut tx, operation, now).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}
