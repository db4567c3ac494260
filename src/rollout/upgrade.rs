//! The upgrade of one cluster: what has been begun, and what to do next.
//!
//! [`next()`] looks at the record of this attempt, at the cluster as AKS shows it now and at what its region offers, and
//! says what to do. Its caller, after [`Next::Begin`], records the intent ([`Upgrade::intend`]), commits, makes the calls,
//! records each answer ([`Upgrade::started`], [`Upgrade::withdraw`], [`Upgrade::ended`]), and commits again. Being killed
//! between any two of these is made good by looking: an intended step that AKS is already carrying out, or has carried
//! out, is adopted and not repeated.
//!
//! A new attempt (a restarted run) begins with an empty [`Upgrade`].

mod images;
mod judge;
mod next;
mod plan;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;
mod window;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use images::consistent_images;
pub use next::next;
pub use window::{
    Closed, WindowRank, WindowStanding, configuration_name, is_about_window, opening, permission, window_standing,
};

use crate::{
    arm::ErrorDetail,
    model::{
        managed_cluster::{ManagedCluster, NodeImage, UpgradeAction},
        update_run::{ManagedClusterUpdate, ManagedClusterUpgradeType, NodeImageSelectionType, NodeImageVersion},
        version::{InvalidVersion, VersionWish},
    },
};

/// The record of one attempt to upgrade one cluster, kept as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upgrade {
    /// The Kubernetes version, `x.y.z`, frozen when the first step was intended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
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
    pub version: Option<VersionWish>,
    /// To which images.
    pub images: ImageGoal,
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
    /// The user's choice, at most one per family; families not listed are left alone.
    Custom(Vec<NodeImage>),
    /// An auto-upgrade profile's choice, at most one per family; families not listed are left alone. Where AKS does not set
    /// it any more, as a newer one was published since, the newest takes its place.
    AtLeast(Vec<NodeImage>),
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
            skips_far_clusters: false,
        })
    }

    /// The same for a run that an auto-upgrade profile has made: nobody has chosen its version or its images for a cluster.
    #[must_use]
    pub fn of_auto_upgrade(self) -> Self {
        let images = match self.images {
            ImageGoal::Custom(images) => ImageGoal::AtLeast(images),
            other => other,
        };
        Self { images, skips_far_clusters: true, ..self }
    }

    /// The node images that pools are to have; none when each pool gets the newest of its region.
    #[must_use]
    pub fn chosen_images(&self) -> &[NodeImage] {
        match &self.images {
            ImageGoal::Consistent(images) | ImageGoal::Custom(images) | ImageGoal::AtLeast(images)
                if self.moves_pools() =>
            {
                images
            }
            _ => &[],
        }
    }

    /// Whether the upgrade changes Kubernetes versions.
    #[must_use]
    pub fn moves_version(&self) -> bool {
        self.upgrade_type != ManagedClusterUpgradeType::NodeImageOnly
    }

    /// Whether the upgrade changes agent pools.
    #[must_use]
    pub fn moves_pools(&self) -> bool {
        self.upgrade_type != ManagedClusterUpgradeType::ControlPlaneOnly
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
                state: StepState::Intended,
            };
            let known = self.steps.iter().position(|old| old.action.subject() == action.subject());
            indices.push(known.unwrap_or(self.steps.len()));
            match known.and_then(|index| self.steps.get_mut(index)) {
                Some(old) => *old = step,
                None => self.steps.push(step),
            }
        }
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
