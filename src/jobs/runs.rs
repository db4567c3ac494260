//! Starting a run, choosing its node images, and the timers of its waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    outcome::{JobError, begin, outcome, subject, timer_now},
    window_ranks::window_standings,
};
use crate::{
    arm::{ErrorDetail, ResourceId},
    database::Pool,
    engine::{
        EngineError, drive, plan,
        queue::{self, StageJob},
    },
    model::{
        managed_cluster::{ManagedCluster, NodeImage},
        update_run::{NodeImageSelectionType, NodeImageVersion, UpdateRunProperties, UpdateState},
    },
    rollout::{self, Event},
    store::{
        memberships,
        resources::{self, Resource},
        runs,
    },
    upstreams::{
        Upstreams,
        azure::{UpstreamError, Verdict},
    },
    work::{Attempt, Handler, Outcome},
};

/// Chooses the members and node images of a run at its first start: the members are those that the fleet has now, and the images
/// are chosen for good.
pub struct PlanRun {
    /// The database.
    pub pool: Pool,
    /// AKS.
    pub upstreams: Upstreams,
}

impl Handler for PlanRun {
    fn kind(&self) -> &'static str {
        queue::PLAN
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl PlanRun {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let id = subject(attempt)?;
        let Some((run, properties)) = load(&self.pool, id).await? else { return Ok(Outcome::Done) };
        let Some(fleet) = run.parent_id else { return Ok(Outcome::Done) };
        // Pre-check, so that AKS is not asked for a run that was stopped meanwhile. The transaction below checks again.
        if !runs::is_starting(&mut self.pool.acquire().await?, id).await? {
            return Ok(Outcome::Done);
        }
        let chosen = match chosen_images(&self.pool, &self.upstreams, (fleet, id), &properties).await? {
            Ok(chosen) => chosen,
            Err(error) => return put_off(attempt, &self.pool, id, &error).await,
        };
        let windows = window_standings(&self.pool, &self.upstreams, (fleet, id), &properties).await?;
        let now = Timestamp::now();
        let mut tx = begin(attempt, &self.pool, id).await?;
        if !runs::is_starting(&mut tx, id).await? {
            return Ok(Outcome::Done);
        }
        let members = memberships::members_of_run(&mut tx, fleet, id).await?;
        let mut plan = plan(&properties, &members)?;
        plan.order(|member| windows.get(&member.cluster_resource_id).copied().unwrap_or_default());
        runs::replace_plan(&mut tx, id, &plan, now).await?;
        if let Some(images) = &chosen {
            runs::select_images(&mut tx, id, images).await?;
        }
        drive(&mut tx, id, Event::Planned, now, attempt.trace.as_deref()).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// Starts a run for a replica of an older version, which leaves the whole start to a job.
pub struct Start {
    /// The database.
    pub pool: Pool,
}

impl Handler for Start {
    fn kind(&self) -> &'static str {
        queue::START
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl Start {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let run = subject(attempt)?;
        let mut tx = begin(attempt, &self.pool, run).await?;
        match drive(&mut tx, run, Event::Start, Timestamp::now(), attempt.trace.as_deref()).await {
            Ok(_) => {}
            // The start was allowed when it was asked for; something else came first.
            Err(EngineError::Refused(refused)) => {
                tracing::warn!(%run, "the update run is not started: {refused}");
                return Ok(Outcome::Done);
            }
            Err(error) => return Err(error.into()),
        }
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// Chooses the node images of a `Consistent` run that was not started, for people to read.
pub struct Images {
    /// The database.
    pub pool: Pool,
    /// AKS.
    pub upstreams: Upstreams,
}

impl Handler for Images {
    fn kind(&self) -> &'static str {
        queue::IMAGES
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl Images {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let id = subject(attempt)?;
        let Some((run, properties)) = load(&self.pool, id).await? else { return Ok(Outcome::Done) };
        let Some(fleet) = run.parent_id else { return Ok(Outcome::Done) };
        let chosen = match chosen_images(&self.pool, &self.upstreams, (fleet, id), &properties).await? {
            Ok(chosen) => chosen,
            Err(error) => return put_off(attempt, &self.pool, id, &error).await,
        };
        let mut tx = begin(attempt, &self.pool, id).await?;
        let snapshot = runs::load_for_update(&mut tx, id).await?;
        let open = snapshot.is_some_and(|run| run.status.state == UpdateState::NotStarted);
        if let (true, Some(images)) = (open, &chosen) {
            runs::select_images(&mut tx, id, images).await?;
        }
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// Ends the wait after a stage.
pub struct WaitElapsed {
    /// The database.
    pub pool: Pool,
}

impl Handler for WaitElapsed {
    fn kind(&self) -> &'static str {
        queue::WAIT
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl WaitElapsed {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let StageJob { run, stage } = attempt.subject.parse()?;
        let mut tx = begin(attempt, &self.pool, run).await?;
        let trace = attempt.trace.as_deref();
        drive(&mut tx, run, Event::WaitElapsed { stage }, timer_now(attempt), trace).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

async fn load(pool: &Pool, id: Uuid) -> Result<Option<(Resource, UpdateRunProperties)>, JobError> {
    let mut conn = pool.acquire().await?;
    let Some(run) = resources::get_by_row(&mut conn, id).await? else { return Ok(None) };
    let properties = serde_json::from_value(run.properties.clone())?;
    Ok(Some((run, properties)))
}

/// The images of a `Consistent` run over the fleet's members as they are now: the newest of each family that every region
/// concerned offers. `None` for other selections.
async fn chosen_images(
    pool: &Pool,
    upstreams: &Upstreams,
    (fleet, run): (Uuid, Uuid),
    properties: &UpdateRunProperties,
) -> Result<Result<Option<Vec<NodeImageVersion>>, UpstreamError>, JobError> {
    let selection = properties.managed_cluster_update.node_image_selection.as_ref();
    match selection.map(|selection| selection.selection_type) {
        Some(NodeImageSelectionType::Consistent) => {}
        Some(NodeImageSelectionType::Custom) => {
            return Ok(Ok(selection.map(|selection| selection.custom_node_image_versions.clone())));
        }
        Some(NodeImageSelectionType::Latest) | None => return Ok(Ok(None)),
    }
    let members = {
        let mut conn = pool.acquire().await?;
        memberships::members_of_run(&mut conn, fleet, run).await?
    };
    let clusters: BTreeSet<ResourceId> = plan(properties, &members)?
        .stages
        .iter()
        .flat_map(|stage| &stage.groups)
        .flat_map(|group| &group.members)
        .filter_map(|member| member.cluster_resource_id.parse().ok())
        .collect();
    Ok(consistent(upstreams, &clusters).await.map(Some))
}

/// One list a subscription, and one question for each family in each region.
async fn consistent(
    upstreams: &Upstreams,
    clusters: &BTreeSet<ResourceId>,
) -> Result<Vec<NodeImageVersion>, UpstreamError> {
    let subscriptions: BTreeSet<&str> = clusters.iter().map(ResourceId::subscription).collect();
    let mut seen: Vec<(ResourceId, ManagedCluster)> = Vec::new();
    for subscription in subscriptions {
        for cluster in upstreams.azure.clusters.list(subscription).await? {
            if let Ok(id) = cluster.id.parse::<ResourceId>()
                && clusters.contains(&id)
            {
                seen.push((id, cluster));
            }
        }
    }
    let mut latest: BTreeMap<(String, String), NodeImage> = BTreeMap::new();
    let mut observed = BTreeSet::new();
    for (id, cluster) in &seen {
        for (family, image) in upstreams.azure.catalogue.latest_images(id, cluster).await? {
            latest.insert((cluster.location.clone(), family), image);
        }
        let families = cluster.pools.iter().filter_map(|pool| Some(pool.image.as_ref()?.family().to_owned()));
        observed.extend(families.map(|family| (cluster.location.clone(), family)));
    }
    Ok(rollout::upgrade::consistent_images(&observed, &latest))
}

/// Tries again later, and says so on the run: no member shows yet what is wrong.
async fn put_off(attempt: &Attempt, pool: &Pool, id: Uuid, error: &UpstreamError) -> Result<Outcome, JobError> {
    let (after, cause) = match error.verdict() {
        Verdict::WaitForBudget { after } => return Ok(Outcome::AgainAfter { delay: after }),
        Verdict::Retry { after, detail, .. } => (after, Some(detail)),
        Verdict::Wait(detail) | Verdict::Fail(detail) => (Some(PUT_OFF), Some(detail)),
        Verdict::LookAgain => (Some(PUT_OFF), None),
    };
    let reason = ErrorDetail::new(
        "NodeImageVersionNotAvailable",
        "The node images of the update run cannot be chosen yet, as AKS does not say what its regions offer. It is tried again.",
    );
    let reason = cause.into_iter().fold(reason, ErrorDetail::with);
    let mut tx = begin(attempt, pool, id).await?;
    if runs::is_starting(&mut tx, id).await? {
        let blocked = Event::PlanningBlocked { error: reason };
        drive(&mut tx, id, blocked, Timestamp::now(), attempt.trace.as_deref()).await?;
    } else {
        runs::explain_wait(&mut tx, id, &reason).await?;
    }
    attempt.settle(&mut tx, Outcome::Retry { error: error.to_string(), after }).await?;
    tx.commit().await?;
    Ok(Outcome::Settled)
}

/// Until the next try, where AKS does not say when.
const PUT_OFF: Duration = Duration::from_secs(30);

/// The handlers of this file.
pub(super) fn handlers(pool: &Pool, upstreams: &Upstreams) -> Vec<Arc<dyn Handler>> {
    vec![
        Arc::new(PlanRun { pool: pool.clone(), upstreams: upstreams.clone() }),
        Arc::new(Start { pool: pool.clone() }),
        Arc::new(Images { pool: pool.clone(), upstreams: upstreams.clone() }),
        Arc::new(WaitElapsed { pool: pool.clone() }),
    ]
}
