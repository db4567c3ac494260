//! The calls to AKS that begin an upgrade.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NodeImage;

/// One call that begins an upgrade. AKS answers each call with an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum UpgradeAction {
    /// Move the control plane, and nothing else: PUT of the cluster as read, with another `kubernetesVersion`.
    ControlPlane {
        /// The version, `x.y.z`.
        kubernetes_version: String,
    },
    /// Move the control plane and then these pools in one operation: the only way while auto-upgrade is enabled.
    Cluster {
        /// The version, `x.y.z`.
        kubernetes_version: String,
        /// The pools that move along, to the newest images.
        pools: Vec<String>,
    },
    /// Move a pool's version: PUT of the pool as read. Node images move along to the newest unless one is given.
    PoolVersion {
        /// The pool.
        pool: String,
        /// The version, `x.y.z`.
        kubernetes_version: String,
        /// The target image, if it is not the newest.
        image: Option<NodeImage>,
        /// Resource ID of the node pool snapshot that brings the image; absent: the pool ran it lately.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<String>,
    },
    /// Move a pool to the newest image of its region: POST `upgradeNodeImageVersion`.
    NewestImage {
        /// The pool.
        pool: String,
        /// The newest image known at the time of the decision.
        image: NodeImage,
    },
    /// Move a pool to this image, which is not the newest: PUT of the pool as read, with `nodeImageVersion`, or POST
    /// `upgradeNodeImageVersion` with a snapshot.
    ChosenImage {
        /// The pool.
        pool: String,
        /// The image.
        image: NodeImage,
        /// Resource ID of the node pool snapshot that brings the image; absent: the pool ran it lately.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<String>,
    },
}

/// The subject of an action. One upgrade performs at most one action for each subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject<'a> {
    /// The control plane's version.
    ControlPlane,
    /// A pool's version.
    PoolVersion(&'a str),
    /// A pool's image.
    PoolImage(&'a str),
}

impl UpgradeAction {
    /// Whether AKS declines the call when the cluster or pool has changed since it was read (PUT with `If-Match`). POST
    /// `upgradeNodeImageVersion` has no such condition.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        match self {
            Self::ControlPlane { .. }
            | Self::Cluster { .. }
            | Self::PoolVersion { .. }
            | Self::ChosenImage { snapshot: None, .. } => true,
            Self::NewestImage { .. } | Self::ChosenImage { snapshot: Some(_), .. } => false,
        }
    }

    /// Returns the subject of the action.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::ControlPlane { .. } | Self::Cluster { .. } => Subject::ControlPlane,
            Self::PoolVersion { pool, .. } => Subject::PoolVersion(pool),
            Self::NewestImage { pool, .. } | Self::ChosenImage { pool, .. } => Subject::PoolImage(pool),
        }
    }

    /// Returns the pool that the action moves; `None` for an operation on the cluster.
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::ControlPlane { .. } | Self::Cluster { .. } => None,
            Self::PoolVersion { pool, .. } | Self::NewestImage { pool, .. } | Self::ChosenImage { pool, .. } => {
                Some(pool)
            }
        }
    }
}

impl fmt::Display for UpgradeAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane { kubernetes_version } => write!(f, "control plane to Kubernetes {kubernetes_version}"),
            Self::Cluster { kubernetes_version, pools } => {
                write!(f, "control plane and agent pools {} to Kubernetes {kubernetes_version}", pools.join(", "))
            }
            Self::PoolVersion { pool, kubernetes_version, image: None, .. } => {
                write!(f, "agent pool '{pool}' to Kubernetes {kubernetes_version}")
            }
            Self::PoolVersion { pool, kubernetes_version, image: Some(image), .. } => {
                write!(f, "agent pool '{pool}' to Kubernetes {kubernetes_version} with node image {image}")
            }
            Self::NewestImage { pool, image } | Self::ChosenImage { pool, image, .. } => {
                write!(f, "agent pool '{pool}' to node image {image}")
            }
        }
    }
}
