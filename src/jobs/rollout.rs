//! Events of a run, from wherever they come: load the snapshot, ask [`crate::rollout::advance`], store what follows. All in the
//! caller's transaction, so that an event and its consequences are one.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{events as telling, outcome::JobError, runs as run_jobs, upgrade};
use crate::{
    arm::ResourceId,
    events,
    rollout::{Change, Effect, Event, Gate, Refused, Run},
    store::{
        StoreError, events as outbox, gates,
        resources::{self, Resource},
        runs::{self, Advanced},
    },
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
pub(super) async fn begin(
    attempt: &Attempt,
    pool: &PgPool,
    run_id: Uuid,
) -> Result<Transaction<'static, Postgres>, JobError> {
    let mut tx = pool.begin().await?;
    runs::lock(&mut tx, run_id).await?;
    attempt.fence(&mut tx).await?;
    Ok(tx)
}

/// Carries out an event, and answers the run after it; `None` when there is no such run.
///
/// # Errors
/// [`DriveError`]; the caller then rolls back.
pub async fn drive(
    tx: &mut PgConnection,
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
    tx: &mut PgConnection,
    run_id: Uuid,
    events: Vec<Event>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, DriveError> {
    let Some(advanced) = runs::advance_all(tx, run_id, events, now).await? else { return Ok(None) };
    let advanced = advanced?;
    set_in_motion(tx, run_id, &advanced, now, trace).await?;
    Ok(Some(advanced.after))
}

async fn set_in_motion(
    tx: &mut PgConnection,
    run_id: Uuid,
    advanced: &Advanced,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<(), DriveError> {
    let mut queued = Vec::new();
    let mut resource = None;
    for effect in &advanced.effects {
        match effect {
            Effect::Upgrade { member, .. } => queued.push(upgrade::job(run_id, *member, trace)),
            Effect::Timer { stage, at } => queued.push(run_jobs::wait(run_id, *stage, *at, trace)),
            Effect::OpenGate { gate } => {
                if let Some((id, properties)) =
                    gate_resource(&advanced.after, *gate, owner(tx, run_id, &mut resource).await?)
                {
                    gates::open(tx, &id, run_id, &properties, now).await?;
                }
            }
            Effect::CloseGate { gate } => {
                if let Some(run) = owner(tx, run_id, &mut resource).await?
                    && let Some(id) = gate_id(run, *gate)
                {
                    gates::skip(tx, &id, now).await?;
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
    tx: &mut PgConnection,
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
            && let Some((id, mut properties)) =
                gate_resource(&advanced.after, gate.id, owner(tx, run_id, resource).await?)
        {
            if let Value::Object(properties) = &mut properties {
                properties.insert("state".to_owned(), json!(gate.status.state));
            }
            let of_gate = events::gate_event(&id.to_string(), *was, Some(gate.status.state), &properties, now);
            recorded.extend(of_gate.map(|event| (run_id, event)));
        }
        recorded.push((run_id, events::describe(&audience.run, change, now)));
    }
    outbox::record(tx, &recorded, now).await?;
    Ok(telling::deliveries_of(run_id, &recorded, &audience.webhooks, trace).collect())
}

/// The run's resource, read at most once a step.
async fn owner<'a>(
    tx: &mut PgConnection,
    run_id: Uuid,
    known: &'a mut Option<Resource>,
) -> Result<Option<&'a Resource>, StoreError> {
    if known.is_none() {
        *known = resources::get_by_row(tx, run_id).await?;
    }
    Ok(known.as_ref())
}

/// The resource ID of a gate of this run: a child of the run's fleet.
#[must_use]
pub fn gate_id(run: &Resource, gate: Uuid) -> Option<ResourceId> {
    Some(run.arm_id.parse::<ResourceId>().ok()?.parent()?.child("gates", &gate.to_string()))
}

fn gate_resource(run: &Run, gate: Uuid, owner: Option<&Resource>) -> Option<(ResourceId, Value)> {
    let owner = owner?;
    let (found, stage, group, timing) = find_gate(run, gate)?;
    let mut target = json!({"name": owner.name, "stage": stage, "timing": timing});
    if let (Some(group), Value::Object(target)) = (group, &mut target) {
        target.insert("group".to_owned(), Value::from(group));
    }
    let mut properties = json!({
        "gateType": found.gate_type,
        "state": "Pending",
        "target": {"id": owner.arm_id, "updateRunProperties": target},
    });
    if let (Some(name), Value::Object(properties)) = (&found.display_name, &mut properties) {
        properties.insert("displayName".to_owned(), Value::from(name.clone()));
    }
    Some((gate_id(owner, gate)?, properties))
}

fn find_gate(run: &Run, id: Uuid) -> Option<(&Gate, &str, Option<&str>, &'static str)> {
    let among = |gates: &'_ [Gate]| gates.iter().position(|gate| gate.id == id);
    for stage in &run.stages {
        let groups = stage.groups.iter().map(|group| (Some(group.name.as_str()), &group.before, &group.after));
        for (group, before, after) in std::iter::once((None, &stage.before, &stage.after)).chain(groups) {
            if let Some(gate) = among(before).and_then(|at| before.get(at)) {
                return Some((gate, &stage.name, group, "Before"));
            }
            if let Some(gate) = among(after).and_then(|at| after.get(at)) {
                return Some((gate, &stage.name, group, "After"));
            }
        }
    }
    None
}
