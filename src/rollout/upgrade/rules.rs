//! The rules one by one.

use super::{
    simulation::{at, catalogue, cluster, pool},
    *,
};
use crate::model::{
    managed_cluster::{NodePoolSnapshot, ProvisioningState, RecentlyUsed},
    update_run::ManagedClusterUpgradeType::{self, ControlPlaneOnly, Full, NodeImageOnly},
};

const NEW: &str = "U-202510.29.0";
const OLD: &str = "U-202508.20.1";

fn goal(upgrade_type: ManagedClusterUpgradeType, version: Option<&str>, images: ImageGoal) -> Goal {
    let version = version.map(|text| text.parse().unwrap());
    let when_image_unavailable = WhenImageUnavailable::Fail;
    Goal { upgrade_type, version, images, when_image_unavailable, skips_far_clusters: false }
}

fn full(version: &str) -> Goal {
    goal(Full, Some(version), ImageGoal::Latest)
}

fn first(cluster: &ManagedCluster, goal: &Goal) -> Next {
    next(&Upgrade::default(), cluster, goal, &catalogue(), at())
}

fn snapshot(version: &str, image: &str, vm_size: &str) -> NodePoolSnapshot {
    NodePoolSnapshot {
        id: format!("/subscriptions/s/snapshots/fleet-manager-{version}-{vm_size}"),
        kubernetes_version: version.parse().unwrap(),
        image: NodeImage::new(image),
        vm_size: vm_size.to_owned(),
    }
}

fn busy(state: &str) -> ProvisioningState {
    ProvisioningState::Busy(state.to_owned())
}

/// `Failed`, `Blocked` or `Skipped` with a code or a message.
fn said(next: Next) -> String {
    match next {
        Next::Done(Outcome::Failed { error }) => format!("Failed {}: {}", error.code, error.message),
        Next::Done(Outcome::Skipped { message }) => format!("Skipped {message}"),
        Next::Done(Outcome::Completed { message }) => format!("Completed {}", message.unwrap_or_default()),
        Next::Blocked { error, .. } => format!("Blocked {}: {}", error.code, error.message),
        Next::Follow(watches) => format!("Follow {:?}", watches.iter().map(|w| w.pool.clone()).collect::<Vec<_>>()),
        Next::Begin(begin) => begin.actions.iter().map(|a| format!("Begin {a}")).collect::<Vec<_>>().join(", "),
    }
}

