//! Joining and leaving.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{
    outcome::{JobError, outcome, subject},
    quarantine,
};
use crate::{
    arm::ErrorDetail,
    database::Pool,
    engine::{
        auto_upgrade, drive,
        queue::{self, OperationJob},
    },
    model::member::MemberProperties,
    rollout::Event,
    store::{
        memberships, operations,
        resources::{self, Resource, RowByService},
        runs,
    },
    upstreams::{
        Upstreams,
        azure::{UpstreamError, Verdict},
    },
    work::{Attempt, Handler, Outcome},
};

/// How long a join waits for a cluster that is busy or cannot be reached.
const JOIN_LIMIT: SignedDuration = SignedDuration::from_mins(30);
/// How long until a busy cluster is looked at again.
const BUSY_AGAIN: Duration = Duration::from_secs(5);

/// Checks a member's cluster at AKS: that it exists, can be read, is of the right tenant and not being deleted.
pub struct Join {
    /// The database.
    pub pool: Pool,
    /// AKS.
    pub upstreams: Upstreams,
}

impl Handler for Join {
    fn kind(&self) -> &'static str {
        queue::JOIN
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        quarantine::fail_operation(&self.pool, attempt, reason)
    }
}

/// What a look at the cluster says.
enum Seen {
    Joined { location: String },
    NotYet { error: ErrorDetail, after: Duration },
    Never(ErrorDetail),
}

impl Join {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, tenant } = serde_json::from_value(attempt.payload.clone())?;
        let id = subject(attempt)?;
        let member = {
            let mut conn = self.pool.acquire().await?;
            resources::get_by_row(&mut conn, RowByService(id)).await?
        };
        let Some(member) = member.filter(|member| member.last_operation_id == Some(operation)) else {
            return Ok(Outcome::Done);
        };
        let now = Timestamp::now();
        let (error, observed) = match self.look(&member, tenant).await? {
            Seen::Joined { location } => (None, Some(json!({"location": location}))),
            Seen::NotYet { error, after } if now.duration_since(attempt.enqueued_at) < JOIN_LIMIT => {
                tracing::info!(code = %error.code, "the cluster cannot be joined yet: {}", error.message);
                return Ok(Outcome::AgainAfter { delay: after });
            }
            Seen::NotYet { error, .. } | Seen::Never(error) => (Some(error), None),
        };
        // The end of the job fences the transaction.
        let mut tx = self.pool.begin().await?;
        operations::settle(&mut tx, id, operation, error.as_ref(), observed.as_ref(), now).await?;
        if error.is_some() {
            // Another fleet may have the cluster; joining again takes it again.
            memberships::release(&mut tx, id).await?;
        } else {
            auto_upgrade::watch_member(&mut tx, id).await?;
        }
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }

    async fn look(&self, member: &Resource, tenant: Uuid) -> Result<Seen, JobError> {
        let properties: MemberProperties = serde_json::from_value(member.properties.clone())?;
        let Some(cluster) = properties.cluster() else {
            return Err(JobError::Unexpected(format!("'{}' is no cluster", properties.cluster_resource_id)));
        };
        let seen = match self.upstreams.azure.clusters.get(&cluster).await {
            Ok(seen) => seen.cluster,
            Err(error) => return Ok(unreached(&error)),
        };
        if seen.tenant_id.as_deref().is_some_and(|of| !of.eq_ignore_ascii_case(&tenant.to_string())) {
            return Ok(Seen::Never(ErrorDetail::new(
                "ClusterInAnotherTenant",
                format!(
                    "The cluster '{cluster}' belongs to another Microsoft Entra tenant than the fleet. Only clusters of the fleet's tenant can join."
                ),
            )));
        }
        if seen.provisioning_state.as_str() == "Deleting" {
            return Ok(Seen::Never(ErrorDetail::new(
                "ClusterNotFound",
                format!("The cluster '{cluster}' is being deleted."),
            )));
        }
        Ok(Seen::Joined { location: seen.location })
    }
}

fn unreached(error: &UpstreamError) -> Seen {
    match error.verdict() {
        Verdict::WaitForBudget { after } => Seen::NotYet { error: error.detail(), after },
        Verdict::Retry { after, detail, .. } => {
            Seen::NotYet { error: detail, after: after.unwrap_or(BUSY_AGAIN).max(Duration::from_secs(1)) }
        }
        Verdict::Wait(error) => Seen::NotYet { error, after: BUSY_AGAIN },
        Verdict::ReadAgain => Seen::NotYet {
            error: ErrorDetail::new("ClusterChanged", "The cluster changed while it was looked at."),
            after: Duration::from_secs(1),
        },
        Verdict::Fail(error) => Seen::Never(error),
    }
}

/// Makes a member leave: runs in progress go on without it, the cluster is left alone.
pub struct Leave {
    /// The database.
    pub pool: Pool,
}

impl Handler for Leave {
    fn kind(&self) -> &'static str {
        queue::LEAVE
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        quarantine::fail_operation(&self.pool, attempt, reason)
    }
}

impl Leave {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let OperationJob { operation, .. } = serde_json::from_value(attempt.payload.clone())?;
        let id = subject(attempt)?;
        let now = Timestamp::now();
        let mut tx = attempt.begin(&self.pool).await?;
        if let Some(member) = resources::get_by_row(&mut tx, RowByService(id)).await? {
            if let Some(fleet) = member.parent_id {
                for (run, member) in runs::runs_of_member(&mut tx, fleet, &member.name).await? {
                    let left = Event::MemberLeft { member };
                    drive(&mut tx, run, left, now, attempt.trace.as_deref()).await?;
                }
            }
            resources::delete(&mut tx, &RowByService(id)).await?;
        }
        operations::end(&mut tx, operation, now).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}
