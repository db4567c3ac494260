//! Auto-upgrade profiles of a fleet. Jobs create and start the runs of a profile.

use std::{collections::HashMap, time::Duration};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    at::{At, Write},
    linked_access,
    resource_type::{Change, Noun, Replace, ResourceAction, ResourceType, Scope, Verbs},
};
use crate::{
    api::{
        App,
        http::{
            body::RawBody,
            error::{ApiError, ApiResult},
            refusals::not_found,
            request::ArmRequest,
        },
    },
    arm::{ArmError, Problems, ResourceId},
    autoupgrade::{self, FleetOffers, NoTarget},
    database::{Connection, Transaction},
    engine::auto_upgrade::{RunCreation, RunWanted, make_run, watch, watch_now},
    model::{
        auto_upgrade_profile::{AutoUpgradeProfileProperties, AutoUpgradeProfileStatus, UpgradeChannel},
        types,
        versions::{self, P2025_04_01, Since, V2025_03_01, since},
    },
    store::{
        auto_upgrade,
        catalogues::{self, Outage},
        resources::{self, ByService, Resource},
    },
};

/// How long a request to generate a run waits for the first read of what AKS offers.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Auto-upgrade profiles.
pub(super) struct AutoUpgradeProfile;

/// The statuses of profiles, and the subscriptions of their fleet whose releases cannot be read.
#[derive(Default)]
pub(super) struct Extras {
    statuses: HashMap<Uuid, AutoUpgradeProfileStatus>,
    outages: Vec<Outage>,
}

impl ResourceType for AutoUpgradeProfile {
    const TYPE: &'static str = types::AUTO_UPGRADE_PROFILES;
    const SCOPE: Scope = Scope::Fleet;
    const SINCE: Since = since(V2025_03_01, P2025_04_01);
    const NOUN: Noun = Noun { article: "an", one: "auto upgrade profile", many: "auto upgrade profiles" };
    const VERBS: Verbs = Verbs { put: true, patch: false, delete: true };
    const NAME_PARAMETER: &'static str = "autoUpgradeProfileName";
    // Clients do not expect 200 here.
    const DELETED: StatusCode = StatusCode::NO_CONTENT;

    type Properties = AutoUpgradeProfileProperties;
    type Extras = Extras;

    async fn check_linked_access(app: &App, at: &At<Write<Self>>, properties: &Value) -> ApiResult<()> {
        linked_access::may_follow(app, at, properties).await
    }

    fn keeps_unseen(new: &Value, stored: &Value) -> bool {
        new.get("channel") == stored.get("channel")
    }

    async fn check(
        change: &mut Change<'_>,
        new: &Self::Properties,
        stored: Option<&Self::Properties>,
        problems: &mut Problems,
    ) -> ApiResult<()> {
        let offers = match change.parent {
            Some(fleet) => catalogues::of_fleet(change.tx, fleet.id).await?,
            None => FleetOffers::default(),
        };
        check(change.request, new, stored, &offers, problems);
        Ok(())
    }

    async fn complete(
        change: &mut Change<'_>,
        given: Self::Properties,
        stored: Option<&Self::Properties>,
    ) -> ApiResult<Self::Properties> {
        let new = given.to_stored(stored);
        if stored.is_none() {
            check_strategy_exists(change.tx, &new).await?;
        }
        Ok(new)
    }

    async fn before_replace(
        change: &mut Change<'_>,
        row: &Resource,
        new: &Self::Properties,
        stored: &Self::Properties,
    ) -> ApiResult<Replace> {
        let starts_over = !new.follows_as(stored);
        if starts_over || (stored.disabled && !new.disabled) {
            auto_upgrade::arm(change.tx, row.id, starts_over).await?;
        }
        Ok(Replace::Write)
    }

