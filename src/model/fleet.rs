//! Fleets (`Microsoft.ContainerService/fleets`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::arm::Problems;

/// `properties` of a fleet, as a client writes them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetProperties {
    /// If present, even empty, the fleet has a hub cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_profile: Option<HubProfile>,
}

/// The hub cluster's settings; immutable once set. Read-only fields (`fqdn`, `kubernetesVersion`, `portalFqdn`) in a body
/// are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubProfile {
    /// 1–54 letters, digits, hyphens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 54, pattern = "^[a-zA-Z0-9]$|^[a-zA-Z0-9][a-zA-Z0-9-]{0,52}[a-zA-Z0-9]$")]
    pub dns_prefix: Option<String>,
    /// How the hub's API server is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_access_profile: Option<ApiServerAccessProfile>,
    /// The hub's nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_profile: Option<AgentProfile>,
}

/// How the hub's API server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServerAccessProfile {
    /// Private cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_private_cluster: Option<bool>,
    /// API server in the user's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_vnet_integration: Option<bool>,
    /// Its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
}

/// The hub's nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentProfile {
    /// Their subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    /// Their size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_size: Option<String>,
}

const SUBNETS: &str = "Microsoft.Network/virtualNetworks/subnets";

impl FleetProperties {
    /// Checks a body against the rules and against what is stored (`None`: a new fleet).
    pub fn check(&self, stored: Option<&Self>, problems: &mut Problems) {
        let at = "properties.hubProfile";
        match (&self.hub_profile, stored.and_then(|fleet| fleet.hub_profile.as_ref())) {
            (None, Some(_)) => problems.add_coded(
                "PropertyChangeNotAllowed",
                at,
                "A fleet with a hub cannot become one without: send hubProfile as it is, or create another fleet.",
            ),
            (Some(new), Some(old)) if new != old => problems.add_coded(
                "PropertyChangeNotAllowed",
                at,
                "hubProfile cannot be changed once it is set: send it as it is, or create another fleet.",
            ),
            (Some(new), _) => new.check(at, problems),
            (None, None) => {}
        }
    }
}

impl HubProfile {
    fn check(&self, at: &str, problems: &mut Problems) {
        if let Some(prefix) = &self.dns_prefix {
            let plain = |b: u8| b.is_ascii_alphanumeric();
            let bytes = prefix.as_bytes();
            let sound = bytes.len() <= 54
                && bytes.first().is_some_and(|b| plain(*b))
                && bytes.last().is_some_and(|b| plain(*b))
                && bytes.iter().all(|b| plain(*b) || *b == b'-');
            if !sound {
                problems.add(
                    &format!("{at}.dnsPrefix"),
                    "dnsPrefix must have 1 to 54 letters, digits and '-', beginning and ending with a letter or digit.",
                );
            }
        }
        let subnets = [
            ("apiServerAccessProfile", self.api_server_access_profile.as_ref().and_then(|p| p.subnet_id.as_deref())),
            ("agentProfile", self.agent_profile.as_ref().and_then(|p| p.subnet_id.as_deref())),
        ];
        for (part, subnet) in subnets {
            let Some(subnet) = subnet else { continue };
            if !subnet.parse::<crate::arm::ResourceId>().is_ok_and(|id| id.is_type(SUBNETS)) {
                problems.add(
                    &format!("{at}.{part}.subnetId"),
                    format!("'{subnet}' is not the resource ID of a {SUBNETS}."),
                );
            }
        }
    }
}
