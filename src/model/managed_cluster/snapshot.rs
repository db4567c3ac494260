//! Node pool snapshots: how AKS sets an image that is neither a region's newest nor one that the pool ran lately.

use super::{AgentPool, NodeImage};
use crate::model::version::KubernetesVersion;

/// Names of the snapshots that this service takes begin so. Others are not used: a pool stays bound to its snapshot, and
/// nobody has agreed to that for theirs.
pub const SNAPSHOT_PREFIX: &str = "fleet-manager-";

/// A node pool snapshot (`Microsoft.ContainerService/snapshots`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePoolSnapshot {
    /// Resource ID.
    pub id: String,
    /// The Kubernetes version of the pool that it was taken of.
    pub kubernetes_version: KubernetesVersion,
    /// That pool's image.
    pub image: NodeImage,
    /// That pool's size of virtual machines, such as `Standard_D4s_v5`.
    pub vm_size: String,
}

impl NodePoolSnapshot {
    /// Whether AKS moves a pool that is to end with this Kubernetes version to the snapshot (product documentation, node pool
    /// snapshots): same family of images and of virtual machines, same Kubernetes version, and no older image than the pool's. The
    /// regions may differ.
    #[must_use]
    pub fn fits(&self, pool: &AgentPool, version: KubernetesVersion) -> bool {
        pool.image.as_ref().is_some_and(|current| self.image.is_at_least(current))
            && self.kubernetes_version == version
            && vm_family(&self.vm_size) == vm_family(&pool.vm_size)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }

    /// Whether this service has taken it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        is_own(&self.id)
    }

    /// The name of a snapshot of this service's for what a pool runs; the pools for which it is the same need one snapshot only.
    /// `None` for a pool whose image or version is not known, or is none of AKS's.
    #[must_use]
    pub fn name_for(location: &str, pool: &AgentPool) -> Option<String> {
        let (image, version) = (pool.image.as_ref()?, pool.version()?);
        let text = format!("{location} {image} {version} {}", vm_family(&pool.vm_size));
        // A name has 63 characters: too few for an image's. The hash keeps two from having one name.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let place: String = location.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
        (!place.is_empty()).then(|| format!("{SNAPSHOT_PREFIX}{place}-{hash:016x}"))
    }
}

/// Whether a resource ID is that of a snapshot which this service has taken.
pub(super) fn is_own(id: &str) -> bool {
    let name = id.rsplit('/').next().unwrap_or_default();
    name.get(..SNAPSHOT_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(SNAPSHOT_PREFIX))
}

/// The letters of the family: `D` of `Standard_D4s_v5`.
fn vm_family(size: &str) -> String {
    let after = size.split_once('_').map_or(size, |(_, after)| after);
    after.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vm_families_and_own_names() {
        assert_eq!(vm_family("Standard_D4s_v5"), "D");
        assert_eq!(vm_family("standard_nc6s_v3"), "NC");
        assert_ne!(vm_family("Standard_DC2s_v3"), vm_family("Standard_D2s_v3"));
        assert!(is_own("/subscriptions/s/x/snapshots/fleet-manager-eastus-1") && is_own("Fleet-Manager-x"));
        assert!(!is_own("/subscriptions/fleet-manager-x/snapshots/mine") && !is_own("") && !is_own("é"));
    }
}
