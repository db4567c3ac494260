//! What was last seen of a member's cluster, and whether it lags behind a target.

use serde::{Deserialize, Serialize};

use super::{RegionOffers, Target};
use crate::model::{
    managed_cluster::{ManagedCluster, NodeImage},
    version::KubernetesVersion,
};

/// Of a cluster, what targets are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// Region.
    pub location: String,
    /// Of the control plane.
    pub version: Option<KubernetesVersion>,
    /// Long-term support is enabled.
    pub long_term_support: bool,
    /// Runs cannot upgrade it as it is: it is stopped, or provisions its nodes by itself.
    pub closed: bool,
    /// Agent pools.
    pub pools: Vec<PoolFacts>,
}

/// Of an agent pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolFacts {
    /// Name.
    pub name: String,
    /// Of its nodes.
    pub version: Option<KubernetesVersion>,
    /// Of its nodes.
    pub image: Option<NodeImage>,
    /// Not Windows.
    pub linux: bool,
    /// It is left alone.
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
            closed: cluster.stopped || cluster.node_auto_provisioning,
            pools: pools.collect(),
        }
    }
}

/// Whether the cluster is behind the target, and a run could bring it there now: its region offers it, and it is no further
/// than one minor version away.
#[must_use]
pub fn lags(target: &Target, cluster: &ClusterFacts, region: &RegionOffers) -> bool {
    if cluster.closed {
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
