//! Managed clusters and agent pools, and their JSON as AKS returns it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::catalogue;
use crate::version::Version;

/// Whether the state is Succeeded, Failed or Canceled. Any other state means that an operation is in progress.
pub(crate) fn is_terminal(state: &str) -> bool {
    matches!(state, "Succeeded" | "Failed" | "Canceled")
}

/// Whether the last operation failed, so that a PUT of the same versions retries it.
pub(crate) fn is_broken(state: &str) -> bool {
    matches!(state, "Failed" | "Canceled")
}

/// Read-only properties of a cluster; ignored in a request body.
pub(crate) const READ_ONLY: &[&str] = &[
    "provisioningState",
    "powerState",
    "maxAgentPools",
    "kubernetesVersion",
    "currentKubernetesVersion",
    "fqdn",
    "azurePortalFQDN",
    "agentPoolProfiles",
    "nodeResourceGroup",
    "identityProfile",
    "resourceUID",
    "status",
];
/// Read-only properties of an agent pool. Versions and image are handled separately.
pub(crate) const POOL_READ_ONLY: &[&str] = &[
    "name",
    "eTag",
    "provisioningState",
    "powerState",
    "orchestratorVersion",
    "currentOrchestratorVersion",
    "nodeImageVersion",
    "status",
];

/// A version and image that a pool ran before and can return to.
#[derive(Clone, Debug)]
pub(crate) struct RecentlyUsed {
    pub(crate) version: Version,
    pub(crate) image: String,
    pub(crate) until: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) etag: String,
    /// Properties set by the caller or by a default of AKS, without [`POOL_READ_ONLY`].
    pub(crate) settings: Map<String, Value>,
    /// The requested version: `1.33.2` or `1.33`.
    pub(crate) orchestrator_version: String,
    pub(crate) version: Version,
    /// Full name of the node image.
    pub(crate) image: String,
    pub(crate) recent: Vec<RecentlyUsed>,
    pub(crate) state: String,
    pub(crate) stopped: bool,
    pub(crate) error: Option<(String, String)>,
    /// The agent pool operation in progress.
    pub(crate) running: Option<Uuid>,
}

impl Pool {
    /// Returns the properties as a GET of the pool shows them.
    pub(crate) fn properties(&self) -> Map<String, Value> {
        let mut all = self.settings.clone();
        all.insert("eTag".into(), self.etag.as_str().into());
        all.insert("provisioningState".into(), self.state.as_str().into());
        all.insert("powerState".into(), power(self.stopped));
        all.insert("orchestratorVersion".into(), self.orchestrator_version.as_str().into());
        all.insert("currentOrchestratorVersion".into(), self.version.to_string().into());
        all.insert("nodeImageVersion".into(), self.image.as_str().into());
        if let Some(error) = &self.error {
            all.insert("status".into(), provisioning_error(error));
        }
        all
    }

    pub(crate) fn os_type(&self) -> &str {
        self.settings.get("osType").and_then(Value::as_str).unwrap_or("Linux")
    }

    pub(crate) fn is_broken(&self) -> bool {
        is_broken(&self.state)
    }

    pub(crate) fn is_system(&self) -> bool {
        self.settings.get("mode").and_then(Value::as_str) == Some("System")
    }

    /// Records the version and image that the pool ran until now: newest first, at most three.
    pub(crate) fn remember(&mut self, version: Version, image: String, now: Timestamp) {
        self.recent.retain(|used| used.image != image || used.version != version);
        self.recent.insert(0, RecentlyUsed { version, image, until: now });
        self.recent.truncate(3);
    }
}

/// Adds the defaults of AKS to the settings of an agent pool.
pub(crate) fn pool_settings(body: &Map<String, Value>) -> Map<String, Value> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let os_type = text("osType").unwrap_or("Linux");
    let os_sku = text("osSKU").unwrap_or(if os_type == "Windows" { "Windows2022" } else { "Ubuntu" });
    let defaults = json!({
        "count": 1, "vmSize": "Standard_D4s_v5", "osDiskSizeGB": 128, "osDiskType": "Managed", "kubeletDiskType": "OS",
        "maxPods": 110, "type": "VirtualMachineScaleSets", "enableAutoScaling": false, "scaleDownMode": "Delete",
        "enableNodePublicIP": false, "mode": "User", "enableEncryptionAtHost": false, "enableUltraSSD": false,
        "osType": os_type, "osSKU": os_sku, "upgradeSettings": {"maxSurge": "10%", "maxUnavailable": "0"},
        "enableFIPS": false, "networkProfile": {}, "workloadRuntime": "OCIContainer",
    });
    merged(defaults, body, POOL_READ_ONLY)
}

