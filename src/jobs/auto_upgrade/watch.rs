//! The look at what AKS offers: one job for each subscription that members of fleets with profiles are in, whatever the number
//! of profiles. A look is one list of clusters, and for each region the Kubernetes versions and the newest image of each
//! family.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    arm::{ErrorDetail, ResourceId},
    autoupgrade::{self, ClusterFacts, Decision, RegionOffers},
    database::{Connection, Pool},
    engine::queue,
    jobs::outcome::{JobError, outcome},
    model::managed_cluster::{ManagedCluster, NodeImage, OfferedVersion},
    store::{
        auto_upgrade,
        catalogues::{self, Findings},
    },
    upstreams::{
        Upstreams,
        azure::{UpstreamError, Verdict},
    },
    work::{self, Attempt, Handler, NewJob, Outcome},
};

/// Until the next look after one that failed, where AKS does not say when, unless looks are more frequent anyway.
const FAILED_AGAIN: Duration = Duration::from_secs(60);

/// Looks are postponed when less than this is left of AKS's limit for such questions: upgrades come first.
const LEFT_FOR_UPGRADES: f64 = 0.5;
/// How long, and up to which time after the one when they were due: then they come first.
const POSTPONED: Duration = Duration::from_secs(5);
const LONGEST_POSTPONED: Duration = Duration::from_secs(60);

/// Pools of a family that are asked about its newest image, one after the other, until one answers.
const POOLS_ASKED: usize = 3;

/// Looks.
pub(super) struct Watch {
    pool: Pool,
    upstreams: Upstreams,
    interval: Duration,
}

impl Handler for Watch {
    fn kind(&self) -> &'static str {
        queue::CATALOGUE
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

/// What AKS said.
#[derive(Default)]
struct Seen {
    clusters: Vec<(ResourceId, ManagedCluster)>,
    /// By location.
    regions: BTreeMap<String, SeenRegion>,
    /// The first thing that went wrong.
    error: Option<UpstreamError>,
}

/// What of a region could be read.
struct SeenRegion {
    versions: Option<Arc<Vec<OfferedVersion>>>,
    /// The newest of each family that could be read.
    images: Vec<NodeImage>,
}

impl Watch {
    pub(super) fn new(pool: Pool, upstreams: Upstreams, interval: Duration) -> Self {
        Self { pool, upstreams, interval }
    }

    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let subscription = attempt.subject.as_str();
        let watched = {
            let mut conn = self.pool.acquire().await?;
            catalogues::watched(&mut conn, subscription).await?
        };
        if watched.clusters.is_empty() {
            // The job stays: a profile that is created at this moment finds it, and does not have to enqueue it again.
            let mut tx = attempt.begin(&self.pool).await?;
            catalogues::forget(&mut tx, subscription).await?;
            attempt.settle(&mut tx, Outcome::AgainAfter { delay: self.interval }).await?;
            tx.commit().await?;
            return Ok(Outcome::Settled);
        }
        if self.upstreams.azure.catalogue.left(subscription) < LEFT_FOR_UPGRADES && self.may_wait(&watched) {
            return Ok(Outcome::AgainAfter { delay: self.interval.min(POSTPONED) });
        }
        let members: HashSet<&str> = watched.clusters.iter().map(String::as_str).collect();
        let seen = self.look(subscription, &members).await;

        let mut tx = attempt.begin(&self.pool).await?;
        keep(&mut tx, subscription, &seen, watched.now).await?;
        let error = seen.error.as_ref().map(reason);
        let failing_since = catalogues::keep_outcome(&mut tx, subscription, error.as_ref(), watched.now).await?;
        tell(subscription, error.as_ref(), failing_since);
        let profiles = profiles_to_trigger(&mut tx, subscription).await?;
        let jobs: Vec<NewJob> = profiles.into_iter().map(queue::trigger).collect();
        work::enqueue_all(&mut tx, &jobs).await?;
        attempt.settle(&mut tx, self.next(seen.error.as_ref())).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }

    /// Whether a look may be postponed: the latest one is not too old, and there was one.
    fn may_wait(&self, watched: &catalogues::Watched) -> bool {
        watched.looked_at.is_some_and(|looked_at| {
            let age = Duration::try_from(watched.now.duration_since(looked_at)).unwrap_or_default();
            age < self.interval + LONGEST_POSTPONED
        })
    }

    /// When to look again.
    fn next(&self, error: Option<&UpstreamError>) -> Outcome {
        let Some(error) = error else { return Outcome::AgainAfter { delay: self.interval } };
        let after = match error.verdict() {
            Verdict::WaitForBudget { after } => return Outcome::AgainAfter { delay: after },
            Verdict::Retry { after: Some(after), .. } => after,
            _ => self.interval.min(FAILED_AGAIN),
        };
        Outcome::Retry { error: error.to_string(), after: Some(after) }
    }

    /// As much as can be read: what fails does not hide the rest.
    async fn look(&self, subscription: &str, members: &HashSet<&str>) -> Seen {
        let mut seen = Seen::default();
        match self.upstreams.azure.catalogue.clusters(subscription).await {
            Ok(clusters) => {
                let known = clusters.into_iter().filter_map(|cluster| Some((cluster.id.parse().ok()?, cluster)));
                seen.clusters = known.filter(|(id, _): &(ResourceId, _)| members.contains(id.key())).collect();
            }
            Err(error) => {
                seen.error = Some(error);
                return seen;
            }
        }
        for (location, families) in places(&seen.clusters) {
            let mut keep_error = |error| _ = seen.error.get_or_insert(error);
            let versions = self.upstreams.azure.catalogue.look_at_versions(subscription, location).await;
            let versions = versions.map_err(&mut keep_error).ok();
            let mut images = Vec::new();
            for (family, pools) in families {
                images
                    .extend(self.look_at_image(location, family, &pools).await.map_err(&mut keep_error).ok().flatten());
            }
            seen.regions.insert(location.to_owned(), SeenRegion { versions, images });
        }
        seen
    }

