//! The event of each change. `docs/events.md` documents types, subjects and data.

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

/// Event types.
pub mod types {
    macro_rules! named {
        ($($(#[$doc:meta])* $name:ident = $event:literal;)*) => {
            $($(#[$doc])* pub const $name: &str = concat!("Microsoft.ResourceNotifications.AKSResources.", $event);)*
            /// All types, in the order of the documentation.
            pub const ALL: &[&str] = &[$($name),*];
        };
    }
    named! {
        /// As in Azure: a run reached a gate.
        GATE_CREATED = "FleetGateCreated";
        /// As in Azure: a gate was completed or skipped.
        GATE_UPDATED = "FleetGateUpdated";
        /// As in Azure: a gate was deleted, with its run.
        GATE_DELETED = "FleetGateDeleted";
        /// Extension: the state of a run changed.
        RUN = "FleetUpdateRunStateChanged";
        /// Extension: the state of a stage changed.
        STAGE = "FleetUpdateRunStageStateChanged";
        /// Extension: the state of a group changed.
        GROUP = "FleetUpdateRunGroupStateChanged";
        /// Extension: the state of a member changed.
        MEMBER = "FleetUpdateRunMemberStateChanged";
        /// Extension: the state of the wait after a stage changed.
        WAIT = "FleetUpdateRunWaitStateChanged";
        /// Extension: the state of a gate in its run changed, whether the run reached the gate or not.
        GATE = "FleetUpdateRunGateStateChanged";
    }
}

/// All event types.
pub const TYPES: &[&str] = types::ALL;

/// An event that is not recorded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// One of [`TYPES`].
    pub kind: &'static str,
    /// The resource ID of what changed, or a path below one.
    pub subject: String,
    /// The `data` of the event.
    pub data: Value,
}

/// Returns the event of a change in the run with the resource ID `run`.
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

/// Returns Azure's events of a gate whose state changed from `was` to `is`: created, updated, both (reached and completed in one
/// step), or none (skipped before it was reached). `is` is `None` when the gate was deleted. `properties` are those of the gate
/// resource; the event shows the state of `is`.
#[must_use]
pub fn gate_events(
    gate: &str,
    was: UpdateState,
    is: Option<&UpdateStatus>,
    properties: &Value,
    now: Timestamp,
) -> Vec<NewEvent> {
    let event = |kind: &'static str, properties: &Value| {
        let name = gate.rsplit('/').next().unwrap_or_default();
        NewEvent { kind, subject: gate.to_owned(), data: data(gate, name, resource_types::GATES, properties, now) }
    };
    let in_state = |kind: &'static str, state: UpdateState| {
        let mut properties = properties.clone();
        if let Value::Object(properties) = &mut properties {
            properties.insert("state".to_owned(), json!(state));
        }
        event(kind, &properties)
    };
    let Some(is) = is else { return vec![event(types::GATE_DELETED, properties)] };
    if was != UpdateState::NotStarted {
        return vec![in_state(types::GATE_UPDATED, is.state)];
    }
    if is.start_time.is_none() && !matches!(is.state, UpdateState::Pending | UpdateState::Completed) {
        // The gate was skipped before the run reached it, so that it never became a resource.
        return Vec::new();
    }
    let mut events = vec![in_state(types::GATE_CREATED, UpdateState::Pending)];
    if is.state != UpdateState::Pending {
        events.push(in_state(types::GATE_UPDATED, is.state));
    }
    events
}

/// Returns `data` in the schema of Azure Event Grid's `Microsoft.ResourceNotifications`.
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

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/fleets/f/gates/1";

    /// Returns type and state of each event, such as `FleetGateCreated Pending`.
    fn event_names(was: UpdateState, is: UpdateState, reached: bool) -> Vec<String> {
        let start_time = reached.then_some(Timestamp::UNIX_EPOCH);
        let status = UpdateStatus { start_time, completed_time: None, state: is, error: None };
        let properties = json!({"state": "Pending", "displayName": "ok?"});
        let events = gate_events(GATE, was, Some(&status), &properties, Timestamp::UNIX_EPOCH);
        let name = |event: &NewEvent| {
            let properties = &event.data["resourceInfo"]["properties"];
            assert_eq!((&*event.subject, &properties["displayName"]), (GATE, &json!("ok?")));
            let kind = event.kind.rsplit('.').next().unwrap_or_default();
            format!("{kind} {}", properties["state"].as_str().unwrap_or_default())
        };
        events.iter().map(name).collect()
    }

    #[test]
    fn a_gate_reached_and_completed_in_one_step_is_created_and_updated() {
        use UpdateState::{Completed, NotStarted, Pending, Skipped};
        assert_eq!(event_names(NotStarted, Pending, true), ["FleetGateCreated Pending"]);
        assert_eq!(
            event_names(NotStarted, Completed, true),
            ["FleetGateCreated Pending", "FleetGateUpdated Completed"]
        );
        assert_eq!(event_names(NotStarted, Skipped, true), ["FleetGateCreated Pending", "FleetGateUpdated Skipped"]);
        assert_eq!(event_names(Pending, Skipped, true), ["FleetGateUpdated Skipped"]);
        assert_eq!(event_names(NotStarted, Skipped, false), [] as [String; 0]);
    }
}
