//! How far a recorded step is, by the record and by the cluster as it is now.

use jiff::Timestamp;

use super::{Fingerprint, Step, StepState, Watch};
use crate::{
    arm::ErrorDetail,
    model::managed_cluster::{AgentPool, ManagedCluster, ProvisioningState, UpgradeAction, asks_for},
};

/// What a step has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Under way.
    Running(Watch),
    /// Done, or no longer needed.
    Done,
    /// Ended badly.
    Failed(ErrorDetail),
    /// Its call had no effect: to be made (again).
    NotBegun,
}

pub(super) fn judge(index: usize, step: &Step, cluster: &ManagedCluster) -> Judgement {
    match &step.state {
        StepState::Succeeded { .. } => Judgement::Done,
        StepState::Failed { error, .. } => Judgement::Failed(error.clone()),
        StepState::Started { operation_url: Some(url), at, .. } => running(index, step, Some(url.clone()), *at),
        StepState::Started { operation_url: None, at, .. } => by_state(index, step, cluster, true, *at),
        StepState::Withdrawn => Judgement::NotBegun,
        StepState::Intended => by_state(index, step, cluster, false, step.intended_at),
    }
}

/// Whether a pool shows an operation that brings what the action is to bring.
pub(super) fn pool_moves_towards(pool: &AgentPool, action: &UpgradeAction) -> bool {
    let ProvisioningState::Busy(state) = &pool.provisioning_state else { return false };
    match action {
        UpgradeAction::ControlPlane { .. } | UpgradeAction::Cluster { .. } => false,
        UpgradeAction::PoolVersion { kubernetes_version, .. } => {
            matches!(state.as_str(), "Upgrading" | "Updating")
                && requests(pool.orchestrator_version.as_deref(), kubernetes_version)
        }
        // AKS does not say to which image: the newest, unless somebody rolls back at this very moment.
        UpgradeAction::NewestImage { .. } => state == "UpgradingNodeImageVersion",
        UpgradeAction::ChosenImage { .. } => {
            matches!(state.as_str(), "UpgradingNodeImageVersion" | "Upgrading" | "Updating")
        }
    }
}

/// Whether the cluster shows a cluster-level operation that brings this version.
pub(super) fn cluster_moves_towards(cluster: &ManagedCluster, version: &str) -> bool {
    let ProvisioningState::Busy(state) = &cluster.provisioning_state else { return false };
    matches!(state.as_str(), "Upgrading" | "Updating") && requests(cluster.kubernetes_version.as_deref(), version)
}

fn requests(requested: Option<&str>, version: &str) -> bool {
    version.parse().is_ok_and(|version| requested.is_some_and(|requested| asks_for(requested, version)))
}

fn running(index: usize, step: &Step, operation_url: Option<String>, since: Timestamp) -> Judgement {
    Judgement::Running(Watch { step: Some(index), pool: step.action.pool().map(str::to_owned), operation_url, since })
}

fn by_state(index: usize, step: &Step, cluster: &ManagedCluster, started: bool, since: Timestamp) -> Judgement {
    let (state, error, reached, ours) = match &step.action {
        UpgradeAction::ControlPlane { kubernetes_version } | UpgradeAction::Cluster { kubernetes_version, .. } => (
            &cluster.provisioning_state,
            &cluster.provisioning_error,
            kubernetes_version.parse().is_ok_and(|wanted| cluster.version() >= Some(wanted)),
            cluster_moves_towards(cluster, kubernetes_version),
        ),
        action => {
            // A pool that somebody deleted needs no upgrade.
            let Some(pool) = action.pool().and_then(|name| cluster.pool(name)) else { return Judgement::Done };
            (
                &pool.provisioning_state,
                &pool.provisioning_error,
                reached(pool, action),
                pool_moves_towards(pool, action),
            )
        }
    };
    let unchanged = Fingerprint::of(&step.action, cluster) == step.before;
    match state {
        ProvisioningState::Busy(_) if started || ours => running(index, step, None, since),
        // Somebody else's operation: ours is not under way.
        ProvisioningState::Busy(_) => Judgement::NotBegun,
        ProvisioningState::Succeeded if reached => Judgement::Done,
        // AKS took the call and did what it could: its newest image is older than the one we knew of.
        ProvisioningState::Succeeded if started && matches!(step.action, UpgradeAction::NewestImage { .. }) => {
            Judgement::Done
        }
        ProvisioningState::Succeeded if started => Judgement::Failed(ErrorDetail::new(
            "UpgradeWithoutEffect",
            format!("AKS accepted the call to move the {}, but nothing has changed.", step.action),
        )),
        ProvisioningState::Succeeded => Judgement::NotBegun,
        ProvisioningState::Failed | ProvisioningState::Canceled if unchanged && !started => Judgement::NotBegun,
        ProvisioningState::Failed | ProvisioningState::Canceled => {
            Judgement::Failed(error.clone().unwrap_or_else(|| {
                ErrorDetail::new(
                    state.as_str().to_owned(),
                    format!("AKS shows the provisioning state {} after moving the {}.", state.as_str(), step.action),
                )
            }))
        }
    }
}

fn reached(pool: &AgentPool, action: &UpgradeAction) -> bool {
    match action {
        UpgradeAction::ControlPlane { .. } | UpgradeAction::Cluster { .. } => false,
        UpgradeAction::PoolVersion { kubernetes_version, .. } => {
            kubernetes_version.parse().is_ok_and(|wanted| pool.version() >= Some(wanted))
        }
        UpgradeAction::NewestImage { image, .. } | UpgradeAction::ChosenImage { image, .. } => {
            pool.image.as_ref().is_some_and(|current| current.is_at_least(image))
        }
    }
}
