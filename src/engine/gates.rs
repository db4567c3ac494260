//! Gate resources. Only this module creates and changes gates, in the transaction of the step of the run, so that a gate is created
//! once even if a process is killed.

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    arm::ResourceId,
    database::Connection,
    model::gate::{
        GateProperties, GateState, GateTarget, ScheduledStartProperties, Timing, UpdateRunGateTargetProperties,
    },
    rollout::{Gate, Run},
    store::{
        StoreError, gates,
        resources::{Author, Resource},
    },
};

/// Creates the resource of a gate that a run has reached.
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

/// Completes the resource of a gate. `author`: the person who approved; `None` when the gate opens at its scheduled time.
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

/// The ID of a gate of a run, and its properties at the moment when the run reaches it.
pub(super) fn described(owner: &Resource, run: &Run, gate: Uuid) -> Option<(ResourceId, GateProperties)> {
    gate_id(owner, gate).zip(properties(run, gate, owner))
}

/// The resource ID of a gate of this run: a child of the run's fleet.
fn gate_id(run: &Resource, gate: Uuid) -> Option<ResourceId> {
    Some(run.arm_id.parse::<ResourceId>().ok()?.parent()?.child("gates", &gate.to_string()))
}

fn properties(run: &Run, gate: Uuid, owner: &Resource) -> Option<GateProperties> {
    let (gate, stage, group, timing) = find(run, gate)?;
    let schedule = gate.schedule.clone().zip(gate.due());
    let position = UpdateRunGateTargetProperties {
        name: owner.name.clone(),
        stage: Some(stage.to_owned()),
        group: group.map(str::to_owned),
        timing,
    };
    Some(GateProperties {
        display_name: gate.display_name.clone(),
        gate_type: gate.gate_type,
        target: GateTarget { id: owner.arm_id.clone(), update_run_properties: Some(position) },
        state: GateState::Pending,
        scheduled_start_properties: schedule
            .map(|(schedule, absolute_start_time)| ScheduledStartProperties { schedule, absolute_start_time }),
    })
}

fn find(run: &Run, id: Uuid) -> Option<(&Gate, &str, Option<&str>, Timing)> {
    let among = |gates: &'_ [Gate]| gates.iter().position(|gate| gate.id == id);
    for stage in &run.stages {
        let groups = stage.groups.iter().map(|group| (Some(group.name.as_str()), &group.before, &group.after));
        for (group, before, after) in std::iter::once((None, &stage.before, &stage.after)).chain(groups) {
            if let Some(gate) = among(before).and_then(|at| before.get(at)) {
                return Some((gate, &stage.name, group, Timing::Before));
            }
            if let Some(gate) = among(after).and_then(|at| after.get(at)) {
                return Some((gate, &stage.name, group, Timing::After));
            }
        }
    }
    None
}
