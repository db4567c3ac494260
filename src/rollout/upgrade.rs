//! The upgrade of one cluster: what has been begun, and what to do next.
//!
//! [`next()`] looks at the record of this attempt, at the cluster as AKS shows it now and at what its region offers, and
//! says what to do. Its caller, after [`Next::Begin`], records the intent ([`Upgrade::intend`]), commits, makes the calls,
//! records each answer ([`Upgrade::started`], [`Upgrade::withdraw`], [`Upgrade::ended`]), and commits again. Being killed
//! between any two of these is made good by looking: an intended step that AKS is already carrying out, or has carried
//! out, is adopted and not repeated.
//!
//! A new attempt (a restarted run) begins with an empty [`Upgrade`].

mod consistent;
mod images;
mod judge;
mod keep;
mod next;
mod plan;
mod progress;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;
mod stop;
mod window;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use consistent::{ConsistentPool, ImageChoice, choose_images};
pub use keep::{SnapshotToTake, expired_snapshots, missing_snapshots};
pub use next::next;
pub use progress::StepDurations;
pub use window::{
    Closed, WindowRank, WindowStanding, configuration_name, is_about_window, opening, permission, window_standing,
};

use crate::{
    arm::ErrorDetail,
    model::{
        managed_cluster::{ManagedCluster, NodeImage, UpgradeAction},
        update_run::{
            ManagedClusterUpdate, ManagedClusterUpgradeType, NodeImageSelectionType, NodeImageVersion,
            WhenImageUnavailable,
        },
        version::{InvalidVersion, RequestedVersion},
    },
};

/// The record of one attempt to upgrade one cluster, kept as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upgrade {
    /// The Kubernetes version, `x.y.z`, frozen when the first step was intended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// How many steps there are, as far as was known when the latest was intended.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_steps: u32,
    /// In the order in which they were intended.
    pub steps: Vec<Step>,
}

/// One call to AKS, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What AKS is told.
    pub action: UpgradeAction,
    /// How the cluster or pool was before the call: tells a call without effect from one that has ended since.
    pub before: Fingerprint,
    /// When it was intended.
    pub intended_at: Timestamp,
    /// Nodes that it moves; 0 where that is not known, and for a control plane.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nodes: u32,
    /// How long such a step took lately, where enough was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_seconds: Option<u32>,
    /// How far it is.
    pub state: StepState,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum StepState {
    /// About to be called, or called with the answer lost.
    Intended,
    /// Called, and not begun by AKS.
    Withdrawn,
    /// AKS accepted it.
    Started {
        /// Where to ask; `None` when AKS named none or knows it no longer.
        operation_url: Option<String>,
        /// The operation's GUID.
        operation_id: Option<String>,
        /// When AKS's answer came.
        at: Timestamp,
    },
    /// The operation ended well.
    Succeeded {
        /// The operation's GUID.
        operation_id: Option<String>,
    },
    /// The operation ended badly, or AKS refused to begin it.
    Failed {
        /// The operation's GUID.
        operation_id: Option<String>,
        /// AKS's own code and message.
        error: ErrorDetail,
    },
}

/// What of a cluster or pool changes with every operation on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fingerprint {
    etag: Option<String>,
    state: String,
    version: Option<String>,
    image: Option<String>,
}

/// What the run wants of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// Which parts.
    pub upgrade_type: ManagedClusterUpgradeType,
    /// To which version; `None` for `NodeImageOnly`.
    pub version: Option<RequestedVersion>,
    /// To which images.
    pub images: ImageGoal,
    /// Where AKS no longer sets the chosen image.
    pub when_image_unavailable: WhenImageUnavailable,
    /// A cluster that is more than one minor version behind is skipped, and does not fail the run: nobody has chosen the
    /// version for it (product documentation, auto-upgrade).
    pub skips_far_clusters: bool,
}

/// Which node images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageGoal {
    /// The newest of the region.
    Latest,
    /// The run's choice, one per family.
    Consistent(Vec<NodeImage>),
    /// The choice of a user or of an auto-upgrade profile, at most one per family; families not listed are left alone.
    Custom(Vec<NodeImage>),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Record the intent, commit, make the calls, record the answers.
    Begin(Begin),
    /// Ask about these later, record what they came to, then look again. Never empty.
    Follow(Vec<Watch>),
    /// Nothing can be begun now: Pending.
    Blocked {
        /// Why, with a code.
        error: ErrorDetail,
        /// What must change.
        waits_for: WaitsFor,
    },
    /// There is nothing more to do.
    Done(Outcome),
}

