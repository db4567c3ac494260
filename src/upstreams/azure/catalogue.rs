//! What each region offers, read once for all members in it, and what each agent pool can be set back to.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;

use super::{ManagedClusters, PoolUpgradeProfile, UpstreamError, budget::Class, single_flight::SingleFlightCache};
use crate::{
    arm::ResourceId,
    model::managed_cluster::{
        AgentPool, Catalogue, ManagedCluster, NodeImage, NodePoolSnapshot, OfferedVersion, RecentlyUsed,
    },
};

/// Oldest answer about a region that serves when AKS cannot be called: AKS publishes versions and images weekly.
const OLDEST: Duration = Duration::from_secs(3600);
/// Oldest answer about the images that a pool can be set back to. They change with the pool's own upgrades only.
const OLDEST_HISTORY: Duration = Duration::from_secs(3600);

/// Which parts of a catalogue an upgrade needs. Each part that it does not need saves calls to AKS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueNeeds<'a> {
    /// The Kubernetes versions that the region offers.
    pub versions: bool,
    /// The newest node image of each family among the cluster's pools.
    pub images: bool,
    /// The node images that pools are to have. Where AKS has to set one that is not the newest, the images that the pool
    /// can be set back to are read, one call a pool, and the snapshots of the subscription.
    pub chosen_images: &'a [NodeImage],
}

/// Remembers what regions offer, for all members in them. One for the whole process.
pub struct CatalogueCache {
    client: Arc<dyn ManagedClusters>,
    max_age: Duration,
    versions: SingleFlightCache<(String, String), Arc<Vec<OfferedVersion>>>,
    latest: SingleFlightCache<(String, String), Option<NodeImage>>,
    /// By lower-cased ID of the pool.
    history: SingleFlightCache<String, Vec<RecentlyUsed>>,
    /// By subscription.
    snapshots: SingleFlightCache<String, Arc<Vec<NodePoolSnapshot>>>,
}

impl CatalogueCache {
    /// A cache whose answers are at most `max_age` old (a few minutes: AKS publishes images weekly).
    #[must_use]
    pub fn new(client: Arc<dyn ManagedClusters>, max_age: Duration) -> Self {
        Self {
            client,
            max_age,
            versions: SingleFlightCache::default(),
            latest: SingleFlightCache::default(),
            history: SingleFlightCache::default(),
            snapshots: SingleFlightCache::default(),
        }
    }

    /// What the cluster's region offers to it, as far as it is needed. What was read before an error is not read again.
    pub async fn of(
        &self,
        id: &ResourceId,
        cluster: &ManagedCluster,
        needs: CatalogueNeeds<'_>,
    ) -> Result<Catalogue, UpstreamError> {
        let versions = async {
            if needs.versions {
                self.offered_versions(id.subscription(), &cluster.location).await
            } else {
                Ok(Arc::default())
            }
        };
        let latest = async { if needs.images { self.latest_images(id, cluster).await } else { Ok(BTreeMap::new()) } };
        let (versions, latest) = futures_util::join!(versions, latest);
        let (versions, latest) = both(versions, latest)?;
        let recently_used = self.histories(id, cluster, needs.chosen_images, &latest).await?;
        // A pool that has the image keeps it through a change of its Kubernetes version by a snapshot only.
        let needs_snapshots = cluster.pools.iter().filter_map(|pool| pool.image.as_ref()).any(|current| {
            let newest = latest.get(current.family());
            needs.chosen_images.iter().any(|image| image.is_at_least(current) && Some(image) != newest)
        });
        let snapshots = if needs_snapshots { self.snapshots(id.subscription()).await?.to_vec() } else { Vec::new() };
        Ok(Catalogue { versions: versions.to_vec(), latest, recently_used, snapshots })
    }

    /// What a pool ran lately.
    pub async fn recently_used(&self, id: &ResourceId, pool: &str) -> Result<Vec<RecentlyUsed>, UpstreamError> {
        let key = id.child("agentPools", pool).key().to_owned();
        let ask = || async { Ok(self.profile(id, pool).await?.recently_used) };
        self.history.get(key, self.max_age, ask).await
    }

