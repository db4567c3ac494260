//! Update strategies: the order of a rollout as stages and groups
//! (`Microsoft.ContainerService/fleets/updateStrategies`, and `strategy` inside an update run).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{scheduled_start::ScheduledStartConfiguration, selector::MemberSelector};

/// The stages of a rollout, executed one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRunStrategy {
    /// At least one, at most 50.
    pub stages: Vec<UpdateStage>,
}

/// Most stages in a strategy. Azure documents no limit; this one keeps the status document readable.
pub const MAX_STAGES: usize = 50;
/// Most groups in a stage (product documentation, update orchestration concepts).
pub const MAX_GROUPS_PER_STAGE: usize = 50;
/// Longest wait after a stage: 90 days, in seconds.
pub const MAX_STAGE_WAIT_SECONDS: i32 = 90 * 24 * 3600;

/// Groups that are upgraded in parallel, with the gates before and after them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStage {
    /// 1–50 characters, unique in the strategy.
    #[schema(min_length = 1, max_length = 50, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub name: String,
    /// Groups of members, upgraded in parallel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<UpdateGroup>,
    /// Seconds to wait after the stage's groups are done. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_stage_wait_in_seconds: Option<i32>,
    /// Largest number of concurrent member upgrades over all groups: a count or a percentage. Absent: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^(?:([1-9]\d*)|([1-9]\d?|100)%)$")]
    pub max_concurrency: Option<String>,
    /// Failures tolerated over all groups: a count or a percentage. Absent: 0. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub max_allowed_failures: Option<String>,
    /// Which members the stage has. Without groups they are one implicit group with the name of the stage. With groups, each group
    /// selects among them. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub member_selector: Option<MemberSelector>,
    /// Gates that must be completed before any group starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_gates: Vec<GateConfiguration>,
    /// Gates that must be completed before the next stage starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_gates: Vec<GateConfiguration>,
}

/// Members with the same `group`, or with labels that a selector chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateGroup {
    /// 1–50 characters, unique in the whole strategy; without a selector it matches the members' `group`.
    #[schema(min_length = 1, max_length = 50, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub name: String,
    /// Largest number of concurrent member upgrades in the group: a count or a percentage. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^(?:([1-9]\d*)|([1-9]\d?|100)%)$")]
    pub max_concurrency: Option<String>,
    /// Failures tolerated in the group: a count or a percentage. Absent: 0. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub max_allowed_failures: Option<String>,
    /// Which members the group has. If set, the group's name is not compared with the members' `group`. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub member_selector: Option<MemberSelector>,
    /// Gates that must be completed before the group starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_gates: Vec<GateConfiguration>,
    /// Gates that must be completed before the group counts as done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_gates: Vec<GateConfiguration>,
}

/// A gate of a strategy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateConfiguration {
    /// Name for people, 1–100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub display_name: Option<String>,
    /// What opens it.
    #[serde(rename = "type")]
    pub gate_type: GateType,
    /// When a gate of the type `ScheduledStart` opens. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub scheduled_start_configuration: Option<ScheduledStartConfiguration>,
}

/// What opens a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum GateType {
    /// A person's approval.
    Approval,
    /// The scheduled time, or a person's approval before it. Preview.
    ScheduledStart,
}

/// `properties` of an update strategy resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetUpdateStrategyProperties {
    /// The stages.
    pub strategy: UpdateRunStrategy,
}
