//! Node pool snapshots: the versions of a pool at one moment, to which other pools can be moved.

use serde_json::{Map, Value, json};

use crate::catalogue;
use crate::cluster::Pool;
use crate::errors::ArmError;
use crate::version::Version;

const CREATION_DATA: &str = "properties.creationData.sourceResourceId";

#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) subscription: String,
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) location: String,
    pub(crate) tags: Option<Value>,
    /// Resource ID of the agent pool it was taken of, as given.
    pub(crate) source: String,
    pub(crate) version: Version,
    pub(crate) image: String,
    pub(crate) os_type: String,
    pub(crate) os_sku: Value,
    pub(crate) vm_size: String,
}

impl Snapshot {
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "id": format!(
                "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerService/snapshots/{}",
                self.subscription, self.group, self.name
            ),
            "name": self.name, "type": "Microsoft.ContainerService/Snapshots", "location": self.location,
            "properties": {
                "creationData": {"sourceResourceId": self.source}, "snapshotType": "NodePool",
                "kubernetesVersion": self.version.to_string(), "nodeImageVersion": self.image, "osType": self.os_type,
                "osSku": self.os_sku, "vmSize": self.vm_size, "enableFIPS": false,
            },
        });
        if let (Some(tags), Some(fields)) = (&self.tags, body.as_object_mut()) {
            fields.insert("tags".into(), tags.clone());
        }
        body
    }

    /// Refuses a pool of another image family or of another family of virtual machines.
    pub(crate) fn check_kind(&self, pool: &Pool) -> Result<(), ArmError> {
        let vm_size = pool.settings.get("vmSize").and_then(Value::as_str).unwrap_or_default();
        if catalogue::family(&self.image) != catalogue::family(&pool.image)
            || vm_family(&self.vm_size) != vm_family(vm_size)
        {
            let message = format!(
                "The snapshot '{}' of image {} and VM size {} cannot be used for agent pool '{}' of image {} and VM size {vm_size}.",
                self.name, self.image, self.vm_size, pool.name, pool.image
            );
            return Err(ArmError::invalid(CREATION_DATA, message));
        }
        Ok(())
    }

    /// Refuses a pool that may not be moved to the snapshot while it is to have this Kubernetes version: neither image nor
    /// Kubernetes version go back, and the snapshot's Kubernetes version is the pool's.
    pub(crate) fn check_fits(&self, pool: &Pool, version: Version) -> Result<(), ArmError> {
        self.check_kind(pool)?;
        if catalogue::is_older(&self.image, &pool.image) || self.version != version {
            let message = format!(
                "Agent pool '{}' with Kubernetes {version} and node image {} cannot be upgraded to the snapshot '{}' with Kubernetes {} and node image {}.",
                pool.name, pool.image, self.name, self.version, self.image
            );
            return Err(ArmError::invalid(CREATION_DATA, message));
        }
        Ok(())
    }
}

/// The snapshot that a pool's settings name.
pub(crate) fn source(properties: &Map<String, Value>) -> Option<&str> {
    properties.get("creationData")?.get("sourceResourceId")?.as_str().filter(|id| !id.is_empty())
}

/// `D` of `Standard_D4s_v5`.
fn vm_family(size: &str) -> String {
    let after = size.split_once('_').map_or(size, |(_, after)| after);
    after.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase()
}
