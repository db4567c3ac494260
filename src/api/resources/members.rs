//! Members of a fleet.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    api::{
        App,
        http::{
            body::{self, RawBody},
            error::ApiResult,
            linked_access,
            render::{self, Pointers},
            request::{ArmRequest, check_name},
        },
        resources::fleets::{concurrent, not_found, parent, parent_for_write, settled, update},
    },
    arm::{ArmError, Problems, patch},
    database::Connection,
    engine::queue,
    model::{
        member::{MAX_MEMBERS, MemberProperties},
        name,
        types::{self, action},
        versions,
    },
    store::{
        memberships, operations,
        resources::{self, Draft, Resource},
    },
    work,
};

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    let allowed = request.authorize(&app, action::MEMBERS_READ).await?;
    let mut conn = app.pool.acquire().await?;
    let member = resources::get(&mut conn, allowed.id()).await?.ok_or_else(|| not_found(&request.id))?;
    Ok(Json(show(&request, &member)?))
}

/// Lists those of a fleet.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    request.authorize(&app, action::MEMBERS_READ).await?;
    if request.parameter("$filter").is_some_and(|filter| !filter.trim().is_empty()) {
        return Err(ArmError::bad_request("InvalidParameter", "$filter is not supported on members: leave it out.")
            .at("$filter")
            .into());
    }
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    let fleet = parent(&mut conn, &request).await?;
    let (rows, more) = resources::list_children(&mut conn, fleet.id, types::MEMBERS, &page).await?;
    let items = rows.iter().map(|member| show(&request, member)).collect::<ApiResult<_>>()?;
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

/// Joins a cluster, or joins it again.
pub(crate) async fn put(State(app): State<App>, request: ArmRequest, RawBody(bytes): RawBody) -> ApiResult<Response> {
    let allowed = request.authorize(&app, action::MEMBERS_WRITE).await?;
    check_name(allowed.id(), name::MAX_PROXY)?;
    let body = body::resource(request.headers(), &bytes, &request.id, types::MEMBERS, request.version)?;
    // What is no cluster's ID is refused below.
    if let Some(cluster) = body::part::<MemberProperties>(&body, "properties")?.cluster() {
        linked_access::may_join(&app, &request, action::MEMBERS_WRITE, &cluster, request.headers()).await?;
    }
    let mut tx = app.pool.begin().await?;
    let fleet = parent_for_write(&mut tx, &request, action::MEMBERS_WRITE, types::MEMBERS).await?;
    let location = fleet.location.clone().unwrap_or_default();
    let existing = resources::get_for_update(&mut tx, &request.id).await?;
    request.precondition.check(existing.as_ref().map(|member| member.etag))?;

    let mut properties = serde_json::to_value(body::part::<MemberProperties>(&body, "properties")?)?;
    if let Some(member) = &existing {
        versions::keep_unseen(&mut properties, &member.properties, types::MEMBERS, request.version);
    }
    let new: MemberProperties = serde_json::from_value(properties)?;
    let stored = existing.as_ref().map(stored_properties).transpose()?;
    let mut problems = Problems::default();
    let seen = existing.as_ref().and_then(cluster_location);
    new.check(request.id.name(), seen, stored.as_ref(), &mut problems);
    problems.into_result()?;
    let Some(cluster) = new.cluster() else { return Err(ArmError::internal().into()) };

    let operation = Uuid::new_v4();
    let mut draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties: serde_json::to_value(new.to_stored())?,
        provisioning_state: "Updating",
        operation: Some(operation),
    };
    if let Some(member) = existing.as_ref().filter(|member| !member.is_settled()) {
        if member.provisioning_state == "Leaving" || member.properties != draft.properties {
            settled(member)?;
        }
        let shown = show(&request, member)?;
        let running = member.last_operation_id;
        return Ok(render::accepted(&request, StatusCode::OK, shown, running, &location, Pointers::AsyncOperation));
    }
    let (member, status) = match existing {
        Some(_) => (update(&mut tx, &request, &draft).await?, StatusCode::OK),
        None => {
            if resources::count_children(&mut tx, fleet.id, types::MEMBERS).await? >= MAX_MEMBERS {
                return Err(ArmError::bad_request(
                    "MemberLimitExceeded",
                    format!("A fleet has at most {MAX_MEMBERS} members. Use another fleet, or delete members."),
                )
                .into());
            }
            draft.provisioning_state = "Joining";
            let (author, parent) = (request.author(), Some(fleet.id));
            let made =
                resources::insert(&mut tx, &request.id, types::MEMBERS, parent, &draft, author, request.now).await?;
            (made.ok_or_else(concurrent)?, StatusCode::CREATED)
        }
    };
    if let Some(holder) = memberships::take(&mut tx, &cluster, fleet.id, member.id).await? {
        let code = if holder.fleet == fleet.id { "ClusterAlreadyJoined" } else { "ClusterAlreadyJoinedAnotherFleet" };
        return Err(ArmError::conflict(
            code,
            format!("The cluster '{cluster}' is a member already: '{}'. A cluster belongs to one fleet, once; delete that member first.", holder.member_arm_id),
        )
        .at("properties.clusterResourceId")
        .into());
    }
    operations::begin(&mut tx, operation, &request.id, &location, "PUT", request.begun_by(), request.now).await?;
    let join = queue::join(member.id, operation, request.principal.caller.tenant, request.correlation());
    work::enqueue(&mut tx, join).await?;
    let shown = show(&request, &member)?;
    tx.commit().await?;
    Ok(render::accepted(&request, status, shown, Some(operation), &location, Pointers::AsyncOperation))
}

