//! Deleting resource groups.

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::outcome::{JobError, outcome, subject};
use crate::{
    database::Pool,
    engine::{
        delete,
        queue::{self, OperationJob},
    },
    store::operations,
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
}

impl Delete {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
        let (group, now) = (subject(attempt)?, Timestamp::now());
        let mut tx = attempt.begin(&self.pool).await?;
        delete::delete(&mut tx, group, now, attempt.trace.as_deref()).await?;
        operations::end(&mut tx, operation, None, now).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}
