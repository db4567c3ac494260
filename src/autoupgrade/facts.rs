//! The last known state of a member's cluster, and whether the cluster is behind a target.

use serde::{Deserialize, Serialize};

use super::{RegionOffers, Target};
use crate::model::{
    managed_cluster::{ManagedCluster, NodeImage},
    version::KubernetesVersion,
};

/// The properties of a cluster that are compared with a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// Region.
    pub location: String,
    /// Kubernetes version of the control plane.
    pub version: Option<KubernetesVersion>,
    /// Whether long-term support is enabled.
    pub long_term_support: bool,
    /// Whether runs cannot upgrade the cluster: it is stopped, or has node auto-provisioning.
    #[serde(rename = "closed")]
    pub is_excluded: bool,
    /// Agent pools.
    pub pools: Vec<PoolFacts>,
}

/// The properties of an agent pool that are compared with a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolFacts {
    /// Name.
    pub name: String,
    /// Kubernetes version of its nodes.
    pub version: Option<KubernetesVersion>,
    /// Image of its nodes.
    pub image: Option<NodeImage>,
    /// Whether its nodes run Linux; the others run Windows.
    pub linux: bool,
    /// Whether the pool is stopped. Stopped pools are not upgraded.
    pub stopped: bool,
}

impl From<&ManagedCluster> for ClusterFacts {
    fn from(cluster: &ManagedCluster) -> Self {
        let pools = cluster.pools.iter().map(|pool| PoolFacts {
            name: pool.name.clone(),
            version: pool.version(),
            image: pool.image.clone(),
            linux: !pool.os_type.eq_ignore_ascii_case("Windows"),
            stopped: pool.stopped,
        });
        Self {
            location: cluster.location.clone(),
            version: cluster.version(),
            long_term_support: cluster.long_term_support,
            is_excluded: cluster.stopped || cluster.node_auto_provisioning,
            pools: pools.collect(),
        }
    }
}

/// Whether the cluster is behind the target and a run can bring it there now: its region offers the target, and the control
/// plane is at most one minor version behind.
#[must_use]
pub fn is_behind(target: &Target, cluster: &ClusterFacts, region: &RegionOffers) -> bool {
    if cluster.is_excluded {
        return false;
    }
    let running = cluster.pools.iter().filter(|pool| !pool.stopped);
    match target {
        Target::Kubernetes(wanted) => {
            let Some(current) = cluster.version else { return false };
            let offered = region.released().find(|offer| offer.version == *wanted);
            let reachable = current == *wanted
                || (current < *wanted
                    && current.major == wanted.major
                    && wanted.minor - current.minor <= 1
                    && offered.is_some_and(|offer| !offer.long_term_only || cluster.long_term_support));
            let behind = |version: Option<KubernetesVersion>| version.is_some_and(|version| version < *wanted);
            reachable && (behind(cluster.version) || running.into_iter().any(|pool| behind(pool.version)))
        }
        Target::Images(images) => running.into_iter().any(|pool| {
            let Some(current) = &pool.image else { return false };
            let offered = |wanted: &NodeImage| {
                region.newest_image(wanted.family()).is_some_and(|newest| newest.is_at_least(wanted))
            };
            images.get(current.family()).is_some_and(|wanted| !current.is_at_least(wanted) && offered(wanted))
        }),
    }
}
