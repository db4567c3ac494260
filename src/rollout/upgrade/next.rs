//! The decision: judge what was begun, then plan what is left.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Begin, Goal, Next, Outcome, Upgrade, WaitsFor, Watch,
    judge::{Judgement, cluster_moves_towards, judge, pool_moves_towards},
    plan::{Plan, plan, target},
    stop::Stop,
};
use crate::{
    arm::ErrorDetail,
    model::managed_cluster::{Catalogue, ManagedCluster, Subject, UpgradeAction},
};

/// What to do next on a cluster, from the record of the attempt, the cluster as read just now, the goal, and what its
/// region offers. Pure: the same arguments give the same answer.
#[must_use]
pub fn next(upgrade: &Upgrade, cluster: &ManagedCluster, goal: &Goal, catalogue: &Catalogue, now: Timestamp) -> Next {
    let judged: Vec<Judgement> =
        upgrade.steps.iter().enumerate().map(|(index, step)| judge(index, step, cluster)).collect();
    let mut running: Vec<Watch> = Vec::new();
    let mut failure: Option<&ErrorDetail> = None;
    let mut done: BTreeSet<Subject<'_>> = BTreeSet::new();
    for (step, judgement) in upgrade.steps.iter().zip(&judged) {
        match judgement {
            Judgement::Running(watch) => running.push(watch.clone()),
            Judgement::Failed(error) => failure = failure.or(Some(error)),
            Judgement::Done => _ = done.insert(step.action.subject()),
            Judgement::NotBegun => {}
        }
    }
    if let Some(error) = failure {
        // What is in flight is not cancelled; nothing new begins.
        return if running.is_empty() { failed(as_upgrade_failure(error)) } else { Next::Follow(running) };
    }
    let begun = !running.is_empty() || !done.is_empty();
    if !begun && cluster.node_auto_provisioning && goal.moves_pools() {
        return Next::Done(Outcome::Skipped {
            message: "Clusters with node auto-provisioning support upgrades of type ControlPlaneOnly only.".to_owned(),
        });
    }
    if cluster.is_busy() || running.iter().any(|watch| watch.pool.is_none()) {
        return wait_for_cluster(running, upgrade, cluster, goal, catalogue, now);
    }
    match plan(upgrade, &done, cluster, goal, catalogue, now) {
        Ok(plan) => act(plan, running, begun, upgrade, cluster, goal, catalogue, now),
        Err(_) if !running.is_empty() => Next::Follow(running),
        Err(Stop::Pending(error)) => Next::Blocked { error, waits_for: WaitsFor::Offer },
        Err(Stop::Failed(error)) => failed(error),
        Err(Stop::Skipped(message)) => Next::Done(Outcome::Skipped { message }),
    }
}

/// While a cluster-level operation is under way, versions already show the target: nothing is planned from them.
fn wait_for_cluster(
    running: Vec<Watch>,
    upgrade: &Upgrade,
    cluster: &ManagedCluster,
    goal: &Goal,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Next {
    if !running.is_empty() {
        return Next::Follow(running);
    }
    match target(upgrade, cluster, goal, catalogue) {
        Ok(Some(version)) if cluster_moves_towards(cluster, &version.to_string()) => {
            Next::Follow(vec![Watch { step: None, pool: None, operation_url: None, since: now }])
        }
        _ => busy("the cluster", cluster.provisioning_state.as_str()),
    }
}

#[expect(clippy::too_many_arguments, reason = "the arguments of `next`, and what it found out")]
fn act(
    plan: Plan,
    mut running: Vec<Watch>,
    begun: bool,
    upgrade: &Upgrade,
    cluster: &ManagedCluster,
    goal: &Goal,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Next {
    let (mut actions, mut later) = (Vec::new(), 0);
    let mut in_the_way = None;
    if let Some(control_plane) = plan.control_plane {
        // A cluster-level operation overlaps no operation of a pool.
        in_the_way = cluster.pools.iter().find(|pool| pool.provisioning_state.is_busy());
        if in_the_way.is_none() {
            let alone = !matches!(control_plane, UpgradeAction::Cluster { .. });
            later = if alone { u32::try_from(plan.pools.len()).unwrap_or(u32::MAX) } else { 0 };
            actions.push(control_plane);
        }
    } else {
        for action in plan.pools {
            let Some(pool) = action.pool().and_then(|name| cluster.pool(name)) else { continue };
            if running.iter().any(|watch| watch.pool.as_deref() == Some(&pool.name)) {
                continue;
            }
            if !pool.provisioning_state.is_busy() {
                actions.push(action);
            } else if pool_moves_towards(pool, &action) {
                running.push(Watch { step: None, pool: Some(pool.name.clone()), operation_url: None, since: now });
            } else {
                in_the_way = in_the_way.or(Some(pool));
            }
        }
    }
    if !actions.is_empty() && !cluster.stopped {
        let version = target(upgrade, cluster, goal, catalogue).ok().flatten();
        let kubernetes_version = version.map(|version| version.to_string());
        return Next::Begin(Begin { kubernetes_version, actions, later, first: !begun });
    }
    if !running.is_empty() {
        return Next::Follow(running);
    }
    if !actions.is_empty() {
        return failed(ErrorDetail::new(
            "ClusterStopped",
            "The cluster is stopped, and AKS upgrades running clusters only. Start the cluster, then start the update run again, or skip the member.",
        ));
    }
    if let Some(pool) = in_the_way {
        return busy(&format!("agent pool '{}'", pool.name), pool.provisioning_state.as_str());
    }
    let notes: Vec<String> = plan
        .left
        .iter()
        .filter(|(part, _)| !upgrade.steps.iter().any(|step| step.moved(part.as_deref())))
        .map(|(part, why)| match part {
            None => format!("control plane {why}"),
            Some(pool) => format!("agent pool '{pool}' {why}"),
        })
        .collect();
    let notes = notes.join("; ");
    Next::Done(match (begun, notes.as_str()) {
        (true, "") => Outcome::Completed { message: None },
        (true, _) => Outcome::Completed { message: Some(format!("Left as it was: {notes}.")) },
        (false, "") => Outcome::Skipped { message: "The cluster has no agent pools.".to_owned() },
        (false, _) => Outcome::Skipped { message: format!("Nothing to upgrade: {notes}.") },
    })
}

fn busy(part: &str, state: &str) -> Next {
    let message = format!("AKS is busy with another operation on {part} (provisioning state {state}).");
    Next::Blocked { error: ErrorDetail::new("ClusterOperationInProgress", message), waits_for: WaitsFor::Cluster }
}

fn failed(error: ErrorDetail) -> Next {
    Next::Done(Outcome::Failed { error })
}

/// AKS's code and message inside ours; errors that are the fleet manager's own already stay as they are.
fn as_upgrade_failure(error: &ErrorDetail) -> ErrorDetail {
    match error.code.as_ref() {
        "UpgradeFailed" | "ClusterNotFound" | "ClusterPermissionDenied" => error.clone(),
        code => {
            let cause = format!("The upgrade failed in AKS: {code}: {}", error.message);
            let end = if cause.ends_with('.') { "" } else { "." };
            let message =
                format!("{cause}{end} Correct the cause, then start the update run again, or skip the member.");
            ErrorDetail::new("UpgradeFailed", message).with(error.clone())
        }
    }
}