    /// This service's snapshots in a subscription; none where it may not read them.
    pub async fn snapshots(&self, subscription: &str) -> Result<Arc<Vec<NodePoolSnapshot>>, UpstreamError> {
        let ask = || async {
            match self.client.snapshots(subscription).await {
                Ok(mut all) => {
                    all.retain(NodePoolSnapshot::is_own);
                    Ok(Arc::new(all))
                }
                Err(UpstreamError::Forbidden(detail) | UpstreamError::NotFound(detail)) => {
                    tracing::debug!(subscription, "node pool snapshots cannot be read: {}", detail.message);
                    Ok(Arc::default())
                }
                Err(error) => Err(error),
            }
        };
        self.snapshots.get(subscription.to_lowercase(), self.max_age, ask).await
    }

    /// The newest image in the cluster's region of each family among its pools, by family.
    pub async fn latest_images(
        &self,
        id: &ResourceId,
        cluster: &ManagedCluster,
    ) -> Result<BTreeMap<String, NodeImage>, UpstreamError> {
        // Any pool of a family can answer for it.
        let families: HashMap<&str, &str> =
            cluster.pools.iter().filter_map(|pool| Some((pool.image.as_ref()?.family(), pool.name.as_str()))).collect();
        let answers = join_all(families.into_iter().map(|(family, pool)| async move {
            let key = (cluster.location.clone(), family.to_owned());
            let ask = || async { Ok(self.profile(id, pool).await?.latest_node_image) };
            let image = self.latest.get(key.clone(), self.max_age, ask).await;
            Ok(or_known(&self.latest, &key, image)?.map(|image| (family.to_owned(), image)))
        }));
        Ok(all(answers.await)?.into_iter().flatten().collect())
    }

    async fn offered_versions(
        &self,
        subscription: &str,
        location: &str,
    ) -> Result<Arc<Vec<OfferedVersion>>, UpstreamError> {
        let key = (subscription.to_owned(), location.to_owned());
        let ask = || async { Ok(Arc::new(self.client.kubernetes_versions(subscription, location).await?)) };
        let versions = self.versions.get(key.clone(), self.max_age, ask).await;
        or_known(&self.versions, &key, versions)
    }

    /// By pool the images that it can be set back to, of the pools for which that matters.
    async fn histories(
        &self,
        id: &ResourceId,
        cluster: &ManagedCluster,
        chosen: &[NodeImage],
        latest: &BTreeMap<String, NodeImage>,
    ) -> Result<BTreeMap<String, Vec<RecentlyUsed>>, UpstreamError> {
        let pools = cluster.pools.iter().filter(|pool| needs_history(pool, chosen, latest));
        let answers = join_all(pools.map(|pool| async {
            let key = id.child("agentPools", &pool.name).key().to_owned();
            let ask = || async { Ok(self.profile(id, &pool.name).await?.recently_used) };
            Ok((pool.name.clone(), self.history.get(key, OLDEST_HISTORY, ask).await?))
        }));
        Ok(all(answers.await)?.into_iter().collect())
    }

    /// The Kubernetes versions that a region offers now; later readers get this answer. A region that offers none is not
    /// believed.
    pub async fn look_at_versions(
        &self,
        subscription: &str,
        location: &str,
    ) -> Result<Arc<Vec<OfferedVersion>>, UpstreamError> {
        let ask = || async {
            let versions = self.client.kubernetes_versions(subscription, location).await?;
            if versions.is_empty() {
                return Err(UpstreamError::Garbage(format!("AKS offers no Kubernetes version in '{location}'")));
            }
            Ok(Arc::new(versions))
        };
        self.versions.get((subscription.to_owned(), location.to_owned()), Duration::ZERO, ask).await
    }

    /// The newest image now of the family of a pool of this cluster; later readers get this answer.
    pub async fn look_at_image(
        &self,
        id: &ResourceId,
        location: &str,
        (pool, family): (&str, &str),
    ) -> Result<Option<NodeImage>, UpstreamError> {
        let ask = || async { Ok(self.profile(id, pool).await?.latest_node_image) };
        self.latest.get((location.to_owned(), family.to_owned()), Duration::ZERO, ask).await
    }

    /// What is left of AKS's limit on reading what a subscription's regions offer: 0–1. Upgrades spend it, too.
    #[must_use]
    pub fn left(&self, subscription: &str) -> f64 {
        self.client.left(Class::Other, subscription)
    }

    /// All clusters of a subscription, as the client lists them.
    pub async fn clusters(&self, subscription: &str) -> Result<Vec<ManagedCluster>, UpstreamError> {
        self.client.list(subscription).await
    }

