//! AKS clusters as the service reads them, and the calls that upgrade them.
//!
//! Parsing is tolerant: unknown fields are ignored, missing and `null` fields are `None`, and an unknown provisioning state means
//! that an operation is in progress. The service never writes these types back to AKS, but the JSON that it read.

mod action;
mod catalogue;
mod node_image;
mod snapshot;
mod wire;

use serde::Deserialize;

pub use action::{Subject, UpgradeAction};
pub use catalogue::{Catalogue, OfferedVersion, RecentlyUsed};
pub use node_image::{ImageVersion, NodeImage};
pub use snapshot::{NodePoolSnapshot, SNAPSHOT_PREFIX};
pub(crate) use wire::LenientError;

use super::version::{KubernetesVersion, RequestedVersion};
use crate::arm::ErrorDetail;

/// State of the latest operation on a cluster or an agent pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvisioningState {
    /// The operation succeeded.
    Succeeded,
    /// The operation failed. Versions may show the target nevertheless.
    Failed,
    /// The operation was aborted.
    Canceled,
    /// Any other state, such as `Upgrading`: an operation is in progress. Empty if AKS sent none.
    Busy(String),
}

impl ProvisioningState {
    /// Whether an operation is in progress.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// Whether the latest operation ended without success.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self, Self::Failed | Self::Canceled)
    }

    /// Returns the state in AKS's spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
            Self::Busy(other) if other.is_empty() => "unknown",
            Self::Busy(other) => other,
        }
    }
}

impl From<String> for ProvisioningState {
    fn from(text: String) -> Self {
        match text.as_str() {
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            "Canceled" => Self::Canceled,
            _ => Self::Busy(text),
        }
    }
}

/// An AKS cluster (`Microsoft.ContainerService/managedClusters`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "wire::Cluster")]
pub struct ManagedCluster {
    /// Resource ID as AKS writes it (often with `resourcegroups` in lower case).
    pub id: String,
    /// Region, lower case without spaces.
    pub location: String,
    /// ETag, where the API version has one.
    pub etag: Option<String>,
    /// Tenant of the cluster's identity.
    pub tenant_id: Option<String>,
    /// State of the latest cluster-level operation.
    pub provisioning_state: ProvisioningState,
    /// Why that operation failed.
    pub provisioning_error: Option<ErrorDetail>,
    /// `powerState.code` is `Stopped`. A stopped cluster's provisioning state is `Succeeded`.
    pub stopped: bool,
    /// The requested version, `x.y.z` or `x.y`.
    pub kubernetes_version: Option<String>,
    /// The version that the requested version resolves to. Shows the target already during an upgrade.
    pub current_kubernetes_version: Option<String>,
    /// `supportPlan` is `AKSLongTermSupport`.
    pub long_term_support: bool,
    /// Nodes are provisioned automatically (`nodeProvisioningProfile.mode` is `Auto`).
    pub node_auto_provisioning: bool,
    /// Whether AKS also upgrades the version automatically (`autoUpgradeProfile.upgradeChannel`). AKS then refuses to upgrade the
    /// control plane alone.
    pub auto_upgrade: bool,
    /// Agent pools, in AKS's order.
    pub pools: Vec<AgentPool>,
}

impl ManagedCluster {
    /// Whether a cluster-level operation is in progress. Operations on single pools show on the pools only.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.provisioning_state.is_busy()
    }

    /// Returns the version of the control plane, or its target during an upgrade.
    #[must_use]
    pub fn version(&self) -> Option<KubernetesVersion> {
        resolved(&self.current_kubernetes_version, &self.kubernetes_version)
    }

    /// Returns the pool with this name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&AgentPool> {
        self.pools.iter().find(|pool| pool.name.eq_ignore_ascii_case(name))
    }
}

/// An agent pool of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "wire::Pool")]
pub struct AgentPool {
    /// Name, unique in the cluster.
    pub name: String,
    /// ETag, where the API version has one.
    pub etag: Option<String>,
    /// `Linux` or `Windows`.
    pub os_type: String,
    /// Image of its nodes.
    pub image: Option<NodeImage>,
    /// The requested version, `x.y.z` or `x.y`.
    pub orchestrator_version: Option<String>,
    /// The version that the requested version resolves to.
    pub current_orchestrator_version: Option<String>,
    /// State of the pool's latest operation.
    pub provisioning_state: ProvisioningState,
    /// Why that operation failed.
    pub provisioning_error: Option<ErrorDetail>,
    /// `powerState.code` is `Stopped`.
    pub stopped: bool,
    /// Bound to a node pool snapshot of somebody else's (`creationData`). A pool that this service has moved by a snapshot of its
    /// own is free.
    pub from_snapshot: bool,
    /// Size of its virtual machines, such as `Standard_D4s_v5`.
    pub vm_size: String,
    /// Number of its nodes; 0 where AKS does not say.
    pub count: u32,
}

