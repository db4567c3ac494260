//! What each region offers, asked for once for all members in it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{ManagedClusters, PoolUpgradeProfile, UpstreamError, budget::Class, shared::Shared};
use crate::{
    arm::ResourceId,
    model::managed_cluster::{Catalogue, ManagedCluster, NodeImage, NodePoolSnapshot, OfferedVersion, RecentlyUsed},
};

/// Remembers what regions offer, for all members in them. One for the whole process.
pub struct CatalogueCache<C> {
    client: Arc<C>,
    max_age: Duration,
    versions: Shared<(String, String), Arc<Vec<OfferedVersion>>>,
    latest: Shared<(String, String), Option<NodeImage>>,
    snapshots: Shared<String, Arc<Vec<NodePoolSnapshot>>>,
}

impl<C: ManagedClusters> CatalogueCache<C> {
    /// A cache whose answers are at most `max_age` old (a few minutes: AKS publishes images weekly).
    #[must_use]
    pub fn new(client: Arc<C>, max_age: Duration) -> Self {
        Self { client, max_age, versions: Shared::default(), latest: Shared::default(), snapshots: Shared::default() }
    }

    /// What the cluster's region offers to it. `chosen`: the images that its pools are to have, if they were chosen; only pools
    /// that need another way to them than the region's newest are asked what they ran lately (one call a pool).
    pub async fn of(
        &self,
        id: &ResourceId,
        cluster: &ManagedCluster,
        chosen: Option<&[NodeImage]>,
    ) -> Result<Catalogue, UpstreamError> {
        let mut catalogue = self.without_history(id, cluster).await?;
        let Some(chosen) = chosen else { return Ok(catalogue) };
        for pool in &cluster.pools {
            let Some(current) = &pool.image else { continue };
            let Some(target) = chosen.iter().find(|image| image.family() == current.family()) else { continue };
            let behind = target.is_at_least(current);
            if behind && catalogue.latest.get(current.family()).is_some_and(|latest| latest != target) {
                catalogue.recently_used.insert(pool.name.clone(), self.recently_used(id, &pool.name).await?);
                catalogue.snapshots = self.snapshots(id.subscription()).await?.to_vec();
            }
        }
        Ok(catalogue)
    }

    /// What the cluster's region offers to it, without what single pools ran lately and without snapshots.
    pub async fn without_history(&self, id: &ResourceId, cluster: &ManagedCluster) -> Result<Catalogue, UpstreamError> {
        let (subscription, location) = (id.subscription(), cluster.location.as_str());
        let versions = self
            .versions
            .get((subscription.to_owned(), location.to_owned()), self.max_age, || async {
                Ok(Arc::new(self.client.kubernetes_versions(subscription, location).await?))
            })
            .await?;
        Ok(Catalogue {
            versions: versions.to_vec(),
            latest: self.latest_images(id, cluster).await?,
            recently_used: BTreeMap::new(),
            snapshots: Vec::new(),
        })
    }

    /// What a pool ran lately.
    pub async fn recently_used(&self, id: &ResourceId, pool: &str) -> Result<Vec<RecentlyUsed>, UpstreamError> {
        Ok(self.profile(id, pool).await?.recently_used)
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
    ///
    /// # Errors
    /// As the client's.
    pub async fn latest_images(
        &self,
        id: &ResourceId,
        cluster: &ManagedCluster,
    ) -> Result<BTreeMap<String, NodeImage>, UpstreamError> {
        // Any pool of a family can answer for it.
        let families: HashMap<&str, &str> =
            cluster.pools.iter().filter_map(|pool| Some((pool.image.as_ref()?.family(), pool.name.as_str()))).collect();
        let mut latest = BTreeMap::new();
        for (family, pool) in families {
            let key = (cluster.location.clone(), family.to_owned());
            let ask = || async { Ok(self.profile(id, pool).await?.latest_node_image) };
            if let Some(image) = self.latest.get(key, self.max_age, ask).await? {
                latest.insert(family.to_owned(), image);
            }
        }
        Ok(latest)
    }

    /// The Kubernetes versions that a region offers now. Whoever asks for them next gets these.
    ///
    /// # Errors
    /// As the client's; a region that offers none is not believed.
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

    /// The newest image now of the family of a pool of this cluster. Whoever asks for it next gets this.
    ///
    /// # Errors
    /// As the client's.
    pub async fn look_at_image(
        &self,
        id: &ResourceId,
        location: &str,
        (pool, family): (&str, &str),
    ) -> Result<Option<NodeImage>, UpstreamError> {
        let ask = || async { Ok(self.profile(id, pool).await?.latest_node_image) };
        self.latest.get((location.to_owned(), family.to_owned()), Duration::ZERO, ask).await
    }

    /// What is left for questions about what a subscription's regions offer, as a part of AKS's limit: 0–1. Upgrades ask,
    /// too.
    #[must_use]
    pub fn left(&self, subscription: &str) -> f64 {
        self.client.left(Class::Other, subscription)
    }

    /// All clusters of a subscription, as the client lists them.
    ///
    /// # Errors
    /// As the client's.
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
