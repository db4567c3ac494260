//! Follows many operations within AKS's limits.
//!
//! While a subscription's budget for operation statuses is plentiful, each operation is asked about by itself. When it
//! runs low, or many wait that nobody can tell the end of yet, one list of the subscription's clusters, shared by all who
//! wait, tells who is no longer busy; when lists run low as well, the cluster itself does, which has a budget of its own.
//! Only who is no longer busy is asked for its result, or, with nothing left to ask with, is looked at.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    ManagedClusters, Progress, UpstreamError,
    budget::Class,
    pace::{LONGEST, Lengths, next_poll, part},
    single_flight::SingleFlightCache,
};
use crate::{
    arm::{ErrorDetail, ResourceId},
    model::managed_cluster::{ManagedCluster, Subject, UpgradeAction},
};

/// Part of the status budget below which a list is asked for instead.
const LOW: f64 = 0.25;
/// In flight of which nobody knows yet how long they take: more than these would spend the budget in asking too early.
const FEW: usize = 5;
/// Oldest list that serves while lists are plentiful.
const FRESH: Duration = Duration::from_millis(20);
/// Oldest list that serves when they run low: as many as come back.
const SPARING: Duration = Duration::from_secs(1);

/// An operation that is followed.
#[derive(Debug, Clone, Copy)]
pub struct Followed<'a> {
    /// The member's cluster.
    pub cluster: &'a ResourceId,
    /// What it brings; `None` for an operation that somebody else began.
    pub action: Option<&'a UpgradeAction>,
    /// Where to ask; `None`: only the cluster tells.
    pub operation_url: Option<&'a str>,
    /// Since it began.
    pub elapsed: Duration,
}

/// How far a followed operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Under way; to be observed again after this time.
    Running {
        /// From now.
        again_after: Duration,
    },
    /// Ended well.
    Succeeded,
    /// Ended badly, with AKS's own code and message.
    Failed(ErrorDetail),
    /// The operation cannot be asked about, or need not be: read the cluster, its provisioning state tells.
    Look,
}

/// Follows operations. One for the whole process.
pub struct Observer {
    client: Arc<dyn ManagedClusters>,
    lists: SingleFlightCache<String, Arc<HashSet<String>>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    lengths: HashMap<(String, Kind), Lengths>,
    /// By subscription and operation: last asked about.
    in_flight: HashMap<String, HashMap<String, Instant>>,
    swept: Option<Instant>,
}

/// Operations that take about as long as each other.
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

    /// The lower-cased ID of what the operation works on.
    fn subject(&self) -> String {
        match self.action.and_then(UpgradeAction::pool) {
            None => self.cluster.key().to_owned(),
            Some(pool) => self.cluster.child("agentPools", pool).key().to_owned(),
        }
    }
}

impl Observer {
    /// An observer that asks through this client.
    #[must_use]
    pub fn new(client: Arc<dyn ManagedClusters>) -> Self {
        Self { client, lists: SingleFlightCache::default(), known: Mutex::default() }
    }

    /// When to observe next, from now: after beginning, and for operations that only the cluster tells about.
    #[must_use]
    pub fn wait(&self, followed: &Followed<'_>, retry_after: Option<Duration>) -> Duration {
        let subscription = followed.cluster.subscription();
        let now = Instant::now();
        let (shortest, in_flight) = self.with_known(|known| {
            known.sweep(now);
            known.in_flight.entry(subscription.to_owned()).or_default().insert(followed.subject(), now);
            known.about(followed)
        });
        next_poll(followed.elapsed, shortest, retry_after, in_flight)
    }