/// What a member that is Pending waits for: how soon it is worth another look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The cluster, to be free of another operation.
    Cluster,
    /// The region, to offer a version or an image.
    Offer,
    /// The maintenance window, to open then; `None`: to be changed.
    Window(Option<Timestamp>),
}

/// Steps to begin now, side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The version to freeze, `x.y.z`.
    pub kubernetes_version: Option<String>,
    /// What to tell AKS.
    pub actions: Vec<UpgradeAction>,
    /// How many more actions are to follow, as far as is known now.
    pub later: u32,
    /// Nothing has begun in this attempt, so this may only in an open maintenance window: see [`permission`].
    pub first: bool,
}

/// An operation to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Index in [`Upgrade::steps`]; `None` for an operation towards the target that somebody else began.
    pub step: Option<usize>,
    /// The pool; `None` for a cluster-level operation.
    pub pool: Option<String>,
    /// Where to ask; `None`: the provisioning state tells.
    pub operation_url: Option<String>,
    /// Since when it is followed.
    pub since: Timestamp,
}

/// How the upgrade of a member ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Something was upgraded.
    Completed {
        /// What was left alone, and why.
        message: Option<String>,
    },
    /// Nothing was to be done, or nothing can be done to such a cluster.
    Skipped {
        /// Why.
        message: String,
    },
    /// It ended badly.
    Failed {
        /// Why, with AKS's own code and message inside.
        error: ErrorDetail,
    },
}

impl Goal {
    /// The goal of a run's members; `selected` are the images in the run's status (`Consistent` and `Custom`).
    ///
    /// # Errors
    /// When the run's Kubernetes version is none.
    pub fn new(update: &ManagedClusterUpdate, selected: &[NodeImageVersion]) -> Result<Self, InvalidVersion> {
        let images = |of: &[NodeImageVersion]| of.iter().map(|image| NodeImage::new(&image.version)).collect();
        Ok(Self {
            upgrade_type: update.upgrade.upgrade_type,
            version: update.upgrade.kubernetes_version.as_deref().map(str::parse).transpose()?,
            images: match &update.node_image_selection {
                None => ImageGoal::Latest,
                Some(selection) => match selection.selection_type {
                    NodeImageSelectionType::Latest => ImageGoal::Latest,
                    NodeImageSelectionType::Consistent => ImageGoal::Consistent(images(selected)),
                    NodeImageSelectionType::Custom => ImageGoal::Custom(images(&selection.custom_node_image_versions)),
                },
            },
            when_image_unavailable: update.when_image_unavailable.unwrap_or(WhenImageUnavailable::Fail),
            skips_far_clusters: false,
        })
    }

    /// The same for a run that an auto-upgrade profile has made: nobody has chosen its version or its images for a cluster.
    #[must_use]
    pub fn of_auto_upgrade(self) -> Self {
        let when_image_unavailable = match self.images {
            // A gate or a maintenance window may well outlast a publication, which comes every week.
            ImageGoal::Custom(_) => WhenImageUnavailable::Newest,
            ImageGoal::Latest | ImageGoal::Consistent(_) => self.when_image_unavailable,
        };
        Self { when_image_unavailable, skips_far_clusters: true, ..self }
    }

    /// The node images that pools are to have; none when each pool gets the newest of its region.
    #[must_use]
    pub fn chosen_images(&self) -> &[NodeImage] {
        match &self.images {
            ImageGoal::Consistent(images) | ImageGoal::Custom(images) if self.moves_pools() => images,
            ImageGoal::Consistent(_) | ImageGoal::Custom(_) | ImageGoal::Latest => &[],
        }
    }

    /// Whether the upgrade changes Kubernetes versions.
    #[must_use]
    pub fn moves_version(&self) -> bool {
        self.upgrade_type.changes_version()
    }

    /// Whether the upgrade changes agent pools.
    #[must_use]
    pub fn moves_pools(&self) -> bool {
        self.upgrade_type.changes_pools()
    }
}