/// Returns the image family of an agent pool.
pub(crate) fn image_family(settings: &Map<String, Value>) -> &'static str {
    match settings.get("osSKU").and_then(Value::as_str) {
        Some("AzureLinux" | "AzureLinux3" | "CBLMariner") => catalogue::AZURE_LINUX,
        Some(sku) if sku.starts_with("Windows") => catalogue::WINDOWS,
        _ => catalogue::UBUNTU,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) subscription: String,
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) location: String,
    pub(crate) etag: String,
    pub(crate) tags: Option<Value>,
    pub(crate) sku: Value,
    pub(crate) identity: Value,
    /// Properties set by the caller or by a default of AKS, without [`READ_ONLY`].
    pub(crate) settings: Map<String, Value>,
    /// The requested version: `1.33.2` or `1.33`.
    pub(crate) kubernetes_version: String,
    pub(crate) version: Version,
    pub(crate) pools: Vec<Pool>,
    pub(crate) state: String,
    pub(crate) stopped: bool,
    pub(crate) error: Option<(String, String)>,
    /// The cluster-level operation in progress.
    pub(crate) running: Option<Uuid>,
    /// Duration of its operations, if not the default.
    pub(crate) upgrade_seconds: Option<f64>,
    /// Maintenance configurations by lower-cased name: name as given, and properties.
    pub(crate) maintenance: BTreeMap<String, (String, Value)>,
    /// Cached body of a GET, cleared on each change, so that long lists are concatenated texts.
    pub(crate) rendered: Option<Arc<str>>,
}

impl Cluster {
    /// Returns the resource ID in lower case, its key in the world.
    pub(crate) fn key(&self) -> String {
        self.id().to_lowercase()
    }

