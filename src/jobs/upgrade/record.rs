//! Stores how far a member is, and tells the run when it ends or waits.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    task::{Continuation, Task, UpgradeMember, time_between},
    windows::until_next_check,
};
use crate::{
    arm::ErrorDetail,
    config::StoppedClusters,
    database::Connection,
    engine::drive,
    jobs::{
        outcome::JobError,
        reports::{Report, Reported},
    },
    model::update_run::UpdateState,
    rollout::{
        self, Event,
        upgrade::{self, Closed, StepState, WaitsFor},
    },
    store::{
        memberships::Membership,
        resources,
        runs::{self, Holder, Progress},
    },
    work::Outcome,
};

/// Shortest wait that is a row: each such wait costs statements.
pub(super) const SOONEST_ROW: Duration = Duration::from_millis(100);

/// How long to wait before a busy cluster is read again.
pub(super) const BUSY_RECHECK: Duration = Duration::from_secs(5);

/// An operation that takes longer than this is named in the member's message, with the way out.
const LONG_OPERATION: Duration = Duration::from_secs(2 * 3600);

/// Why a member may not begin.
pub(super) enum Refusal {
    /// The run was stopped, or too many members failed.
    RunStops,
    /// The cluster's member left the fleet or never joined it, as this message says.
    NotMember(String),
}

impl UpgradeMember {
    /// Ends a member that may not begin, or leaves it to the next start of the run.
    pub(super) async fn refused(&self, task: &Task<'_>, refusal: Refusal) -> Result<Outcome, JobError> {
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

    pub(super) async fn held_by_other_run(&self, task: &Task<'_>, other: Holder) -> Result<Outcome, JobError> {
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

    pub(super) async fn blocked(
        &self,
        task: &Task<'_>,
        error: ErrorDetail,
        waits_for: WaitsFor,
    ) -> Result<Outcome, JobError> {
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

    /// Gives the member's slot back because the window is closed, or lets the member wait on.
    pub(super) async fn closed(&self, task: &Task<'_>, closed: Closed) -> Result<Outcome, JobError> {
        self.blocked(task, closed.error, WaitsFor::Window(closed.opens)).await
    }

    pub(super) async fn ended(&self, task: &Task<'_>, ended: upgrade::Outcome) -> Result<Outcome, JobError> {
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
    pub(super) async fn report(&self, task: &Task<'_>, event: Event, outcome: Outcome) -> Result<Outcome, JobError> {
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
    pub(super) async fn record_and_wait(&self, task: &mut Task<'_>, delay: Duration) -> Result<Continuation, JobError> {
        if !task.attempt.may_pause(delay) {
            return self.save(task, None, Outcome::AgainAfter { delay }).await.map(Continuation::Return);
        }
        record(&mut self.pool.acquire().await?, task, None).await?;
        task.row.message = task.upgrade.progress();
        Ok(Continuation::Wait(delay))
    }

    /// Stores the record and settles the job, in one transaction. `message` replaces the one that says how far the upgrade is.
    pub(super) async fn save(
        &self,
        task: &Task<'_>,
        message: Option<String>,
        outcome: Outcome,
    ) -> Result<Outcome, JobError> {
        let mut tx = self.pool.begin().await?;
        record(&mut tx, task, message).await?;
        task.attempt.settle(&mut tx, outcome).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }

    /// Says on the member which operation it waits for, once that takes unusually long.
    pub(super) async fn explain_long_operation(&self, task: &mut Task<'_>) -> Result<(), JobError> {
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
            record(&mut self.pool.acquire().await?, task, Some(message.clone())).await?;
            task.row.message = Some(message);
        }
        Ok(())
    }
}

pub(super) fn not_member(membership: &Membership) -> Option<Refusal> {
    let message = match membership {
        Membership::Joined => return None,
        Membership::Left => "skipped: the member left the fleet.".to_owned(),
        Membership::NotJoined { provisioning_state } => format!(
            "skipped: the member has not joined the fleet, as its provisioningState is {provisioning_state}. Join its cluster again, then create another update run."
        ),
    };
    Some(Refusal::NotMember(message))
}

/// Stores the record under the lease, with `message` or else the one that says how far the upgrade is.
pub(super) async fn record(conn: &mut Connection, task: &Task<'_>, message: Option<String>) -> Result<(), JobError> {
    let upgrade = serde_json::to_value(&task.upgrade)?;
    let is_running = task.row.member.state == UpdateState::Running;
    let message = message.or_else(|| task.upgrade.progress().filter(|_| is_running));
    let progress =
        Progress { upgrade: &upgrade, operation_id: task.upgrade.operation_id(), message: message.as_deref() };
    runs::save_upgrade(conn, &task.attempt.ticket(), task.run, &task.row.member, progress).await?;
    Ok(())
}
