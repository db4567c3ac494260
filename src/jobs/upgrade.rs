//! The upgrade of one member's cluster: one job a member of a run, from its slot to its end.
//!
//! [`rollout::upgrade::next`] decides what to do. This module does it: it reads the cluster, records the intent, calls AKS, records
//! the answer, and reports to the run. When an attempt is cut off at any point, the next attempt reads the cluster before it acts.

mod begin;
mod follow;
mod pending;
mod record;
mod task;
mod unavailable;
mod windows;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use jiff::Timestamp;

pub use self::task::{Policy, UpgradeMember};
use self::{
    record::{BUSY_RECHECK, Refusal, SOONEST_ROW, not_member},
    task::{Continuation, Task},
    windows::BeginPermission,
};
use super::outcome::{JobError, outcome};
use crate::{
    arm::ErrorDetail,
    engine::queue,
    model::update_run::UpdateState,
    rollout::{
        self, Event,
        upgrade::{self, Next},
    },
    upstreams::azure::Freshness,
    work::{Attempt, Handler, Outcome},
};

/// How often one attempt may read the cluster and act before the job makes room for others.
const MOST_READS: u32 = 8;
/// How long a member that has begun nothing waits in one attempt until the next wait ends the attempt.
const LONGEST_WITHOUT_LOOK: Duration = Duration::from_secs(5);

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

impl UpgradeMember {
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
                let (mut then, mut reads, mut waited) = (self.follow(&mut task).await?, 0, Duration::ZERO);
                loop {
                    then = match then {
                        Continuation::Return(outcome) => return Ok(outcome),
                        Continuation::Wait(delay) => {
                            self.explain_long_operation(&mut task).await?;
                            // Whether the run was stopped is read at the beginning of an attempt.
                            let must_look = task.has_begun_nothing() && waited > LONGEST_WITHOUT_LOOK;
                            let began = Instant::now();
                            if must_look || !attempt.pause(delay).await {
                                let left = delay.saturating_sub(began.elapsed());
                                return Ok(Outcome::AgainAfter { delay: left.max(SOONEST_ROW) });
                            }
                            waited += delay;
                            self.follow(&mut task).await?
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
}