impl AgentPool {
    /// Returns the version of the nodes, or their target during an upgrade.
    #[must_use]
    pub fn version(&self) -> Option<KubernetesVersion> {
        resolved(&self.current_orchestrator_version, &self.orchestrator_version)
    }
}

fn resolved(current: &Option<String>, wish: &Option<String>) -> Option<KubernetesVersion> {
    let exact = |text: &Option<String>| text.as_deref()?.parse().ok();
    exact(current).or_else(|| exact(wish))
}

/// Whether a text such as `1.33` or `1.33.2` names this version.
#[must_use]
pub fn asks_for(wish: &str, version: KubernetesVersion) -> bool {
    match wish.parse() {
        Ok(RequestedVersion::Exact(exact)) => exact == version,
        Ok(RequestedVersion::NewestPatch { major, minor }) => (major, minor) == (version.major, version.minor),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> serde_json::Value {
        serde_json::json!({
            "id": "/subscriptions/s/resourcegroups/rg/providers/Microsoft.ContainerService/managedClusters/c",
            "location": "westus2", "name": "c", "type": "Microsoft.ContainerService/ManagedClusters", "eTag": "e1",
            "identity": {"type": "SystemAssigned", "tenantId": "t"}, "sku": {"name": "Base", "tier": "Free"},
            "properties": {
                "provisioningState": "Succeeded", "powerState": {"code": "Running"},
                "kubernetesVersion": "1.27", "currentKubernetesVersion": "1.27.7", "supportPlan": "KubernetesOfficial",
                "agentPoolProfiles": [{
                    "name": "nodepool1", "count": 1, "osType": "Linux", "provisioningState": "UpgradingNodeImageVersion",
                    "powerState": {"code": "Running"}, "orchestratorVersion": "1.27.7",
                    "currentOrchestratorVersion": "1.27.7", "creationData": null, "eTag": "p1",
                    "nodeImageVersion": "AKSUbuntu-2204gen2containerd-202310.31.0"
                }],
                "status": null
            }
        })
    }

    #[test]
    fn a_recorded_cluster_is_read() {
        let cluster: ManagedCluster = serde_json::from_value(recorded()).unwrap();
        assert_eq!((cluster.version(), cluster.is_busy(), cluster.stopped), ("1.27.7".parse().ok(), false, false));
        assert_eq!((cluster.etag.as_deref(), cluster.tenant_id.as_deref()), (Some("e1"), Some("t")));
        let pool = cluster.pool("nodepool1").unwrap();
        assert!(pool.provisioning_state.is_busy() && !pool.from_snapshot);
        assert_eq!(pool.image.as_ref().unwrap().family(), "AKSUbuntu-2204gen2containerd");
        assert!(asks_for(cluster.kubernetes_version.as_deref().unwrap(), "1.27.9".parse().unwrap()));
    }

    #[test]
    fn missing_fields_are_none_and_unknown_states_are_busy() {
        let bare: ManagedCluster = serde_json::from_str("{}").unwrap();
        assert!(bare.is_busy() && !bare.stopped && bare.version().is_none());
        let mut odd = recorded();
        odd["properties"]["provisioningState"] = "Reconfabulating".into();
        odd["properties"]["powerState"] = serde_json::json!({"code": "Stopped"});
        odd["properties"]["agentPoolProfiles"] = serde_json::Value::Null;
        let odd: ManagedCluster = serde_json::from_value(odd).unwrap();
        assert!(odd.is_busy() && odd.stopped && odd.pools.is_empty());
    }

    #[test]
    fn the_cause_of_a_failure_is_read() {
        let mut failed = recorded();
        failed["properties"]["provisioningState"] = "Failed".into();
        failed["properties"]["status"] = serde_json::json!({"provisioningError": {"code": "PodDrainFailure",
            "details": [{"code": "UnsatisfiablePDB", "message": "pdb default/web"}]}});
        let failed: ManagedCluster = serde_json::from_value(failed).unwrap();
        let error = failed.provisioning_error.unwrap();
        assert_eq!((error.code.as_ref(), error.details.len()), ("PodDrainFailure", 1));
    }
}
