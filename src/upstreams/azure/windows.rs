//! Maintenance configurations of clusters, asked for as seldom as will do.
//!
//! AKS counts these questions with most others, 60 and one a second for a whole subscription, and they are one a cluster.

use std::{sync::Arc, time::Duration};

use super::{ManagedClusters, UpstreamError, budget::Class, shared::Shared};
use crate::{arm::ResourceId, model::maintenance::MaintenanceConfiguration};

/// Part of the budget that is left to those who are about to begin.
const LOW: f64 = 0.25;
/// Oldest answer that counts as one of now: for those who ask at the same moment.
const FRESH: Duration = Duration::from_secs(1);
/// Oldest answer that serves those who only wait, when the budget is low: as often as the product looks.
const SPARING: Duration = Duration::from_secs(3600);

/// Who asks, which decides what an answer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Something is about to begin.
    Begin,
    /// Somebody waits, and looks whether anything has changed.
    Wait,
}

/// Remembers clusters' maintenance configurations. One for the whole process.
pub struct MaintenanceCache<C> {
    client: Arc<C>,
    /// How old an answer may be when it says that something may begin.
    max_age: Duration,
    answers: Shared<String, Arc<Vec<MaintenanceConfiguration>>>,
}

impl<C: ManagedClusters> MaintenanceCache<C> {
    /// A cache whose answers are believed for `max_age`.
    #[must_use]
    pub fn new(client: Arc<C>, max_age: Duration) -> Self {
        Self { client, max_age, answers: Shared::default() }
    }

    /// What is known already, and not too old.
    #[must_use]
    pub fn known(&self, cluster: &ResourceId) -> Option<Arc<Vec<MaintenanceConfiguration>>> {
        self.answers.known(cluster.key(), self.max_age)
    }

    /// What was known last, however old: for those who only wait.
    #[must_use]
    pub fn last(&self, cluster: &ResourceId) -> Option<Arc<Vec<MaintenanceConfiguration>>> {
        self.answers.known(cluster.key(), Duration::MAX)
    }

    /// The cluster's configurations as they are now; for those who only wait, when AKS's limit is nearly reached, as they
    /// were an hour ago at most.
    ///
    /// # Errors
    /// As the client's.
    pub async fn of(
        &self,
        cluster: &ResourceId,
        wish: Wish,
    ) -> Result<Arc<Vec<MaintenanceConfiguration>>, UpstreamError> {
        let low = self.client.left(Class::Maintenance, cluster.subscription()) < LOW;
        let max_age = if low && wish == Wish::Wait { SPARING } else { FRESH };
        let ask = || async { Ok(Arc::new(self.client.maintenance_configurations(cluster).await?)) };
        self.answers.get(cluster.key().to_owned(), max_age, ask).await
    }

    /// How many clusters of a subscription may be asked about without taking from those who are about to begin.
    #[must_use]
    pub fn to_spare(&self, subscription: &str) -> usize {
        let (burst, _) = Class::Maintenance.limit();
        let spare = (self.client.left(Class::Maintenance, subscription) - 0.5) * burst;
        // At most the burst; what is negative is none.
        spare as usize
    }
}
