//! The parts of AKS's JSON that the service reads.

use std::borrow::Cow;

use serde::Deserialize;

use super::{AgentPool, ManagedCluster, NodeImage, snapshot::is_own};
use crate::arm::ErrorDetail;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cluster {
    id: Option<String>,
    location: Option<String>,
    #[serde(alias = "etag")]
    e_tag: Option<String>,
    identity: Option<Identity>,
    properties: Option<Properties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    tenant_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    provisioning_state: Option<String>,
    power_state: Option<Power>,
    kubernetes_version: Option<String>,
    current_kubernetes_version: Option<String>,
    support_plan: Option<String>,
    node_provisioning_profile: Option<NodeProvisioning>,
    auto_upgrade_profile: Option<AutoUpgrade>,
    agent_pool_profiles: Option<Vec<AgentPool>>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pool {
    name: Option<String>,
    #[serde(alias = "etag")]
    e_tag: Option<String>,
    os_type: Option<String>,
    vm_size: Option<String>,
    count: Option<u32>,
    node_image_version: Option<String>,
    orchestrator_version: Option<String>,
    current_orchestrator_version: Option<String>,
    provisioning_state: Option<String>,
    power_state: Option<Power>,
    creation_data: Option<CreationData>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Power {
    code: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AutoUpgrade {
    upgrade_channel: Option<String>,
}

#[derive(Deserialize)]
struct NodeProvisioning {
    mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreationData {
    source_resource_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    provisioning_error: Option<LenientError>,
}

/// An error object of an upstream, in which any field may be missing.
#[derive(Debug, Deserialize)]
pub(crate) struct LenientError {
    code: Option<String>,
    message: Option<String>,
    target: Option<String>,
    details: Option<Vec<LenientError>>,
}

impl From<LenientError> for ErrorDetail {
    fn from(error: LenientError) -> Self {
        Self {
            code: error.code.map_or(Cow::Borrowed("Unknown"), Cow::Owned),
            message: error.message.unwrap_or_else(|| "no message was given".to_owned()),
            target: error.target,
            details: error.details.unwrap_or_default().into_iter().map(Self::from).collect(),
        }
    }
}

fn stopped(power: Option<Power>) -> bool {
    power.and_then(|p| p.code).is_some_and(|code| code.eq_ignore_ascii_case("Stopped"))
}

fn cause(status: Option<Status>) -> Option<ErrorDetail> {
    status?.provisioning_error.map(ErrorDetail::from)
}

impl From<Cluster> for ManagedCluster {
    fn from(wire: Cluster) -> Self {
        let properties = wire.properties.unwrap_or_default();
        Self {
            id: wire.id.unwrap_or_default(),
            location: wire.location.unwrap_or_default().replace(' ', "").to_lowercase(),
            etag: wire.e_tag,
            tenant_id: wire.identity.and_then(|identity| identity.tenant_id),
            provisioning_state: properties.provisioning_state.unwrap_or_default().into(),
            provisioning_error: cause(properties.status),
            stopped: stopped(properties.power_state),
            kubernetes_version: properties.kubernetes_version,
            current_kubernetes_version: properties.current_kubernetes_version,
            long_term_support: properties.support_plan.as_deref() == Some("AKSLongTermSupport"),
            node_auto_provisioning: properties.node_provisioning_profile.and_then(|profile| profile.mode).as_deref()
                == Some("Auto"),
            auto_upgrade: properties
                .auto_upgrade_profile
                .and_then(|profile| profile.upgrade_channel)
                .is_some_and(|channel| !matches!(channel.as_str(), "" | "none" | "node-image")),
            pools: properties.agent_pool_profiles.unwrap_or_default(),
        }
    }
}

impl From<Pool> for AgentPool {
    fn from(wire: Pool) -> Self {
        Self {
            name: wire.name.unwrap_or_default(),
            etag: wire.e_tag,
            os_type: wire.os_type.unwrap_or_default(),
            image: wire.node_image_version.filter(|text| !text.is_empty()).map(NodeImage::new),
            orchestrator_version: wire.orchestrator_version,
            current_orchestrator_version: wire.current_orchestrator_version,
            provisioning_state: wire.provisioning_state.unwrap_or_default().into(),
            provisioning_error: cause(wire.status),
            stopped: stopped(wire.power_state),
            from_snapshot: wire.creation_data.and_then(|data| data.source_resource_id).is_some_and(|id| !is_own(&id)),
            vm_size: wire.vm_size.unwrap_or_default(),
            count: wire.count.unwrap_or_default(),
        }
    }
}
