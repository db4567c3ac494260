//! Triggers a profile for which there is something to do: one transaction that decides once more, makes and starts the run, and keeps the
//! trigger. Being killed before its end leaves nothing behind, and the job goes again.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    arm::ErrorDetail,
    autoupgrade::{self, Decision, FleetOffers, Target},
    database::{Connection, Pool},
    engine::{
        self, RunCommand,
        auto_upgrade::{RunCreation, RunWanted, make_run},
        queue,
    },
    jobs::outcome::{JobError, outcome, subject},
    model::{provisioning_state::ProvisioningState, update_run::UpdateState},
    store::{
        auto_upgrade::{self, Candidate, Trigger as Kept},
        catalogues,
        resources::{self, Author, ByService, Resource, RowByService},
        runs,
    },
    work::{Attempt, Handler, Outcome},
};

/// Who makes the runs, in their `systemData`.
const AUTHOR: Author<'static> = Author { name: "auto-upgrade", kind: "Application" };

/// Triggers profiles.
pub(super) struct Trigger {
    pub(super) pool: Pool,
}

impl Handler for Trigger {
    fn kind(&self) -> &'static str {
        queue::TRIGGER
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl Trigger {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let mut tx = attempt.begin(&self.pool).await?;
        if let Some(mut task) = Task::load(&mut tx, subject(attempt)?).await? {
            task.carry_out(&mut tx).await?;
        }
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// A profile with all that its decision needs, locked.
struct Task {
    fleet: Resource,
    profile: Resource,
    candidate: Candidate,
    offers: FleetOffers,
    now: Timestamp,
}

impl Task {
    async fn load(tx: &mut Connection, id: Uuid) -> Result<Option<Self>, JobError> {
        // The fleet comes first, as in requests: two locks in one order.
        let Some(profile) = resources::get_by_row(tx, RowByService(id)).await? else { return Ok(None) };
        let profile_id = profile.resource_id()?;
        let Some(fleet_id) = profile_id.parent() else { return Ok(None) };
        let fleet = resources::get_for_share(tx, &ByService(&fleet_id)).await?;
        let Some(fleet) = fleet.filter(|fleet| fleet.provisioning_state != ProvisioningState::Deleting) else {
            return Ok(None);
        };
        let profile = resources::get_for_update(tx, &ByService(&profile_id)).await?;
        let Some(profile) = profile.filter(|profile| profile.id == id) else { return Ok(None) };
        let Some(candidate) = auto_upgrade::get_for_update(tx, id).await? else { return Ok(None) };
        let offers = catalogues::of_fleet(tx, fleet.id).await?;
        Ok(Some(Self { fleet, profile, candidate, offers, now: Timestamp::now() }))
    }

    async fn carry_out(&mut self, tx: &mut Connection) -> Result<(), JobError> {
        match autoupgrade::decide(&self.candidate.properties, &self.offers, &self.candidate.history) {
            Decision::DoNothing => Ok(()),
            Decision::ReportError(error) => self.failed(tx, None, &error).await,
            Decision::RecordFailure(target, error) => self.failed(tx, Some(&target), &error).await,
            Decision::StartRun(target) => self.start_run(tx, &target, None).await,
            Decision::CatchUp(target) => match self.laggards(tx, &target).await? {
                laggards if laggards.is_empty() => Ok(()),
                laggards => self.start_run(tx, &target, Some(&laggards)).await,
            },
        }
    }

    /// Members behind the target that no run of the profile is on its way with.
    async fn laggards(&self, tx: &mut Connection, target: &Target) -> Result<BTreeSet<String>, JobError> {
        let under_way = auto_upgrade::members_under_way(tx, self.profile.id, target).await?;
        let lags = |member: &catalogues::SeenMember| {
            let place = (member.subscription.clone(), member.facts.location.clone());
            self.offers.regions.get(&place).is_some_and(|region| autoupgrade::is_behind(target, &member.facts, region))
        };
        let members = catalogues::seen_members(tx, self.fleet.id).await?;
        let lagging = members.into_iter().filter(|member| !under_way.contains(&member.name) && lags(member));
        Ok(lagging.map(|member| member.name).collect())
    }

    async fn start_run(
        &self,
        tx: &mut Connection,
        target: &Target,
        only: Option<&BTreeSet<String>>,
    ) -> Result<(), JobError> {
        let (properties, profile) = (&self.candidate.properties, &self.profile);
        let name = autoupgrade::run_name(&profile.name, properties, target, only);
        if only.is_some() && auto_upgrade::has_started(tx, profile.id, &name).await? {
            // The same members once more: why the run has not moved them is for a person to see.
            return Ok(());
        }
        let wanted = RunWanted { fleet: &self.fleet, profile, properties, target, only };
        let (run, message) = match make_run(tx, wanted, AUTHOR, self.now, None).await? {
            RunCreation::Refused(error) => return self.failed(tx, Some(target), &error).await,
            RunCreation::NoMembers => {
                return self.succeeded(tx, target, "The fleet has no members: there is no run.").await;
            }
            RunCreation::New(run) => {
                let message = match only {
                    None => format!("The update run '{name}' was made and started."),
                    Some(only) => format!(
                        "The update run '{name}' was made and started for {} that joined late or lag behind.",
                        counted(only.len())
                    ),
                };
                (run, message)
            }
            RunCreation::Existing(run) => {
                let state = runs::load_for_update(tx, run.id).await?.map(|run| run.status.state);
                if state != Some(UpdateState::NotStarted) {
                    let state = state.map_or_else(|| "there".to_owned(), |state| format!("{state:?}"));
                    let message = format!("The update run '{name}' exists already and is {state}: none was started.");
                    return self.succeeded(tx, target, &message).await;
                }
                (run, format!("The update run '{name}' existed already, and was started."))
            }
        };
        auto_upgrade::record_run(tx, profile.id, &name, run.id, target, self.now).await?;
        engine::command(tx, run.id, RunCommand::Start, AUTHOR, self.now, None).await?;
        self.succeeded(tx, target, &message).await
    }

    async fn succeeded(&self, tx: &mut Connection, target: &Target, message: &str) -> Result<(), JobError> {
        tracing::info!(profile = %self.profile.arm_id, target = ?target.versions(), "triggered: {message}");
        let kept = Kept { target: Some(target), settled: true, error: None, message: Some(message) };
        Ok(auto_upgrade::triggered(tx, self.profile.id, &kept, self.now).await?)
    }

    /// Records a failure, unless the same one is recorded already. A `Continuous` profile tries again at each look.
    async fn failed(&self, tx: &mut Connection, target: Option<&Target>, error: &ErrorDetail) -> Result<(), JobError> {
        let settled = !self.candidate.properties.is_continuous();
        if self.candidate.error.as_ref() == Some(error) && (target.is_none() || !settled) {
            return Ok(());
        }
        tracing::warn!(profile = %self.profile.arm_id, code = %error.code, "not triggered: {}", error.message);
        let kept = Kept { target, settled, error: Some(error), message: None };
        Ok(auto_upgrade::triggered(tx, self.profile.id, &kept, self.now).await?)
    }
}

fn counted(members: usize) -> String {
    if members == 1 { "1 member".to_owned() } else { format!("{members} members") }
}
