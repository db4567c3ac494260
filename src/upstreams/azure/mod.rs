//! The client of ARM and AKS as an upstream.
//!
//! [`ManagedClusters`] is what a fleet manager needs of AKS. [`ArmClient`] speaks it to Azure or to the emulator; the base
//! URL is configuration. Nothing here sleeps or retries: an [`UpstreamError`] says what its caller should do, and a
//! `Retry-After` is data. [`Observer`] follows many operations within AKS's limits, [`CatalogueCache`] knows what each
//! region offers, [`MaintenanceCache`] when each cluster may be upgraded.

pub mod budget;
mod catalogue;
mod client;
mod credential;
mod error;
mod observer;
pub mod pace;
mod shared;
mod token;
mod token_cache;
mod windows;
mod wire;

use std::time::Duration;

pub use catalogue::CatalogueCache;
pub use client::{API_VERSION, ArmClient, ClientError, Settings};
pub use credential::{Credential, Identity};
pub use error::{UpstreamError, Verdict};
pub use observer::{Followed, Observation, Observer};
pub use token::{StaticToken, TokenSource};
pub use token_cache::{CachedToken, NewToken, TokenIssuer};
pub use windows::{MaintenanceCache, Wish};

use crate::{
    arm::{ErrorDetail, ResourceId},
    model::{
        maintenance::MaintenanceConfiguration,
        managed_cluster::{ManagedCluster, NodeImage, OfferedVersion, UpgradeAction},
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
    /// Images it ran before and can be set back to.
    pub recently_used: Vec<NodeImage>,
}

/// What a fleet manager needs of AKS.
pub trait ManagedClusters: Send + Sync + 'static {
    /// Reads a cluster and its pools.
    fn get(&self, cluster: &ResourceId) -> impl Future<Output = Result<Seen, UpstreamError>> + Send;

    /// Begins an upgrade of what was seen, on condition that it is still so (`If-Match`).
    ///
    /// After [`UpstreamError::Transient`] and [`UpstreamError::Garbage`] it may have begun all the same: look again.
    fn begin(
        &self,
        cluster: &ResourceId,
        seen: &Seen,
        action: &UpgradeAction,
    ) -> impl Future<Output = Result<Accepted, UpstreamError>> + Send;

    /// Asks about an operation of this subscription. URLs of another origin than the upstream's are [`Progress::Gone`].
    fn poll(
        &self,
        subscription: &str,
        operation_url: &str,
    ) -> impl Future<Output = Result<Progress, UpstreamError>> + Send;

    /// All clusters of a subscription.
    fn list(&self, subscription: &str) -> impl Future<Output = Result<Vec<ManagedCluster>, UpstreamError>> + Send;

    /// What a pool can move to.
    fn pool_upgrade_profile(
        &self,
        cluster: &ResourceId,
        pool: &str,
    ) -> impl Future<Output = Result<PoolUpgradeProfile, UpstreamError>> + Send;

    /// Kubernetes versions that a region offers.
    fn kubernetes_versions(
        &self,
        subscription: &str,
        location: &str,
    ) -> impl Future<Output = Result<Vec<OfferedVersion>, UpstreamError>> + Send;

    /// All maintenance configurations of a cluster, also those that cannot be understood.
    fn maintenance_configurations(
        &self,
        cluster: &ResourceId,
    ) -> impl Future<Output = Result<Vec<MaintenanceConfiguration>, UpstreamError>> + Send;

    /// What is left of AKS's limit for this kind of call, as a part of its burst: 0–1. `key` is a subscription, or a
    /// lower-cased resource ID, as [`budget::Class`] says.
    fn left(&self, class: budget::Class, key: &str) -> f64;
}
