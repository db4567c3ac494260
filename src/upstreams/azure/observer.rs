//! Follows many operations within AKS's limits.
//!
//! While a subscription has enough budget for operation statuses, each operation is polled by itself. When that budget runs
//! low, or when many operations are in flight whose usual duration is not known yet, all jobs share one list of the subscription's
//! clusters, which shows the clusters that are no longer busy. When the budget for lists runs low as well, the cluster is read,
//! which has a budget of its own. An operation is polled for its result only when its cluster is no longer busy. When no
//! budget is left for that poll, the caller reads the cluster.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    ManagedClusters, Progress, UpstreamError,
    budget::Class,
    pace::{Durations, LONGEST, next_poll, tolerated_delay},
    single_flight::SingleFlightCache,
};
use crate::{
    arm::{ErrorDetail, ResourceId},
    model::managed_cluster::{ManagedCluster, Subject, UpgradeAction},
};

/// Part of a budget below which the service uses another kind of call.
const LOW_BUDGET: f64 = 0.25;
/// Most operations of unknown duration that are polled one by one. Polls of more would come too early and spend the budget.
const FEW_IN_FLIGHT: usize = 5;
/// Greatest age of a list while the budget for lists is not low.
const LIST_AGE: Duration = Duration::from_millis(20);
/// Greatest age of a list when the budget for lists is low: AKS adds one list a second to the budget.
const LIST_AGE_LOW_BUDGET: Duration = Duration::from_secs(1);

/// An operation that is followed.
#[derive(Debug, Clone, Copy)]
pub struct Followed<'a> {
    /// The member's cluster.
    pub cluster: &'a ResourceId,
    /// What the operation changes; `None` for an operation that the service did not begin.
    pub action: Option<&'a UpgradeAction>,
    /// Where to poll; `None` when only the cluster shows the operation's end.
    pub operation_url: Option<&'a str>,
    /// Time since the operation began.
    pub elapsed: Duration,
}

/// The state of a followed operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// In progress. Observe it again after this time.
    Running {
        /// From now.
        again_after: Duration,
    },
    /// The operation succeeded.
    Succeeded,
    /// The operation failed, with AKS's code and message.
    Failed(ErrorDetail),
    /// The operation cannot be polled, or need not be. The provisioning state of the cluster decides.
    ReadCluster,
}

/// Follows operations. One for the whole process.
pub struct Observer {
    client: Arc<dyn ManagedClusters>,
    lists: SingleFlightCache<String, Arc<HashSet<String>>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    durations: HashMap<(String, Kind), Durations>,
    /// When each operation was last observed, by subscription and subject.
    in_flight: HashMap<String, HashMap<String, Instant>>,
    swept: Option<Instant>,
}

/// Kinds of operations. Those of one kind take about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    ControlPlane,
    PoolVersion,
    PoolImage,
    Foreign,
}

impl Followed<'_> {
    fn kind(&self) -> Kind {
        match self.action.map(UpgradeAction::subject) {
            None => Kind::Foreign,
            Some(Subject::ControlPlane) => Kind::ControlPlane,
            Some(Subject::PoolVersion(_)) => Kind::PoolVersion,
            Some(Subject::PoolImage(_)) => Kind::PoolImage,
        }
    }

    /// Returns the lower-cased ID of the cluster or agent pool that the operation changes.
    fn subject(&self) -> String {
        match self.action.and_then(UpgradeAction::pool) {
            None => self.cluster.key().to_owned(),
            Some(pool) => self.cluster.child("agentPools", pool).key().to_owned(),
        }
    }
}

impl Observer {
    /// Returns an observer that calls AKS through this client.
    #[must_use]
    pub fn new(client: Arc<dyn ManagedClusters>) -> Self {
        Self { client, lists: SingleFlightCache::default(), known: Mutex::default() }
    }

    /// Returns how long to wait before the next observation: of an operation that has just begun, or one without a URL to poll.
    #[must_use]
    pub fn wait(&self, followed: &Followed<'_>, retry_after: Option<Duration>) -> Duration {
        let subscription = followed.cluster.subscription();
        let now = Instant::now();
        let (shortest, in_flight) = self.with_known(|known| {
            known.sweep(now);
            known.in_flight.entry(subscription.to_owned()).or_default().insert(followed.subject(), now);
            known.expectation(followed)
        });
        next_poll(followed.elapsed, shortest, retry_after, in_flight)
    }