    /// How far an operation is, as its status tells, or a list that other operations share.
    pub async fn observe(&self, followed: &Followed<'_>) -> Result<Observation, UpstreamError> {
        let Some(url) = followed.operation_url else { return Ok(Observation::Look) };
        let subscription = followed.cluster.subscription();
        let (shortest, in_flight) = self.with_known(|known| known.about(followed));
        let plentiful =
            self.client.left(Class::OperationStatus, subscription) >= LOW && (shortest.is_some() || in_flight <= FEW);
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
                Ok(Observation::Look)
            }
            // The operation is over, and the budget for its result is used up: the cluster tells.
            Err(
                UpstreamError::Throttled { .. } | UpstreamError::Unavailable { .. } | UpstreamError::Transient { .. },
            ) if !plentiful => {
                self.ended(followed, None);
                Ok(Observation::Look)
            }
            // The status may be refused for ever, for want of a permission or because AKS lost it: the cluster tells.
            Err(
                error @ (UpstreamError::Refused(_)
                | UpstreamError::Forbidden(_)
                | UpstreamError::NotFound(_)
                | UpstreamError::Busy(_)
                | UpstreamError::Changed(_)),
            ) => {
                tracing::warn!(cluster = %followed.cluster, %error, "the operation's status is refused; the cluster is read instead");
                self.ended(followed, None);
                Ok(Observation::Look)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether what the operation works on is busy, as a list or the cluster tells.
    async fn is_busy(&self, followed: &Followed<'_>, shortest: Option<Duration>) -> Result<bool, UpstreamError> {
        let (cluster, elapsed) = (followed.cluster, followed.elapsed);
        let age = part(elapsed).clamp(FRESH, LONGEST);
        let max_age = if self.client.left(Class::List, cluster.subscription()) >= LOW {
            // Younger than the earliest end: an older one tells what is known.
            shortest.and_then(|shortest| elapsed.checked_sub(shortest)).map_or(age, |over| over.min(age))
        } else if self.client.left(Class::GetCluster, cluster.key()) >= LOW {
            return Ok(busy_parts(&self.client.get(cluster).await?.cluster).contains(&followed.subject()));
        } else {
            age.max(SPARING)
        };
        Ok(self.list(cluster.subscription(), max_age.min(elapsed)).await?.contains(&followed.subject()))
    }

    /// The IDs of the subscription's busy clusters and pools.
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
            if let Some(flight) = known.in_flight.get_mut(subscription) {
                flight.remove(&followed.subject());
            }
            if let Some(took) = took {
                known.lengths.entry((subscription.to_owned(), followed.kind())).or_default().learn(took);
            }
        });
    }

    fn with_known<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// Before when such an operation hardly ends, and how many are in flight in its subscription.
    fn about(&self, followed: &Followed<'_>) -> (Option<Duration>, usize) {
        let subscription = followed.cluster.subscription();
        let shortest = self.lengths.get(&(subscription.to_owned(), followed.kind())).and_then(Lengths::shortest);
        (shortest, self.in_flight.get(subscription).map_or(0, HashMap::len))
    }

    /// Forgets operations that nobody has asked about for a while: another replica follows them now.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) > LONGEST) {
            self.swept = Some(now);
            for flight in self.in_flight.values_mut() {
                flight.retain(|_, asked| now.saturating_duration_since(*asked) <= 2 * LONGEST);
            }
            self.in_flight.retain(|_, flight| !flight.is_empty());
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
        Err(UpstreamError::Garbage("nobody asks this".to_owned()))
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
    async fn while_the_budget_is_low_one_list_serves_all() {
        let (script, observer) = Script::new(0.1, true, Err(transient()));
        let all = join_all((0..100).map(|_| observe(&observer, Some("u")))).await;
        assert!(all.iter().all(|seen| matches!(seen, Ok(Observation::Running { .. }))));
        assert_eq!((script.lists.load(Relaxed), script.polls.load(Relaxed)), (1, 0));
    }

    #[tokio::test]
    async fn who_is_no_longer_busy_is_asked_or_looked_at() {
        let (_, observer) = Script::new(0.1, false, Ok(Progress::Succeeded { took: None }));
        assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::Succeeded));
        let (_, observer) = Script::new(0.0, false, Err(transient()));
        assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::Look));
        let (_, observer) = Script::new(1.0, true, Err(transient()));
        assert_eq!(observe(&observer, Some("u")).await, Err(transient()), "with budget left it is a fault of AKS's");
        let (script, observer) = Script::new(1.0, true, Ok(Progress::Gone));
        assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::Look));
        assert_eq!(observe(&observer, None).await, Ok(Observation::Look));
        assert_eq!((script.lists.load(Relaxed), script.polls.load(Relaxed)), (0, 1));
    }

    #[tokio::test]
    async fn a_status_that_is_refused_leads_to_the_cluster() {
        let detail = || ErrorDetail::new("AuthorizationFailed", "");
        for refused in [
            UpstreamError::Forbidden(detail()),
            UpstreamError::Refused(detail()),
            UpstreamError::Busy(detail()),
            UpstreamError::Changed(detail()),
        ] {
            let (_, observer) = Script::new(1.0, true, Err(refused));
            assert_eq!(observe(&observer, Some("u")).await, Ok(Observation::Look));
        }
    }

    #[tokio::test]
    async fn whoever_is_looked_at_is_no_longer_one_of_the_crowd() {
        let (_, observer) = Script::new(0.0, false, Err(transient()));
        for n in 0..200 {
            let cluster =
                ResourceId::in_group("s", "g", "Microsoft.ContainerService", "managedClusters", &n.to_string());
            let image = crate::model::managed_cluster::NodeImage::new("U-1");
            let action = UpgradeAction::NewestImage { pool: "p".to_owned(), image };
            let elapsed = Duration::from_millis(1);
            let followed = Followed { cluster: &cluster, action: Some(&action), operation_url: Some("u"), elapsed };
            assert_eq!(observer.wait(&followed, None), crate::upstreams::azure::pace::SHORTEST);
            assert_eq!(observer.observe(&followed).await, Ok(Observation::Look));
        }
    }

    #[tokio::test]
    async fn learns_how_long_it_takes() {
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
