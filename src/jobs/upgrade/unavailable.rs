//! What a member does while AKS, its limits on calls, or the credential stands in the way.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    record::SOONEST_ROW,
    task::{Continuation, OUTAGE, Task, UpgradeMember},
};
use crate::{
    arm::ErrorDetail,
    jobs::outcome::JobError,
    model::update_run::UpdateState,
    rollout::{
        Event,
        upgrade::{self, WaitsFor},
    },
    upstreams::azure::{UpstreamError, Verdict},
    work::Outcome,
};

/// Consecutive failures to reach AKS after which a member whose upgrade has not begun gives its slot back, and waits as
/// Pending. With the engine's back-off that is some ten seconds and more.
const PENDING_AFTER: u32 = 6;

/// A wait for AKS's limit on calls that is longer than this is shown on the member.
const SHOWN_WAIT: Duration = Duration::from_secs(60);

/// What the service does about it by itself.
const CALLED_AGAIN: &str = "The service calls AKS again by itself, at least every 5 minutes.";

impl UpgradeMember {
    /// Decides how to go on after a call failed that changes nothing.
    pub(super) async fn read_failed(
        &self,
        task: &mut Task<'_>,
        error: &UpstreamError,
    ) -> Result<Continuation, JobError> {
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
    pub(super) async fn wait_for_budget(&self, task: &Task<'_>, after: Duration) -> Result<Continuation, JobError> {
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
    pub(super) async fn unreachable(&self, task: &Task<'_>, error: &UpstreamError) -> Result<Outcome, JobError> {
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
}
