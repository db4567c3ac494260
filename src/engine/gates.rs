//! Gate resources, and the timers of those that open by themselves. This is the one place where gates are made, changed and
//! deleted, always in the transaction of the step that does it: a gate is made once, whatever is killed.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    arm::ResourceId,
    database::Connection,
    rollout::{Gate, Run},
    store::{
        StoreError, gates,
        resources::{Author, Resource},
    },
};

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

/// A gate of a run as a resource: its ID, and its properties as of its opening.
pub(super) fn described(owner: &Resource, run: &Run, gate: Uuid) -> Option<(ResourceId, Value)> {
    gate_id(owner, gate).zip(properties(run, gate, owner))
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
