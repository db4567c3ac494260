//! The client of ARM and AKS.
//!
//! [`ManagedClusters`] is what a fleet manager needs of AKS. [`ArmClient`] speaks it to Azure or to the emulator; the base
//! URL is configuration. Nothing here sleeps or retries: an [`UpstreamError`] says what its caller should do, and a
//! `Retry-After` is data. [`Observer`] follows many operations within AKS's limits, [`CatalogueCache`] knows what each
//! region offers, [`MaintenanceCache`] when each cluster may be upgraded. [`Azure`] is all of it. Every function that calls
//! AKS fails as the client does.

pub mod budget;
mod catalogue;
mod client;
mod credential;
mod error;
mod maintenance;
mod observer;
pub mod pace;
mod single_flight;
mod token;
mod token_cache;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

pub use catalogue::{CatalogueCache, CatalogueNeeds};
pub use client::{API_VERSION, ArmClient, ClientError, Settings};
pub use credential::{Credential, Identity};
pub use error::{UpstreamError, Verdict};
pub use maintenance::{Freshness, MaintenanceCache};
pub use observer::{Followed, Observation, Observer};
pub use token::{StaticToken, TokenSource};
pub use token_cache::{CachedToken, NewToken, TokenIssuer};

use crate::{
    arm::{ErrorDetail, ResourceId},
    model::{
        maintenance::MaintenanceConfiguration,
        managed_cluster::{ManagedCluster, NodeImage, NodePoolSnapshot, OfferedVersion, RecentlyUsed, UpgradeAction},
    },
};

/// A cluster as read: the view to reason with, and the JSON to change and put back.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The view.
    pub cluster: ManagedCluster,
    /// What AKS sent.
    pub raw: serde_json::Value,
}

/// AKS has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Where to ask about the operation; `None` when AKS named none, so that only the provisioning state tells.
    pub operation_url: Option<String>,
    /// The operation's GUID, the last segment of its URL.
    pub operation_id: Option<String>,
    /// Not to ask before.
    pub retry_after: Option<Duration>,
}

/// How far an AKS operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Under way.
    Running {
        /// Not to ask again before.
        again_after: Option<Duration>,
    },
    /// Ended well.
    Succeeded {
        /// From its start to its end, by AKS's clock.
        took: Option<Duration>,
    },
    /// Ended badly, with AKS's own code and message.
    Failed(ErrorDetail),
    /// AKS knows it no longer: the provisioning state tells.
    Gone,
}

/// What AKS says of a pool's upgrades.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolUpgradeProfile {
    /// Newest image of the pool's family in its region.
    pub latest_node_image: Option<NodeImage>,
    /// What it ran before and can be set back to.
    pub recently_used: Vec<RecentlyUsed>,
}

/// How long the caller may go on, as it knows at the moment. [`Duration::ZERO`]: it may not call AKS any more.
pub type TimeLeft<'a> = &'a (dyn Fn() -> Duration + Send + Sync);

/// What a fleet manager needs of AKS.
#[async_trait]
pub trait ManagedClusters: Send + Sync + 'static {
    /// Reads a cluster and its pools.
    async fn get(&self, cluster: &ResourceId) -> Result<Seen, UpstreamError>;

    /// Gets everything that [`ManagedClusters::begin`] needs for these actions, so that it is not refused before its
    /// request is sent: the service's token, and a place in the budget of each call. The places are kept while the caller
    /// waits as long as [`UpstreamError::Throttled`] says.
    async fn prepare(&self, cluster: &ResourceId, actions: &[UpgradeAction]) -> Result<(), UpstreamError>;

    /// Begins an upgrade of what was seen, on condition that it is still so (`If-Match`). `time_left` is asked right before
    /// the request is sent, and limits the time that it may take.
    ///
    /// After [`UpstreamError::Transient`] and [`UpstreamError::Garbage`] it may have begun all the same: look again.
    async fn begin(
        &self,
        cluster: &ResourceId,
        seen: &Seen,
        action: &UpgradeAction,
        time_left: TimeLeft<'_>,
    ) -> Result<Accepted, UpstreamError>;

    /// Reads the status of an operation of this subscription. URLs of another origin than the upstream's are
    /// [`Progress::Gone`].
    async fn poll(&self, subscription: &str, operation_url: &str) -> Result<Progress, UpstreamError>;

    /// All clusters of a subscription.
    async fn list(&self, subscription: &str) -> Result<Vec<ManagedCluster>, UpstreamError>;

    /// What a pool can move to.
    async fn pool_upgrade_profile(&self, cluster: &ResourceId, pool: &str)
    -> Result<PoolUpgradeProfile, UpstreamError>;

    /// All node pool snapshots of a subscription.
    async fn snapshots(&self, subscription: &str) -> Result<Vec<NodePoolSnapshot>, UpstreamError>;

    /// Takes a snapshot of an agent pool in its region. One of that name is replaced.
    async fn take_snapshot(
        &self,
        snapshot: &ResourceId,
        location: &str,
        pool: &ResourceId,
    ) -> Result<(), UpstreamError>;

    /// Deletes a snapshot, if it is there.
    async fn delete_snapshot(&self, snapshot: &ResourceId) -> Result<(), UpstreamError>;

    /// Kubernetes versions that a region offers.
    async fn kubernetes_versions(
        &self,
        subscription: &str,
        location: &str,
    ) -> Result<Vec<OfferedVersion>, UpstreamError>;

    /// All maintenance configurations of a cluster, also those that cannot be understood.
    async fn maintenance_configurations(
        &self,
        cluster: &ResourceId,
        freshness: Freshness,
    ) -> Result<Vec<MaintenanceConfiguration>, UpstreamError>;

    /// What is left of AKS's limit for this kind of call, as a part of its burst: 0–1. `key` is a subscription, or a
    /// lower-cased resource ID, as [`budget::Class`] says.
    fn left(&self, class: budget::Class, key: &str) -> f64;
}

/// AKS, as the fleet manager uses it. One for the whole process: what is learnt and remembered is shared.
pub struct Azure {
    /// Single calls.
    pub clusters: Arc<dyn ManagedClusters>,
    /// Follows operations.
    pub observer: Observer,
    /// What regions offer.
    pub catalogue: CatalogueCache,
    /// When clusters may be upgraded.
    pub maintenance: MaintenanceCache,
}

/// How old answers of AKS may be.
#[derive(Debug, Clone, Copy)]
pub struct AzureOptions {
    /// Oldest answer about what a region offers.
    pub catalogue_age: Duration,
    /// Oldest answer about a maintenance window that lets an upgrade begin.
    pub maintenance_age: Duration,
}

impl Azure {
    /// AKS through this client.
    #[must_use]
    pub fn new(clusters: Arc<dyn ManagedClusters>, options: AzureOptions) -> Self {
        let AzureOptions { catalogue_age, maintenance_age } = options;
        Self {
            observer: Observer::new(Arc::clone(&clusters)),
            catalogue: CatalogueCache::new(Arc::clone(&clusters), catalogue_age),
            maintenance: MaintenanceCache::new(Arc::clone(&clusters), maintenance_age),
            clusters,
        }
    }
}
