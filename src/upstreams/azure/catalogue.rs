//! What each region offers, asked for once for all members in it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{ManagedClusters, PoolUpgradeProfile, UpstreamError, budget::Class, shared::Shared};
use crate::{
    arm::ResourceId,
    model::managed_cluster::{Catalogue, ManagedCluster, NodeImage, OfferedVersion},
};

/// Remembers what regions offer, for all members in them. One for the whole process.
pub struct CatalogueCache<C> {
    client: Arc<C>,
    max_age: Duration,
    accepts_any_image: bool,
    versions: Shared<(String, String), Arc<Vec<OfferedVersion>>>,
    latest: Shared<(String, String), Option<NodeImage>>,
}

impl<C: ManagedClusters> CatalogueCache<C> {
    /// A cache whose answers are at most `max_age` old (a few minutes: AKS publishes images weekly).
    /// `accepts_any_image`: the upstream takes any published image in `nodeImageVersion`, as the emulator can.
    #[must_use]
    pub fn new(client: Arc<C>, max_age: Duration, accepts_any_image: bool) -> Self {
        Self { client, max_age, accepts_any_image, versions: Shared::default(), latest: Shared::default() }
    }

    /// What the cluster's region offers to it. `history`: with the images that its pools ran before (one call a pool).
    ///
    /// # Errors
    /// As the client's.
    pub async fn of(
        &self,
        id: &ResourceId,
        cluster: &ManagedCluster,
        history: bool,
    ) -> Result<Catalogue, UpstreamError> {
        let (subscription, location) = (id.subscription(), cluster.location.as_str());
        let versions = self
            .versions
            .get((subscription.to_owned(), location.to_owned()), self.max_age, || async {
                Ok(Arc::new(self.client.kubernetes_versions(subscription, location).await?))
            })
            .await?;
        let mut recently_used = BTreeMap::new();
        if history && !self.accepts_any_image {
            for pool in &cluster.pools {
                recently_used.insert(pool.name.clone(), self.profile(id, &pool.name).await?.recently_used);
            }
        }
        Ok(Catalogue {
            versions: versions.to_vec(),
            latest: self.latest_images(id, cluster).await?,
            recently_used,
            accepts_any_image: self.accepts_any_image,
        })
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
