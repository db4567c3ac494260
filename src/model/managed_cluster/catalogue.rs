//! What AKS offers in a cluster's region.

use std::collections::BTreeMap;

use super::{super::version::KubernetesVersion, NodeImage, NodePoolSnapshot};

/// A Kubernetes version that a region offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedVersion {
    /// The version.
    pub version: KubernetesVersion,
    /// Whether it is a preview.
    pub preview: bool,
    /// Offered under the support plan `AKSLongTermSupport` only.
    pub long_term_only: bool,
    /// Offered under the support plan `AKSLongTermSupport`, alone or among others.
    pub long_term: bool,
    /// Versions that a cluster of this version can upgrade to.
    pub upgrades: Vec<KubernetesVersion>,
}

/// An image that a pool ran lately, and the Kubernetes version that it ran with: AKS goes back to the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentlyUsed {
    /// The version; `None` where AKS does not say.
    pub kubernetes_version: Option<KubernetesVersion>,
    /// The image.
    pub image: NodeImage,
}

/// What a region offers to one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Kubernetes versions, in any order.
    pub versions: Vec<OfferedVersion>,
    /// Newest image by family. Families without an image from AKS are missing.
    pub latest: BTreeMap<String, NodeImage>,
    /// What each pool ran before, by the pool's name: what AKS takes in `nodeImageVersion`.
    pub recently_used: BTreeMap<String, Vec<RecentlyUsed>>,
    /// Snapshots of this service's in the cluster's subscription.
    pub snapshots: Vec<NodePoolSnapshot>,
}

impl Catalogue {
    /// Returns the offer of a version.
    #[must_use]
    pub fn offer(&self, version: KubernetesVersion) -> Option<&OfferedVersion> {
        self.versions.iter().find(|offer| offer.version == version)
    }

    /// Returns the newest generally available patch of a minor version, for a cluster with or without long-term support.
    #[must_use]
    pub fn newest_patch(&self, major: u32, minor: u32, long_term: bool) -> Option<KubernetesVersion> {
        self.versions
            .iter()
            .filter(|offer| !offer.preview && (long_term || !offer.long_term_only))
            .map(|offer| offer.version)
            .filter(|version| (version.major, version.minor) == (major, minor))
            .max()
    }
}
