//! Update runs (`Microsoft.ContainerService/fleets/updateRuns`): what is upgraded, in which order, and its status.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::strategy::UpdateRunStrategy;
use crate::arm::{ErrorDetail, ResourceId};

/// `properties` of a run, as a client sends them and the service stores them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRunProperties {
    /// The strategy that was copied into `strategy` when the run was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy_id: Option<String>,
    /// The order of the rollout. Neither this nor `updateStrategyId`: all members, one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<UpdateRunStrategy>,
    /// What is upgraded.
    pub managed_cluster_update: ManagedClusterUpdate,
    /// The auto-upgrade profile that generated the run. Read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub auto_upgrade_profile_id: Option<String>,
}

/// What is upgraded on each member's cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterUpdate {
    /// Kind and version of the upgrade.
    pub upgrade: ManagedClusterUpgradeSpec,
    /// How node images are chosen. Absent: `Latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_image_selection: Option<NodeImageSelection>,
    /// What becomes of a pool for which AKS no longer sets the chosen image when its turn comes. An extension; absent: `Fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_image_unavailable: Option<WhenImageUnavailable>,
}

/// What becomes of a pool for which AKS no longer sets the chosen image when its turn comes: see [`super::extensions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum WhenImageUnavailable {
    /// The member fails.
    Fail,
    /// The pool gets the newest image of its region.
    Newest,
}

/// Kind and version of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterUpgradeSpec {
    /// Which parts of a cluster.
    #[serde(rename = "type")]
    pub upgrade_type: ManagedClusterUpgradeType,
    /// `x.y.z`, or `x.y` for its newest patch in each cluster's region. Required but for `NodeImageOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
}

/// Which parts of a cluster an upgrade moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ManagedClusterUpgradeType {
    /// Control plane, then all agent pools, node images with them.
    Full,
    /// Node images of all agent pools.
    NodeImageOnly,
    /// Control plane only.
    ControlPlaneOnly,
}

impl ManagedClusterUpgradeType {
    /// Whether the upgrade changes Kubernetes versions, so that it needs one.
    #[must_use]
    pub const fn changes_version(self) -> bool {
        match self {
            Self::Full | Self::ControlPlaneOnly => true,
            Self::NodeImageOnly => false,
        }
    }

    /// Whether the upgrade changes agent pools.
    #[must_use]
    pub const fn changes_pools(self) -> bool {
        match self {
            Self::Full | Self::NodeImageOnly => true,
            Self::ControlPlaneOnly => false,
        }
    }
}

/// How node images are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeImageSelection {
    /// The rule.
    #[serde(rename = "type")]
    pub selection_type: NodeImageSelectionType,
    /// For `Custom`: the images, at most one version per family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_node_image_versions: Vec<NodeImageVersion>,
}

/// The rule by which node images are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum NodeImageSelectionType {
    /// Newest in each cluster's region when that cluster starts.
    Latest,
    /// Newest that can be set on every pool of the run.
    Consistent,
    /// As listed.
    Custom,
}

/// A node image: `{family}-{version}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeImageVersion {
    /// Full name, such as `AKSUbuntu-2204gen2containerd-202508.20.1`.
    pub version: String,
}

/// State of a run, stage, group, member, wait or gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum UpdateState {
    /// Not started.
    NotStarted,
    /// In progress.
    Running,
    /// Stopping on request or after a failure, while upgrades are still in progress.
    Stopping,
    /// Stopped on request; can be started again.
    Stopped,
    /// Skipped, on request or because no upgrade was needed.
    Skipped,
    /// Failed. A run can be started again.
    Failed,
    /// Waiting for a maintenance window, a version, or an approval.
    Pending,
    /// Completed.
    Completed,
}

impl UpdateState {
    /// Whether a node in this state needs nothing more. A `Failed` one needs a start.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Completed | Self::Skipped => true,
            Self::NotStarted | Self::Running | Self::Stopping | Self::Stopped | Self::Failed | Self::Pending => false,
        }
    }
}

