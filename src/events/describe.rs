//! Changes as events. Types, subjects and data are documented in `docs/events.md`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    model::{
        types as resource_types,
        update_run::{UpdateState, UpdateStatus},
        versions,
    },
    rollout::Change,
};

/// Names of the types.
pub mod types {
    macro_rules! named {
        ($($(#[$doc:meta])* $name:ident = $event:literal;)*) => {
            $($(#[$doc])* pub const $name: &str = concat!("Microsoft.ResourceNotifications.AKSResources.", $event);)*
            /// All types, in the order of the documentation.
            pub const ALL: &[&str] = &[$($name),*];
        };
    }
    named! {
        /// The product's: a gate was reached.
        GATE_CREATED = "FleetGateCreated";
        /// The product's: a gate was completed or skipped.
        GATE_UPDATED = "FleetGateUpdated";
        /// The product's: a gate went with its run.
        GATE_DELETED = "FleetGateDeleted";
        /// Ours: a run.
        RUN = "FleetUpdateRunStateChanged";
        /// Ours: a stage.
        STAGE = "FleetUpdateRunStageStateChanged";
        /// Ours: a group.
        GROUP = "FleetUpdateRunGroupStateChanged";
        /// Ours: a member.
        MEMBER = "FleetUpdateRunMemberStateChanged";
        /// Ours: the wait after a stage.
        WAIT = "FleetUpdateRunWaitStateChanged";
        /// Ours: a gate as a node of its run, reached or not.
        GATE = "FleetUpdateRunGateStateChanged";
    }
}

/// All types of event.
pub const TYPES: &[&str] = types::ALL;

/// An event that is not recorded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// One of [`TYPES`].
    pub kind: &'static str,
    /// What it is about: a resource ID, or a path below one.
    pub subject: String,
    /// `data`, as receivers get it.
    pub data: Value,
}

/// The event of a change in the run with this resource ID.
#[must_use]
pub fn describe(run: &str, change: &Change, now: Timestamp) -> NewEvent {
    let in_stage = |stage: &str| format!("{run}/stages/{stage}");
    let in_group = |stage: &str, group: &str| format!("{run}/stages/{stage}/groups/{group}");
    let (kind, subject, properties) = match change {
        Change::Run { status } => (types::RUN, run.to_owned(), node(json!({}), status)),
        Change::Stage { stage, status } => (types::STAGE, in_stage(stage), node(json!({"stage": stage}), status)),
        Change::Wait { stage, seconds, status } => (
            types::WAIT,
            format!("{}/afterStageWait", in_stage(stage)),
            node(json!({"stage": stage, "waitDurationInSeconds": seconds}), status),
        ),
        Change::Group { stage, group, status } => {
            (types::GROUP, in_group(stage, group), node(json!({"stage": stage, "group": group}), status))
        }
        Change::Gate { stage, group, timing, gate, .. } => {
            let place = group.as_ref().map_or_else(|| in_stage(stage), |group| in_group(stage, group));
            let mut properties = json!({"stage": stage, "timing": timing, "gateType": gate.gate_type, "gate": gate.id});
            if let Value::Object(properties) = &mut properties {
                properties.extend(group.as_ref().map(|group| ("group".to_owned(), json!(group))));
                properties.extend(gate.display_name.as_ref().map(|name| ("displayName".to_owned(), json!(name))));
            }
            (types::GATE, format!("{place}/gates/{}", gate.id), node(properties, &gate.status))
        }
        Change::Member { stage, group, attempt, member } => {
            let mut properties = json!({"stage": stage, "group": group, "attempt": attempt});
            if let (Value::Object(properties), Value::Object(more)) = (&mut properties, json!(member)) {
                properties.extend(more.into_iter().map(|(key, value)| match key.as_str() {
                    "name" => ("member".to_owned(), value),
                    _ => (key, value),
                }));
            }
            (types::MEMBER, format!("{}/members/{}", in_group(stage, group), member.name), properties)
        }
    };
    let name = run.rsplit('/').next().unwrap_or_default();
    NewEvent { kind, subject, data: data(run, name, resource_types::UPDATE_RUNS, &properties, now) }
}

/// The product's event of a gate whose resource was in state `was`: made, changed or (`None` now) deleted.
#[must_use]
pub fn gate_event(
    gate: &str,
    was: UpdateState,
    is: Option<UpdateState>,
    properties: &Value,
    now: Timestamp,
) -> Option<NewEvent> {
    let kind = match (was, is) {
        (_, None) => types::GATE_DELETED,
        (UpdateState::NotStarted, Some(UpdateState::Pending)) => types::GATE_CREATED,
        // Skipped before it was reached: there never was a resource.
        (UpdateState::NotStarted, Some(_)) => return None,
        (_, Some(_)) => types::GATE_UPDATED,
    };
    let name = gate.rsplit('/').next().unwrap_or_default();
    Some(NewEvent { kind, subject: gate.to_owned(), data: data(gate, name, resource_types::GATES, properties, now) })
}

/// The product's shape (Azure Event Grid, `Microsoft.ResourceNotifications`).
fn data(id: &str, name: &str, kind: &str, properties: &Value, now: Timestamp) -> Value {
    json!({
        "resourceInfo": {"id": id, "name": name, "type": kind, "properties": properties},
        "operationalInfo": {"resourceEventTime": now},
        "apiVersion": versions::NEWEST.to_string(),
    })
}

fn node(mut properties: Value, status: &UpdateStatus) -> Value {
    if let Value::Object(properties) = &mut properties {
        let status: Map<String, Value> = std::iter::once(("status".to_owned(), json!(status))).collect();
        properties.extend(status);
    }
    properties
}