#[track_caller]
fn says(next: Next, parts: &[&str]) {
    let said = said(next);
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn control_plane_first_then_pools_together() {
    let mut seen =
        cluster("1.32.7", vec![pool("a", "1.32.7", OLD), pool("b", "1.31.4", OLD), pool("c", "1.33.2", NEW)]);
    says(first(&seen, &full("1.33.2")), &["Begin control plane to Kubernetes 1.33.2"]);
    seen.kubernetes_version = Some("1.33.2".to_owned());
    seen.current_kubernetes_version = Some("1.33.2".to_owned());
    says(first(&seen, &full("1.33.2")), &["Begin agent pool 'a' to Kubernetes 1.33.2, Begin agent pool 'b'"]);
    says(first(&seen, &goal(ControlPlaneOnly, Some("1.33.2"), ImageGoal::Latest)), &["Skipped", "control plane is at"]);
}

#[test]
fn at_the_version_with_an_older_image() {
    let seen = cluster("1.33.5", vec![pool("a", "1.33.5", OLD), pool("b", "1.33.5", NEW)]);
    let Next::Begin(begin) = first(&seen, &full("1.33")) else { panic!() };
    assert_eq!(begin.kubernetes_version.as_deref(), Some("1.33.5"));
    assert_eq!(begin.actions, [UpgradeAction::NewestImage { pool: "a".to_owned(), image: NodeImage::new(NEW) }]);
    // What was left alone is named at the end.
    let mut upgrade = Upgrade::default();
    let steps = upgrade.intend(&begin, &seen, at());
    upgrade.started(steps[0], Some("u".to_owned()), Some("id".to_owned()), at());
    assert_eq!(upgrade.operation_id(), Some("id"));
    upgrade.ended(steps[0], Ok(()));
    let seen = cluster("1.33.5", vec![pool("a", "1.33.5", NEW), pool("b", "1.33.5", NEW)]);
    let end = next(&upgrade, &seen, &full("1.33"), &catalogue(), at());
    says(end, &["Completed", "agent pool 'b' is at or ahead", NEW]);
}

#[test]
fn a_minor_version_is_frozen_at_the_start() {
    let seen = cluster("1.32.5", vec![]);
    let Next::Begin(begin) = first(&seen, &full("1.33")) else { panic!() };
    assert_eq!(begin.kubernetes_version.as_deref(), Some("1.33.5"));
    let mut upgrade = Upgrade::default();
    upgrade.intend(&begin, &seen, at());
    let mut later = catalogue();
    later.versions.push(crate::model::managed_cluster::OfferedVersion {
        version: "1.33.9".parse().unwrap(),
        ..later.versions[0].clone()
    });
    says(next(&upgrade, &seen, &full("1.33"), &later, at()), &["Begin control plane to Kubernetes 1.33.5"]);
}

#[test]
fn pools_behind_a_newer_control_plane_are_raised_to_the_minor_version_asked_for() {
    let seen = cluster("1.34.1", vec![pool("a", "1.32.7", OLD), pool("b", "1.33.2", NEW), pool("c", "1.34.1", NEW)]);
    let Next::Begin(begin) = first(&seen, &full("1.33")) else { panic!() };
    assert_eq!(begin.kubernetes_version.as_deref(), Some("1.33.5"));
    says(Next::Begin(begin), &["Begin agent pool 'a' to Kubernetes 1.33.5, Begin agent pool 'b' to Kubernetes 1.33.5"]);
    // A patch that the region no longer offers is kept, as nothing is moved back.
    let seen = cluster("1.33.7", vec![pool("a", "1.32.7", OLD)]);
    says(first(&seen, &full("1.33")), &["Begin agent pool 'a' to Kubernetes 1.33.7"]);
    // The region offers no patch of the minor version any more.
    let behind = cluster("1.34.1", vec![pool("a", "1.27.3", OLD)]);
    says(first(&behind, &full("1.28")), &["Blocked KubernetesVersionNotAvailable", "1.28"]);
    says(first(&behind, &goal(ControlPlaneOnly, Some("1.28"), ImageGoal::Latest)), &["Skipped", "1.34.1"]);
    says(first(&behind, &full("1.29")), &["Failed LongTermSupportNotEnabled"]);
    says(first(&cluster("1.34.1", vec![pool("a", "1.28.0", NEW)]), &full("1.28")), &["Skipped", "1.28.0"]);
}

#[test]
fn versions_that_cannot_be_moved_to() {
    says(first(&cluster("1.31.4", vec![]), &full("1.33.2")), &["Failed KubernetesVersionSkipped", "1.31.4", "1.33.2"]);
    let automatic = full("1.33.2").of_auto_upgrade();
    says(first(&cluster("1.31.4", vec![]), &automatic), &["Skipped", "more than one minor version behind", "1.31.4"]);
    says(first(&cluster("1.32.7", vec![]), &automatic), &["Begin control plane"]);
    says(first(&cluster("1.32.7", vec![]), &full("1.33.4")), &["Blocked KubernetesVersionNotAvailable", "1.33.4"]);
    says(first(&cluster("1.33.2", vec![]), &full("1.34")), &["Blocked KubernetesVersionNotAvailable", "1.34"]);
    says(first(&cluster("1.28.3", vec![]), &full("1.29")), &["Failed LongTermSupportNotEnabled"]);
    says(
        first(&cluster("1.32.7", vec![pool("a", "1.29.9", OLD)]), &full("1.33.2")),
        &["Failed AgentPoolVersionTooOld", "'a'"],
    );
    says(first(&cluster("1.33.5", vec![]), &full("1.32.7")), &["Skipped", "1.33.5"]);
    says(first(&cluster("1.33.5", vec![]), &full("1.30")), &["Skipped"]);
}

#[test]
fn operations_of_others_are_waited_for_or_followed() {
    let mut seen = cluster("1.32.7", vec![pool("a", "1.32.7", OLD)]);
    seen.provisioning_state = busy("Scaling");
    says(first(&seen, &full("1.33.2")), &["Blocked ClusterOperationInProgress", "Scaling"]);
    seen.provisioning_state = busy("Upgrading");
    says(first(&seen, &full("1.33.2")), &["Blocked ClusterOperationInProgress"]);
    seen.kubernetes_version = Some("1.33.2".to_owned());
    seen.current_kubernetes_version = Some("1.33.2".to_owned());
    says(first(&seen, &full("1.33.2")), &["Follow [None]"]);

    let mut seen = cluster("1.32.7", vec![pool("a", "1.32.7", OLD), pool("b", "1.32.7", OLD)]);
    seen.pools[0].provisioning_state = busy("Scaling");
    says(
        first(&seen, &full("1.33.2")),
        &["Blocked ClusterOperationInProgress", "agent pool 'a' (provisioning state Scaling)"],
    );
    let images = goal(NodeImageOnly, None, ImageGoal::Latest);
    says(first(&seen, &images), &["Begin agent pool 'b'"]);
    seen.pools[1].provisioning_state = busy("UpgradingNodeImageVersion");
    says(first(&seen, &images), &[r#"Follow [Some("b")]"#]);
}

#[test]
fn clusters_that_cannot_be_upgraded() {
    let mut seen = cluster("1.32.7", vec![pool("a", "1.32.7", OLD)]);
    seen.stopped = true;
    says(first(&seen, &full("1.33.2")), &["Failed ClusterStopped"]);
    says(first(&seen, &full("1.31")), &["Failed ClusterStopped"]);
    says(first(&seen, &goal(ControlPlaneOnly, Some("1.31"), ImageGoal::Latest)), &["Skipped"]);
    seen.stopped = false;
    seen.node_auto_provisioning = true;
    says(first(&seen, &full("1.33.2")), &["Skipped", "auto-provisioning"]);
    says(first(&seen, &goal(NodeImageOnly, None, ImageGoal::Latest)), &["Skipped", "auto-provisioning"]);
    says(first(&seen, &goal(ControlPlaneOnly, Some("1.33.2"), ImageGoal::Latest)), &["Begin control plane"]);
}

#[test]
fn chosen_images() {
    let seen = cluster("1.32.7", vec![pool("a", "1.32.7", OLD)]);
    let custom = |image: &str| goal(NodeImageOnly, None, ImageGoal::Custom(vec![NodeImage::new(image)]));
    let consistent = |image: &str| goal(NodeImageOnly, None, ImageGoal::Consistent(vec![NodeImage::new(image)]));
    says(first(&seen, &custom("U-202511.05.0")), &["Blocked NodeImageVersionNotAvailable", "U-202511.05.0"]);
    says(first(&seen, &custom("X-202510.29.0")), &["Skipped", "not listed"]);
    says(first(&seen, &consistent("X-202510.29.0")), &["Skipped", "family U", "'a'"]);
    says(first(&seen, &custom("U-202507.01.0")), &["Skipped", "at or ahead"]);
    let chosen = NodeImage::new("U-202509.11.0");
    let goal = consistent(chosen.as_str());
    let begun = |catalogue: &_| next(&Upgrade::default(), &seen, &goal, catalogue, at());
    says(begun(&catalogue()), &["Failed NodeImageVersionUnavailable", "newest image is U-202510.29.0"]);
    let newest = Goal { when_image_unavailable: WhenImageUnavailable::Newest, ..goal.clone() };
    says(first(&seen, &newest), &["Begin agent pool 'a' to node image U-202510.29.0"]);

    let used = |version: &str| RecentlyUsed { kubernetes_version: version.parse().ok(), image: chosen.clone() };
    let mut ran = catalogue();
    ran.recently_used.insert("a".to_owned(), vec![used("1.32.5")]);
    says(begun(&ran), &["Failed NodeImageVersionUnavailable"]);
    ran.recently_used.insert("a".to_owned(), vec![used("1.32.5"), used("1.32.7")]);
    let Next::Begin(begin) = begun(&ran) else { panic!() };
    let image = chosen.clone();
    assert_eq!(begin.actions, [UpgradeAction::ChosenImage { pool: "a".to_owned(), image, snapshot: None }]);

    let mut kept = catalogue();
    for (version, vm_size) in [("1.32.5", "Standard_D8s_v5"), ("1.32.7", "Standard_NC6s_v3")] {
        kept.snapshots.push(snapshot(version, chosen.as_str(), vm_size));
        says(begun(&kept), &["Failed NodeImageVersionUnavailable"]);
    }
    kept.snapshots.push(snapshot("1.32.7", chosen.as_str(), "Standard_D8s_v5"));
    let Next::Begin(begin) = begun(&kept) else { panic!() };
    let (image, snapshot) = (chosen.clone(), Some(kept.snapshots[2].id.clone()));
    assert_eq!(begin.actions, [UpgradeAction::ChosenImage { pool: "a".to_owned(), image, snapshot }]);

    let ancient = cluster("1.32.7", vec![pool("a", "1.32.7", "U-2022.10.24")]);
    says(first(&ancient, &custom("U-202505.01.0")), &["Failed NodeImageVersionExpired", "U-202505.01.0"]);
    let much_later = "2027-01-01T00:00:00Z".parse().unwrap();
    let Next::Begin(_) = next(&Upgrade::default(), &seen, &custom(NEW), &catalogue(), much_later) else {
        panic!("where nothing newer is published, nothing expires")
    };
}

#[test]
fn images_of_auto_upgrade_are_the_least_that_is_wanted() {
    let seen = cluster("1.32.7", vec![pool("a", "1.32.7", OLD)]);
    let custom = |image: &str| goal(NodeImageOnly, None, ImageGoal::Custom(vec![NodeImage::new(image)]));
    let mut strict = catalogue();
    let passed_over = custom("U-202509.11.0");
    says(next(&Upgrade::default(), &seen, &passed_over, &strict, at()), &["Failed NodeImageVersionUnavailable"]);
    let Next::Begin(begin) = next(&Upgrade::default(), &seen, &passed_over.clone().of_auto_upgrade(), &strict, at())
    else {
        panic!("the newest takes the place of what AKS does not set any more")
    };
    assert_eq!(begin.actions, [UpgradeAction::NewestImage { pool: "a".to_owned(), image: NodeImage::new(NEW) }]);
    let version = "1.32.7".parse().ok();
    let used = RecentlyUsed { kubernetes_version: version, image: NodeImage::new("U-202509.11.0") };
    strict.recently_used.insert("a".to_owned(), vec![used]);
    let begun = next(&Upgrade::default(), &seen, &passed_over.clone().of_auto_upgrade(), &strict, at());
    says(begun, &["Begin agent pool 'a' to node image U-202509.11.0"]);

    let ancient = cluster("1.32.7", vec![pool("a", "1.32.7", "U-2022.10.24")]);
    says(first(&ancient, &custom("U-202505.01.0").of_auto_upgrade()), &["Begin agent pool 'a'", NEW]);
    says(
        first(&seen, &custom("U-202511.05.0").of_auto_upgrade()),
        &["Blocked NodeImageVersionNotAvailable", "U-202511.05.0"],
    );
    says(first(&seen, &custom("X-202510.29.0").of_auto_upgrade()), &["Skipped", "not listed"]);
    says(first(&seen, &custom(OLD).of_auto_upgrade()), &["Skipped", "at or ahead"]);
}

#[test]
fn chosen_images_go_along_with_a_version() {
    let mut seen = cluster("1.33.2", vec![pool("a", "1.32.7", OLD), pool("b", "1.32.7", "U-202509.11.0")]);
    let chosen = || ImageGoal::Consistent(vec![NodeImage::new("U-202509.11.0")]);
    says(first(&seen, &goal(Full, Some("1.33.2"), chosen())), &["Failed NodeImageVersionUnavailable"]);
    let mut catalogue = catalogue();
    let kept = snapshot("1.33.2", "U-202509.11.0", "Standard_D2s_v5");
    catalogue.snapshots = vec![snapshot("1.32.7", "U-202509.11.0", "Standard_D2s_v5"), kept.clone()];
    let first = |seen: &_, goal: &_| next(&Upgrade::default(), seen, goal, &catalogue, at());
    let Next::Begin(begin) = first(&seen, &goal(Full, Some("1.33.2"), chosen())) else { panic!() };
    let by_snapshot = |action: &UpgradeAction| matches!(action, UpgradeAction::PoolVersion { snapshot: Some(id), .. } if *id == kept.id);
    assert!(begin.actions.iter().all(by_snapshot), "{begin:?}");
    let said = said(first(&seen, &goal(Full, Some("1.33.2"), chosen())));
    assert_eq!(said.matches("to Kubernetes 1.33.2 with node image U-202509.11.0").count(), 2, "{said}");
    // Latest leaves a pool that is bound to a snapshot alone; the other choices release it.
    seen.pools[0].from_snapshot = true;
    let Next::Begin(begin) = first(&seen, &full("1.33.2")) else { panic!() };
    assert!(begin.actions.iter().all(|action| action.pool() == Some("b")));
    let Next::Begin(begin) = first(&seen, &goal(Full, Some("1.33.2"), chosen())) else { panic!() };
    assert_eq!(begin.actions.len(), 2);
}

#[test]
fn a_pool_that_stays_behind_the_target_is_named_with_its_version() {
    let mut seen = cluster("1.33.2", vec![pool("a", "1.32.7", OLD)]);
    seen.pools[0].from_snapshot = true;
    says(first(&seen, &full("1.33.2")), &["'a' is bound to a node pool snapshot", "stays at Kubernetes 1.32.7"]);
    seen.pools[0].from_snapshot = false;
    seen.pools[0].stopped = true;
    says(first(&seen, &full("1.33.2")), &["'a' is stopped and stays at Kubernetes 1.32.7"]);
    says(first(&seen, &goal(NodeImageOnly, None, ImageGoal::Latest)), &["'a' is stopped"]);
}

#[test]
fn a_failed_step_is_not_done_although_versions_show_the_target() {
    let mut seen = cluster("1.33.2", vec![]);
    seen.provisioning_state = ProvisioningState::Failed;
    says(first(&seen, &full("1.33.2")), &["Begin control plane to Kubernetes 1.33.2"]);
    seen.provisioning_state = ProvisioningState::Succeeded;
    seen.pools = vec![pool("a", "1.33.2", NEW)];
    seen.pools[0].provisioning_state = ProvisioningState::Canceled;
    says(first(&seen, &full("1.33.2")), &["Begin agent pool 'a' to Kubernetes 1.33.2"]);
    says(first(&seen, &goal(NodeImageOnly, None, ImageGoal::Latest)), &["Begin agent pool 'a' to node image"]);
}

#[test]
fn a_refused_step_ends_the_attempt_once_the_others_are_over() {
    let seen = cluster("1.33.2", vec![pool("a", "1.32.7", OLD), pool("b", "1.32.7", OLD)]);
    let Next::Begin(begin) = first(&seen, &full("1.33.2")) else { panic!() };
    let mut upgrade = Upgrade::default();
    let steps = upgrade.intend(&begin, &seen, at());
    upgrade.started(steps[0], Some("u".to_owned()), None, at());
    upgrade.ended(steps[1], Err(ErrorDetail::new("QuotaExceeded", "no cores")));
    says(next(&upgrade, &seen, &full("1.33.2"), &catalogue(), at()), &[r#"Follow [Some("a")]"#]);
    upgrade.ended(steps[0], Ok(()));
    let end = next(&upgrade, &seen, &full("1.33.2"), &catalogue(), at());
    let Next::Done(Outcome::Failed { error }) = end else { panic!("{end:?}") };
    assert_eq!((error.code.as_ref(), error.details[0].code.as_ref()), ("UpgradeFailed", "QuotaExceeded"));
}

#[test]
fn success_without_effect_does_not_go_round_in_circles() {
    let seen = cluster("1.32.7", vec![]);
    let Next::Begin(begin) = first(&seen, &full("1.33.2")) else { panic!() };
    let mut upgrade = Upgrade::default();
    upgrade.intend(&begin, &seen, at());
    upgrade.ended(0, Ok(()));
    says(next(&upgrade, &seen, &full("1.33.2"), &catalogue(), at()), &["Failed UpgradeFailed", "1.32.7"]);
}
