//! Available upgrades: versions of a region, upgrade profiles, versions for agent pools.

use serde_json::{Map, Value, json};

use super::{Answer, region};
use crate::call::Reply;
use crate::catalogue::{self, Region};
use crate::cluster::{Cluster, image_family};
use crate::errors::ArmError;
use crate::operations::stamp;
use crate::rules;
use crate::version::Version;
use crate::world::World;

/// GET locations/{l}/kubernetesVersions: `values`, not `value`.
pub(super) fn kubernetes_versions(world: &World, location: &str) -> Answer {
    let region = region(world, location)?;
    let default = region.default_minor().map(|(_, minor)| minor);
    let mut minors: Vec<(String, bool, u32, Map<String, Value>)> = Vec::new();
    for (version, preview) in &region.versions {
        let upgrades: Vec<String> =
            rules::control_plane_upgrades(*version, region).iter().map(Version::to_string).collect();
        let patch = json!({ "upgrades": upgrades });
        match minors.last_mut().filter(|(minor, ..)| *minor == version.minor_name()) {
            Some((_, only_previews, _, patches)) => {
                *only_previews &= preview;
                patches.insert(version.to_string(), patch);
            }
            None => {
                let patches = Map::from_iter([(version.to_string(), patch)]);
                minors.push((version.minor_name(), *preview, version.minor, patches));
            }
        }
    }
    let values = minors.into_iter().map(|(minor, preview, number, patches)| {
        let plans = if number % 3 == 0 {
            json!(["KubernetesOfficial", "AKSLongTermSupport"])
        } else {
            json!(["KubernetesOfficial"])
        };
        let mut value = json!({"version": minor, "capabilities": {"supportPlan": plans}, "patchVersions": patches});
        if let Some(fields) = value.as_object_mut() {
            if default == Some(number) {
                fields.insert("isDefault".into(), true.into());
            }
            if preview {
                fields.insert("isPreview".into(), true.into());
            }
        }
        value
    });
    Ok(Reply::ok(json!({"values": values.collect::<Vec<_>>()})))
}

fn offer(version: Version, region: &Region) -> Value {
    let mut offer = json!({"kubernetesVersion": version.to_string()});
    if let (Some(true), Some(fields)) = (region.versions.get(&version), offer.as_object_mut()) {
        fields.insert("isPreview".into(), true.into());
    }
    offer
}

/// GET upgradeProfiles/default of a cluster; `agentPoolProfiles` is null there, as recorded.
pub(super) fn cluster_upgrades(world: &World, cluster: &Cluster) -> Answer {
    let region = region(world, &cluster.location)?;
    let mut profile = json!({"kubernetesVersion": cluster.version.to_string(), "osType": "Linux"});
    let upgrades: Vec<Value> = rules::control_plane_upgrades(cluster.version, region)
        .into_iter()
        .rev()
        .map(|version| offer(version, region))
        .collect();
    if let (false, Some(fields)) = (upgrades.is_empty(), profile.as_object_mut()) {
        fields.insert("upgrades".into(), upgrades.into());
    }
    Ok(Reply::ok(json!({
        "id": format!("{}/upgradeprofiles/default", cluster.id()), "name": "default",
        "type": "Microsoft.ContainerService/managedClusters/upgradeprofiles",
        "properties": {"controlPlaneProfile": profile, "agentPoolProfiles": null},
    })))
}

/// GET upgradeProfiles/default of an agent pool.
pub(super) fn pool_upgrades(world: &World, cluster: &Cluster, name: &str) -> Answer {
    let region = region(world, &cluster.location)?;
    let Some(pool) = cluster.pool(name) else { return Err(super::pools::not_found(cluster, name)) };
    let mut properties = json!({"kubernetesVersion": pool.version.to_string(), "osType": pool.os_type()});
    let Some(fields) = properties.as_object_mut() else { return Err(ArmError::not_found("The agent pool is gone.")) };
    let family = catalogue::family(&pool.image);
    let newest = region.newest_image(family).or_else(|| region.newest_image(image_family(&pool.settings)));
    fields.insert("latestNodeImageVersion".into(), newest.unwrap_or_else(|| pool.image.clone()).into());
    let offered = rules::pool_versions(cluster.version, region).into_iter().filter(|version| *version > pool.version);
    let upgrades: Vec<Value> = offered.map(|version| offer(version, region)).collect();
    if !upgrades.is_empty() {
        fields.insert("upgrades".into(), upgrades.into());
    }
    if !pool.recent.is_empty() {
        let recent = pool.recent.iter().map(|used| {
            json!({
                "orchestratorVersion": used.version.to_string(), "nodeImageVersion": used.image, "timestamp": stamp(used.until),
            })
        });
        fields.insert("recentlyUsedVersions".into(), recent.collect());
    }
    Ok(Reply::ok(json!({
        "id": format!("{}/agentPools/{}/upgradeProfiles/default", cluster.id(), pool.name), "name": "default",
        "type": "Microsoft.ContainerService/managedClusters/agentPools/upgradeProfiles", "properties": properties,
    })))
}

/// GET availableAgentPoolVersions.
pub(super) fn available_pool_versions(world: &World, cluster: &Cluster) -> Answer {
    let region = region(world, &cluster.location)?;
    let versions = rules::pool_versions(cluster.version, region).into_iter().map(|version| {
        let mut offer = offer(version, region);
        if let (true, Some(fields)) = (version == cluster.version, offer.as_object_mut()) {
            fields.insert("default".into(), true.into());
        }
        offer
    });
    Ok(Reply::ok(json!({
        "id": format!("{}/availableagentpoolversions", cluster.id()), "name": "default",
        "type": "Microsoft.ContainerService/managedClusters/availableAgentpoolVersions",
        "properties": {"agentPoolVersions": versions.collect::<Vec<_>>()},
    })))
}
