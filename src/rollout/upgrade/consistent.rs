//! The node images of a `Consistent` run: for each family the newest that AKS can set on every pool of the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Goal,
    images::{Means, PoolAt, is_expired, means},
    plan::{lags, target},
};
use crate::{
    arm::ErrorDetail,
    model::{
        managed_cluster::{AgentPool, Catalogue, ManagedCluster, NodeImage, NodePoolSnapshot, RecentlyUsed},
        update_run::NodeImageVersion,
        version::KubernetesVersion,
    },
};

/// Most pools that a message names.
const NAMED: usize = 10;

/// An agent pool of the run, as far as the choice needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistentPool {
    /// Name of its cluster, for people.
    pub cluster: String,
    /// Its region.
    pub location: String,
    /// The pool.
    pub pool: AgentPool,
    /// The newest image of its family in its region, where AKS says.
    pub latest: Option<NodeImage>,
    /// What it ran lately; `None`: AKS was not asked yet.
    pub recently_used: Option<Vec<RecentlyUsed>>,
    /// Snapshots that can be used in its subscription.
    pub snapshots: Arc<Vec<NodePoolSnapshot>>,
    version: Option<KubernetesVersion>,
    moves: bool,
}

/// What comes of the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageChoice {
    /// One image a family.
    Chosen(Vec<NodeImageVersion>),
    /// It depends on what the pool at this index ran lately: to be asked, then choose again.
    Ask(usize),
    /// No version can be set on all pools of some family: the regions and pools in the way.
    Impossible(ErrorDetail),
}

impl ConsistentPool {
    /// The pools of a cluster whose images the run moves: none of a cluster or pool that is stopped, or whose nodes are provisioned
    /// automatically.
    #[must_use]
    pub fn of(
        cluster: &ManagedCluster,
        goal: &Goal,
        catalogue: &Catalogue,
        snapshots: &Arc<Vec<NodePoolSnapshot>>,
    ) -> Vec<Self> {
        if cluster.stopped || cluster.node_auto_provisioning || !goal.moves_pools() {
            return Vec::new();
        }
        let name = cluster.id.rsplit('/').next().unwrap_or_default();
        // A version that the region does not offer yet is waited for: until then nobody knows it.
        let (known, target) = match target(&super::Upgrade::default(), cluster, goal, catalogue) {
            Ok(target) => (true, target),
            Err(_) => (false, None),
        };
        cluster
            .pools
            .iter()
            .filter(|pool| !pool.stopped)
            .filter_map(|pool| {
                let family = pool.image.as_ref()?.family();
                let to = target.filter(|target| lags(pool, *target, false));
                Some(Self {
                    cluster: name.to_owned(),
                    location: cluster.location.clone(),
                    latest: catalogue.latest.get(family).cloned(),
                    recently_used: catalogue.recently_used.get(&pool.name).cloned(),
                    snapshots: Arc::clone(snapshots),
                    version: if known { to.or_else(|| pool.version()) } else { None },
                    moves: !known || to.is_some(),
                    pool: pool.clone(),
                })
            })
            .collect()
    }

    fn at(&self) -> PoolAt<'_> {
        PoolAt { pool: &self.pool, version: self.version, moves: self.moves }
    }

    fn means(&self, image: &NodeImage) -> Option<Means<'_>> {
        let used = self.recently_used.as_deref().unwrap_or_default();
        means(image, self.at(), self.latest.as_ref(), used, &self.snapshots)
    }

    /// Whether what the pool ran lately could bring the image.
    fn may_have_run(&self, image: &NodeImage) -> bool {
        self.recently_used.is_none()
            && self.version.is_some()
            && self.pool.image.as_ref().is_some_and(|current| image.is_at_least(current))
    }

    fn shown(&self) -> String {
        format!("{}/{} in {}", self.cluster, self.pool.name, self.location)
    }
}

/// Chooses, for each image family of the pools, the newest version that AKS can set on all of them. Keeping an image counts as
/// setting it, but a version that moves no pool while some region has a newer one is no choice. The order of the pools does not matter.
#[must_use]
pub fn choose_images(pools: &[ConsistentPool], now: Timestamp) -> ImageChoice {
    let mut families: BTreeMap<&str, Vec<(usize, &ConsistentPool)>> = BTreeMap::new();
    for (index, pool) in pools.iter().enumerate() {
        let Some(image) = &pool.pool.image else { continue };
        families.entry(image.family()).or_default().push((index, pool));
    }
    let (mut chosen, mut impossible) = (Vec::new(), Vec::new());
    for (family, pools) in families {
        match choose(&pools, now) {
            Family::Chosen(image) => chosen.push(NodeImageVersion { version: image.to_string() }),
            Family::Ask(index) => return ImageChoice::Ask(index),
            Family::Impossible => impossible.push(in_the_way(family, &pools)),
        }
    }
    if impossible.is_empty() { ImageChoice::Chosen(chosen) } else { ImageChoice::Impossible(refusal(impossible)) }
}

