//! Making and deleting fleets.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    outcome::{JobError, outcome, subject},
    quarantine,
};
use crate::{
    arm::ErrorDetail,
    database::Pool,
    engine::{
        self, delete,
        queue::{self, OperationJob},
    },
    model::types,
    rollout::Event,
    store::{
        operations,
        resources::{self, RowByService},
        runs,
    },
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

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        quarantine::fail_operation(&self.pool, attempt, reason)
    }
}

impl Provision {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
        let id = subject(attempt)?;
        // The end of the job fences the transaction.
        let mut tx = self.pool.begin().await?;
        let fleet = resources::get_by_row(&mut tx, RowByService(id)).await?;
        let error = fleet.filter(|fleet| fleet.properties.get("hubProfile").is_some()).map(|_| {
            ErrorDetail::new(
                "FeatureNotAvailable",
                "Hub clusters are not available in this version of the service: hubProfile was stored and checked, but no hub was made. Delete the fleet and create it without hubProfile to group clusters and run updates.",
            )
        });
        operations::settle(&mut tx, id, operation, error.as_ref(), None, Timestamp::now()).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// Most members that one transaction deletes.
const BATCH: u32 = 500;
/// How soon a deletion that waits for the end of upgrades looks again.
const UPGRADES_END: Duration = Duration::from_secs(5);

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

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        quarantine::fail_operation(&self.pool, attempt, reason)
    }
}

impl Delete {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
        let (fleet, now) = (subject(attempt)?, Timestamp::now());
        if let Some(waits) = empty(attempt, &self.pool, fleet).await? {
            return Ok(waits);
        }
        let mut tx = attempt.begin(&self.pool).await?;
        resources::delete(&mut tx, &RowByService(fleet)).await?;
        operations::end(&mut tx, operation, now).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// Deletes what is large or locked in a fleet that is `Deleting`: its runs, one transaction each, and its members in batches.
/// `Some` when members are still being upgraded, which a start may have begun before the fleet was `Deleting`: their run is
/// stopped, and the deletion goes on when they have ended.
pub(super) async fn empty(attempt: &Attempt, pool: &Pool, fleet: Uuid) -> Result<Option<Outcome>, JobError> {
    let (now, trace) = (Timestamp::now(), attempt.trace.as_deref());
    let runs_of_fleet =
        resources::child_rows(&mut pool.acquire().await?, RowByService(fleet), types::UPDATE_RUNS).await?;
    let mut waits = None;
    for run in runs_of_fleet {
        let mut tx = pool.begin_locking(run).await?;
        if resources::get_by_row_for_update(&mut tx, RowByService(run)).await?.is_none() {
            continue;
        }
        let snapshot = runs::load_for_update(&mut tx, run).await?;
        attempt.fence(&mut tx).await?;
        match snapshot {
            Some(run) if run.running() > 0 && run.stop_requested => waits = Some(UPGRADES_END),
            Some(snapshot) if snapshot.running() > 0 => {
                engine::drive(&mut tx, run, Event::Stop, now, trace).await?;
                waits = Some(UPGRADES_END);
            }
            _ => delete::run(&mut tx, run, now, trace).await?,
        }
        tx.commit().await?;
    }
    if let Some(delay) = waits {
        return Ok(Some(Outcome::AgainAfter { delay }));
    }
    loop {
        let mut tx = attempt.begin(pool).await?;
        let deleted = resources::delete_children(&mut tx, RowByService(fleet), types::MEMBERS, BATCH).await?;
        tx.commit().await?;
        if deleted < BATCH.into() {
            return Ok(None);
        }
    }
}