/// State, times and error of one node of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStatus {
    /// Start time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start_time: Option<Timestamp>,
    /// End time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_time: Option<Timestamp>,
    /// State.
    pub state: UpdateState,
    /// Why it failed, or why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// `properties.status` of a run, assembled on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRunStatus {
    /// State, times and error of the run.
    pub status: UpdateStatus,
    /// In order of execution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<UpdateStageStatus>,
    /// Selected images; empty unless `Consistent` or `Custom`. Always present, as in Azure's answers; Azure's examples leave it out.
    #[serde(default)]
    pub node_image_selection: NodeImageSelectionStatus,
    /// Members that failed. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub failure_count: Option<u32>,
    /// Why it waits, or what it does, for people. An extension: only for who asks with `explain=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub explanation: Option<String>,
    /// What people did to the run, in order. An extension: only for who asks with `explain=true`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(ignore)]
    pub actions: Vec<RunAction>,
}

/// The node images that a run selected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeImageSelectionStatus {
    /// One per image family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected_node_image_versions: Vec<NodeImageVersion>,
}

/// Status of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStageStatus {
    /// State, times, error.
    pub status: UpdateStatus,
    /// The stage's name.
    pub name: String,
    /// In the order of the strategy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<UpdateGroupStatus>,
    /// Gates before the stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_gates: Vec<UpdateRunGateStatus>,
    /// Gates after the stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_gates: Vec<UpdateRunGateStatus>,
    /// The wait after the stage, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_stage_wait_status: Option<WaitStatus>,
    /// Resolved `maxConcurrency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Resolved `maxAllowedFailures`. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub max_allowed_failures: Option<u32>,
    /// Members that failed. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub failure_count: Option<u32>,
    /// Why it waits, or what it does, for people. An extension: only for who asks with `explain=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub explanation: Option<String>,
}

/// Status of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateGroupStatus {
    /// State, times, error.
    pub status: UpdateStatus,
    /// The group's name.
    pub name: String,
    /// The members; absent when the group matches no member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberUpdateStatus>,
    /// Gates before the group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_gates: Vec<UpdateRunGateStatus>,
    /// Gates after the group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_gates: Vec<UpdateRunGateStatus>,
    /// Resolved `maxConcurrency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Resolved `maxAllowedFailures`. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub max_allowed_failures: Option<u32>,
    /// Members that failed. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub failure_count: Option<u32>,
    /// Why it waits, or what it does, for people. An extension: only for who asks with `explain=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub explanation: Option<String>,
}

/// Status of one member in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberUpdateStatus {
    /// State, times, error.
    pub status: UpdateStatus,
    /// The member's name.
    pub name: String,
    /// Resource ID of its cluster.
    pub cluster_resource_id: String,
    /// The AKS operation of the latest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// Additional information for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it waits, or what it does, for people. An extension: only for who asks with `explain=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub explanation: Option<String>,
}

/// Status of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitStatus {
    /// State and times.
    pub status: UpdateStatus,
    /// Duration of the wait in seconds.
    pub wait_duration_in_seconds: i32,
}

/// Status of a gate in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRunGateStatus {
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub display_name: Option<String>,
    /// The gate resource, once the run has reached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gate_id: Option<ResourceId>,
    /// State and times.
    pub status: UpdateStatus,
    /// When a gate that was reached opens by itself. Not shown: the gate resource has it.
    #[serde(skip)]
    pub opens_at: Option<Timestamp>,
}

/// What somebody did to a run: an extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunAction {
    /// `Start`, `Stop`, `Skip` or `CompleteGate`.
    pub action: String,
    /// Who: a user's name, or the ID of an application; `auto-upgrade` for the service itself.
    pub principal: String,
    /// `User`, `Application` or `ManagedIdentity`.
    pub principal_type: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What was skipped or which gate was completed, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}
