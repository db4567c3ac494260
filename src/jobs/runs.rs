//! Starting a run, choosing its node images, and the timers of its waits.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    images::{self, RunImages},
    outcome::{JobError, begin, outcome, subject, timer_now},
    window_ranks::window_standings,
};
use crate::{
    arm::ErrorDetail,
    database::Pool,
    engine::{
        self, EngineError, drive, plan,
        queue::{self, StageJob},
    },
    model::update_run::{UpdateRunProperties, UpdateState},
    rollout::Event,
    store::{
        memberships,
        resources::{self, Resource, RowByService},
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

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(start_given_up(attempt, &self.pool, reason).await) })
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
        let images = match images::choose(&self.pool, &self.upstreams, (fleet, id), &properties).await? {
            Ok(images) => images,
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
        engine::replace_plan(&mut tx, id, &plan, now).await?;
        let event = match images {
            RunImages::Latest => Event::Planned,
            RunImages::Chosen(images) => {
                runs::select_images(&mut tx, id, &images).await?;
                Event::Planned
            }
            RunImages::Impossible(error) => Event::StartFailed { error },
        };
        drive(&mut tx, id, event, now, attempt.trace.as_deref()).await?;
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

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(start_given_up(attempt, &self.pool, reason).await) })
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

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(start_given_up(attempt, &self.pool, reason).await) })
    }
}

impl Images {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let id = subject(attempt)?;
        let Some((run, properties)) = load(&self.pool, id).await? else { return Ok(Outcome::Done) };
        let Some(fleet) = run.parent_id else { return Ok(Outcome::Done) };
        let images = match images::choose(&self.pool, &self.upstreams, (fleet, id), &properties).await? {
            Ok(images) => images,
            Err(error) => return put_off(attempt, &self.pool, id, &error).await,
        };
        let mut tx = begin(attempt, &self.pool, id).await?;
        let snapshot = runs::load_for_update(&mut tx, id).await?;
        let open = snapshot.is_some_and(|run| run.status.state == UpdateState::NotStarted);
        match images {
            RunImages::Chosen(images) if open => runs::select_images(&mut tx, id, &images).await?,
            RunImages::Impossible(error) if open => {
                runs::select_images(&mut tx, id, &[]).await?;
                runs::explain_wait(&mut tx, id, &error).await?;
            }
            RunImages::Latest | RunImages::Chosen(_) | RunImages::Impossible(_) => {}
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

/// Says on the run that its start, or the choice of its node images, was given up.
async fn start_given_up(attempt: &Attempt, pool: &Pool, reason: String) -> Result<Outcome, JobError> {
    let id = subject(attempt)?;
    let error = ErrorDetail::new(
        "StartAbandoned",
        format!(
            "{reason} The start of the update run was given up, and no cluster was changed by it. Ask an operator to find the cause in the log of the workers, then start the update run again."
        ),
    );
    let mut tx = begin(attempt, pool, id).await?;
    if runs::is_starting(&mut tx, id).await? {
        drive(&mut tx, id, Event::StartFailed { error }, Timestamp::now(), attempt.trace.as_deref()).await?;
    } else {
        runs::explain_wait(&mut tx, id, &error).await?;
    }
    attempt.settle(&mut tx, Outcome::Fail { error: reason }).await?;
    tx.commit().await?;
    Ok(Outcome::Settled)
}

async fn load(pool: &Pool, id: Uuid) -> Result<Option<(Resource, UpdateRunProperties)>, JobError> {
    let mut conn = pool.acquire().await?;
    let Some(run) = resources::get_by_row(&mut conn, RowByService(id)).await? else { return Ok(None) };
    let properties = serde_json::from_value(run.properties.clone())?;
    Ok(Some((run, properties)))
}

/// Tries again later, and says so on the run: no member shows yet what is wrong.
async fn put_off(attempt: &Attempt, pool: &Pool, id: Uuid, error: &UpstreamError) -> Result<Outcome, JobError> {
    let (after, cause) = match error.verdict() {
        Verdict::WaitForBudget { after } => return Ok(Outcome::AgainAfter { delay: after }),
        Verdict::Retry { after, detail, .. } => (after, Some(detail)),
        Verdict::Wait(detail) | Verdict::Fail(detail) => (Some(PUT_OFF), Some(detail)),
        Verdict::ReadAgain => (Some(PUT_OFF), None),
    };
    let why = cause.as_ref().map_or_else(String::new, |cause| format!(" ({}: {})", cause.code, cause.message));
    let reason = ErrorDetail::new(
        "NodeImageVersionNotAvailable",
        format!(
            "The node images of the update run cannot be chosen yet: AKS cannot be asked what its regions offer{why}. No cluster was changed. The service asks again by itself, at least every 5 minutes."
        ),
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