/// Changes group and labels.
pub(crate) async fn patch(
    State(app): State<App>,
    request: ArmRequest,
    RawBody(bytes): RawBody,
) -> ApiResult<Json<Value>> {
    request.authorize(&app, action::MEMBERS_WRITE).await?;
    let mut change = body::json(request.headers(), &bytes)?;
    versions::hide(&mut change, types::MEMBERS, request.version);
    let mut tx = app.pool.begin().await?;
    let member = resources::get_for_update(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    request.precondition.check(Some(member.etag))?;
    settled(&member)?;
    let stored = stored_properties(&member)?;
    let mut properties = json!({"properties": member.properties});
    if let Some(Value::Object(mut change)) = change.get_mut("properties").map(Value::take) {
        change.retain(|name, _| matches!(name.as_str(), "group" | "labels" | "clusterResourceId"));
        patch::merge(&mut properties, json!({"properties": change}));
    }
    let new: MemberProperties = body::part(&properties, "properties")?;
    let mut problems = Problems::default();
    new.check(&member.name, cluster_location(&member), Some(&stored), &mut problems);
    problems.into_result()?;
    let draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties: serde_json::to_value(new.to_stored())?,
        provisioning_state: if member.provisioning_state == "Failed" { "Failed" } else { "Succeeded" },
        operation: None,
    };
    let member = update(&mut tx, &request, &draft).await?;
    let shown = show(&request, &member)?;
    tx.commit().await?;
    Ok(Json(shown))
}

/// Leaves the fleet; the cluster is left alone.
pub(crate) async fn delete(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    request.authorize(&app, action::MEMBERS_DELETE).await?;
    let mut tx = app.pool.begin().await?;
    let Some(member) = resources::get_for_update(&mut tx, &request.id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    request.precondition.check(Some(member.etag))?;
    let location = fleet_location(&mut tx, &member).await?;
    if member.provisioning_state == "Leaving" {
        let shown = show(&request, &member)?;
        let operation = member.last_operation_id;
        return Ok(render::accepted(&request, StatusCode::ACCEPTED, shown, operation, &location, Pointers::Both));
    }
    settled(&member)?;
    let operation = Uuid::new_v4();
    let member = resources::begin_operation(&mut tx, member.id, "Leaving", operation)
        .await?
        .ok_or_else(|| not_found(&request.id))?;
    operations::begin(&mut tx, operation, &request.id, &location, "DELETE", request.begun_by(), request.now).await?;
    work::enqueue(&mut tx, queue::leave(member.id, operation, request.correlation())).await?;
    let shown = show(&request, &member)?;
    tx.commit().await?;
    Ok(render::accepted(&request, StatusCode::ACCEPTED, shown, Some(operation), &location, Pointers::Both))
}

async fn fleet_location(tx: &mut Connection, member: &Resource) -> ApiResult<String> {
    let Some(fleet) = member.parent_id else { return Ok(String::new()) };
    Ok(resources::get_by_row(tx, fleet).await?.and_then(|fleet| fleet.location).unwrap_or_default())
}

fn stored_properties(member: &Resource) -> ApiResult<MemberProperties> {
    Ok(serde_json::from_value(member.properties.clone())?)
}

fn cluster_location(member: &Resource) -> Option<&str> {
    member.observed.get("location").and_then(Value::as_str)
}

fn show(request: &ArmRequest, member: &Resource) -> ApiResult<Value> {
    let mut properties = stored_properties(member)?;
    properties.labels = Some(properties.all_labels(&member.name, cluster_location(member)));
    render::resource(request, member, serde_json::to_value(properties)?)
}
