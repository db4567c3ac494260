//! Auto-upgrade profiles: one look at AKS's catalogues for all of them (`watch`), a job for each that is told of something
//! (`trigger`), and the run that comes of it.

mod trigger;
mod watch;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::{outcome::JobError, runs as run_jobs};
use crate::{
    arm::{ErrorDetail, ResourceId},
    autoupgrade::{self, Target},
    database::{Connection, Pool},
    model::{
        auto_upgrade_profile::AutoUpgradeProfileProperties,
        strategy::{FleetUpdateStrategyProperties, UpdateRunStrategy},
        types,
        update_run::UpdateRunProperties,
    },
    rollout,
    store::{
        catalogues, memberships,
        resources::{self, Author, Draft, Resource},
        runs,
    },
    upstreams::Upstreams,
    work::{self, Handler},
};

/// The handlers of this room.
pub(super) fn handlers(pool: &Pool, upstreams: &Upstreams, interval: Duration) -> Vec<Arc<dyn Handler>> {
    vec![
        Arc::new(watch::Watch::new(pool.clone(), upstreams.clone(), interval)),
        Arc::new(trigger::Trigger { pool: pool.clone() }),
    ]
}

/// Sees to it that somebody looks at what AKS offers to a fleet that has profiles.
///
/// # Errors
/// When the database fails.
pub async fn watch(conn: &mut Connection, fleet: Uuid) -> Result<(), JobError> {
    let unwatched = catalogues::unwatched(conn, fleet).await?;
    let jobs: Vec<_> = unwatched.iter().map(|subscription| watch::job(subscription)).collect();
    Ok(work::enqueue_all(conn, &jobs).await?)
}

/// Has somebody look at once, as a person waits for it.
///
/// # Errors
/// When the database fails.
pub async fn watch_now(conn: &mut Connection, fleet: Uuid) -> Result<(), JobError> {
    let subscriptions = catalogues::subscriptions(conn, fleet).await?;
    let jobs: Vec<_> = subscriptions.iter().map(|subscription| watch::job(subscription)).collect();
    Ok(work::enqueue_all(conn, &jobs).await?)
}

/// What a run is to be made from.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The fleet.
    pub fleet: &'a Resource,
    /// The profile.
    pub profile: &'a Resource,
    /// What the profile says.
    pub properties: &'a AutoUpgradeProfileProperties,
    /// Where to.
    pub target: &'a Target,
    /// For these members only.
    pub only: Option<&'a BTreeSet<String>>,
}

/// What became of a [`Wish`].
#[derive(Debug)]
pub enum Made {
    /// A run that was not there before.
    New(Box<Resource>),
    /// The run for this target was there, and is as it was.
    Existing(Box<Resource>),
    /// There is nothing to make one for.
    NoMembers,
    /// A run cannot be made: why not, and what to do.
    Refused(ErrorDetail),
}

/// Makes the run of a profile for a target, if there is none yet, and does not start it. Its name is that of
/// [`autoupgrade::run_name`], so that whoever comes second finds it.
///
/// # Errors
/// When the database fails.
pub async fn make_run(
    tx: &mut Connection,
    wish: Wish<'_>,
    author: Author<'_>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Made, JobError> {
    let name = autoupgrade::run_name(&wish.profile.name, wish.properties, wish.target, wish.only);
    let id = wish.fleet.resource_id()?.child("updateRuns", &name);
    if let Some(run) = resources::get(tx, &id).await? {
        return Ok(Made::Existing(Box::new(run)));
    }
    let strategy = match strategy(tx, wish.properties).await? {
        Ok(strategy) => strategy,
        Err(error) => return Ok(Made::Refused(error)),
    };
    let mut members = memberships::fleet_members(tx, wish.fleet.id).await?;
    members.retain(|member| wish.only.is_none_or(|only| only.contains(&member.name)));
    if members.is_empty() {
        return Ok(Made::NoMembers);
    }
    let plan = match rollout::plan(strategy.as_ref(), &members) {
        Ok(plan) => plan,
        Err(error) => {
            let message = format!("The profile's strategy cannot be used: {error}. Mend it, or name another.");
            return Ok(Made::Refused(ErrorDetail::new("InvalidUpdateStrategy", message)));
        }
    };
    let properties = UpdateRunProperties {
        update_strategy_id: wish.properties.update_strategy_id.clone(),
        strategy,
        managed_cluster_update: autoupgrade::update(wish.properties, wish.target),
        auto_upgrade_profile_id: Some(wish.profile.arm_id.clone()),
    };
    let draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties: serde_json::to_value(&properties)?,
        provisioning_state: "Succeeded",
        operation: None,
    };
    let parent = Some(wish.fleet.id);
    let Some(run) = resources::insert(tx, &id, types::UPDATE_RUNS, parent, &draft, author, now).await? else {
        // Another transaction was faster: its run is there now.
        let run = resources::get(tx, &id).await?;
        return Ok(run.map_or(Made::NoMembers, |run| Made::Existing(Box::new(run))));
    };
    runs::create(tx, run.id, wish.fleet.id, &plan, now).await?;
    if let Some(only) = wish.only {
        runs::limit_to(tx, run.id, only).await?;
    }
    if run_jobs::chooses_images(&properties) {
        work::enqueue(tx, run_jobs::images(run.id, trace)).await?;
    }
    Ok(Made::New(Box::new(run)))
}

/// The copy of the profile's strategy.
async fn strategy(
    tx: &mut Connection,
    profile: &AutoUpgradeProfileProperties,
) -> Result<Result<Option<UpdateRunStrategy>, ErrorDetail>, JobError> {
    let Some(text) = &profile.update_strategy_id else { return Ok(Ok(None)) };
    let stored = match text.parse::<ResourceId>() {
        Ok(id) => resources::get_for_share(tx, &id).await?,
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
