//! Update strategies of a fleet. Synchronous: nothing is to be done but to keep them.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    api::{
        App,
        http::{
            body::{self, RawBody},
            error::ApiResult,
            render,
            request::{ArmRequest, check_name},
        },
        resources::fleets::{concurrent, not_found, parent, parent_for_write, update},
    },
    arm::Problems,
    model::{
        name,
        strategy::FleetUpdateStrategyProperties,
        types::{self, action},
        versions,
    },
    store::resources::{self, Draft, Resource},
};

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    let allowed = request.authorize(&app, action::STRATEGIES_READ).await?;
    let mut conn = app.pool.acquire().await?;
    let strategy = resources::get(&mut conn, allowed.id()).await?.ok_or_else(|| not_found(&request.id))?;
    Ok(Json(show(&request, &strategy)?))
}

/// Lists those of a fleet.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    request.authorize(&app, action::STRATEGIES_READ).await?;
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    let fleet = parent(&mut conn, &request).await?;
    let (rows, more) = resources::list_children(&mut conn, fleet.id, types::UPDATE_STRATEGIES, &page).await?;
    let items = rows.iter().map(|strategy| show(&request, strategy)).collect::<ApiResult<_>>()?;
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

/// Creates or replaces. Runs made from it keep their copy.
pub(crate) async fn put(State(app): State<App>, request: ArmRequest, RawBody(bytes): RawBody) -> ApiResult<Response> {
    let allowed = request.authorize(&app, action::STRATEGIES_WRITE).await?;
    check_name(allowed.id(), name::MAX_PROXY)?;
    let mut body = body::resource(request.headers(), &bytes, &request.id, types::UPDATE_STRATEGIES, request.version)?;
    let mut tx = app.pool.begin().await?;
    let fleet = parent_for_write(&mut tx, &request, action::STRATEGIES_WRITE, types::UPDATE_STRATEGIES).await?;
    let existing = resources::get_for_update(&mut tx, &request.id).await?;
    request.precondition.check(existing.as_ref().map(|strategy| strategy.etag))?;
    if let (Some(strategy), Some(properties)) = (&existing, body.get_mut("properties")) {
        versions::keep_unseen(properties, &strategy.properties, types::UPDATE_STRATEGIES, request.version);
    }
    let new: FleetUpdateStrategyProperties = body::part(&body, "properties")?;
    let mut problems = Problems::default();
    new.strategy.check("properties.strategy", &mut problems);
    problems.into_result()?;
    let draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties: serde_json::to_value(&new)?,
        provisioning_state: "Succeeded",
        operation: None,
    };
    let (strategy, status) = match existing {
        Some(_) => (update(&mut tx, &request, &draft).await?, StatusCode::OK),
        None => {
            let (kind, author) = (types::UPDATE_STRATEGIES, request.author());
            let made =
                resources::insert(&mut tx, &request.id, kind, Some(fleet.id), &draft, author, request.now).await?;
            (made.ok_or_else(concurrent)?, StatusCode::CREATED)
        }
    };
    let shown = show(&request, &strategy)?;
    tx.commit().await?;
    Ok((status, Json(shown)).into_response())
}

/// Deletes it. Runs made from it keep their copy.
pub(crate) async fn delete(State(app): State<App>, request: ArmRequest) -> ApiResult<StatusCode> {
    request.authorize(&app, action::STRATEGIES_DELETE).await?;
    let mut tx = app.pool.begin().await?;
    let Some(strategy) = resources::get_for_update(&mut tx, &request.id).await? else {
        return Ok(StatusCode::NO_CONTENT);
    };
    request.precondition.check(Some(strategy.etag))?;
    resources::delete(&mut tx, strategy.id).await?;
    tx.commit().await?;
    Ok(StatusCode::OK)
}

fn show(request: &ArmRequest, strategy: &Resource) -> ApiResult<Value> {
    let properties = json!({"strategy": strategy.properties.get("strategy")});
    render::resource(request, strategy, properties)
}
