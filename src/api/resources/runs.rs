//! Update runs of a fleet.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

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
    arm::{ArmError, Problems, ResourceId, page::Page},
    database::{Connection, Transaction},
    engine::{self, queue},
    model::{
        name,
        strategy::FleetUpdateStrategyProperties,
        types::{self, action},
        update_run::{UpdateRunProperties, UpdateRunStatus, UpdateState},
        versions,
    },
    rollout::{self, Event, SkipTarget},
    store::{
        memberships,
        resources::{self, Draft, Resource},
        runs,
    },
    work,
};

/// Most runs in a page: their status trees are large.
const MAX_PAGE: u32 = 20;
/// Most targets of one skip.
const MAX_SKIP_TARGETS: usize = 1000;

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    let allowed = request.authorize(&app, action::RUNS_READ).await?;
    let mut conn = app.pool.acquire().await?;
    let run = resources::get(&mut conn, allowed.id()).await?.ok_or_else(|| not_found(&request.id))?;
    Ok(Json(show(&mut conn, &request, &run).await?))
}

/// Lists those of a fleet.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    request.authorize(&app, action::RUNS_READ).await?;
    let page = request.page(&app)?;
    let page = Page { limit: page.limit.min(MAX_PAGE), ..page };
    let mut conn = app.pool.acquire().await?;
    let fleet = parent(&mut conn, &request).await?;
    let (rows, more) = resources::list_children(&mut conn, fleet.id, types::UPDATE_RUNS, &page).await?;
    let ids: Vec<_> = rows.iter().map(|run| run.id).collect();
    let mut statuses = runs::statuses(&mut conn, &ids, &request.fleet()).await?;
    let items =
        rows.iter().map(|run| render_run(&request, run, statuses.remove(&run.id))).collect::<ApiResult<Vec<_>>>()?;
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

/// Creates a run, or replaces one that was not started.
pub(crate) async fn put(State(app): State<App>, request: ArmRequest, RawBody(bytes): RawBody) -> ApiResult<Response> {
    let allowed = request.authorize(&app, action::RUNS_WRITE).await?;
    check_name(allowed.id(), name::MAX_PROXY)?;
    let mut body = body::resource(request.headers(), &bytes, &request.id, types::UPDATE_RUNS, request.version)?;
    let named = body.pointer("/properties/updateStrategyId").and_then(Value::as_str);
    if let Some(strategy) = named.and_then(|id| id.parse().ok()) {
        linked_access::may_follow(&app, &request, action::RUNS_WRITE, &strategy).await?;
    }
    let mut tx = app.pool.begin().await?;
    let fleet = parent_for_write(&mut tx, &request, action::RUNS_WRITE, types::UPDATE_RUNS).await?;
    let existing = resources::get_for_update(&mut tx, &request.id).await?;
    request.precondition.check(existing.as_ref().map(|run| run.etag))?;
    if let (Some(run), Some(properties)) = (&existing, body.get_mut("properties")) {
        versions::keep_unseen(properties, &run.properties, types::UPDATE_RUNS, request.version);
    }
    let stray_gates = stray_gates(&body);
    let given: UpdateRunProperties = body::part(&body, "properties")?;
    let stored: Option<UpdateRunProperties> =
        existing.as_ref().map(|run| serde_json::from_value(run.properties.clone())).transpose()?;

    let mut problems = Problems::default();
    let is_copy = stored.as_ref().is_some_and(|stored| is_copy(&given, stored));
    given.check(&request.fleet(), is_copy, &mut problems);
    if let Some(position) = stray_gates {
        problems.add(
            &format!("properties.{position}"),
            "Gates stand before and after the stages and groups of a strategy. A run without a strategy updates its members one by one and has no gates.",
        );
    }
    if let Some(stored) = &stored
        && stored.managed_cluster_update.node_image_selection != given.managed_cluster_update.node_image_selection
        && given.managed_cluster_update.node_image_selection.is_some()
    {
        problems.add_coded(
            "PropertyChangeNotAllowed",
            "properties.managedClusterUpdate.nodeImageSelection",
            "nodeImageSelection cannot be changed: send it as it is, or create another run.",
        );
    }
    problems.into_result()?;
    let mut new = with_strategy(&mut tx, given, stored.as_ref()).await?;
    new.auto_upgrade_profile_id = stored.as_ref().and_then(|stored| stored.auto_upgrade_profile_id.clone());
    let draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties: serde_json::to_value(&new)?,
        provisioning_state: "Succeeded",
        operation: None,
    };
    let (run, status) = match existing {
        Some(run) if stored.as_ref() == Some(&new) => (run, StatusCode::OK),
        Some(run) => {
            let snapshot = runs::load_for_update(&mut tx, run.id).await?;
            if snapshot.is_none_or(|run| run.status.state != UpdateState::NotStarted) {
                return Err(ArmError::conflict(
                    "UpdateRunAlreadyStarted",
                    "The update run was started: its strategy and update can no longer be changed. Create another run.",
                )
                .into());
            }
            let plan = plan(&mut tx, fleet.id, run.id, &new).await?;
            runs::replace_plan(&mut tx, run.id, &plan, request.now).await?;
            (update(&mut tx, &request, &draft).await?, StatusCode::OK)
        }
        None => {
            let (author, parent) = (request.author(), Some(fleet.id));
            let made = resources::insert(&mut tx, &request.id, types::UPDATE_RUNS, parent, &draft, author, request.now)
                .await?;
            let run = made.ok_or_else(concurrent)?;
            let plan = plan(&mut tx, fleet.id, run.id, &new).await?;
            runs::create(&mut tx, run.id, fleet.id, &plan, request.now).await?;
            (run, StatusCode::CREATED)
        }
    };
    if engine::chooses_images(&new) {
        work::enqueue(&mut tx, queue::images(run.id, Some(request.correlation()))).await?;
    }
    let shown = show(&mut tx, &request, &run).await?;
    tx.commit().await?;
    Ok((status, Json(shown)).into_response())
}

