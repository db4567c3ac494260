//! What is left to do on an idle cluster, and whether AKS's rules allow it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Goal, StepState, Upgrade,
    images::{PoolAt, Wanted, wanted},
    stop::Stop,
};
use crate::{
    arm::ErrorDetail,
    model::{
        managed_cluster::{AgentPool, Catalogue, ManagedCluster, Subject, UpgradeAction},
        version::{KubernetesVersion, RequestedVersion},
    },
};

/// How many minor versions an agent pool may be behind its control plane (AKS, from 1.28 on).
const POOL_SKEW: u32 = 3;

/// What is left to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// First, alone.
    pub(super) control_plane: Option<UpgradeAction>,
    /// Then, side by side.
    pub(super) pools: Vec<UpgradeAction>,
    /// What is left alone, and why: the control plane (`None`) and pools.
    pub(super) left: Vec<(Option<String>, String)>,
}

/// The Kubernetes version to move to: frozen, or resolved now. `None` when the goal has none.
pub(super) fn target(
    upgrade: &Upgrade,
    cluster: &ManagedCluster,
    goal: &Goal,
    catalogue: &Catalogue,
) -> Result<Option<KubernetesVersion>, Stop> {
    if !goal.moves_version() {
        return Ok(None);
    }
    if let Some(frozen) = upgrade.kubernetes_version.as_deref().and_then(|text| text.parse().ok()) {
        return Ok(Some(frozen));
    }
    match goal.version {
        None => Err(Stop::Failed(ErrorDetail::new("InvalidParameter", "The run names no Kubernetes version."))),
        Some(RequestedVersion::Exact(version)) => Ok(Some(version)),
        Some(RequestedVersion::NewestPatch { major, minor }) => {
            newest_patch((major, minor), cluster, goal, catalogue).map(Some)
        }
    }
}

/// The newest patch of a minor version: of those that the region offers, and of the control plane's own when it has that minor
/// version. A cluster all of which is at or past the minor version needs no offer of it.
fn newest_patch(
    (major, minor): (u32, u32),
    cluster: &ManagedCluster,
    goal: &Goal,
    catalogue: &Catalogue,
) -> Result<KubernetesVersion, Stop> {
    let own = cluster.version();
    let present = own.filter(|own| (own.major, own.minor) == (major, minor));
    let offered = catalogue.newest_patch(major, minor, cluster.long_term_support);
    if let Some(newest) = offered.max(present) {
        return Ok(newest);
    }
    let first = KubernetesVersion { major, minor, patch: 0 };
    let pool_lags = |pool: &AgentPool| !pool.stopped && pool.version().is_some_and(|version| version < first);
    let pools_lag = goal.moves_pools() && cluster.pools.iter().any(pool_lags);
    if own.is_some_and(|own| own > first) && !pools_lag {
        return Ok(first);
    }
    match catalogue.newest_patch(major, minor, true) {
        Some(long_term) => Err(long_term_support_needed(long_term)),
        None => Err(not_offered(&format!("{major}.{minor}"), cluster)),
    }
}