enum Family {
    Chosen(NodeImage),
    Ask(usize),
    Impossible,
}

fn choose(pools: &[(usize, &ConsistentPool)], now: Timestamp) -> Family {
    let mut candidates: Vec<&NodeImage> = Vec::new();
    let mut snapshots: BTreeMap<*const Vec<NodePoolSnapshot>, &ConsistentPool> = BTreeMap::new();
    for (_, pool) in pools {
        let used = pool.recently_used.iter().flatten().map(|used| &used.image);
        candidates.extend(pool.latest.iter().chain(&pool.pool.image).chain(used));
        // Pools of a subscription share the list.
        snapshots.entry(Arc::as_ptr(&pool.snapshots)).or_insert(pool);
    }
    for pool in snapshots.into_values() {
        let of_family = |image: &&NodeImage| pool.pool.image.as_ref().is_some_and(|own| own.family() == image.family());
        candidates.extend(pool.snapshots.iter().map(|snapshot| &snapshot.image).filter(of_family));
    }
    candidates.sort_by(|a, b| b.version().cmp(&a.version()));
    candidates.dedup();
    let latest = || pools.iter().filter_map(|(_, pool)| pool.latest.as_ref());
    let (newest, common) = (latest().max_by_key(|image| image.version()), latest().min_by_key(|image| image.version()));
    // A version that nobody has, offers or keeps can only be one that every pool ran lately: any of them tells. None is newer than
    // what all regions offer.
    let untold = pools.first().filter(|(_, pool)| pool.recently_used.is_none() && pool.version.is_some());
    for image in candidates {
        let unset: Vec<_> = pools.iter().filter(|(_, pool)| pool.means(image).is_none()).collect();
        if unset.iter().any(|(_, pool)| !pool.may_have_run(image)) {
            continue;
        }
        if let Some((index, _)) = unset.first() {
            return Family::Ask(*index);
        }
        if let Some((index, _)) = untold.filter(|_| Some(image) != common) {
            return Family::Ask(*index);
        }
        let moved = pools.iter().any(|(_, pool)| pool.means(image) != Some(Means::Stay));
        let outdated = newest.is_some_and(|newest| moved && is_expired(image, newest, now));
        let idle = !moved && newest.is_some_and(|newest| newest.version() > image.version());
        // Older ones move no more pools, and expire sooner.
        return if outdated || idle { Family::Impossible } else { Family::Chosen(image.clone()) };
    }
    untold.map_or(Family::Impossible, |(index, _)| Family::Ask(*index))
}

/// One sentence on what the regions offer, one on the pools that cannot have the newest version that all regions have.
fn in_the_way(family: &str, pools: &[(usize, &ConsistentPool)]) -> ErrorDetail {
    let offers: BTreeMap<&str, Option<&NodeImage>> =
        pools.iter().map(|(_, pool)| (pool.location.as_str(), pool.latest.as_ref())).collect();
    let version = |image: &NodeImage| image.as_str().rsplit(['-', ':']).next().unwrap_or_default().to_owned();
    let shown: Vec<String> = offers
        .iter()
        .map(|(region, latest)| {
            format!("{region} {}", latest.map_or_else(|| "none that AKS names".to_owned(), version))
        })
        .collect();
    let common = offers.values().copied().flatten().min_by_key(|latest| latest.version());
    let mut message = format!("Image family {family}: the newest versions are {}.", shown.join(", "));
    if let Some(common) = common {
        let unset: BTreeSet<String> =
            pools.iter().filter(|(_, pool)| pool.means(common).is_none()).map(|(_, pool)| pool.shown()).collect();
        let named: Vec<&str> = unset.iter().take(NAMED).map(String::as_str).collect();
        let more = match unset.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if !named.is_empty() {
            message.push_str(&format!(
                " Version {} cannot be set on agent pools {}{more}.",
                version(common),
                named.join(", ")
            ));
        }
    }
    ErrorDetail::new("NoConsistentNodeImage", message)
}

fn refusal(families: Vec<ErrorDetail>) -> ErrorDetail {
    let reasons: Vec<&str> = families.iter().map(|family| family.message.as_str()).collect();
    let message = format!(
        "There is no node image version that AKS can set on all agent pools of the update run. Nothing was changed. {} Start the run again when the regions offer the same version, or skip the members in the way first; node pool snapshots (FLEET_NODE_IMAGE_SNAPSHOTS) keep older versions within reach.",
        reasons.join(" ")
    );
    families.into_iter().fold(ErrorDetail::new("NoConsistentNodeImage", message), ErrorDetail::with)
}

#[cfg(test)]
mod tests;