    /// Returns the resource ID as AKS spells it, with `resourcegroups` in lower case.
    pub(crate) fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ContainerService/managedClusters/{}",
            self.subscription, self.group, self.name
        )
    }

    pub(crate) fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn pool_mut(&mut self, name: &str) -> Option<&mut Pool> {
        self.rendered = None;
        self.pools.iter_mut().find(|pool| pool.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn changed(&mut self, etag: String) {
        self.etag = etag;
        self.rendered = None;
    }

    /// Returns the body of a GET.
    pub(crate) fn json(&mut self) -> Arc<str> {
        if let Some(text) = &self.rendered {
            return Arc::clone(text);
        }
        let text: Arc<str> = self.body().to_string().into();
        self.rendered = Some(Arc::clone(&text));
        text
    }

    fn body(&self) -> Value {
        let mut properties = self.settings.clone();
        let mut set = |name: &str, value: Value| properties.insert(name.to_owned(), value);
        let dns = self.settings.get("dnsPrefix").and_then(Value::as_str).unwrap_or(&self.name);
        let host = format!("{dns}-{}", short_hash(&self.key()));
        let nodes = format!("MC_{}_{}_{}", self.group, self.name, self.location);
        set("provisioningState", self.state.as_str().into());
        set("powerState", power(self.stopped));
        set("kubernetesVersion", self.kubernetes_version.as_str().into());
        set("currentKubernetesVersion", self.version.to_string().into());
        set("fqdn", format!("{host}.hcp.{}.azmk8s.io", self.location).into());
        set("azurePortalFQDN", format!("{host}.portal.hcp.{}.azmk8s.io", self.location).into());
        set("maxAgentPools", 100.into());
        set("resourceUID", short_hash(&self.id()).into());
        let kubelet = format!(
            "/subscriptions/{}/resourcegroups/{nodes}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{}-agentpool",
            self.subscription, self.name
        );
        set(
            "identityProfile",
            json!({"kubeletidentity": {"resourceId": kubelet, "clientId": guid(&kubelet, 1), "objectId": guid(&kubelet, 2)}}),
        );
        set("nodeResourceGroup", nodes.into());
        if let Some(error) = &self.error {
            set("status", provisioning_error(error));
        }
        let pools = self.pools.iter().map(|pool| {
            let mut profile = pool.properties();
            profile.insert("name".into(), pool.name.as_str().into());
            Value::Object(profile)
        });
        set("agentPoolProfiles", pools.collect());
        let mut body = json!({
            "id": self.id(), "name": self.name, "type": "Microsoft.ContainerService/ManagedClusters", "location": self.location,
            "eTag": self.etag, "sku": self.sku, "identity": self.identity, "properties": properties,
        });
        if let (Some(tags), Some(body)) = (&self.tags, body.as_object_mut()) {
            body.insert("tags".into(), tags.clone());
        }
        body
    }

    /// Returns the body of a GET of an agent pool.
    pub(crate) fn pool_body(&self, pool: &Pool) -> Value {
        json!({
            "id": format!("{}/agentPools/{}", self.id(), pool.name), "name": pool.name,
            "type": "Microsoft.ContainerService/managedClusters/agentPools", "properties": pool.properties(),
        })
    }
}

/// Adds the defaults of AKS to the settings of a cluster. `before`: settings that a PUT without them does not reset.
pub(crate) fn cluster_settings(
    name: &str,
    body: &Map<String, Value>,
    before: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut defaults = json!({
        "dnsPrefix": format!("{name}-dns"), "enableRBAC": true, "supportPlan": "KubernetesOfficial", "disableLocalAccounts": false,
        "linuxProfile": {"adminUsername": "azureuser", "ssh": {"publicKeys": [{"keyData": "ssh-rsa AAAAB3NzaC1yc2E emulator"}]}},
        "servicePrincipalProfile": {"clientId": "msi"},
        "networkProfile": {
            "networkPlugin": "azure", "networkPluginMode": "overlay", "loadBalancerSku": "standard", "podCidr": "10.244.0.0/16",
            "serviceCidr": "10.0.0.0/16", "dnsServiceIP": "10.0.0.10", "outboundType": "loadBalancer",
            "loadBalancerProfile": {"managedOutboundIPs": {"count": 1}, "backendPoolType": "nodeIPConfiguration"},
            "podCidrs": ["10.244.0.0/16"], "serviceCidrs": ["10.0.0.0/16"], "ipFamilies": ["IPv4"],
        },
        "autoUpgradeProfile": {"nodeOSUpgradeChannel": "None"}, "securityProfile": {},
        "storageProfile": {"diskCSIDriver": {"enabled": true}, "fileCSIDriver": {"enabled": true}, "snapshotController": {"enabled": true}},
        "oidcIssuerProfile": {"enabled": false}, "workloadAutoScalerProfile": {}, "nodeProvisioningProfile": {"mode": "Manual"},
    });
    for create_only in ["dnsPrefix", "networkProfile", "linuxProfile", "servicePrincipalProfile"] {
        if let (Some(value), Some(defaults)) =
            (before.and_then(|before| before.get(create_only)), defaults.as_object_mut())
        {
            defaults.insert(create_only.into(), value.clone());
        }
    }
    merged(defaults, body, READ_ONLY)
}

fn merged(defaults: Value, body: &Map<String, Value>, read_only: &[&str]) -> Map<String, Value> {
    let mut settings = match defaults {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    for (name, value) in body {
        if !value.is_null() && !read_only.contains(&name.as_str()) {
            settings.insert(name.clone(), value.clone());
        }
    }
    settings
}

fn power(stopped: bool) -> Value {
    json!({"code": if stopped { "Stopped" } else { "Running" }})
}

fn provisioning_error((code, message): &(String, String)) -> Value {
    json!({"provisioningError": {"code": code, "message": message}})
}

/// Returns the FNV-1a hash, for names that look generated and are the same on every start.
fn hash(text: &str, salt: u64) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn short_hash(text: &str) -> String {
    format!("{:08x}", hash(text, 0) >> 32)
}

pub(crate) fn guid(text: &str, salt: u64) -> String {
    Uuid::from_u64_pair(hash(text, salt), hash(text, salt ^ u64::MAX)).to_string()
}
