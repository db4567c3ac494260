//! One member in one attempt of its job, and what the handler has at hand.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    arm::ResourceId,
    config::StoppedClusters,
    database::Pool,
    engine::queue::MemberJob,
    jobs::{outcome::JobError, reports::Reports},
    model::update_run::UpdateState,
    rollout::upgrade::{Goal, StepDurations, StepState, Upgrade},
    store::{
        memberships::Membership,
        runs::{self, Holder, RunMember},
    },
    upstreams::{Upstreams, azure::CatalogueNeeds},
    work::{Attempt, Outcome},
};

/// How the message of a member begins while AKS or the service's credential is not available.
pub(super) const OUTAGE: &str = "AKS cannot be called at the moment";

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
    pub(super) pool: Pool,
    pub(super) upstreams: Upstreams,
    pub(super) policy: Policy,
    pub(super) reports: Arc<Reports>,
    /// How long steps took in this process.
    pub(super) durations: Mutex<StepDurations>,
}

/// One member in one attempt of the job.
pub(super) struct Task<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) run: Uuid,
    pub(super) run_state: UpdateState,
    pub(super) row: RunMember,
    pub(super) cluster: ResourceId,
    pub(super) goal: Goal,
    /// The record as it was loaded.
    pub(super) loaded: Upgrade,
    pub(super) upgrade: Upgrade,
    /// The member's message is about an outage of AKS: it goes when AKS answers again.
    pub(super) tells_outage: bool,
    /// Who held the cluster when the record was loaded.
    pub(super) cluster_holder: Option<Holder>,
    /// The membership when the record was loaded.
    pub(super) membership: Membership,
}

impl Task<'_> {
    /// Whether no call may have reached AKS, except calls that AKS declined.
    pub(super) fn has_begun_nothing(&self) -> bool {
        self.upgrade.steps.iter().all(|step| step.state == StepState::Withdrawn)
    }

    pub(super) fn catalogue_needs(&self) -> CatalogueNeeds<'_> {
        CatalogueNeeds {
            versions: self.goal.moves_version(),
            images: self.goal.moves_pools(),
            chosen_images: self.goal.chosen_images(),
        }
    }

    pub(super) fn holder(&self) -> Holder {
        Holder { run_id: self.run, member: self.row.member.index }
    }

    pub(super) fn holds_cluster(&self) -> bool {
        self.cluster_holder == Some(self.holder())
    }

    /// Another member that held the cluster when the record was loaded.
    pub(super) fn other_holder(&self) -> Option<Holder> {
        self.cluster_holder.filter(|holder| *holder != self.holder())
    }
}

/// How an attempt goes on.
pub(super) enum Continuation {
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

    pub(super) async fn load<'a>(&self, attempt: &'a Attempt) -> Result<Option<Task<'a>>, JobError> {
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

    pub(super) fn with_durations<T>(&self, work: impl FnOnce(&mut StepDurations) -> T) -> T {
        work(&mut self.durations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn time_between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