    /// A pool that was deleted since it was seen has nothing to offer.
    async fn profile(&self, id: &ResourceId, pool: &str) -> Result<PoolUpgradeProfile, UpstreamError> {
        match self.client.pool_upgrade_profile(id, pool).await {
            Err(UpstreamError::NotFound(_)) => Ok(PoolUpgradeProfile::default()),
            other => other,
        }
    }
}

/// Whether a pool is to get an image that is older than the newest, so that AKS sets it only if the pool ran it before.
fn needs_history(pool: &AgentPool, chosen: &[NodeImage], latest: &BTreeMap<String, NodeImage>) -> bool {
    let Some(current) = &pool.image else { return false };
    chosen.iter().filter(|image| image.family() == current.family()).any(|image| {
        let is_older = latest.get(image.family()).is_some_and(|latest| !image.is_at_least(latest));
        is_older && !current.is_at_least(image)
    })
}

/// The answer; where AKS cannot be called at the moment, the last good one, if it is not too old.
fn or_known<K: Eq + Hash, V: Clone>(
    cache: &SingleFlightCache<K, V>,
    key: &K,
    answer: Result<V, UpstreamError>,
) -> Result<V, UpstreamError> {
    match answer {
        Err(
            error @ (UpstreamError::Throttled { .. }
            | UpstreamError::Unavailable { .. }
            | UpstreamError::Transient { .. }),
        ) => cache.known(key, OLDEST).ok_or(error),
        other => other,
    }
}

/// All answers, or the error that matters most: a failure; else the longest wait for AKS's limit on calls.
fn all<T>(answers: Vec<Result<T, UpstreamError>>) -> Result<Vec<T>, UpstreamError> {
    let mut good = Vec::with_capacity(answers.len());
    let mut worst = None;
    for answer in answers {
        match answer {
            Ok(value) => good.push(value),
            Err(error) => worst = Some(worst.map_or_else(|| error.clone(), |worst| worse(worst, error.clone()))),
        }
    }
    worst.map_or(Ok(good), Err)
}

fn both<A, B>(a: Result<A, UpstreamError>, b: Result<B, UpstreamError>) -> Result<(A, B), UpstreamError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(worse(a, b)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

fn worse(a: UpstreamError, b: UpstreamError) -> UpstreamError {
    match (&a, &b) {
        (UpstreamError::Throttled { after: a_wait, .. }, UpstreamError::Throttled { after: b_wait, .. }) => {
            if a_wait >= b_wait { a } else { b }
        }
        (UpstreamError::Throttled { .. }, _) => b,
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_read_only_where_an_older_image_is_to_be_set() {
        let image = |date: &str| NodeImage::new(format!("U-{date}.0"));
        let pool = |date: &str| {
            serde_json::from_value::<AgentPool>(
                serde_json::json!({"name": "p", "properties": {}, "nodeImageVersion": format!("U-{date}.0")}),
            )
            .unwrap()
        };
        let latest = BTreeMap::from([("U".to_owned(), image("202503.01"))]);
        let needs = |pool: &AgentPool, chosen: &[NodeImage]| needs_history(pool, chosen, &latest);
        let old = pool("202501.01");
        assert!(needs(&old, &[image("202502.01")]));
        assert!(!needs(&old, &[image("202503.01")]), "the newest");
        assert!(!needs(&old, &[image("202504.01")]), "not published here yet");
        assert!(!needs(&pool("202502.01"), &[image("202502.01")]), "there already");
        assert!(!needs(&old, &[NodeImage::new("A-202502.01.0")]), "another family");
        assert!(!needs(&old, &[]));
    }

    #[test]
    fn a_failure_matters_more_than_a_wait() {
        let throttled = |seconds| UpstreamError::Throttled {
            after: Duration::from_secs(seconds),
            detail: crate::arm::ErrorDetail::new("TooManyRequests", ""),
        };
        let failure = UpstreamError::Garbage(String::new());
        assert_eq!(all(vec![Ok(1), Err(throttled(2)), Err(throttled(9)), Err(throttled(3))]), Err(throttled(9)));
        assert_eq!(all(vec![Err::<u8, _>(throttled(2)), Err(failure.clone())]), Err(failure));
        assert_eq!(all(vec![Ok(1), Ok(2)]), Ok(vec![1, 2]));
    }
}