/// Starts or restarts: the run is Running from the answer on. Its members are chosen by a job at the first start, whose answer
/// still shows the run as it was, as Azure's does.
pub(crate) async fn start(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.authorize(&app, action::RUNS_START).await?;
    let mut tx = app.pool.begin().await?;
    // A fleet that is being deleted starts nothing, and is not deleted before this is done.
    parent_for_write(&mut tx, &request, action::RUNS_START, types::UPDATE_RUNS).await?;
    let run = locked(&mut tx, &request).await?;
    runs::lock(&mut tx, run.id).await?;
    let before = runs::status(&mut tx, run.id, &request.fleet()).await?;
    if before.as_ref().is_none_or(|before| before.status.state != UpdateState::NotStarted) {
        return finish(tx, &request, &run, Event::Start).await;
    }
    let trace = Some(request.correlation());
    engine::drive(&mut tx, run.id, Event::Start, request.now, trace).await?.ok_or_else(|| not_found(&request.id))?;
    let shown = render_run(&request, &run, before)?;
    tx.commit().await?;
    Ok(Json(shown))
}

/// Stops: nothing new starts, what is in flight ends by itself.
pub(crate) async fn stop(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.authorize(&app, action::RUNS_STOP).await?;
    act(&app, &request, Event::Stop).await
}

/// What a skip leaves out.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SkipProperties {
    /// All of them, or none.
    targets: Vec<Target>,
}

/// One member, group, stage or wait.
#[derive(Deserialize, ToSchema)]
#[schema(as = SkipTarget)]
struct Target {
    /// What it is.
    #[serde(rename = "type")]
    kind: TargetType,
    /// Its name; of a wait, that of its stage.
    name: String,
}

/// What a skip can leave out.
#[derive(Deserialize, ToSchema)]
enum TargetType {
    Member,
    Group,
    Stage,
    AfterStageWait,
}

/// Leaves out members, groups, stages or waits: all targets or none.
pub(crate) async fn skip(
    State(app): State<App>,
    request: ArmRequest,
    RawBody(bytes): RawBody,
) -> ApiResult<Json<Value>> {
    request.authorize(&app, action::RUNS_SKIP).await?;
    let body = body::json(request.headers(), &bytes)?;
    let SkipProperties { targets } = body::whole(&body)?;
    if targets.is_empty() || targets.len() > MAX_SKIP_TARGETS {
        return Err(ArmError::bad_request(
            "InvalidParameter",
            format!("targets must name 1 to {MAX_SKIP_TARGETS} members, groups, stages or waits."),
        )
        .at("targets")
        .into());
    }
    let mut tx = app.pool.begin().await?;
    let run = locked(&mut tx, &request).await?;
    let targets = targets
        .into_iter()
        .map(|target| match target.kind {
            TargetType::Member => SkipTarget::Member(target.name),
            TargetType::Group => SkipTarget::Group(target.name),
            TargetType::Stage => SkipTarget::Stage(target.name),
            TargetType::AfterStageWait => SkipTarget::AfterStageWait(target.name),
        })
        .collect();
    finish(tx, &request, &run, Event::Skip { targets, members: Vec::new() }).await
}

