//! Polls the operations that AKS carries out on a cluster.

use std::time::Duration;

use jiff::Timestamp;

use super::task::{Continuation, Task, UpgradeMember, time_between};
use crate::{
    jobs::outcome::JobError,
    rollout::upgrade::{StepState, Watch},
    store::runs,
    upstreams::azure::{Followed, Observation, UpstreamError},
    work::Outcome,
};

/// Consecutive invalid answers after which an operation's status is not polled any more.
const MOST_INVALID_ANSWERS: u32 = 3;

impl UpgradeMember {
    /// Polls the operations that are recorded as in progress.
    pub(super) async fn follow(&self, task: &mut Task<'_>) -> Result<Continuation, JobError> {
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

    pub(super) fn wait(&self, task: &Task<'_>, watch: &Watch, now: Timestamp) -> Duration {
        let step = watch.step.and_then(|index| task.upgrade.steps.get(index));
        let followed = Followed {
            cluster: &task.cluster,
            action: step.map(|step| &step.action),
            operation_url: watch.operation_url.as_deref(),
            elapsed: time_between(watch.since, now),
        };
        self.upstreams.azure.observer.wait(&followed, None)
    }

    /// Locks the cluster before the upgrade begins: while an operation is followed that somebody else began, and before the cluster is
    /// read for a call that AKS accepts whatever has changed since.
    pub(super) async fn hold_cluster(&self, task: &mut Task<'_>) -> Result<Option<Outcome>, JobError> {
        if task.holds_cluster() || !task.has_begun_nothing() {
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
}
