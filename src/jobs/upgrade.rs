//! The upgrade of one member's cluster: one job a member of a run, from its slot to its end.
//!
//! [`rollout::upgrade::next`] decides what to do. This module does it: it reads the cluster, records the intent, calls AKS, records
//! the answer, and reports to the run. When an attempt is cut off at any point, the next attempt reads the cluster before it acts.

mod windows;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use windows::{BeginPermission, until_next_check};

use super::{
    outcome::{JobError, outcome},
    reports::{Report, Reported, Reports},
};
use crate::{
    arm::{ErrorDetail, ResourceId},
    config::StoppedClusters,
    database::{Connection, Pool},
    engine::{
        drive,
        queue::{self, MemberJob},
    },
    model::update_run::UpdateState,
    rollout::{
        self, Event,
        upgrade::{self, Begin, Goal, Next, StepDurations, StepState, Upgrade, WaitsFor, Watch},
    },
    store::{
        memberships::{self, Membership},
        resources,
        runs::{self, Holder, Progress, RunMember},
    },
    upstreams::{
        Upstreams,
        azure::{CatalogueNeeds, Followed, Freshness, Observation, Seen, UpstreamError, Verdict},
    },
    work::{Attempt, Handler, Outcome},
};

/// Consecutive failures to reach AKS after which a member whose upgrade has not begun gives its slot back, and waits as
/// Pending. With the engine's back-off that is some ten seconds and more.
const PENDING_AFTER: u32 = 6;
/// Consecutive invalid answers after which an operation's status is not polled any more.
const MOST_INVALID_ANSWERS: u32 = 3;
/// Most calls to AKS that begin parts of one cluster's upgrade under one intent. Further calls follow at once, under the next intent.
const MOST_CALLS_PER_INTENT: usize = 16;
/// A wait for AKS's limit on calls that is longer than this is shown on the member.
const SHOWN_WAIT: Duration = Duration::from_secs(60);
/// An operation that takes longer than this is named in the member's message, with the way out.
const LONG_OPERATION: Duration = Duration::from_secs(2 * 3600);
/// How the message of a member begins while AKS or the service's credential is not available.
const OUTAGE: &str = "AKS cannot be called at the moment";
/// What the service does about it by itself.
const CALLED_AGAIN: &str = "The service calls AKS again by itself, at least every 5 minutes.";
/// How often one attempt may read the cluster and act before the job makes room for others.
const MOST_READS: u32 = 8;

/// What operators decide about upgrades.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// What to do with stopped clusters.
    pub stopped: StoppedClusters,
    /// How long to wait before the service checks again whether a region offers the version that a member waits for.
    pub offer_recheck: Duration,
    /// How long to wait before the service checks again whether a closed maintenance window was changed.
    pub window_recheck: Duration,
}

/// Upgrades members.
pub struct UpgradeMember {
    pool: Pool,
    upstreams: Upstreams,
    policy: Policy,
    reports: Arc<Reports>,
    /// How long steps took in this process.
    durations: Mutex<StepDurations>,
}

impl Handler for UpgradeMember {
    fn kind(&self) -> &'static str {
        queue::UPGRADE
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.given_up(attempt, reason).await) })
    }
}

/// One member in one attempt of the job.
struct Task<'a> {
    attempt: &'a Attempt,
    run: Uuid,
    run_state: UpdateState,
    row: RunMember,
    cluster: ResourceId,
    goal: Goal,
    /// The record as it was loaded.
    loaded: Upgrade,
    upgrade: Upgrade,
    /// The member's message is about an outage of AKS: it goes when AKS answers again.
    tells_outage: bool,
    /// Who held the cluster when the record was loaded.
    cluster_holder: Option<Holder>,
    /// The membership when the record was loaded.
    membership: Membership,
}

impl Task<'_> {
    /// Whether no call may have reached AKS, except calls that AKS declined.
    fn has_begun_nothing(&self) -> bool {
        self.upgrade.steps.iter().all(|step| step.state == StepState::Withdrawn)
    }

    fn catalogue_needs(&self) -> CatalogueNeeds<'_> {
        CatalogueNeeds {
            versions: self.goal.moves_version(),
            images: self.goal.moves_pools(),
            chosen_images: self.goal.chosen_images(),
        }
    }

    fn holder(&self) -> Holder {
        Holder { run_id: self.run, member: self.row.member.index }
    }

    fn holds_cluster(&self) -> bool {
        self.cluster_holder == Some(self.holder())
    }

    /// Another member that held the cluster when the record was loaded.
    fn other_holder(&self) -> Option<Holder> {
        self.cluster_holder.filter(|holder| *holder != self.holder())
    }
}

