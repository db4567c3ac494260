//! Maintenance configurations of clusters, with as few calls as will do.
//!
//! AKS counts these calls with most others, 60 and one a second for a whole subscription, and they are one a cluster.

use std::{sync::Arc, time::Duration};

use super::{ManagedClusters, UpstreamError, budget::Class, single_flight::SingleFlightCache};
use crate::{arm::ResourceId, model::maintenance::MaintenanceConfiguration};

/// Part of the budget that is left to members that are about to begin.
const LOW: f64 = 0.25;
/// Oldest answer that counts as one of now: for callers that ask at the same moment.
const FRESH: Duration = Duration::from_secs(1);
/// Oldest answer that serves members that wait, when the budget is low: as often as the product looks.
const SPARING: Duration = Duration::from_secs(3600);

/// How fresh an answer must be, and whether it is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// An upgrade is about to begin: the answer must be of now, and the call queues for its token.
    Required,
    /// A member waits, and looks whether anything has changed: an older answer will do, and the call does not queue.
    Relaxed,
}

/// Remembers clusters' maintenance configurations. One for the whole process.
pub struct MaintenanceCache {
    client: Arc<dyn ManagedClusters>,
    /// How old an answer may be when it says that something may begin.
    max_age: Duration,
    answers: SingleFlightCache<String, Arc<Vec<MaintenanceConfiguration>>>,
}

impl MaintenanceCache {
    /// A cache whose answers are believed for `max_age`.
    #[must_use]
    pub fn new(client: Arc<dyn ManagedClusters>, max_age: Duration) -> Self {
        Self { client, max_age, answers: SingleFlightCache::default() }
    }

    /// The configurations as last read, unless that is too long ago.
    #[must_use]
    pub fn known(&self, cluster: &ResourceId) -> Option<Arc<Vec<MaintenanceConfiguration>>> {
        self.answers.known(cluster.key(), self.max_age)
    }

    /// The configurations as last read, however long ago: for members that only wait.
    #[must_use]
    pub fn last(&self, cluster: &ResourceId) -> Option<Arc<Vec<MaintenanceConfiguration>>> {
        self.answers.known(cluster.key(), Duration::MAX)
    }

    /// The cluster's configurations as they are now. When AKS's limit is nearly reached, a relaxed caller gets them as they
    /// were an hour ago at most.
    ///
    /// # Errors
    /// As the client's.
    pub async fn of(
        &self,
        cluster: &ResourceId,
        freshness: Freshness,
    ) -> Result<Arc<Vec<MaintenanceConfiguration>>, UpstreamError> {
        let low = self.client.left(Class::Maintenance, cluster.subscription()) < LOW;
        let max_age = if low && freshness == Freshness::Relaxed { SPARING } else { FRESH };
        let ask = || async { Ok(Arc::new(self.client.maintenance_configurations(cluster, freshness).await?)) };
        self.answers.get(cluster.key().to_owned(), max_age, ask).await
    }

    /// Of how many clusters of a subscription the configurations can be read without taking tokens that members about to
    /// begin need.
    #[must_use]
    pub fn to_spare(&self, subscription: &str) -> usize {
        let (burst, _) = Class::Maintenance.limit();
        let spare = (self.client.left(Class::Maintenance, subscription) - 0.5) * burst;
        // At most the burst; what is negative is none.
        spare as usize
    }
}