    /// Returns the state of an operation, from its status or from a list that other operations share.
    pub async fn observe(&self, followed: &Followed<'_>) -> Result<Observation, UpstreamError> {
        let Some(url) = followed.operation_url else { return Ok(Observation::ReadCluster) };
        let subscription = followed.cluster.subscription();
        let (shortest, in_flight) = self.with_known(|known| known.expectation(followed));
        let plentiful = self.client.left(Class::OperationStatus, subscription) >= LOW_BUDGET
            && (shortest.is_some() || in_flight <= FEW_IN_FLIGHT);
        if !plentiful {
            match self.is_busy(followed, shortest).await {
                Ok(true) => return Ok(Observation::Running { again_after: self.wait(followed, None) }),
                Err(UpstreamError::Throttled { after, .. }) => {
                    return Ok(Observation::Running { again_after: self.wait(followed, Some(after)) });
                }
                // The service may have no permission to list the subscription's clusters.
                Ok(false)
                | Err(UpstreamError::Forbidden(_) | UpstreamError::Refused(_) | UpstreamError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        match self.client.poll(subscription, url).await {
            Ok(Progress::Running { again_after }) => {
                Ok(Observation::Running { again_after: self.wait(followed, again_after) })
            }
            Ok(Progress::Succeeded { took }) => {
                self.ended(followed, took);
                Ok(Observation::Succeeded)
            }
            Ok(Progress::Failed(error)) => {
                self.ended(followed, None);
                Ok(Observation::Failed(error))
            }
            Ok(Progress::Gone) => {
                self.ended(followed, None);
                Ok(Observation::ReadCluster)
            }
            // The operation has ended, and no budget is left to read its result: the caller reads the cluster.
            Err(
                UpstreamError::Throttled { .. } | UpstreamError::Unavailable { .. } | UpstreamError::Transient { .. },
            ) if !plentiful => {
                self.ended(followed, None);
                Ok(Observation::ReadCluster)
            }
            // AKS may refuse the status for ever, because a permission is missing or because AKS lost it: the caller reads the cluster.
            Err(
                error @ (UpstreamError::Refused(_)
                | UpstreamError::Forbidden(_)
                | UpstreamError::NotFound(_)
                | UpstreamError::Busy(_)
                | UpstreamError::Changed(_)),
            ) => {
                tracing::warn!(cluster = %followed.cluster, %error, "the operation's status is refused; the cluster is read instead");
                self.ended(followed, None);
                Ok(Observation::ReadCluster)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the operation's cluster or agent pool is busy, according to a list or to the cluster itself.
    async fn is_busy(&self, followed: &Followed<'_>, shortest: Option<Duration>) -> Result<bool, UpstreamError> {
        let (cluster, elapsed) = (followed.cluster, followed.elapsed);
        let age = tolerated_delay(elapsed).clamp(LIST_AGE, LONGEST);
        let max_age = if self.client.left(Class::List, cluster.subscription()) >= LOW_BUDGET {
            // The list must be younger than the earliest time at which the operation could have ended: an older list shows it busy in any case.
            shortest.and_then(|shortest| elapsed.checked_sub(shortest)).map_or(age, |over| over.min(age))
        } else if self.client.left(Class::GetCluster, cluster.key()) >= LOW_BUDGET {
            return Ok(busy_parts(&self.client.get(cluster).await?.cluster).contains(&followed.subject()));
        } else {
            age.max(LIST_AGE_LOW_BUDGET)
        };
        Ok(self.list(cluster.subscription(), max_age.min(elapsed)).await?.contains(&followed.subject()))
    }

    /// Returns the lower-cased IDs of the subscription's busy clusters and agent pools.
    async fn list(&self, subscription: &str, max_age: Duration) -> Result<Arc<HashSet<String>>, UpstreamError> {
        self.lists
            .get(subscription.to_owned(), max_age, || async {
                Ok(Arc::new(self.client.list(subscription).await?.iter().flat_map(busy_parts).collect()))
            })
            .await
    }

    fn ended(&self, followed: &Followed<'_>, took: Option<Duration>) {
        let subscription = followed.cluster.subscription();
        self.with_known(|known| {
            if let Some(operations) = known.in_flight.get_mut(subscription) {
                operations.remove(&followed.subject());
            }
            if let Some(took) = took {
                known.durations.entry((subscription.to_owned(), followed.kind())).or_default().record(took);
            }
        });
    }

    fn with_known<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// Returns the shortest duration of such operations, and how many operations are in flight in the subscription.
    fn expectation(&self, followed: &Followed<'_>) -> (Option<Duration>, usize) {
        let subscription = followed.cluster.subscription();
        let shortest = self.durations.get(&(subscription.to_owned(), followed.kind())).and_then(Durations::shortest);
        (shortest, self.in_flight.get(subscription).map_or(0, HashMap::len))
    }

    /// Forgets operations that were not observed for a while: another replica follows them now.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) > LONGEST) {
            self.swept = Some(now);
            for operations in self.in_flight.values_mut() {
                operations.retain(|_, asked| now.saturating_duration_since(*asked) <= 2 * LONGEST);
            }
            self.in_flight.retain(|_, operations| !operations.is_empty());
        }
    }
}

fn busy_parts(cluster: &ManagedCluster) -> Vec<String> {
    let id = cluster.id.to_lowercase();
    let pools = cluster.pools.iter().filter(|pool| pool.provisioning_state.is_busy());
    let mut parts: Vec<String> = pools.map(|pool| format!("{id}/agentpools/{}", pool.name.to_lowercase())).collect();
    if cluster.is_busy() {
        parts.push(id);
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use futures_util::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::{
        model::{
            maintenance::MaintenanceConfiguration,
            managed_cluster::{NodePoolSnapshot, OfferedVersion},
        },
        upstreams::azure::{Accepted, Freshness, PoolUpgradeProfile, Seen, TimeLeft},
    };

    /// Answers from a script; the part of the status budget that is left is given.
    struct Script {
        left: f64,
        polled: Result<Progress, UpstreamError>,
        busy: bool,
        polls: AtomicU32,
        lists: AtomicU32,
    }

    impl Script {
        fn new(left: f64, busy: bool, polled: Result<Progress, UpstreamError>) -> (Arc<Self>, Observer) {
            let script = Arc::new(Self { left, polled, busy, polls: AtomicU32::new(0), lists: AtomicU32::new(0) });
            (Arc::clone(&script), Observer::new(script))
        }
    }

    fn unasked<T>() -> Result<T, UpstreamError> {
        Err(UpstreamError::Garbage("unexpected call".to_owned()))
    }

    #[async_trait::async_trait]
    impl ManagedClusters for Script {
        async fn get(&self, _: &ResourceId) -> Result<Seen, UpstreamError> {
            unasked()
        }
        async fn prepare(&self, _: &ResourceId, _: &[UpgradeAction]) -> Result<(), UpstreamError> {
            unasked()
        }
        async fn begin(
            &self,
            _: &ResourceId,
            _: &Seen,
            _: &UpgradeAction,
            _: TimeLeft<'_>,
        ) -> Result<Accepted, UpstreamError> {
            unasked()
        }
        async fn poll(&self, _: &str, _: &str) -> Result<Progress, UpstreamError> {
            self.polls.fetch_add(1, Relaxed);
            self.polled.clone()
        }
        async fn list(&self, _: &str) -> Result<Vec<ManagedCluster>, UpstreamError> {
            self.lists.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            let pool = if self.busy { "UpgradingNodeImageVersion" } else { "Succeeded" };
            let cluster = json!({"id": cluster().to_string().to_uppercase(), "properties": {"provisioningState": "Succeeded",
                "agentPoolProfiles": [{"name": "p", "provisioningState": pool}]}});
            Ok(vec![serde_json::from_value(cluster).unwrap()])
        }
        async fn pool_upgrade_profile(&self, _: &ResourceId, _: &str) -> Result<PoolUpgradeProfile, UpstreamError> {
            unasked()
        }
        async fn snapshots(&self, _: &str) -> Result<Vec<NodePoolSnapshot>, UpstreamError> {
            unasked()
        }
        async fn take_snapshot(&self, _: &ResourceId, _: &str, _: &ResourceId) -> Result<(), UpstreamError> {
            unasked()
        }
        async fn delete_snapshot(&self, _: &ResourceId) -> Result<(), UpstreamError> {
            unasked()
        }
        async fn kubernetes_versions(&self, _: &str, _: &str) -> Result<Vec<OfferedVersion>, UpstreamError> {
            unasked()
        }
        async fn maintenance_configurations(
            &self,
            _: &ResourceId,
            _: Freshness,
        ) -> Result<Vec<MaintenanceConfiguration>, UpstreamError> {
            unasked()
        }
        fn left(&self, class: Class, _: &str) -> f64 {
            if class == Class::OperationStatus { self.left } else { 1.0 }
        }
    }

    fn cluster() -> ResourceId {
        ResourceId::in_group("s", "g", "Microsoft.ContainerService", "managedClusters", "c")
    }

    async fn observe(observer: &Observer, url: Option<&str>) -> Result<Observation, UpstreamError> {
        let image = crate::model::managed_cluster::NodeImage::new("U-202510.29.0");
        let action = UpgradeAction::NewestImage { pool: "p".to_owned(), image };
        let (cluster, elapsed) = (cluster(), Duration::from_secs(100));
        observer.observe(&Followed { cluster: &cluster, action: Some(&action), operation_url: url, elapsed }).await
    }

    fn transient() -> UpstreamError {
        UpstreamError::transient("TooManyRequests", "")
    }

    #[tokio::test]
    async fn while_the_budget_is_low_all_operations_share_one_list() {
        let (script, observer) = Script::new(0.1, true, Err(transient()));
        let all = join_all((0..100).map(|_| observe(&observer, Some("u")))).await;
        assert!(all.iter().all(|seen| matches!(seen, Ok(Observation::Running { .. }))));
        assert_eq!((script.lists.load(Relaxed), script.polls.load(Relaxed)), (1, 0));
    }

    #[tokio::test]
    async fn an_operation_whose_cluster_is_not_busy_is_polled_or_its_cluster_is_read() {
        let (_, observer) = Script::new(0.1, false, Ok(Progress::Succeeded { took: None }));
        assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::Succeeded));
        let (_, observer) = Script::new(0.0, false, Err(transient()));
        assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::ReadCluster));
        let (_, observer) = Script::new(1.0, true, Err(transient()));
        assert_eq!(observe(&observer, Some("u")).await, Err(transient()), "with budget left, the failure is reported");
        let (script, observer) = Script::new(1.0, true, Ok(Progress::Gone));
        assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::ReadCluster));
        assert_eq!(observe(&observer, None).await, Ok(Observation::ReadCluster));
        assert_eq!((script.lists.load(Relaxed), script.polls.load(Relaxed)), (0, 1));
    }

    #[tokio::test]
    async fn when_the_status_is_refused_the_cluster_is_read() {
        let detail = || ErrorDetail::new("AuthorizationFailed", "");
        for refused in [
            UpstreamError::Forbidden(detail()),
            UpstreamError::Refused(detail()),
            UpstreamError::Busy(detail()),
            UpstreamError::Changed(detail()),
        ] {
            let (_, observer) = Script::new(1.0, true, Err(refused));
            assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::ReadCluster));
        }
    }

    #[tokio::test]
    async fn an_operation_whose_cluster_is_read_is_no_longer_in_flight() {
        let (_, observer) = Script::new(0.0, false, Err(transient()));
        for n in 0..200 {
            let cluster =
                ResourceId::in_group("s", "g", "Microsoft.ContainerService", "managedClusters", &n.to_string());
            let image = crate::model::managed_cluster::NodeImage::new("U-1");
            let action = UpgradeAction::NewestImage { pool: "p".to_owned(), image };
            let elapsed = Duration::from_millis(1);
            let followed = Followed { cluster: &cluster, action: Some(&action), operation_url: Some("u"), elapsed };
            assert_eq!(observer.wait(&followed, None), crate::upstreams::azure::pace::SHORTEST);
            assert_eq!(observer.observe(&followed).await, Ok(Observation::ReadCluster));
        }
    }

    #[tokio::test]
    async fn the_duration_of_an_operation_sets_the_next_wait() {
        let (_, observer) = Script::new(1.0, true, Ok(Progress::Succeeded { took: Some(Duration::from_secs(8)) }));
        let cluster = cluster();
        let action = UpgradeAction::NewestImage {
            pool: "q".to_owned(),
            image: crate::model::managed_cluster::NodeImage::new("U-1"),
        };
        let fresh = Followed { cluster: &cluster, action: Some(&action), operation_url: None, elapsed: Duration::ZERO };
        assert_eq!(observer.wait(&fresh, None), crate::upstreams::azure::pace::SHORTEST);
        observe(&observer, Some("u")).await.unwrap();
        assert_eq!(observer.wait(&fresh, None), Duration::from_millis(8020));
        assert_eq!(
            observer.wait(&Followed { action: None, ..fresh }, None),
            crate::upstreams::azure::pace::SHORTEST,
            "another kind"
        );
        assert_eq!(observer.wait(&fresh, Some(Duration::from_secs(20))), Duration::from_secs(20));
    }
}