/// How an attempt goes on.
enum Continuation {
    /// The attempt is over.
    Return(Outcome),
    /// Everything is recorded. Poll the operations in progress after this time.
    Wait(Duration),
    /// Read the cluster at once.
    ReadCluster,
}

impl UpgradeMember {
    /// Returns a handler that upgrades members by this policy.
    #[must_use]
    pub fn new(pool: &Pool, upstreams: &Upstreams, policy: Policy) -> Self {
        Self {
            pool: pool.clone(),
            upstreams: upstreams.clone(),
            policy,
            reports: Reports::new(pool.clone()),
            durations: Mutex::default(),
        }
    }

    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let Some(mut task) = self.load(attempt).await? else { return Ok(Outcome::Done) };
        match task.row.member.state {
            UpdateState::Running if task.run_state == UpdateState::Stopping && task.has_begun_nothing() => {
                self.refused(&task, Refusal::RunStops).await
            }
            UpdateState::Running => {
                if task.has_begun_nothing()
                    && let Some(outcome) = self.may_not_begin(&task).await?
                {
                    return Ok(outcome);
                }
                let (mut then, mut reads) = (self.follow(&mut task).await?, 0);
                loop {
                    then = match then {
                        Continuation::Return(outcome) => return Ok(outcome),
                        Continuation::Wait(delay) if attempt.pause(delay).await => self.follow(&mut task).await?,
                        Continuation::Wait(delay) => {
                            self.explain_long_operation(&task).await?;
                            return Ok(Outcome::AgainAfter { delay: delay.max(SOONEST_ROW) });
                        }
                        Continuation::ReadCluster if reads == MOST_READS => {
                            return self.save(&task, None, Outcome::AgainAfter { delay: Duration::ZERO }).await;
                        }
                        Continuation::ReadCluster => {
                            reads += 1;
                            self.read_and_act(&mut task).await?
                        }
                    }
                }
            }
            UpdateState::Pending => self.check_pending(&task).await,
            // The member was skipped or stopped, left the fleet, or ended.
            _ => Ok(Outcome::Done),
        }
    }

    /// Fails a member whose job is quarantined. A member that is Pending cannot fail, and stays so with the reason.
    async fn given_up(&self, attempt: &Attempt, reason: String) -> Result<Outcome, JobError> {
        let fail = Outcome::Fail { error: reason.clone() };
        let Some(task) = self.load(attempt).await? else { return Ok(fail) };
        let (member, attempt) = (task.row.member.clone(), task.row.member.attempt);
        let under_way = match task.upgrade.operation_id() {
            Some(operation) => format!("The AKS operation {operation} may still be under way on the cluster."),
            None if task.has_begun_nothing() => "Nothing was begun on the cluster.".to_owned(),
            None => "An AKS operation may still be under way on the cluster.".to_owned(),
        };
        let what = format!("{reason} The upgrade of this member was given up. {under_way}");
        let ask = "Ask an operator to find the cause in the log of the workers";
        let abandoned = |way_out: &str| ErrorDetail::new("UpgradeAbandoned", format!("{what} {ask}, then {way_out}."));
        let event = match member.state {
            UpdateState::Running => {
                let error = abandoned("start the update run again to upgrade the member");
                let outcome = rollout::Outcome::Failed { error, message: None };
                Event::MemberEnded { member, attempt, outcome }
            }
            UpdateState::Pending => {
                let error = abandoned("stop the update run and start it again, or skip the member");
                let message = Some(error.message.clone());
                Event::MemberBlocked { member, attempt, error, message }
            }
            // Skipped, stopped, left or ended meanwhile.
            _ => return Ok(fail),
        };
        self.report(&task, event, fail).await
    }

    async fn load<'a>(&self, attempt: &'a Attempt) -> Result<Option<Task<'a>>, JobError> {
        let MemberJob { run, member } = attempt.subject.parse()?;
        let loaded = {
            let mut conn = self.pool.acquire().await?;
            runs::task(&mut conn, run, member).await?
        };
        let Some(loaded) = loaded else { return Ok(None) };
        let row = loaded.member;
        let cluster = row
            .cluster_resource_id
            .parse()
            .map_err(|_| JobError::Unexpected(format!("'{}' is no cluster", row.cluster_resource_id)))?;
        let goal =
            Goal::new(&loaded.update, &loaded.selected_images).map_err(|e| JobError::Unexpected(e.to_string()))?;
        let goal = if loaded.auto_upgrade { goal.of_auto_upgrade() } else { goal };
        let upgrade: Upgrade = row.upgrade.clone().map(serde_json::from_value).transpose()?.unwrap_or_default();
        let tells_outage = row.message.as_ref().is_some_and(|message| message.starts_with(OUTAGE));
        Ok(Some(Task {
            attempt,
            run,
            run_state: loaded.run_state,
            row,
            cluster,
            goal,
            loaded: upgrade.clone(),
            upgrade,
            tells_outage,
            cluster_holder: loaded.cluster_holder,
            membership: loaded.membership,
        }))
    }

    fn with_durations<T>(&self, work: impl FnOnce(&mut StepDurations) -> T) -> T {
        work(&mut self.durations.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends or blocks a member that does not belong to the fleet, or whose cluster another run upgrades, by what was loaded. Both are
    /// checked again, under locks, before the upgrade begins.
    async fn may_not_begin(&self, task: &Task<'_>) -> Result<Option<Outcome>, JobError> {
        if let Some(refusal) = not_member(&task.membership) {
            return self.refused(task, refusal).await.map(Some);
        }
        match task.other_holder() {
            Some(other) => self.held_by_other_run(task, other).await.map(Some),
            None => Ok(None),
        }
    }

    /// Locks the cluster while an operation is followed that somebody else began: no other run begins another one after it.
    async fn hold_cluster(&self, task: &mut Task<'_>) -> Result<Option<Outcome>, JobError> {
        if task.holds_cluster() {
            return Ok(None);
        }
        let mut tx = task.attempt.begin(&self.pool).await?;
        let other = runs::try_lock_cluster(&mut tx, &task.cluster, task.holder(), Timestamp::now()).await?;
        tx.commit().await?;
        let Some(other) = other else {
            task.cluster_holder = Some(task.holder());
            return Ok(None);
        };
        self.held_by_other_run(task, other).await.map(Some)
    }

    async fn held_by_other_run(&self, task: &Task<'_>, other: Holder) -> Result<Outcome, JobError> {
        let run = {
            let mut conn = self.pool.acquire().await?;
            resources::get_by_row(&mut conn, resources::RowByService(other.run_id))
                .await?
                .map(|run| run.arm_id)
                .unwrap_or_default()
        };
        let message = format!("The update run '{run}' is upgrading the cluster.");
        self.blocked(task, ErrorDetail::new("ClusterOperationInProgress", message), WaitsFor::Cluster).await
    }

    /// Ends a member that may not begin, or leaves it to the next start of the run.
    async fn refused(&self, task: &Task<'_>, refusal: Refusal) -> Result<Outcome, JobError> {
        match refusal {
            Refusal::NotMember(message) => self.ended(task, upgrade::Outcome::Skipped { message }).await,
            Refusal::RunStops => {
                let (member, attempt) = (task.row.member.clone(), task.row.member.attempt);
                let error = ErrorDetail::new(
                    "UpdateRunStopping",
                    "The update run stopped before the upgrade of this member began. Start the run again to upgrade the member.",
                );
                let message = Some(error.message.clone());
                let again = Outcome::AgainAfter { delay: BUSY_RECHECK };
                self.report(task, Event::MemberBlocked { member, attempt, error, message }, again).await
            }
        }
    }

    /// Polls the operations that are recorded as in progress.
    async fn follow(&self, task: &mut Task<'_>) -> Result<Continuation, JobError> {
        let now = Timestamp::now();
        let (mut next, mut must_read, mut any_ended) = (None::<Duration>, task.upgrade.steps.is_empty(), false);
        for index in 0..task.upgrade.steps.len() {
            let Some(step) = task.upgrade.steps.get(index) else { break };
            let StepState::Started { operation_url, at, .. } = &step.state else {
                must_read |= matches!(step.state, StepState::Intended);
                continue;
            };
            let followed = Followed {
                cluster: &task.cluster,
                action: Some(&step.action),
                operation_url: operation_url.as_deref(),
                elapsed: time_between(*at, now),
            };
            match self.upstreams.azure.observer.observe(&followed).await {
                Ok(Observation::Running { again_after }) => {
                    next = Some(next.map_or(again_after, |next| next.min(again_after)));
                }
                Ok(Observation::Succeeded) => {
                    self.with_durations(|durations| durations.add(step, time_between(*at, now)));
                    task.upgrade.ended(index, Ok(()));
                    any_ended = true;
                }
                Ok(Observation::Failed(error)) => {
                    task.upgrade.ended(index, Err(error));
                    any_ended = true;
                }
                Ok(Observation::ReadCluster) => {
                    task.upgrade.lost(index);
                    must_read = true;
                }
                Err(UpstreamError::Throttled { after, .. }) => next = Some(next.map_or(after, |next| next.min(after))),
                Err(UpstreamError::Garbage(what)) if task.attempt.failures >= MOST_INVALID_ANSWERS => {
                    tracing::warn!(cluster = %task.cluster, what, "the operation's status is invalid; the cluster is read instead");
                    task.upgrade.lost(index);
                    must_read = true;
                }
                Err(error) => return self.unreachable(task, &error).await.map(Continuation::Return),
            }
        }
        match next {
            // Other operations may have ended too. Read the cluster once all of them were polled.
            Some(delay) if !must_read && !any_ended && !std::mem::take(&mut task.tells_outage) => {
                Ok(Continuation::Wait(delay))
            }
            Some(delay) if !must_read => self.record_and_wait(task, delay).await,
            _ => Ok(Continuation::ReadCluster),
        }
    }

    /// Says on the member which operation it waits for, once that takes unusually long.
    async fn explain_long_operation(&self, task: &Task<'_>) -> Result<(), JobError> {
        let now = Timestamp::now();
        let long = task.upgrade.steps.iter().find_map(|step| match &step.state {
            StepState::Started { at, .. } if time_between(*at, now) > LONG_OPERATION => Some((step, *at)),
            _ => None,
        });
        let Some((step, at)) = long else { return Ok(()) };
        let message = format!(
            "AKS has been moving the {} since {at:.0}. The update run waits for the end of that operation. If it never ends, skip the member as a target of type 'RunningMember'.",
            step.action
        );
        if task.row.message.as_ref() != Some(&message) {
            record(&mut self.pool.acquire().await?, task, Some(message)).await?;
        }
        Ok(())
    }

    /// Reads the cluster, decides, and acts.
    async fn read_and_act(&self, task: &mut Task<'_>) -> Result<Continuation, JobError> {
        let seen = match self.upstreams.azure.clusters.get(&task.cluster).await {
            Ok(seen) => seen,
            Err(error) => return self.read_failed(task, &error).await,
        };
        let offer = self.upstreams.azure.catalogue.of(&task.cluster, &seen.cluster, task.catalogue_needs()).await;
        let offer = match offer {
            Ok(offer) => offer,
            Err(error) => return self.read_failed(task, &error).await,
        };
        let now = Timestamp::now();
        match upgrade::next(&task.upgrade, &seen.cluster, &task.goal, &offer, now) {
            Next::Begin(begin) if begin.first => match self.may_begin(task, Freshness::Required).await {
                Ok(BeginPermission::Granted) => self.begin(task, &seen, &begin).await,
                Ok(BeginPermission::WindowClosed(closed)) => self.closed(task, closed).await.map(Continuation::Return),
                Ok(BeginPermission::AskAgain(delay)) => self.wait_for_budget(task, delay).await,
                Err(error) => self.read_failed(task, &error).await,
            },
            Next::Begin(begin) => self.begin(task, &seen, &begin).await,
            Next::Follow(watches) => {
                if let Some(outcome) = self.hold_cluster(task).await? {
                    return Ok(Continuation::Return(outcome));
                }
                let delay = watches.iter().map(|watch| self.wait(task, watch, now)).min().unwrap_or(BUSY_RECHECK);
                self.record_and_wait(task, delay).await
            }
            Next::Blocked { error, waits_for } => self.blocked(task, error, waits_for).await.map(Continuation::Return),
            Next::Done(ended) => self.ended(task, ended).await.map(Continuation::Return),
        }
    }

    /// Records the intent, calls, records the answers. What can refuse a call before it is sent comes before the intent.
    async fn begin(&self, task: &mut Task<'_>, seen: &Seen, begin: &Begin) -> Result<Continuation, JobError> {
        let truncated = begin.actions.len() > MOST_CALLS_PER_INTENT;
        let mut begin = begin.clone();
        begin.actions.truncate(MOST_CALLS_PER_INTENT);
        let begin = &begin;
        if let Err(error) = self.upstreams.azure.clusters.prepare(&task.cluster, &begin.actions).await {
            return self.read_failed(task, &error).await;
        }
        let mut tx = self.pool.begin_locking(task.run).await?;
        if begin.first
            && let Some(refusal) = refusal(&mut tx, task).await?
        {
            tx.rollback().await?;
            return self.refused(task, refusal).await.map(Continuation::Return);
        }
        let now = Timestamp::now();
        if !task.holds_cluster()
            && let Some(other) = runs::try_lock_cluster(&mut tx, &task.cluster, task.holder(), now).await?
        {
            tx.rollback().await?;
            return self.held_by_other_run(task, other).await.map(Continuation::Return);
        }
        let steps = task.upgrade.intend(begin, &seen.cluster, now);
        record(&mut tx, task, None).await?;
        tx.commit().await?;
        task.cluster_holder = Some(task.holder());

        let (mut delay, mut again, mut failure, mut blocked) = (None::<Duration>, truncated, None, None);
        let attempt = task.attempt;
        let time_left = move || attempt.lease_remaining();
        for (step, action) in steps.into_iter().zip(&begin.actions) {
            match self.upstreams.azure.clusters.begin(&task.cluster, seen, action, &time_left).await {
                Ok(accepted) => {
                    let followed = Followed {
                        cluster: &task.cluster,
                        action: Some(action),
                        operation_url: accepted.operation_url.as_deref(),
                        elapsed: Duration::ZERO,
                    };
                    let wait = self.upstreams.azure.observer.wait(&followed, accepted.retry_after);
                    delay = Some(delay.map_or(wait, |delay| delay.min(wait)));
                    tracing::info!(cluster = %task.cluster, ?action, operation = accepted.operation_id, "upgrade begun");
                    let expected =
                        task.upgrade.steps.get(step).and_then(|step| self.with_durations(|seen| seen.expected(step)));
                    task.upgrade.started(step, accepted.operation_url, accepted.operation_id, Timestamp::now());
                    task.upgrade.expect(step, expected);
                }
                Err(error) => match error.verdict() {
                    // The call may have reached AKS. Keep the intent; the next read of the cluster decides.
                    Verdict::Retry { may_have_effect: true, .. } => failure = Some(error),
                    Verdict::Retry { .. } => {
                        task.upgrade.withdraw(step);
                        failure = Some(error);
                    }
                    Verdict::WaitForBudget { after } => {
                        task.upgrade.withdraw(step);
                        delay = Some(delay.map_or(after, |delay| delay.min(after)));
                    }
                    Verdict::Wait(reason) => {
                        task.upgrade.withdraw(step);
                        blocked = Some(reason);
                    }
                    Verdict::ReadAgain => {
                        task.upgrade.withdraw(step);
                        again = true;
                    }
                    Verdict::Fail(reason) => {
                        task.upgrade.ended(step, Err(reason));
                        again = true;
                    }
                },
            }
        }
        match (failure, delay, blocked) {
            (Some(error), ..) => self.unreachable(task, &error).await.map(Continuation::Return),
            (None, Some(_), _) if truncated => {
                self.record_and_wait(task, Duration::ZERO).await.map(|_| Continuation::ReadCluster)
            }
            (None, Some(delay), _) => self.record_and_wait(task, delay).await,
            (None, None, Some(reason)) if task.has_begun_nothing() => {
                self.blocked(task, reason, WaitsFor::Cluster).await.map(Continuation::Return)
            }
            (None, None, Some(_)) => self.record_and_wait(task, BUSY_RECHECK).await,
            (None, None, None) if again => Ok(Continuation::ReadCluster),
            (None, None, None) => self.record_and_wait(task, BUSY_RECHECK).await,
        }
    }

    /// Checks, without a slot, whether a pending member can go on, and requests a slot when it can.
    async fn check_pending(&self, task: &Task<'_>) -> Result<Outcome, JobError> {
        let waits_for_window = task.row.error.as_ref().is_some_and(upgrade::is_about_window);
        if waits_for_window && let Some(outcome) = self.wait_for_window(task).await? {
            return Ok(outcome);
        }
        if let Some(other) = task.other_holder() {
            return self.held_by_other_run(task, other).await;
        }
        let looked = async {
            let seen = self.upstreams.azure.clusters.get(&task.cluster).await?;
            let offer = self.upstreams.azure.catalogue.of(&task.cluster, &seen.cluster, task.catalogue_needs()).await?;
            let now = Timestamp::now();
            Ok::<_, UpstreamError>(upgrade::next(&Upgrade::default(), &seen.cluster, &task.goal, &offer, now))
        };
        match looked.await {
            Ok(Next::Blocked { error, waits_for }) => return self.blocked(task, error, waits_for).await,
            Ok(Next::Begin(begin)) if begin.first => {
                if let Some(outcome) = self.wait_for_window(task).await? {
                    return Ok(outcome);
                }
            }
            Err(UpstreamError::Throttled { after, .. }) => return Ok(Outcome::AgainAfter { delay: after }),
            Err(error) if matches!(error.verdict(), Verdict::Retry { .. }) => {
                return self.unreachable(task, &error).await;
            }
            // The member goes on with a slot, and acts or fails there.
            Ok(_) | Err(_) => {}
        }
        let (member, attempt) = (task.row.member.clone(), task.row.member.attempt);
        self.report(task, Event::MemberUnblocked { member, attempt }, Outcome::Done).await
    }

    /// Returns how a pending member goes on waiting for its window; `None` when the member can go on.
    async fn wait_for_window(&self, task: &Task<'_>) -> Result<Option<Outcome>, JobError> {
        match self.may_begin(task, Freshness::Relaxed).await {
            Ok(BeginPermission::Granted) => Ok(None),
            Ok(BeginPermission::WindowClosed(closed)) => self.closed(task, closed).await.map(Some),
            Ok(BeginPermission::AskAgain(delay)) | Err(UpstreamError::Throttled { after: delay, .. }) => {
                Ok(Some(Outcome::AgainAfter { delay }))
            }
            Err(error) if matches!(error.verdict(), Verdict::Retry { .. }) => {
                self.unreachable(task, &error).await.map(Some)
            }
            // The member takes a slot, and fails there.
            Err(_) => Ok(None),
        }
    }

    /// Decides how to go on after a call failed that changes nothing.
    async fn read_failed(&self, task: &mut Task<'_>, error: &UpstreamError) -> Result<Continuation, JobError> {
        match error.verdict() {
            Verdict::WaitForBudget { after } => self.wait_for_budget(task, after).await,
            Verdict::Retry { .. } => self.unreachable(task, error).await.map(Continuation::Return),
            Verdict::ReadAgain => Ok(Continuation::ReadCluster),
            Verdict::Wait(reason) => self.blocked(task, reason, WaitsFor::Cluster).await.map(Continuation::Return),
            Verdict::Fail(error) => {
                self.ended(task, upgrade::Outcome::Failed { error }).await.map(Continuation::Return)
            }
        }
    }

    /// AKS's limit on calls is reached, and the call's place in the queue is kept: the member waits for it. That is no
    /// failure, and costs no statement unless something is to be recorded or the wait is long.
    async fn wait_for_budget(&self, task: &Task<'_>, after: Duration) -> Result<Continuation, JobError> {
        if after <= SHOWN_WAIT && task.upgrade == task.loaded {
            return Ok(Continuation::Wait(after));
        }
        let message = (after > SHOWN_WAIT).then(|| {
            let until = Timestamp::now().saturating_add(after).unwrap_or(Timestamp::MAX);
            format!("AKS's limit on calls is reached. The upgrade goes on by itself at {until:.0}.")
        });
        let again = Outcome::AgainAfter { delay: after.max(SOONEST_ROW) };
        self.save(task, message, again).await.map(Continuation::Return)
    }

    /// AKS or the service's credential is not available: the job tries again until it is. A member that has begun nothing
    /// becomes Pending after a while, so that a stop ends its wait; one that may have an operation in flight stays Running,
    /// with the reason in its message. Neither fails.
    async fn unreachable(&self, task: &Task<'_>, error: &UpstreamError) -> Result<Outcome, JobError> {
        let (after, detail) = match error.verdict() {
            Verdict::Retry { after, detail, .. } => (after, detail),
            Verdict::WaitForBudget { after } => (Some(after), error.detail()),
            Verdict::Wait(detail) | Verdict::Fail(detail) => (None, detail),
            Verdict::ReadAgain => (None, ErrorDetail::new("ClusterChanged", error.to_string())),
        };
        let failures = task.attempt.failures + 1;
        // A `Retry-After` of nothing does not have AKS called ten times a second.
        let after = after.map(|after| after.max(SOONEST_ROW * 2_u32.pow(failures.min(8))));
        let end = if detail.message.ends_with('.') { "" } else { "." };
        let cause = format!("{}: {}{end}", detail.code, detail.message);
        let retry = Outcome::Retry { error: cause.clone(), after };
        if task.row.member.state == UpdateState::Running && task.has_begun_nothing() && failures >= PENDING_AFTER {
            let message = format!(
                "{OUTAGE}: {cause} Nothing was begun on the cluster. {CALLED_AGAIN} The upgrade begins by itself when AKS can be called again."
            );
            let error = ErrorDetail::new("UpstreamUnavailable", message.clone()).with(detail);
            let (member, attempt) = (task.row.member.clone(), task.row.member.attempt);
            tracing::warn!(cluster = %task.cluster, failures, "member is pending: {message}");
            let blocked = Event::MemberBlocked { member, attempt, error, message: Some(message) };
            return self.report(task, blocked, retry).await;
        }
        let way_out = match task.upgrade.operation_id() {
            Some(operation) if failures >= PENDING_AFTER => format!(
                " The member waits for the AKS operation {operation}. If AKS never answers, skip the member as a target of type 'RunningMember'."
            ),
            None if task.has_begun_nothing() => " Nothing was begun on the cluster.".to_owned(),
            None if failures >= PENDING_AFTER => {
                " The upgrade may have begun in AKS; the next read of the cluster tells. If AKS never answers, skip the member as a target of type 'RunningMember'.".to_owned()
            }
            _ => String::new(),
        };
        let progress = task.upgrade.progress().filter(|_| !task.has_begun_nothing());
        let progress = progress.map_or_else(String::new, |progress| format!(" {progress}"));
        let message = format!("{OUTAGE} (failure {failures} in a row): {cause} {CALLED_AGAIN}{way_out}{progress}");
        self.save(task, Some(message), retry).await
    }

    async fn blocked(&self, task: &Task<'_>, error: ErrorDetail, waits_for: WaitsFor) -> Result<Outcome, JobError> {
        let delay = match waits_for {
            WaitsFor::Cluster => BUSY_RECHECK,
            WaitsFor::Offer => self.policy.offer_recheck,
            WaitsFor::Window(opens) => until_next_check(opens, self.policy.window_recheck, Timestamp::now()),
        };
        let again = Outcome::AgainAfter { delay };
        // Constant, so that a check that finds nothing new writes nothing.
        let then = match waits_for {
            WaitsFor::Offer => format!(
                " The service checks again every {} s, and begins the upgrade by itself. To go on sooner, skip the member, or create an update run with another version.",
                self.policy.offer_recheck.as_secs()
            ),
            WaitsFor::Cluster => format!(
                " The service checks again every {} s, and begins the upgrade when the cluster is free. Skip the member to go on without it.",
                BUSY_RECHECK.as_secs()
            ),
            WaitsFor::Window(_) => String::new(),
        };
        let error = ErrorDetail { message: error.message + &then, ..error };
        let is_reported = task.row.error.as_ref() == Some(&error) && task.row.message.as_ref() == Some(&error.message);
        if task.row.member.state == UpdateState::Pending && is_reported {
            return Ok(again);
        }
        let attempt = task.row.member.attempt;
        tracing::info!(cluster = %task.cluster, code = %error.code, "member is pending: {}", error.message);
        let message = Some(error.message.clone());
        let member = task.row.member.clone();
        self.report(task, Event::MemberBlocked { member, attempt, error, message }, again).await
    }

    async fn ended(&self, task: &Task<'_>, ended: upgrade::Outcome) -> Result<Outcome, JobError> {
        let attempt = task.row.member.attempt;
        let outcome = match ended {
            upgrade::Outcome::Completed { message } => rollout::Outcome::Completed { message },
            upgrade::Outcome::Skipped { message } => rollout::Outcome::Skipped { message },
            upgrade::Outcome::Failed { error }
                if error.code == "ClusterStopped" && self.policy.stopped == StoppedClusters::Skip =>
            {
                let message = "skipped: the cluster is stopped, and AKS upgrades running clusters only. Start the cluster, then create another update run.";
                rollout::Outcome::Skipped { message: message.to_owned() }
            }
            upgrade::Outcome::Failed { error } => rollout::Outcome::Failed { error, message: None },
        };
        tracing::info!(cluster = %task.cluster, ?outcome, "member ended");
        let report = Report {
            job: task.attempt.ticket(),
            member: task.row.member.clone(),
            cluster: task.cluster.clone(),
            outcome: outcome.clone(),
            upgrade: serde_json::to_value(&task.upgrade)?,
            operation_id: task.upgrade.operation_id().map(str::to_owned),
            trace: task.attempt.trace.clone(),
        };
        if self.reports.send(task.run, report).await == Reported::Together {
            task.attempt.finished();
            return Ok(Outcome::Settled);
        }
        let member = task.row.member.clone();
        self.report(task, Event::MemberEnded { member, attempt, outcome }, Outcome::Done).await
    }

    /// Reports the event to the run, releases the cluster's lock, and settles the job, in one transaction.
    async fn report(&self, task: &Task<'_>, event: Event, outcome: Outcome) -> Result<Outcome, JobError> {
        let mut tx = self.pool.begin_locking(task.run).await?;
        // The run before the job, as in the transaction that cancels it.
        runs::lock(&mut tx, task.run).await?;
        let trace = task.attempt.trace.as_deref();
        // The record first: it is kept only while the member is in flight in this attempt.
        record(&mut tx, task, None).await?;
        drive(&mut tx, task.run, event, Timestamp::now(), trace).await?;
        runs::unlock_cluster(&mut tx, &task.cluster, task.holder()).await?;
        task.attempt.settle(&mut tx, outcome).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }

    /// Stores the record. A wait that is too long for a pause settles the job as well.
    async fn record_and_wait(&self, task: &Task<'_>, delay: Duration) -> Result<Continuation, JobError> {
        if !task.attempt.may_pause(delay) {
            return self.save(task, None, Outcome::AgainAfter { delay }).await.map(Continuation::Return);
        }
        record(&mut self.pool.acquire().await?, task, None).await?;
        Ok(Continuation::Wait(delay))
    }

    /// Stores the record and settles the job, in one transaction. `message` replaces the one that says how far the upgrade is.
    async fn save(&self, task: &Task<'_>, message: Option<String>, outcome: Outcome) -> Result<Outcome, JobError> {
        let mut tx = self.pool.begin().await?;
        record(&mut tx, task, message).await?;
        task.attempt.settle(&mut tx, outcome).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }

    fn wait(&self, task: &Task<'_>, watch: &Watch, now: Timestamp) -> Duration {
        let step = watch.step.and_then(|index| task.upgrade.steps.get(index));
        let followed = Followed {
            cluster: &task.cluster,
            action: step.map(|step| &step.action),
            operation_url: watch.operation_url.as_deref(),
            elapsed: time_between(watch.since, now),
        };
        self.upstreams.azure.observer.wait(&followed, None)
    }
}

/// Shortest wait that is a row: each such wait costs statements.
const SOONEST_ROW: Duration = Duration::from_millis(100);
/// How long to wait before a busy cluster is read again.
const BUSY_RECHECK: Duration = Duration::from_secs(5);

/// Why a member may not begin.
enum Refusal {
    /// The run was stopped, or too many members failed.
    RunStops,
    /// The cluster's member left the fleet or never joined it, as this message says.
    NotMember(String),
}

/// Why the member may not begin, if so. Neither the run's state nor the membership can change before the transaction ends. The
/// run is locked before the job, as whoever cancels the job does.
async fn refusal(tx: &mut Connection, task: &Task<'_>) -> Result<Option<Refusal>, JobError> {
    match runs::hold(tx, task.run).await? {
        Some(UpdateState::Stopping) => Ok(Some(Refusal::RunStops)),
        // Without a run there is no job either, which its lease shows.
        Some(_) | None => {
            let membership = memberships::of_run_member(tx, task.run, &task.row.member.name, &task.cluster).await?;
            Ok(not_member(&membership))
        }
    }
}

fn not_member(membership: &Membership) -> Option<Refusal> {
    let message = match membership {
        Membership::Joined => return None,
        Membership::Left => "skipped: the member left the fleet.".to_owned(),
        Membership::NotJoined { provisioning_state } => format!(
            "skipped: the member has not joined the fleet, as its provisioningState is {provisioning_state}. Join its cluster again, then create another update run."
        ),
    };
    Some(Refusal::NotMember(message))
}

fn time_between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Stores the record under the lease, with `message` or else the one that says how far the upgrade is.
async fn record(conn: &mut Connection, task: &Task<'_>, message: Option<String>) -> Result<(), JobError> {
    let upgrade = serde_json::to_value(&task.upgrade)?;
    let is_running = task.row.member.state == UpdateState::Running;
    let message = message.or_else(|| task.upgrade.progress().filter(|_| is_running));
    let progress =
        Progress { upgrade: &upgrade, operation_id: task.upgrade.operation_id(), message: message.as_deref() };
    runs::save_upgrade(conn, &task.attempt.ticket(), task.run, &task.row.member, progress).await?;
    Ok(())
}