impl Upgrade {
    /// Records what is about to be called, and freezes the version. Returns the steps' indices, in the order of the
    /// actions; an intent about the same subject whose call had no effect is replaced.
    pub fn intend(&mut self, begin: &Begin, cluster: &ManagedCluster, now: Timestamp) -> Vec<usize> {
        self.kubernetes_version.clone_from(&begin.kubernetes_version);
        let mut indices = Vec::with_capacity(begin.actions.len());
        for action in &begin.actions {
            let step = Step {
                action: action.clone(),
                before: Fingerprint::of(action, cluster),
                intended_at: now,
                nodes: nodes(action, cluster),
                expected_seconds: None,
                state: StepState::Intended,
            };
            let known = self.steps.iter().position(|old| old.action.subject() == action.subject());
            indices.push(known.unwrap_or(self.steps.len()));
            match known.and_then(|index| self.steps.get_mut(index)) {
                Some(old) => *old = step,
                None => self.steps.push(step),
            }
        }
        let steps = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        self.total_steps = steps.saturating_add(begin.later).max(self.total_steps);
        indices
    }

    /// AKS accepted the step.
    pub fn started(
        &mut self,
        step: usize,
        operation_url: Option<String>,
        operation_id: Option<String>,
        now: Timestamp,
    ) {
        if let Some(step) = self.steps.get_mut(step) {
            step.state = StepState::Started { operation_url, operation_id, at: now };
        }
    }

    /// How long the step is expected to take.
    pub fn expect(&mut self, step: usize, expected: Option<std::time::Duration>) {
        if let Some(step) = self.steps.get_mut(step) {
            step.expected_seconds = expected.map(|expected| u32::try_from(expected.as_secs()).unwrap_or(u32::MAX));
        }
    }

    /// AKS answered that it did not begin the step (busy, changed meanwhile): as if it had never been intended.
    pub fn withdraw(&mut self, step: usize) {
        if let Some(step) = self.steps.get_mut(step) {
            step.state = StepState::Withdrawn;
        }
    }

    /// The step's operation ended, or AKS refused to begin it.
    pub fn ended(&mut self, step: usize, result: Result<(), ErrorDetail>) {
        if let Some(step) = self.steps.get_mut(step) {
            let operation_id = step.operation_id().map(str::to_owned);
            step.state = match result {
                Ok(()) => StepState::Succeeded { operation_id },
                Err(error) => StepState::Failed { operation_id, error },
            };
        }
    }

    /// The step's operation can no longer be asked about: the provisioning state tells.
    pub fn lost(&mut self, step: usize) {
        if let Some(StepState::Started { operation_url, .. }) = self.steps.get_mut(step).map(|step| &mut step.state) {
            *operation_url = None;
        }
    }

    /// The latest operation's GUID, for the member's status.
    #[must_use]
    pub fn operation_id(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(Step::operation_id)
    }
}

/// Nodes of the pools that an action moves.
fn nodes(action: &UpgradeAction, cluster: &ManagedCluster) -> u32 {
    let count = |name: &str| cluster.pool(name).map_or(0, |pool| pool.count);
    match action {
        UpgradeAction::ControlPlane { .. } => 0,
        UpgradeAction::Cluster { pools, .. } => pools.iter().map(|name| count(name)).fold(0, u32::saturating_add),
        action => action.pool().map_or(0, count),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Step {
    /// Whether it moved the control plane (`None`) or this pool.
    fn moved(&self, part: Option<&str>) -> bool {
        let along = match (&self.action, part) {
            (UpgradeAction::Cluster { pools, .. }, Some(name)) => pools.iter().any(|pool| pool == name),
            (action, part) => action.pool() == part,
        };
        along && self.state != StepState::Withdrawn
    }

    fn operation_id(&self) -> Option<&str> {
        match &self.state {
            StepState::Intended | StepState::Withdrawn => None,
            StepState::Started { operation_id, .. }
            | StepState::Succeeded { operation_id }
            | StepState::Failed { operation_id, .. } => operation_id.as_deref(),
        }
    }
}

impl Fingerprint {
    fn of(action: &UpgradeAction, cluster: &ManagedCluster) -> Self {
        match action.pool() {
            None => Self {
                etag: cluster.etag.clone(),
                state: cluster.provisioning_state.as_str().to_owned(),
                version: cluster.version().map(|version| version.to_string()),
                image: None,
            },
            Some(name) => cluster.pool(name).map_or_else(Self::default, |pool| Self {
                etag: pool.etag.clone(),
                state: pool.provisioning_state.as_str().to_owned(),
                version: pool.version().map(|version| version.to_string()),
                image: pool.image.as_ref().map(ToString::to_string),
            }),
        }
    }
}
