//! Auto-upgrade profiles of a fleet. Synchronous: what follows from one, jobs do.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        App,
        http::{
            body::{self, RawBody},
            error::{ApiError, ApiResult},
            linked_access, render,
            request::{ArmRequest, check_name},
        },
        resources::fleets::{concurrent, not_found, parent, parent_for_write, update},
    },
    arm::{ArmError, Problems, ResourceId},
    autoupgrade::{self, FleetOffers, NoTarget},
    database::{Connection, Transaction},
    engine::auto_upgrade::{RunCreation, RunWanted, make_run, watch, watch_now},
    model::{
        auto_upgrade_profile::{AutoUpgradeProfileProperties, AutoUpgradeProfileStatus, UpgradeChannel},
        name,
        types::{self, action},
        versions,
    },
    store::{
        auto_upgrade,
        catalogues::{self, Outage},
        resources::{self, Draft, Resource},
    },
};

/// How long a request to generate a run waits for the first look at what AKS offers.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Until it asks again whether that is there.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    let allowed = request.authorize(&app, action::PROFILES_READ).await?;
    let mut conn = app.pool.acquire().await?;
    let profile = resources::get(&mut conn, allowed.id()).await?.ok_or_else(|| not_found(&request.id))?;
    Ok(Json(show(&mut conn, &request, &profile).await?))
}

/// Lists those of a fleet.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    request.authorize(&app, action::PROFILES_READ).await?;
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    let fleet = parent(&mut conn, &request).await?;
    let (rows, more) = resources::list_children(&mut conn, fleet.id, types::AUTO_UPGRADE_PROFILES, &page).await?;
    let ids: Vec<_> = rows.iter().map(|profile| profile.id).collect();
    let mut statuses = auto_upgrade::statuses(&mut conn, &ids).await?;
    let outages = catalogues::outages(&mut conn, fleet.id).await?;
    let items = rows
        .iter()
        .map(|profile| render_profile(&request, profile, statuses.remove(&profile.id), &outages))
        .collect::<ApiResult<_>>()?;
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

/// Creates or replaces.
pub(crate) async fn put(State(app): State<App>, request: ArmRequest, RawBody(bytes): RawBody) -> ApiResult<Response> {
    let allowed = request.authorize(&app, action::PROFILES_WRITE).await?;
    check_name(allowed.id(), name::MAX_PROXY)?;
    let mut body =
        body::resource(request.headers(), &bytes, &request.id, types::AUTO_UPGRADE_PROFILES, request.version)?;
    let named = body.pointer("/properties/updateStrategyId").and_then(Value::as_str);
    if let Some(strategy) = named.and_then(|id| id.parse().ok()) {
        linked_access::may_follow(&app, &request, action::PROFILES_WRITE, &strategy).await?;
    }
    let mut tx = app.pool.begin().await?;
    let fleet = parent_for_write(&mut tx, &request, action::PROFILES_WRITE, types::AUTO_UPGRADE_PROFILES).await?;
    let existing = resources::get_for_update(&mut tx, &request.id).await?;
    request.precondition.check(existing.as_ref().map(|profile| profile.etag))?;
    if let (Some(profile), Some(properties)) = (&existing, body.get_mut("properties"))
        && properties.get("channel") == profile.properties.get("channel")
    {
        versions::keep_unseen(properties, &profile.properties, types::AUTO_UPGRADE_PROFILES, request.version);
    }
    let given: AutoUpgradeProfileProperties = body::part(&body, "properties")?;
    let stored: Option<AutoUpgradeProfileProperties> =
        existing.as_ref().map(|profile| serde_json::from_value(profile.properties.clone())).transpose()?;
    let offers = catalogues::of_fleet(&mut tx, fleet.id).await?;
    let mut problems = Problems::default();
    check(&request, &given, stored.as_ref(), &offers, &mut problems);
    problems.into_result()?;
    let new = given.to_stored(stored.as_ref());
    if stored.is_none() {
        check_strategy_exists(&mut tx, &new).await?;
    }
    let draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties: serde_json::to_value(&new)?,
        provisioning_state: "Succeeded",
        operation: None,
    };
    let (profile, status) = match (existing, stored) {
        (Some(profile), Some(stored)) => {
            let afresh = !new.follows_as(&stored);
            if afresh || (stored.disabled && !new.disabled) {
                auto_upgrade::arm(&mut tx, profile.id, afresh).await?;
            }
            (update(&mut tx, &request, &draft).await?, StatusCode::OK)
        }
        _ => {
            let (kind, author) = (types::AUTO_UPGRADE_PROFILES, request.author());
            let made =
                resources::insert(&mut tx, &request.id, kind, Some(fleet.id), &draft, author, request.now).await?;
            let profile = made.ok_or_else(concurrent)?;
            auto_upgrade::create(&mut tx, profile.id, fleet.id).await?;
            watch(&mut tx, fleet.id).await?;
            (profile, StatusCode::CREATED)
        }
    };
    let shown = show(&mut tx, &request, &profile).await?;
    tx.commit().await?;
    Ok((status, Json(shown)).into_response())
}

