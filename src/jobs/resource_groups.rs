//! Deleting resource groups.

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    fleets::subject,
    gates,
    outcome::{JobError, outcome},
};
use crate::{
    database::Pool,
    store::{operations, resources},
    work::{Attempt, Handler, NewJob, Outcome},
};

const DELETE: &str = "resource_group.delete";

#[derive(Serialize, Deserialize)]
struct Payload {
    operation: Uuid,
}

/// The job that deletes a resource group and all in it.
#[must_use]
pub fn delete(group: Uuid, operation: Uuid, correlation: &str) -> NewJob {
    NewJob::new(DELETE, group.to_string()).payload(serde_json::json!(Payload { operation })).trace(correlation)
}

/// Deletes a resource group with the fleets in it, which are `Deleting` since the request. Clusters are left alone.
#[derive(Debug)]
pub struct Delete {
    /// The database.
    pub pool: Pool,
}

impl Handler for Delete {
    fn kind(&self) -> &'static str {
        DELETE
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl Delete {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let Payload { operation } = serde_json::from_value(attempt.payload.clone())?;
        let (group, now) = (subject(attempt)?, Timestamp::now());
        let mut tx = attempt.begin(&self.pool).await?;
        gates::delete_under(&mut tx, group, now, attempt.trace.as_deref()).await?;
        resources::delete(&mut tx, group).await?;
        operations::end(&mut tx, operation, None, now).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}
