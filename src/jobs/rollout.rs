//! Events of a run, from wherever they come: load the snapshot, ask [`crate::rollout::advance`], store what follows. All in the
//! caller's transaction, so that an event and its consequences are one.

use jiff::Timestamp;
use uuid::Uuid;

use super::{gates, outcome::JobError, runs as run_jobs, upgrade, webhook_deliveries};
use crate::{
    database::{Connection, Pool, Transaction},
    rollout::{Change, Effect, Event, Refused, Run},
    store::{
        StoreError, outbox,
        resources::{self, Author, Resource},
        runs::{self, Advanced},
    },
    webhooks,
    work::{self, Attempt, NewJob},
};

/// Why an event was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The run's state does not allow it, or it names what is not there.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database, while enqueuing jobs.
    #[error("the database failed while enqueuing jobs")]
    Queue(#[from] sqlx::Error),
}

impl From<DriveError> for JobError {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Refused(refused) => Self::Unexpected(refused.to_string()),
            DriveError::Store(error) => Self::Store(error),
            DriveError::Queue(error) => Self::Database(error),
        }
    }
}

/// Begins a transaction under an attempt's lease that changes a run: the run is locked first, as whoever cancels its jobs
/// locks it before them.
///
/// # Errors
/// When the lease is lost, or the database fails.
pub(super) async fn begin(attempt: &Attempt, pool: &Pool, run_id: Uuid) -> Result<Transaction, JobError> {
    let mut tx = pool.begin_locking(run_id).await?;
    runs::lock(&mut tx, run_id).await?;
    attempt.fence(&mut tx).await?;
    Ok(tx)
}

/// Carries out an event, and answers the run after it; `None` when there is no such run.
///
/// # Errors
/// [`DriveError`]; the caller then rolls back.
pub async fn drive(
    tx: &mut Connection,
    run_id: Uuid,
    event: Event,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, DriveError> {
    drive_all(tx, run_id, vec![event], now, trace).await
}

/// [`drive`] for many events, in this order.
///
/// # Errors
/// [`DriveError`]; the caller then rolls back.
pub async fn drive_all(
    tx: &mut Connection,
    run_id: Uuid,
    events: Vec<Event>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, DriveError> {
    carry_out(tx, run_id, events, None, now, trace).await
}

/// [`drive`] for an event that a person causes, whose name goes on the gates that it completes.
///
/// # Errors
/// [`DriveError`]; the caller then rolls back.
pub async fn drive_by(
    tx: &mut Connection,
    run_id: Uuid,
    event: Event,
    author: Author<'_>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, DriveError> {
    carry_out(tx, run_id, vec![event], Some(author), now, trace).await
}

async fn carry_out(
    tx: &mut Connection,
    run_id: Uuid,
    events: Vec<Event>,
    author: Option<Author<'_>>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, DriveError> {
    let Some(advanced) = runs::advance_all(tx, run_id, events, now).await? else { return Ok(None) };
    let advanced = advanced?;
    set_in_motion(tx, run_id, &advanced, author, now, trace).await?;
    Ok(Some(advanced.after))
}

async fn set_in_motion(
    tx: &mut Connection,
    run_id: Uuid,
    advanced: &Advanced,
    author: Option<Author<'_>>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<(), DriveError> {
    let mut queued = Vec::new();
    let mut resource = None;
    for effect in &advanced.effects {
        match effect {
            Effect::Upgrade { member, .. } => queued.push(upgrade::job(run_id, *member, trace)),
            Effect::Timer { stage, at } => queued.push(run_jobs::wait(run_id, *stage, *at, trace)),
            Effect::GateTimer { gate, at } => queued.push(gates::timer(run_id, *gate, *at, trace)),
            Effect::OpenGate { gate } => {
                if let Some(owner) = owner(tx, run_id, &mut resource).await? {
                    gates::open(tx, owner, &advanced.after, *gate, now).await?;
                }
            }
            Effect::CompleteGate { gate } => {
                if let Some(owner) = owner(tx, run_id, &mut resource).await? {
                    gates::complete(tx, owner, *gate, author, now).await?;
                }
            }
            Effect::SkipGate { gate } => {
                if let Some(owner) = owner(tx, run_id, &mut resource).await? {
                    gates::skip(tx, owner, *gate, now).await?;
                }
            }
        }
    }
    queued.extend(tell(tx, run_id, advanced, &mut resource, now, trace).await?);
    work::enqueue_all(tx, &queued).await?;
    Ok(())
}

/// Records events of what has changed, and answers the jobs that deliver them. One statement, and one more for gates.
async fn tell(
    tx: &mut Connection,
    run_id: Uuid,
    advanced: &Advanced,
    resource: &mut Option<Resource>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Vec<NewJob>, StoreError> {
    let Some(audience) = &advanced.audience else { return Ok(Vec::new()) };
    let mut recorded = Vec::with_capacity(advanced.changes.len());
    for change in &advanced.changes {
        if let Change::Gate { was, gate, .. } = change
            && let Some(owner) = owner(tx, run_id, resource).await?
            && let Some((id, properties)) = gates::described(owner, &advanced.after, gate.id)
        {
            let of_gate = webhooks::gate_events(&id.to_string(), *was, Some(&gate.status), &properties, now);
            recorded.extend(of_gate.into_iter().map(|event| (run_id, event)));
        }
        recorded.push((run_id, webhooks::describe(&audience.run, change, now)));
    }
    outbox::record(tx, &recorded, now).await?;
    Ok(webhook_deliveries::deliveries_of(run_id, &recorded, &audience.webhooks, trace).collect())
}

/// The run's resource, read at most once a step.
async fn owner<'a>(
    tx: &mut Connection,
    run_id: Uuid,
    known: &'a mut Option<Resource>,
) -> Result<Option<&'a Resource>, StoreError> {
    if known.is_none() {
        *known = resources::get_by_row(tx, run_id).await?;
    }
    Ok(known.as_ref())
}
