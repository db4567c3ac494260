//! Gate resources, and the timers of those that open by themselves. This is the one place where gates are made, changed and
//! deleted, always in the transaction of the step that does it: a gate is made once, whatever is killed.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    outcome::{JobError, outcome},
    rollout::{begin, drive},
    runs::{cancel as cancel_jobs, timer_now, traced},
    webhook_deliveries,
};
use crate::{
    arm::ResourceId,
    database::{Connection, Pool},
    rollout::{Event, Gate, Run},
    store::{
        StoreError, gates,
        resources::{Author, Resource},
        runs,
    },
    work::{self, Attempt, Handler, NewJob, Outcome},
};

const DUE: &str = "run.gate";

/// Makes the resource of a gate that a run has reached.
pub(super) async fn open(
    tx: &mut Connection,
    owner: &Resource,
    run: &Run,
    gate: Uuid,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some((id, properties)) = described(owner, run, gate) else { return Ok(()) };
    gates::open(tx, &id, owner.id, &properties, now).await
}

/// Completes the resource of a gate: by a person, or (`None`) because its time has come.
pub(super) async fn complete(
    tx: &mut Connection,
    owner: &Resource,
    gate: Uuid,
    author: Option<Author<'_>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(id) = gate_id(owner, gate) else { return Ok(()) };
    gates::complete(tx, &id, author, now).await
}

/// Skips the resource of a gate with its stage or group.
pub(super) async fn skip(tx: &mut Connection, owner: &Resource, gate: Uuid, now: Timestamp) -> Result<(), StoreError> {
    let Some(id) = gate_id(owner, gate) else { return Ok(()) };
    gates::skip(tx, &id, now).await
}

/// Deletes the gates of a run, fleet or resource group, by its row, before that is deleted itself, and takes back the jobs of
/// its runs, which stay locked.
///
/// # Errors
/// When the database fails.
pub async fn delete_under(
    tx: &mut Connection,
    row: Uuid,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<(), StoreError> {
    // Whoever completes a gate locks its run first, and a statement of its own sees what was done before.
    let running = runs::lock_under(tx, row).await?;
    let deleted = gates::delete_under(tx, row).await?;
    webhook_deliveries::gates_deleted(tx, &deleted, now, trace).await?;
    for run in running {
        cancel_jobs(tx, run).await.map_err(StoreError::while_("cancelling the jobs of an update run"))?;
    }
    if !deleted.is_empty() {
        tracing::debug!(gates = deleted.len(), "gates go with what they belong to");
    }
    Ok(())
}

/// A gate of a run as a resource: its ID, and its properties as of its opening.
pub(super) fn described(owner: &Resource, run: &Run, gate: Uuid) -> Option<(ResourceId, Value)> {
    gate_id(owner, gate).zip(properties(run, gate, owner))
}

/// The timer of a gate.
pub(super) fn timer(run: Uuid, gate: Uuid, at: Timestamp, trace: Option<&str>) -> NewJob {
    traced(NewJob::new(DUE, format!("{run}/{gate}")).run_at(at), trace)
}

/// Takes back the timers of a run that is deleted.
pub(super) async fn cancel(tx: &mut Connection, run: Uuid) -> Result<(), sqlx::Error> {
    work::cancel_prefix(tx, DUE, &format!("{run}/")).await?;
    Ok(())
}

/// The resource ID of a gate of this run: a child of the run's fleet.
fn gate_id(run: &Resource, gate: Uuid) -> Option<ResourceId> {
    Some(run.arm_id.parse::<ResourceId>().ok()?.parent()?.child("gates", &gate.to_string()))
}

fn properties(run: &Run, gate: Uuid, owner: &Resource) -> Option<Value> {
    let (gate, stage, group, timing) = find(run, gate)?;
    let mut target = json!({"name": owner.name, "stage": stage, "timing": timing});
    if let (Some(group), Value::Object(target)) = (group, &mut target) {
        target.insert("group".to_owned(), Value::from(group));
    }
    let mut properties = json!({
        "gateType": gate.gate_type,
        "state": "Pending",
        "target": {"id": owner.arm_id, "updateRunProperties": target},
    });
    if let Value::Object(properties) = &mut properties {
        if let Some(name) = &gate.display_name {
            properties.insert("displayName".to_owned(), Value::from(name.clone()));
        }
        if let (Some(schedule), Some(at)) = (&gate.schedule, gate.due()) {
            let mut schedule = json!(schedule);
            if let Value::Object(schedule) = &mut schedule {
                schedule.insert("absoluteStartTime".to_owned(), json!(at));
            }
            properties.insert("scheduledStartProperties".to_owned(), schedule);
        }
    }
    Some(properties)
}

fn find(run: &Run, id: Uuid) -> Option<(&Gate, &str, Option<&str>, &'static str)> {
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

/// Opens a gate whose time has come.
struct GateDue {
    pool: Pool,
}

impl Handler for GateDue {
    fn kind(&self) -> &'static str {
        DUE
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl GateDue {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let parsed = attempt.subject.split_once('/');
        let ids = parsed.and_then(|(run, gate)| Some((run.parse::<Uuid>().ok()?, gate.parse::<Uuid>().ok()?)));
        let Some((run, gate)) = ids else {
            return Err(JobError::Unexpected(format!("'{}' is no gate of a run", attempt.subject)));
        };
        let mut tx = begin(attempt, &self.pool, run).await?;
        drive(&mut tx, run, Event::GateDue { gate }, timer_now(attempt), attempt.trace.as_deref()).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// The handlers of this file.
pub(super) fn handlers(pool: &Pool) -> Vec<Arc<dyn Handler>> {
    vec![Arc::new(GateDue { pool: pool.clone() })]
}
