//! Begins steps of an upgrade: the intent is committed first, then AKS is called.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    record::{BUSY_RECHECK, Refusal, not_member, record},
    task::{Continuation, Task, UpgradeMember},
};
use crate::{
    database::Connection,
    jobs::outcome::JobError,
    model::update_run::UpdateState,
    rollout::upgrade::{Begin, WaitsFor},
    store::{memberships, runs},
    upstreams::azure::{Followed, Seen, Verdict},
};

/// Most calls to AKS that begin parts of one cluster's upgrade under one intent. Further calls follow at once, under the next intent.
const MOST_CALLS_PER_INTENT: usize = 16;

impl UpgradeMember {
    /// Records the intent, calls, records the answers. What can refuse a call before it is sent comes before the intent.
    pub(super) async fn begin(
        &self,
        task: &mut Task<'_>,
        seen: &Seen,
        begin: &Begin,
    ) -> Result<Continuation, JobError> {
        let truncated = begin.actions.len() > MOST_CALLS_PER_INTENT;
        let mut begin = begin.clone();
        begin.actions.truncate(MOST_CALLS_PER_INTENT);
        let begin = &begin;
        if !task.holds_cluster() && begin.actions.iter().any(|action| !action.is_conditional()) {
            return Ok(match self.hold_cluster(task).await? {
                Some(outcome) => Continuation::Return(outcome),
                None => Continuation::ReadCluster,
            });
        }
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
        let (before, nothing_begun) = (task.upgrade.clone(), task.has_begun_nothing());
        let steps = task.upgrade.intend(begin, &seen.cluster, now);
        record(&mut tx, task, None).await?;
        let other = match task.holds_cluster() {
            true => None,
            false => runs::try_lock_cluster(&mut tx, &task.cluster, task.holder(), now).await?,
        };
        match other {
            Some(other) if nothing_begun => {
                tx.rollback().await?;
                task.upgrade = before;
                return self.held_by_other_run(task, other).await.map(Continuation::Return);
            }
            // Waiting would forget the operations that this member has begun.
            Some(other) => {
                tracing::error!(cluster = %task.cluster, ?other, "another member holds the cluster of an upgrade in progress");
            }
            None => task.cluster_holder = Some(task.holder()),
        }
        tx.commit().await?;

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
