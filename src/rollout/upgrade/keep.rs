//! Which node pool snapshots to take and to delete, so that older images stay within reach.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::images::is_expired;
use crate::{
    arm::ResourceId,
    model::managed_cluster::{ManagedCluster, NodeImage, NodePoolSnapshot},
};

/// A snapshot to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotToTake {
    /// Its name.
    pub name: String,
    /// Its region: that of the pool.
    pub location: String,
    /// The pool.
    pub pool: ResourceId,
}

/// Snapshots that are missing for what the pools of these clusters run: one for each region, image, Kubernetes version and family of
/// virtual machines, of a pool that is at rest. `existing` are those of the clusters' subscription.
#[must_use]
pub fn missing_snapshots(
    clusters: &[(ResourceId, ManagedCluster)],
    existing: &[NodePoolSnapshot],
) -> Vec<SnapshotToTake> {
    let mut missing: BTreeMap<String, SnapshotToTake> = BTreeMap::new();
    for (id, cluster) in clusters.iter().filter(|(_, cluster)| !cluster.stopped && !cluster.is_busy()) {
        for pool in cluster.pools.iter().filter(|pool| !pool.stopped && !pool.provisioning_state.is_busy()) {
            let Some(name) = NodePoolSnapshot::name_for(&cluster.location, pool) else { continue };
            let location = cluster.location.clone();
            let pool = id.child("agentPools", &pool.name);
            missing.entry(name.clone()).or_insert(SnapshotToTake { name, location, pool });
        }
    }
    for snapshot in existing {
        missing.remove(&snapshot.name().to_lowercase());
    }
    missing.into_values().collect()
}

/// Snapshots of this service's whose images AKS no longer supports, compared with the newest image of the family that any of these clusters
/// or snapshots has.
#[must_use]
pub fn expired_snapshots<'a>(
    clusters: &[(ResourceId, ManagedCluster)],
    existing: &'a [NodePoolSnapshot],
    now: Timestamp,
) -> Vec<&'a NodePoolSnapshot> {
    let run = clusters.iter().flat_map(|(_, cluster)| &cluster.pools).filter_map(|pool| pool.image.as_ref());
    let images: Vec<&NodeImage> = run.chain(existing.iter().map(|snapshot| &snapshot.image)).collect();
    let expired = |snapshot: &&NodePoolSnapshot| {
        let family = images.iter().filter(|image| image.family() == snapshot.image.family());
        family.max_by_key(|image| image.version()).is_some_and(|newest| is_expired(&snapshot.image, newest, now))
    };
    existing.iter().filter(|snapshot| snapshot.is_own()).filter(expired).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::simulation::{cluster, pool},
        *,
    };

    #[test]
    fn one_snapshot_for_what_several_pools_run() {
        let id = |name: &str| ResourceId::in_group("s", "g", "Microsoft.ContainerService", "managedClusters", name);
        let image = "AKSUbuntu-2204gen2containerd-202509.11.0";
        let mut busy = pool("busy", "1.32.7", "AKSUbuntu-2204gen2containerd-202508.20.1");
        busy.provisioning_state = "Upgrading".to_owned().into();
        let pools = vec![pool("a", "1.32.7", image), pool("b", "1.32.7", image), pool("c", "1.33.2", image), busy];
        let clusters = vec![(id("x"), cluster("1.33.2", pools.clone())), (id("y"), cluster("1.33.2", pools))];
        let missing = missing_snapshots(&clusters, &[]);
        assert_eq!(missing.len(), 2, "one for each Kubernetes version: {missing:?}");
        assert!(missing.iter().all(|snapshot| snapshot.name.len() <= 63));
        let taken = NodePoolSnapshot {
            id: format!("/subscriptions/s/resourceGroups/g/providers/p/snapshots/{}", missing[0].name.to_uppercase()),
            kubernetes_version: "1.32.7".parse().unwrap(),
            image: NodeImage::new(image),
            vm_size: "Standard_D4s_v5".to_owned(),
        };
        assert_eq!(missing_snapshots(&clusters, std::slice::from_ref(&taken)), missing[1..]);
        let now = "2025-12-01T00:00:00Z".parse().unwrap();
        assert!(expired_snapshots(&clusters, std::slice::from_ref(&taken), now).is_empty());
        let old = NodePoolSnapshot { image: NodeImage::new("AKSUbuntu-2204gen2containerd-202505.11.0"), ..taken };
        let of_others = NodePoolSnapshot { id: "/snapshots/mine".to_owned(), ..old.clone() };
        assert_eq!(expired_snapshots(&clusters, &[old.clone(), of_others], now), [&old]);
    }
}
