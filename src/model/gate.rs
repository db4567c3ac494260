//! Gates of update runs (`Microsoft.ContainerService/fleets/gates`). An update run creates and deletes its gates; a PATCH
//! completes one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{scheduled_start::ScheduledStartConfiguration, strategy::GateType};
use crate::arm::Problems;

/// `properties` of a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateProperties {
    /// Name for people, from the strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub display_name: Option<String>,
    /// What opens it.
    pub gate_type: GateType,
    /// What it holds back.
    pub target: GateTarget,
    /// The only property that can be changed.
    pub state: GateState,
    /// When a gate of the type `ScheduledStart` opens by itself. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub scheduled_start_properties: Option<ScheduledStartProperties>,
}

/// State of a gate. `Pending` is the first; the others are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum GateState {
    /// The gate holds its target back.
    Pending,
    /// The stage or the group of the gate was skipped.
    Skipped,
    /// A person has approved, or the scheduled time has come.
    Completed,
}

/// What a gate holds back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateTarget {
    /// The update run.
    pub id: String,
    /// The position of the gate in the update run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_run_properties: Option<UpdateRunGateTargetProperties>,
}

/// The position of a gate in an update run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdateRunGateTargetProperties {
    /// Name of the update run.
    #[schema(min_length = 1, max_length = 50, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub name: String,
    /// Name of the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 50, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub stage: Option<String>,
    /// Name of the group. Absent: the gate belongs to the whole stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 50, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub group: Option<String>,
    /// Whether the gate is before or after its stage or group.
    pub timing: Timing,
}

/// Whether a gate is before or after its stage or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Timing {
    /// No member starts before the gate is passed.
    Before,
    /// The stage or group is not done before the gate is passed.
    After,
}

/// When a gate opens by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledStartProperties {
    /// The schedule of the strategy.
    #[serde(flatten)]
    pub schedule: ScheduledStartConfiguration,
    /// The first time of the schedule after the run has reached the gate.
    pub absolute_start_time: Timestamp,
}

/// A change of a gate.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct GatePatch {
    /// What may be changed.
    #[serde(default)]
    pub properties: GatePatchProperties,
}

/// What may be changed of a gate.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct GatePatchProperties {
    /// `Completed`. Absent: nothing changes.
    #[schema(value_type = Option<GateState>)]
    pub state: Option<String>,
}

impl GateState {
    /// The state as it is written in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Skipped => "Skipped",
            Self::Completed => "Completed",
        }
    }
}

impl GatePatchProperties {
    /// Whether the change completes the gate. Every other change of the state is an error.
    #[must_use]
    pub fn completes(&self, problems: &mut Problems) -> bool {
        let Some(state) = &self.state else { return false };
        if state != GateState::Completed.as_str() {
            problems.add(
                "properties.state",
                format!("A gate's state can be set to 'Completed' only, not to '{state}'. Skip its stage or group to pass it by."),
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_gate_reads_as_it_was_written() {
        let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/fleets/f/updateRuns/r";
        let target = |more: Value| merged(json!({"name": "r", "stage": "s", "timing": "Before"}), more);
        for (target, more) in [
            (target(json!({})), json!({"gateType": "Approval", "state": "Pending"})),
            (target(json!({"group": "g"})), json!({"gateType": "Approval", "state": "Skipped", "displayName": "ok?"})),
            (
                target(json!({"timing": "After"})),
                json!({"gateType": "ScheduledStart", "state": "Completed", "scheduledStartProperties": {
                    "startDay": "Friday", "startTime": "18:00", "utcOffset": "-05:00",
                    "absoluteStartTime": "2026-08-21T23:00:00Z"}}),
            ),
        ] {
            let body = merged(json!({"target": {"id": id, "updateRunProperties": target}}), more);
            let gate: GateProperties = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(json!(gate.state), json!(gate.state.as_str()));
            assert_eq!(json!(gate), body);
        }
    }

    fn merged(mut body: Value, more: Value) -> Value {
        crate::arm::patch::merge(&mut body, more);
        body
    }

    #[test]
    fn a_patch_completes_a_gate_or_changes_nothing() {
        let completes = |state: Option<&str>| {
            let mut problems = Problems::default();
            let completes = GatePatchProperties { state: state.map(str::to_owned) }.completes(&mut problems);
            (completes, problems.is_empty())
        };
        assert_eq!(completes(None), (false, true));
        assert_eq!(completes(Some("Completed")), (true, true));
        for state in ["Pending", "Skipped", "completed", ""] {
            assert!(!completes(Some(state)).1, "{state}");
        }
    }
}
