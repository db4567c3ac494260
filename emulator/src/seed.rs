//! The clusters at start, a function of the configuration.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::catalogue::{self, REGIONS};
use crate::cluster::{Cluster, Pool, cluster_settings, guid, image_family, pool_settings};
use crate::config::Config;
use crate::version::Version;

pub(crate) const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub(crate) const SUBSCRIPTIONS: [&str; 2] =
    ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"];
/// Clusters up to this number are in the first subscription's `rg1`. Later ones alternate.
const IN_RG1: usize = 12;
/// Versions at start. All regions offer 1.33.2 and 1.33.5, one minor version later.
const STARTS: [Version; 2] = [Version::new(1, 32, 5), Version::new(1, 32, 7)];
/// Name, osType, osSKU and mode of the first, second and third agent pool.
const POOLS: [(&str, &str, &str, &str); 3] = [
    ("nodepool1", "Linux", "Ubuntu", "System"),
    ("azlinux", "Linux", "AzureLinux", "User"),
    ("npwin", "Windows", "Windows2022", "User"),
];

/// Returns the clusters at start.
pub(crate) fn clusters(config: &Config) -> Vec<Cluster> {
    let [first, second] = SUBSCRIPTIONS;
    let mut rng = StdRng::seed_from_u64(config.seed);
    let mut clusters: Vec<Cluster> = (1..=config.clusters)
        .map(|n| {
            let (subscription, group) = match n {
                _ if n <= IN_RG1 => (first, "rg1"),
                _ if n % 4 == 1 => (first, "rg2"),
                _ if n % 4 == 3 => (second, "rg1"),
                _ => (first, "rg1"),
            };
            generate(&mut rng, subscription, group, format!("aks-{n}"), n)
        })
        .collect();
    // A separate generator, so that these clusters do not depend on the number of others.
    let mut rng = StdRng::seed_from_u64(!config.seed);
    clusters.extend((1..=2).map(|n| generate(&mut rng, second, "rg2", format!("aks-sub2-{n}"), n)));
    clusters
}

fn generate(rng: &mut StdRng, subscription: &str, group: &str, name: String, n: usize) -> Cluster {
    let location = REGIONS.get((n + REGIONS.len() - 1) % REGIONS.len()).copied().unwrap_or("eastus");
    let start = STARTS.get(rng.random_range(0..STARTS.len())).copied().unwrap_or(Version::new(1, 32, 5));
    let mut cluster = cluster(subscription, group, name, location, start);
    for (name, os_type, os_sku, mode) in POOLS.into_iter().take(rng.random_range(1..=POOLS.len())) {
        let chosen = json!({"osType": os_type, "osSKU": os_sku, "mode": mode, "count": rng.random_range(1..=5)});
        cluster.pools.push(pool(name, chosen.as_object().cloned().unwrap_or_default(), start));
    }
    cluster.etag = guid(&cluster.key(), rng.random());
    cluster
}

/// Returns a cluster without operations and agent pools.
pub(crate) fn cluster(subscription: &str, group: &str, name: String, location: &str, version: Version) -> Cluster {
    let mut cluster = Cluster {
        subscription: subscription.to_owned(),
        group: group.to_owned(),
        location: location.to_owned(),
        etag: String::new(),
        tags: None,
        sku: json!({"name": "Base", "tier": "Standard"}),
        identity: Value::Null,
        settings: cluster_settings(&name, &Map::new(), None),
        kubernetes_version: version.to_string(),
        version,
        pools: Vec::new(),
        state: "Succeeded".into(),
        stopped: false,
        error: None,
        running: None,
        upgrade_seconds: None,
        maintenance: BTreeMap::new(),
        rendered: None,
        name,
    };
    cluster.etag = guid(&cluster.key(), 0);
    cluster.identity = identity(&cluster.key(), TENANT);
    cluster
}

/// Returns a system-assigned identity, which has the cluster's tenant.
pub(crate) fn identity(key: &str, tenant: &str) -> Value {
    json!({"type": "SystemAssigned", "principalId": guid(key, 3), "tenantId": tenant})
}

/// Returns an agent pool without operations, on the oldest image of its family.
pub(crate) fn pool(name: &str, chosen: Map<String, Value>, version: Version) -> Pool {
    let settings = pool_settings(&chosen);
    Pool {
        name: name.to_owned(),
        etag: guid(name, 4),
        image: catalogue::oldest_image(image_family(&settings)),
        settings,
        orchestrator_version: version.to_string(),
        version,
        recent: Vec::new(),
        state: "Succeeded".into(),
        stopped: false,
        error: None,
        running: None,
    }
}