    async fn after_create(change: &mut Change<'_>, row: &Resource, _: &Self::Properties) -> ApiResult<()> {
        let Some(fleet) = change.parent else { return Ok(()) };
        auto_upgrade::create(change.tx, row.id, fleet.id).await?;
        Ok(watch(change.tx, fleet.id).await?)
    }

    async fn extras(conn: &mut Connection, rows: &[Resource]) -> ApiResult<Extras> {
        let Some(fleet) = rows.first().and_then(|profile| profile.parent_id) else { return Ok(Extras::default()) };
        let ids: Vec<_> = rows.iter().map(|profile| profile.id).collect();
        let statuses = auto_upgrade::statuses(conn, &ids).await?;
        Ok(Extras { statuses, outages: catalogues::outages(conn, fleet).await? })
    }

    fn show(row: &Resource, extras: &mut Extras) -> ApiResult<Value> {
        let mut properties = row.properties.clone();
        let status = with_outages(extras.statuses.remove(&row.id), &extras.outages);
        if let (Value::Object(properties), Some(status)) = (&mut properties, status) {
            properties.insert("autoUpgradeProfileStatus".to_owned(), serde_json::to_value(status)?);
        }
        Ok(properties)
    }

    fn finish(_: &Resource, body: &mut Value) {
        // In API versions without messages the status may be empty.
        if let Some(Value::Object(properties)) = body.get_mut("properties")
            && properties.get("autoUpgradeProfileStatus").is_some_and(|status| *status == json!({}))
        {
            properties.remove("autoUpgradeProfileStatus");
        }
    }
}

/// Creates the run for the profile's present target without starting it, also for a disabled profile. If the run exists already, the
/// answer names it.
pub(super) struct GenerateUpdateRun;

impl ResourceAction for GenerateUpdateRun {
    type On = AutoUpgradeProfile;
    const NAME: &'static str = "generateUpdateRun";
    const OPERATION: &'static str = "Generate update run";
    const DESCRIPTION: &'static str = "Generates an update run from an auto upgrade profile";

    async fn perform(app: App, at: At<Self>, _: RawBody) -> ApiResult<Response> {
        let request = &at.request;
        let mut tx = known_offers(&app, &at).await?;
        // The fleet comes first, as in jobs: two locks in one order.
        let fleet = resources::get_for_share(&mut tx, &ByService(&request.fleet()))
            .await?
            .ok_or_else(|| not_found(&request.id))?;
        let profile = resources::get_for_update(&mut tx, &at.allowed).await?.ok_or_else(|| not_found(&request.id))?;
        let properties: AutoUpgradeProfileProperties = serde_json::from_value(profile.properties.clone())?;
        let offers = catalogues::of_fleet(&mut tx, fleet.id).await?;
        let refuse = |detail| ApiError::from(ArmError::from_detail(StatusCode::CONFLICT, detail));
        let target = autoupgrade::target(&properties, &offers).map_err(|none| refuse(none.detail()))?;
        autoupgrade::check(&properties, &target, &offers).map_err(refuse)?;
        let wanted =
            RunWanted { fleet: &fleet, profile: &profile, properties: &properties, target: &target, only: None };
        let trace = Some(request.correlation());
        let run = match make_run(&mut tx, wanted, request.author(), request.now, trace).await? {
            RunCreation::New(run) | RunCreation::Existing(run) => run,
            RunCreation::NoMembers => return Err(no_members(&fleet)),
            RunCreation::Refused(detail) => return Err(refuse(detail)),
        };
        tx.commit().await?;
        Ok(Json(json!({"id": run.arm_id})).into_response())
    }
}