/// Deletes a run that upgrades nothing at the moment, and its gates.
pub(crate) async fn delete(State(app): State<App>, request: ArmRequest) -> ApiResult<StatusCode> {
    request.authorize(&app, action::RUNS_DELETE).await?;
    let mut tx = app.pool.begin().await?;
    let Some(run) = resources::get_for_update(&mut tx, &request.id).await? else {
        return Ok(StatusCode::NO_CONTENT);
    };
    request.precondition.check(Some(run.etag))?;
    let snapshot = runs::load_for_update(&mut tx, run.id).await?;
    if snapshot.is_some_and(|run| run.running() > 0) {
        return Err(ArmError::conflict(
            "UpdateRunInProgress",
            "Members of this update run are being upgraded. Stop the run, wait until it is Stopped or Failed, then delete it.",
        )
        .into());
    }
    engine::delete::delete(&mut tx, run.id, request.now, Some(request.correlation())).await?;
    tx.commit().await?;
    Ok(StatusCode::OK)
}

async fn act(app: &App, request: &ArmRequest, event: Event) -> ApiResult<Json<Value>> {
    let mut tx = app.pool.begin().await?;
    let run = locked(&mut tx, request).await?;
    finish(tx, request, &run, event).await
}

async fn finish(mut tx: Transaction, request: &ArmRequest, run: &Resource, event: Event) -> ApiResult<Json<Value>> {
    let trace = Some(request.correlation());
    engine::drive(&mut tx, run.id, event, request.now, trace).await?.ok_or_else(|| not_found(&request.id))?;
    let shown = show(&mut tx, request, run).await?;
    tx.commit().await?;
    Ok(Json(shown))
}

/// The run that an action is about, under the action's condition.
async fn locked(tx: &mut Connection, request: &ArmRequest) -> ApiResult<Resource> {
    let run = resources::get_for_update(tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    request.precondition.check(Some(run.etag))?;
    Ok(run)
}

/// Gates that stand beside the strategy instead of inside it: they would be ignored, and nobody would ever be asked.
fn stray_gates(body: &Value) -> Option<&'static str> {
    let has = |position: &&str| {
        body["properties"].get(position).and_then(Value::as_array).is_some_and(|gates| !gates.is_empty())
    };
    ["beforeGates", "afterGates"].into_iter().find(has)
}

/// Whether a body sends back the copy of the strategy that its `updateStrategyId` names.
fn is_copy(given: &UpdateRunProperties, stored: &UpdateRunProperties) -> bool {
    let same = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    };
    same(&given.update_strategy_id, &stored.update_strategy_id) && given.strategy == stored.strategy
}

/// Copies the strategy that a body names; the copy of a run that names the same as before stays as it is.
async fn with_strategy(
    tx: &mut Connection,
    mut given: UpdateRunProperties,
    stored: Option<&UpdateRunProperties>,
) -> ApiResult<UpdateRunProperties> {
    if given.managed_cluster_update.node_image_selection.is_none() {
        given.managed_cluster_update.node_image_selection =
            stored.and_then(|stored| stored.managed_cluster_update.node_image_selection.clone());
    }
    let Some(id) = &given.update_strategy_id else { return Ok(given) };
    let kept =
        stored.filter(|stored| stored.update_strategy_id.as_ref().is_some_and(|old| old.eq_ignore_ascii_case(id)));
    if let Some(stored) = kept {
        given.strategy.clone_from(&stored.strategy);
        given.update_strategy_id.clone_from(&stored.update_strategy_id);
        return Ok(given);
    }
    let missing = || {
        ApiError::from(
            ArmError::bad_request("UpdateStrategyNotFound", format!("The update strategy '{id}' does not exist."))
                .at("properties.updateStrategyId"),
        )
    };
    let id: ResourceId = id.parse().map_err(|_| missing())?;
    let strategy = resources::get_for_share(tx, &id).await?.ok_or_else(missing)?;
    let copy: FleetUpdateStrategyProperties = serde_json::from_value(strategy.properties)?;
    given.strategy = Some(copy.strategy);
    Ok(given)
}

async fn plan(tx: &mut Connection, fleet: Uuid, run: Uuid, wish: &UpdateRunProperties) -> ApiResult<rollout::Plan> {
    let members = memberships::members_of_run(tx, fleet, run).await?;
    // Selectors are checked before: those of a strategy that is copied, when it was written.
    rollout::plan(wish.strategy.as_ref(), &members).map_err(|error| {
        ArmError::bad_request("InvalidParameter", format!("The strategy cannot be used: {error}."))
            .at("properties.strategy")
            .into()
    })
}

async fn show(conn: &mut Connection, request: &ArmRequest, run: &Resource) -> ApiResult<Value> {
    let status = runs::status(conn, run.id, &request.fleet()).await?;
    render_run(request, run, status)
}

fn render_run(request: &ArmRequest, run: &Resource, status: Option<UpdateRunStatus>) -> ApiResult<Value> {
    let mut properties = run.properties.clone();
    if let (Value::Object(properties), Some(status)) = (&mut properties, status) {
        properties.insert("status".to_owned(), serde_json::to_value(status)?);
    }
    render::resource(request, run, properties)
}
