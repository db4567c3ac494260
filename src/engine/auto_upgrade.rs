//! Auto-upgrade profiles: the run of a profile for a target, and the jobs that read what AKS offers.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    EngineError, queue,
    runs::{chooses_images, create_plan},
};
use crate::{
    arm::{ErrorDetail, ResourceId},
    autoupgrade::{self, Target},
    database::Connection,
    model::{
        auto_upgrade_profile::AutoUpgradeProfileProperties,
        provisioning_state::ProvisioningState,
        strategy::{FleetUpdateStrategyProperties, UpdateRunStrategy},
        types,
        update_run::UpdateRunProperties,
    },
    rollout,
    store::{
        catalogues, memberships,
        resources::{self, Author, ByService, Draft, Parent, Resource},
        runs,
    },
    work,
};

/// Enqueues the jobs that read what AKS offers to a fleet with profiles, in subscriptions for which there is none yet.
pub async fn watch(conn: &mut Connection, fleet: Uuid) -> Result<(), EngineError> {
    let unwatched = catalogues::unwatched(conn, fleet).await?;
    let jobs: Vec<_> = unwatched.iter().map(|subscription| queue::catalogue(subscription)).collect();
    Ok(work::enqueue_all(conn, &jobs).await?)
}

/// [`watch`] for the subscription of a member (a row) that has joined a fleet.
pub async fn watch_member(conn: &mut Connection, member: Uuid) -> Result<(), EngineError> {
    match catalogues::unwatched_of_member(conn, member).await? {
        Some(subscription) => Ok(work::enqueue(conn, queue::catalogue(&subscription)).await?),
        None => Ok(()),
    }
}

/// Enqueues the jobs that read what AKS offers to a fleet, to run at once, since a request waits for them.
pub async fn watch_now(conn: &mut Connection, fleet: Uuid) -> Result<(), EngineError> {
    let subscriptions = catalogues::subscriptions(conn, fleet).await?;
    let jobs: Vec<_> = subscriptions.iter().map(|subscription| queue::catalogue(subscription)).collect();
    Ok(work::enqueue_all(conn, &jobs).await?)
}

/// What a run is created from.
#[derive(Debug, Clone, Copy)]
pub struct RunWanted<'a> {
    /// The fleet.
    pub fleet: &'a Resource,
    /// The profile.
    pub profile: &'a Resource,
    /// The properties of the profile.
    pub properties: &'a AutoUpgradeProfileProperties,
    /// The versions that the run upgrades to.
    pub target: &'a Target,
    /// For these members only.
    pub only: Option<&'a BTreeSet<String>>,
}

/// The result of [`make_run`].
#[derive(Debug)]
pub enum RunCreation {
    /// The run was created.
    New(Box<Resource>),
    /// The run for this target exists, and did not change.
    Existing(Box<Resource>),
    /// The fleet has no members to upgrade.
    NoMembers,
    /// The run cannot be created: why not, and what to do.
    Refused(ErrorDetail),
}

/// Creates the run of a profile for a target, unless it exists, and does not start it. Its name is [`autoupgrade::run_name`], so that
/// the second of two transactions finds the run.
pub async fn make_run(
    tx: &mut Connection,
    wanted: RunWanted<'_>,
    author: Author<'_>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<RunCreation, EngineError> {
    let name = autoupgrade::run_name(&wanted.profile.name, wanted.properties, wanted.target, wanted.only);
    let id = wanted.fleet.resource_id()?.child("updateRuns", &name);
    if let Some(run) = resources::get(tx, &ByService(&id)).await? {
        return Ok(RunCreation::Existing(Box::new(run)));
    }
    let strategy = match strategy(tx, wanted.properties).await? {
        Ok(strategy) => strategy,
        Err(error) => return Ok(RunCreation::Refused(error)),
    };
    let mut members = memberships::fleet_members(tx, wanted.fleet.id).await?;
    members.retain(|member| wanted.only.is_none_or(|only| only.contains(&member.name)));
    if members.is_empty() {
        return Ok(RunCreation::NoMembers);
    }
    let plan = match rollout::plan(strategy.as_ref(), &members) {
        Ok(plan) => plan,
        Err(error) => {
            let message = format!("The profile's strategy cannot be used: {error}. Mend it, or name another.");
            return Ok(RunCreation::Refused(ErrorDetail::new("InvalidUpdateStrategy", message)));
        }
    };
    let properties = UpdateRunProperties {
        update_strategy_id: wanted.properties.update_strategy_id.clone(),
        strategy,
        managed_cluster_update: autoupgrade::update(wanted.properties, wanted.target),
        auto_upgrade_profile_id: Some(wanted.profile.arm_id.clone()),
    };
    let draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties: serde_json::to_value(&properties)?,
        provisioning_state: ProvisioningState::Succeeded,
        operation: None,
    };
    let parent = Some(Parent::of(wanted.fleet.id));
    let Some(run) = resources::insert(tx, &ByService(&id), types::UPDATE_RUNS, parent, &draft, author, now).await?
    else {
        // Another transaction was faster: its run is there now.
        let run = resources::get(tx, &ByService(&id)).await?;
        return Ok(run.map_or(RunCreation::NoMembers, |run| RunCreation::Existing(Box::new(run))));
    };
    create_plan(tx, run.id, wanted.fleet.id, &plan, now).await?;
    if let Some(only) = wanted.only {
        runs::limit_to(tx, run.id, only).await?;
    }
    if chooses_images(&properties) {
        work::enqueue(tx, queue::images(run.id, trace)).await?;
    }
    Ok(RunCreation::New(Box::new(run)))
}

/// The copy of the profile's strategy.
async fn strategy(
    tx: &mut Connection,
    profile: &AutoUpgradeProfileProperties,
) -> Result<Result<Option<UpdateRunStrategy>, ErrorDetail>, EngineError> {
    let Some(text) = &profile.update_strategy_id else { return Ok(Ok(None)) };
    let stored = match text.parse::<ResourceId>() {
        Ok(id) => resources::get_for_share(tx, &ByService(&id)).await?,
        Err(_) => None,
    };
    let Some(stored) = stored else {
        return Ok(Err(ErrorDetail::new(
            "UpdateStrategyNotFound",
            format!("The update strategy '{text}' does not exist any more, and no run is made without it. Create it again and generate the run, or delete the profile and create one with another strategy."),
        )
        .at("properties.updateStrategyId")));
    };
    let copy: FleetUpdateStrategyProperties = serde_json::from_value(stored.properties)?;
    Ok(Ok(Some(copy.strategy)))
}