/// Returns a transaction in which it is known what AKS offers to the fleet. If it is not known yet, a job reads it, and the request
/// waits for the notification of the read.
async fn known_offers(app: &App, at: &At<GenerateUpdateRun>) -> ApiResult<Transaction> {
    let deadline = Instant::now() + LONGEST_WAIT;
    let mut changes = app.catalogues.subscribe();
    let mut requested = false;
    loop {
        let mut tx = app.pool.begin().await?;
        let profile = resources::get(&mut tx, &at.allowed).await?.ok_or_else(|| not_found(&at.id))?;
        let Some(fleet) = profile.parent_id else { return Err(not_found(&at.id)) };
        if !catalogues::of_fleet(&mut tx, fleet).await?.is_empty() {
            return Ok(tx);
        }
        if catalogues::subscriptions(&mut tx, fleet).await?.is_empty() {
            return Err(no_members(&resources::get_parent(&mut tx, &profile).await?.ok_or_else(|| not_found(&at.id))?));
        }
        if Instant::now() >= deadline {
            let mut detail = NoTarget::Unknown.detail();
            detail.details =
                catalogues::outages(&mut tx, fleet).await?.into_iter().map(|outage| outage.error).collect();
            return Err(ArmError::from_detail(StatusCode::CONFLICT, detail).retry_after(5).into());
        }
        if !requested {
            watch_now(&mut tx, fleet).await?;
            requested = true;
        }
        tx.commit().await?;
        // At the deadline the loop looks for the last time.
        let _ = timeout_at(deadline, changes.changed()).await;
    }
}

fn no_members(fleet: &Resource) -> ApiError {
    let message = format!("The fleet '{}' has no members: there is nothing to upgrade.", fleet.name);
    ArmError::conflict("FleetHasNoMembers", message).into()
}

fn check(
    request: &ArmRequest,
    given: &AutoUpgradeProfileProperties,
    stored: Option<&AutoUpgradeProfileProperties>,
    offers: &FleetOffers,
    problems: &mut Problems,
) {
    given.check(&request.fleet(), stored, problems);
    let kept = stored.is_some_and(|stored| stored.channel == given.channel);
    if !kept && !versions::has_channel(given.channel, request.version) {
        problems.add(
            "properties.channel",
            format!("The API version {} has no channel {}.", request.version, given.channel.as_str()),
        );
    }
    // A stored version may be sent back when AKS no longer offers it.
    let changed = stored.is_none_or(|stored| !stored.follows_as(given));
    if given.channel == UpgradeChannel::TargetKubernetesVersion
        && changed
        && let Err(none @ NoTarget::NotReleased(..)) = autoupgrade::target(given, offers)
    {
        let detail = none.detail();
        problems.add_coded("KubernetesVersionNotReleased", "properties.targetKubernetesVersion", detail.message);
    }
}

/// Checks that the strategy of a new profile exists. An existing profile keeps the ID of a deleted strategy, so that the profile can
/// still be disabled.
async fn check_strategy_exists(tx: &mut Connection, new: &AutoUpgradeProfileProperties) -> ApiResult<()> {
    let Some(text) = &new.update_strategy_id else { return Ok(()) };
    let found = match text.parse::<ResourceId>() {
        Ok(id) => resources::get_for_share(tx, &ByService(&id)).await?,
        Err(_) => None,
    };
    if found.is_some() {
        return Ok(());
    }
    let message = format!("The update strategy '{text}' does not exist.");
    Err(ArmError::bad_request("UpdateStrategyNotFound", message).at("properties.updateStrategyId").into())
}

/// The status, with the outages that keep the profile from triggering a run.
fn with_outages(status: Option<AutoUpgradeProfileStatus>, outages: &[Outage]) -> Option<AutoUpgradeProfileStatus> {
    if outages.is_empty() {
        return status;
    }
    let mut status = status.unwrap_or_default();
    let told = |outage: &Outage| {
        let since: Timestamp = outage.since;
        format!("Subscription {}, since {since:.0}: {}", outage.subscription, outage.error.message)
    };
    let parts = status.last_trigger_message.take().into_iter().chain(outages.iter().map(told));
    status.last_trigger_message = Some(parts.collect::<Vec<_>>().join(" "));
    Some(status)
}
