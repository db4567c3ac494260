//! AKS, as jobs use it.

use std::sync::Arc;

use crate::upstreams::azure::{CatalogueCache, MaintenanceCache, Observer};

/// AKS, as jobs use it. One for the whole process: what is learnt and remembered is shared.
pub struct Upstream<C> {
    /// Single calls.
    pub clusters: Arc<C>,
    /// Follows operations.
    pub observer: Arc<Observer<C>>,
    /// What regions offer.
    pub catalogue: Arc<CatalogueCache<C>>,
    /// When clusters may be upgraded.
    pub maintenance: Arc<MaintenanceCache<C>>,
}

impl<C> Clone for Upstream<C> {
    fn clone(&self) -> Self {
        Self {
            clusters: Arc::clone(&self.clusters),
            observer: Arc::clone(&self.observer),
            catalogue: Arc::clone(&self.catalogue),
            maintenance: Arc::clone(&self.maintenance),
        }
    }
}