pub(super) fn plan(
    upgrade: &Upgrade,
    done: &BTreeSet<Subject<'_>>,
    cluster: &ManagedCluster,
    goal: &Goal,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Result<Plan, Stop> {
    let target = target(upgrade, cluster, goal, catalogue)?;
    let mut plan = Plan::default();
    if let Some(target) = target {
        plan.control_plane = control_plane(target, done, cluster, goal, catalogue)?;
        if plan.control_plane.is_none() {
            plan.left.push((None, format!("is at Kubernetes {}", shown(cluster.version()))));
        }
    }
    if goal.moves_pools() {
        let begun = upgrade.steps.iter().any(|step| step.state != StepState::Withdrawn);
        for pool in &cluster.pools {
            match pool_actions(target, done, pool, goal, catalogue, now)? {
                Part::Act(action) => plan.pools.push(action),
                Part::Leave(why) => plan.left.push((Some(pool.name.clone()), why)),
                Part::NoneForFamily(family) if !begun => {
                    return Err(Stop::Skipped(format!(
                        "The run has no consistent node image of family {family}, which agent pool '{}' needs.",
                        pool.name
                    )));
                }
                Part::NoneForFamily(family) => {
                    let why = format!("has node image family {family}, for which the run has no consistent image");
                    plan.left.push((Some(pool.name.clone()), why));
                }
            }
        }
    }
    if cluster.auto_upgrade {
        plan.control_plane = plan.control_plane.map(|action| with_pools(action, &plan.pools));
    }
    Ok(plan)
}

/// Where auto-upgrade is on, AKS moves the control plane only together with pools. Pools that are to have a chosen image
/// follow on their own; with no pool to move along, AKS will say so itself.
fn with_pools(control_plane: UpgradeAction, pools: &[UpgradeAction]) -> UpgradeAction {
    let along: Vec<String> = pools
        .iter()
        .filter_map(|action| match action {
            UpgradeAction::PoolVersion { pool, image: None, .. } => Some(pool.clone()),
            _ => None,
        })
        .collect();
    match control_plane {
        UpgradeAction::ControlPlane { kubernetes_version } if !along.is_empty() => {
            UpgradeAction::Cluster { kubernetes_version, pools: along }
        }
        alone => alone,
    }
}

fn control_plane(
    target: KubernetesVersion,
    done: &BTreeSet<Subject<'_>>,
    cluster: &ManagedCluster,
    goal: &Goal,
    catalogue: &Catalogue,
) -> Result<Option<UpgradeAction>, Stop> {
    let Some(current) = cluster.version() else {
        return Err(Stop::Failed(ErrorDetail::new(
            "UpgradeFailed",
            format!(
                "The cluster's Kubernetes version '{}' cannot be read.",
                shown(cluster.kubernetes_version.as_ref())
            ),
        )));
    };
    let begun = done.contains(&Subject::ControlPlane);
    let action = UpgradeAction::ControlPlane { kubernetes_version: target.to_string() };
    if current > target || (current == target && (begun || !cluster.provisioning_state.has_failed())) {
        return Ok(None);
    }
    if current == target {
        // The version reads as the target, but its operation failed: AKS reconciles when told the same again.
        return Ok(Some(action));
    }
    if begun {
        return Err(without_effect(&action, shown(Some(current))));
    }
    let Some(offer) = catalogue.offer(target) else { return Err(not_offered(&target.to_string(), cluster)) };
    if offer.long_term_only && !cluster.long_term_support {
        return Err(long_term_support_needed(target));
    }
    let next_minor = target.major == current.major && target.minor <= current.minor + 1;
    let long_term_jump =
        cluster.long_term_support && catalogue.offer(current).is_some_and(|present| present.upgrades.contains(&target));
    if !next_minor && !long_term_jump && goal.skips_far_clusters {
        return Err(Stop::Skipped(format!(
            "The cluster is at Kubernetes {current}, more than one minor version behind {target}: auto-upgrade does not move it. Use a manual update run to {}.{} first.",
            current.major,
            current.minor + 1
        )));
    }
    if !next_minor && !long_term_jump {
        return Err(Stop::Failed(ErrorDetail::new(
            "KubernetesVersionSkipped",
            format!(
                "The control plane is at Kubernetes {current} and cannot skip minor versions to {target}. Upgrade the control plane to {}.{} first, then start the update run again.",
                current.major,
                current.minor + 1
            ),
        )));
    }
    let old = cluster.pools.iter().find(|pool| pool.version().is_some_and(|v| v.minor + POOL_SKEW < target.minor));
    if let Some(pool) = old {
        return Err(Stop::Failed(ErrorDetail::new(
            "AgentPoolVersionTooOld",
            format!(
                "Agent pool '{}' is at Kubernetes {} and may be at most {POOL_SKEW} minor versions behind a control plane at {target}. Upgrade the pool first, then start the update run again.",
                pool.name,
                shown(pool.version())
            ),
        )));
    }
    Ok(Some(action))
}

enum Part {
    Act(UpgradeAction),
    Leave(String),
    NoneForFamily(String),
}

fn pool_actions(
    target: Option<KubernetesVersion>,
    done: &BTreeSet<Subject<'_>>,
    pool: &AgentPool,
    goal: &Goal,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Result<Part, Stop> {
    if pool.stopped {
        return Ok(Part::Leave(unchanged("is stopped", target, pool)));
    }
    let name = pool.name.clone();
    let begun = |subject| done.contains(&subject);
    let moves_to = target.filter(|target| lags(pool, *target, begun(Subject::PoolVersion(&pool.name))));
    let at = PoolAt { pool, version: moves_to.or_else(|| pool.version()), moves: moves_to.is_some() };
    let wanted = match wanted(goal, at, catalogue, now)? {
        Wanted::Leave(why) => return Ok(Part::Leave(unchanged(why, target, pool))),
        Wanted::NoneForFamily(family) => return Ok(Part::NoneForFamily(family)),
        other => other,
    };
    if let Some(target) = moves_to {
        let (image, snapshot) = match wanted {
            Wanted::Chosen(image, snapshot) => (Some(image), snapshot),
            _ => (None, None),
        };
        let action = UpgradeAction::PoolVersion { pool: name, kubernetes_version: target.to_string(), image, snapshot };
        if begun(action.subject()) {
            return Err(without_effect(&action, shown(pool.version())));
        }
        return Ok(Part::Act(action));
    }
    let at_target = || {
        let image = shown(pool.image.as_ref());
        match target {
            Some(_) => {
                format!("is at or ahead of the target with Kubernetes {} and node image {image}", shown(pool.version()))
            }
            None => format!("is at or ahead of the target with node image {image}"),
        }
    };
    Ok(match wanted {
        _ if begun(Subject::PoolImage(&pool.name)) => Part::Leave(at_target()),
        Wanted::Newest(image) => Part::Act(UpgradeAction::NewestImage { pool: name, image }),
        Wanted::Chosen(image, snapshot) => Part::Act(UpgradeAction::ChosenImage { pool: name, image, snapshot }),
        Wanted::Unknown if target.is_none() => Part::Leave("has no newest node image that AKS names".to_owned()),
        _ => Part::Leave(at_target()),
    })
}

/// Whether a pool is moved to a version: it is behind, or reads as if it were there after an operation that failed and that was
/// not `redone` in this attempt.
pub(super) fn lags(pool: &AgentPool, target: KubernetesVersion, redone: bool) -> bool {
    pool.version().is_some_and(|version| {
        version < target || (version == target && pool.provisioning_state.has_failed() && !redone)
    })
}

/// Returns why a pool is not upgraded, with its Kubernetes version if that stays behind the target.
fn unchanged(why: &str, target: Option<KubernetesVersion>, pool: &AgentPool) -> String {
    match pool.version().filter(|version| target.is_some_and(|target| *version < target)) {
        Some(version) => format!("{why} and stays at Kubernetes {version}"),
        None => why.to_owned(),
    }
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

fn without_effect(action: &UpgradeAction, at: String) -> Stop {
    Stop::Failed(ErrorDetail::new(
        "UpgradeFailed",
        format!("AKS reported success in moving the {action}, but AKS shows {at}. Start the update run again."),
    ))
}

fn not_offered(version: &str, cluster: &ManagedCluster) -> Stop {
    Stop::Pending(ErrorDetail::new(
        "KubernetesVersionNotAvailable",
        format!("Kubernetes {version} is not available in region '{}'.", cluster.location),
    ))
}

fn long_term_support_needed(version: KubernetesVersion) -> Stop {
    Stop::Failed(ErrorDetail::new(
        "LongTermSupportNotEnabled",
        format!(
            "Kubernetes {version} is offered under long-term support only, which the cluster has not enabled. Enable it on the cluster, then start the update run again, or create an update run with another version."
        ),
    ))
}
