//! Making and deleting fleets.

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::outcome::{JobError, outcome, subject};
use crate::{
    arm::ErrorDetail,
    database::Pool,
    engine::{
        delete,
        queue::{self, OperationJob},
    },
    store::{operations, resources},
    work::{Attempt, Handler, Outcome},
};

/// Ends the creation or update of a fleet. A fleet without a hub needs nothing; a hub cannot be made by this version.
#[derive(Debug)]
pub struct Provision {
    /// The database.
    pub pool: Pool,
}

impl Handler for Provision {
    fn kind(&self) -> &'static str {
        queue::PROVISION_FLEET
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl Provision {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
        let id = subject(attempt)?;
        let mut tx = attempt.begin(&self.pool).await?;
        let fleet = resources::get_by_row(&mut tx, id).await?;
        let error = fleet.filter(|fleet| fleet.properties.get("hubProfile").is_some()).map(|_| {
            ErrorDetail::new(
                "FeatureNotAvailable",
                "Hub clusters are not available in this version of the service: hubProfile was stored and checked, but no hub was made. Delete the fleet and create it without hubProfile to group clusters and run updates.",
            )
        });
        resources::settle(&mut tx, id, operation, error.as_ref(), None).await?;
        operations::end(&mut tx, operation, error.as_ref(), Timestamp::now()).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// Deletes a fleet: its members leave, and runs, gates and strategies go with it. Clusters are left alone.
#[derive(Debug)]
pub struct Delete {
    /// The database.
    pub pool: Pool,
}

impl Handler for Delete {
    fn kind(&self) -> &'static str {
        queue::DELETE_FLEET
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl Delete {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
        let (fleet, now) = (subject(attempt)?, Timestamp::now());
        let mut tx = attempt.begin(&self.pool).await?;
        delete::delete(&mut tx, fleet, now, attempt.trace.as_deref()).await?;
        operations::end(&mut tx, operation, None, now).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}
