//! Checks, without a slot, whether a member that waits can go on.

use jiff::Timestamp;

use super::{
    task::{Task, UpgradeMember},
    windows::BeginPermission,
};
use crate::{
    jobs::outcome::JobError,
    rollout::{
        Event,
        upgrade::{self, Next, Upgrade},
    },
    upstreams::azure::{Freshness, UpstreamError, Verdict},
    work::Outcome,
};

impl UpgradeMember {
    /// Checks, without a slot, whether a pending member can go on, and requests a slot when it can.
    pub(super) async fn check_pending(&self, task: &Task<'_>) -> Result<Outcome, JobError> {
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
    pub(super) async fn wait_for_window(&self, task: &Task<'_>) -> Result<Option<Outcome>, JobError> {
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
}