    /// The newest image of a family, from the first of these pools that tells; otherwise the first error.
    async fn look_at_image(
        &self,
        location: &str,
        family: &str,
        pools: &[(&ResourceId, &str)],
    ) -> Result<Option<NodeImage>, UpstreamError> {
        let mut failed = None;
        for (cluster, pool) in pools.iter().take(POOLS_ASKED) {
            match self.upstreams.azure.catalogue.look_at_image(cluster, location, (pool, family)).await {
                Ok(Some(image)) => return Ok(Some(image)),
                Ok(None) => {}
                Err(error) => {
                    let throttled = error.is_throttled();
                    failed = failed.or(Some(error));
                    if throttled {
                        break;
                    }
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

type PoolsByFamily<'a> = BTreeMap<&'a str, Vec<(&'a ResourceId, &'a str)>>;

/// By location and family the pools that can answer for it, those of different clusters first: a cluster that cannot be
/// read answers for none of its pools.
fn places(clusters: &[(ResourceId, ManagedCluster)]) -> BTreeMap<&str, PoolsByFamily<'_>> {
    let mut places: BTreeMap<&str, PoolsByFamily<'_>> = BTreeMap::new();
    let mut further: Vec<(&str, &str, (&ResourceId, &str))> = Vec::new();
    for (id, cluster) in clusters {
        let families = places.entry(&cluster.location).or_default();
        for pool in &cluster.pools {
            let Some(image) = &pool.image else { continue };
            let pools = families.entry(image.family()).or_default();
            if pools.last().is_some_and(|(of, _)| *of == id) {
                further.push((&cluster.location, image.family(), (id, &pool.name)));
            } else {
                pools.push((id, &pool.name));
            }
        }
    }
    for (location, family, pool) in further {
        places.entry(location).or_default().entry(family).or_default().push(pool);
    }
    places
}

async fn keep(tx: &mut Connection, subscription: &str, seen: &Seen, now: Timestamp) -> Result<(), JobError> {
    if seen.clusters.is_empty() {
        // Nothing was seen, or none of the members' clusters exists any more: what is known stays.
        return Ok(());
    }
    let mut known = catalogues::known(tx, subscription).await?;
    let mut findings = Findings {
        locations: seen.clusters.iter().map(|(_, cluster)| cluster.location.clone()).collect(),
        clusters: seen.clusters.iter().map(|(id, seen)| (id.key().to_owned(), ClusterFacts::from(seen))).collect(),
        ..Findings::default()
    };
    for (location, SeenRegion { versions, images }) in &seen.regions {
        let offers = match (known.remove(location), versions) {
            (Some(mut offers), Some(versions)) => {
                offers.update(versions, images, now);
                offers
            }
            (Some(mut offers), None) => {
                offers.update_images(images, now);
                offers
            }
            (None, Some(versions)) => RegionOffers::initial(versions, images),
            // A region stored without versions would make all of them new releases at the next read.
            (None, None) => continue,
        };
        findings.regions.insert(location.clone(), offers);
    }
    Ok(catalogues::keep(tx, subscription, &findings, now).await?)
}

/// Returns the profiles for which there is something to do.
async fn profiles_to_trigger(tx: &mut Connection, subscription: &str) -> Result<Vec<Uuid>, JobError> {
    let candidates = auto_upgrade::candidates(tx, subscription).await?;
    let fleets: HashSet<Uuid> = candidates.iter().map(|candidate| candidate.fleet).collect();
    let offers = catalogues::of_fleets(tx, &fleets.into_iter().collect::<Vec<_>>()).await?;
    let concerns = |candidate: &auto_upgrade::Candidate| {
        let Some(offers) = offers.get(&candidate.fleet) else { return false };
        match autoupgrade::decide(&candidate.properties, offers, &candidate.history) {
            Decision::DoNothing => false,
            Decision::ReportError(error) => candidate.error.as_ref() != Some(&error),
            Decision::RecordFailure(..) | Decision::StartRun(_) | Decision::CatchUp(_) => true,
        }
    };
    Ok(candidates.iter().filter(|candidate| concerns(candidate)).map(|candidate| candidate.profile).collect())
}

fn reason(error: &UpstreamError) -> ErrorDetail {
    let cause = error.detail();
    ErrorDetail::new(
        "CatalogueNotAvailable",
        format!("What AKS offers cannot be read: {}: {} Auto-upgrade goes on when it can.", cause.code, cause.message),
    )
    .with(cause)
}

fn tell(subscription: &str, error: Option<&ErrorDetail>, failing_since: Option<Timestamp>) {
    match (error, failing_since) {
        (Some(error), Some(since)) => {
            tracing::warn!(subscription, %since, "the catalogue still cannot be read: {}", error.message);
        }
        (Some(error), None) => tracing::warn!(subscription, "the catalogue cannot be read: {}", error.message),
        (None, Some(since)) => tracing::info!(subscription, %since, "the catalogue can be read again"),
        (None, None) => {}
    }
}