/// Deletes it; the runs that it has made stay. Never 200, which clients do not expect here.
pub(crate) async fn delete(State(app): State<App>, request: ArmRequest) -> ApiResult<StatusCode> {
    request.authorize(&app, action::PROFILES_DELETE).await?;
    let mut tx = app.pool.begin().await?;
    if let Some(profile) = resources::get_for_update(&mut tx, &request.id).await? {
        request.precondition.check(Some(profile.etag))?;
        resources::delete(&mut tx, profile.id).await?;
        tx.commit().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Makes the run for the profile's present target, and does not start it; the one that there is already is answered as it
/// is. Disabled profiles do this, too.
pub(crate) async fn generate(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.authorize(&app, action::PROFILES_GENERATE).await?;
    let mut tx = known_offers(&app, &request).await?;
    // The fleet comes first, as in jobs: two locks in one order.
    let fleet = resources::get_for_share(&mut tx, &request.fleet()).await?.ok_or_else(|| not_found(&request.id))?;
    let profile = resources::get_for_update(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    let properties: AutoUpgradeProfileProperties = serde_json::from_value(profile.properties.clone())?;
    let offers = catalogues::of_fleet(&mut tx, fleet.id).await?;
    let refuse = |detail| ApiError::from(ArmError::from_detail(StatusCode::CONFLICT, detail));
    let target = autoupgrade::target(&properties, &offers).map_err(|none| refuse(none.detail()))?;
    autoupgrade::check(&properties, &target, &offers).map_err(refuse)?;
    let wanted = RunWanted { fleet: &fleet, profile: &profile, properties: &properties, target: &target, only: None };
    let trace = Some(request.correlation());
    let run = match make_run(&mut tx, wanted, request.author(), request.now, trace).await? {
        RunCreation::New(run) | RunCreation::Existing(run) => run,
        RunCreation::NoMembers => return Err(no_members(&fleet)),
        RunCreation::Refused(detail) => return Err(refuse(detail)),
    };
    tx.commit().await?;
    Ok(Json(json!({"id": run.arm_id})))
}

/// A transaction in which it is known what AKS offers to the fleet. The first look may be on its way: it is waited for.
async fn known_offers(app: &App, request: &ArmRequest) -> ApiResult<Transaction> {
    let deadline = tokio::time::Instant::now() + LONGEST_WAIT;
    let mut asked = false;
    loop {
        let mut tx = app.pool.begin().await?;
        let profile = resources::get(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
        let Some(fleet) = profile.parent_id else { return Err(not_found(&request.id)) };
        if !catalogues::of_fleet(&mut tx, fleet).await?.is_empty() {
            return Ok(tx);
        }
        if catalogues::subscriptions(&mut tx, fleet).await?.is_empty() {
            return Err(no_members(&parent(&mut tx, request).await?));
        }
        if tokio::time::Instant::now() > deadline {
            let mut detail = NoTarget::Unknown.detail();
            detail.details =
                catalogues::outages(&mut tx, fleet).await?.into_iter().map(|outage| outage.error).collect();
            return Err(ArmError::from_detail(StatusCode::CONFLICT, detail).retry_after(5).into());
        }
        if !asked {
            watch_now(&mut tx, fleet).await?;
            asked = true;
        }
        tx.commit().await?;
        tokio::time::sleep(ASK_AGAIN).await;
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
    // What was released when it was written may be kept when it is not offered any more.
    let changed = stored.is_none_or(|stored| !stored.follows_as(given));
    if given.channel == UpgradeChannel::TargetKubernetesVersion
        && changed
        && let Err(none @ NoTarget::NotReleased(..)) = autoupgrade::target(given, offers)
    {
        let detail = none.detail();
        problems.add_coded("KubernetesVersionNotReleased", "properties.targetKubernetesVersion", detail.message);
    }
}

/// A profile that was made keeps its strategy's ID whatever becomes of the strategy: it can still be disabled.
async fn check_strategy_exists(tx: &mut Connection, new: &AutoUpgradeProfileProperties) -> ApiResult<()> {
    let Some(text) = &new.update_strategy_id else { return Ok(()) };
    let found = match text.parse::<ResourceId>() {
        Ok(id) => resources::get_for_share(tx, &id).await?,
        Err(_) => None,
    };
    if found.is_some() {
        return Ok(());
    }
    let message = format!("The update strategy '{text}' does not exist.");
    Err(ArmError::bad_request("UpdateStrategyNotFound", message).at("properties.updateStrategyId").into())
}

async fn show(conn: &mut Connection, request: &ArmRequest, profile: &Resource) -> ApiResult<Value> {
    let status = auto_upgrade::statuses(conn, &[profile.id]).await?.remove(&profile.id);
    let outages = match profile.parent_id {
        Some(fleet) => catalogues::outages(conn, fleet).await?,
        None => Vec::new(),
    };
    render_profile(request, profile, status, &outages)
}

fn render_profile(
    request: &ArmRequest,
    profile: &Resource,
    status: Option<AutoUpgradeProfileStatus>,
    outages: &[Outage],
) -> ApiResult<Value> {
    let mut properties = profile.properties.clone();
    if let (Value::Object(properties), Some(status)) = (&mut properties, with_outages(status, outages)) {
        let status = serde_json::to_value(status)?;
        properties.insert("autoUpgradeProfileStatus".to_owned(), status);
    }
    let mut shown = render::resource(request, profile, properties)?;
    // In versions without messages there may be nothing left to say.
    if let Some(Value::Object(properties)) = shown.get_mut("properties")
        && properties.get("autoUpgradeProfileStatus").is_some_and(|status| *status == json!({}))
    {
        properties.remove("autoUpgradeProfileStatus");
    }
    Ok(shown)
}

/// The status, and why nothing can be triggered at the moment.
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
