//! Resource groups: what every resource is in.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    api::{
        App,
        front_door::actions::{GroupsDelete, GroupsRead, GroupsWrite},
        http::{
            body::{self, RawBody},
            error::{ApiError, ApiResult},
            refusals::{created_concurrently, settled},
            render,
            request::{ArmRequest, parts_of},
        },
    },
    arm::{
        ArmError, Precondition, Problems, ResourceId,
        envelope::{Tags, check_tags, normalize_location},
        filter,
        operation::{OPERATION_API_VERSION, RETRY_AFTER_SECONDS},
    },
    database::Connection,
    engine::queue,
    identity::Authorized,
    model::{location::LOCATIONS, provisioning_state::ProvisioningState, types},
    store::{
        operations::{self, NewOperation},
        resources::{self, Draft, Resource, Written},
        runs,
        tracked::{self, Wanted},
    },
    work,
};

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    let allowed = request.authorize::<GroupsRead>(&app).await?;
    let mut conn = app.pool.acquire().await?;
    let group = resources::get(&mut conn, &allowed).await?.ok_or_else(|| not_found(&request.id))?;
    Ok(Json(show(&group)))
}

/// Whether there is one: 204 or 404, without a body.
pub(crate) async fn head(State(app): State<App>, request: ArmRequest) -> ApiResult<StatusCode> {
    let allowed = request.authorize::<GroupsRead>(&app).await?;
    let mut conn = app.pool.acquire().await?;
    let there = tracked::group_exists(&mut conn, allowed.id()).await?;
    Ok(if there { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}

/// Lists those of a subscription, by tag where `$filter` says so.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    let reach = request.reach::<GroupsRead>(&app).await?;
    let mut wanted = Wanted::default();
    for comparison in filter::parse(request.parameter("$filter"))? {
        match comparison.name.to_ascii_lowercase().as_str() {
            "tagname" => wanted.tag_name = Some(comparison.value),
            "tagvalue" => wanted.tag_value = Some(comparison.value),
            "name" => wanted.name = Some(comparison.value),
            "location" => wanted.location = Some(normalize_location(&comparison.value)),
            _ => {
                let message = format!(
                    "$filter knows tagName, tagValue, name and location of resource groups, and not '{}'.",
                    comparison.name
                );
                return Err(ArmError::bad_request("InvalidFilterInQueryString", message).at("$filter").into());
            }
        }
    }
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    let (rows, more) = tracked::groups(&mut conn, request.id.subscription(), &wanted, parts_of(&reach), &page).await?;
    let items = rows.iter().map(show).collect();
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

/// Creates or replaces.
pub(crate) async fn put(State(app): State<App>, request: ArmRequest, RawBody(bytes): RawBody) -> ApiResult<Response> {
    let allowed = request.authorize::<GroupsWrite>(&app).await?;
    let body = body::json(request.headers(), &bytes)?;
    let mut tx = app.pool.begin().await?;
    let existing = resources::get_for_update(&mut tx, &allowed).await?;
    let draft = draft(&request.id, &body, existing.as_ref())?;
    let (group, status) = match existing {
        Some(group) => {
            refuse_deleting(&group)?;
            (change(&mut tx, &request, &allowed, &draft).await?, StatusCode::OK)
        }
        None => {
            let kind = types::RESOURCE_GROUPS;
            let made = resources::insert(&mut tx, &allowed, kind, None, &draft, request.author(), request.now);
            (made.await?.ok_or_else(created_concurrently)?, StatusCode::CREATED)
        }
    };
    tx.commit().await?;
    Ok((status, Json(show(&group))).into_response())
}

/// Changes tags.
pub(crate) async fn patch(
    State(app): State<App>,
    request: ArmRequest,
    RawBody(bytes): RawBody,
) -> ApiResult<Json<Value>> {
    let allowed = request.authorize::<GroupsWrite>(&app).await?;
    let body = body::json(request.headers(), &bytes)?;
    let mut tx = app.pool.begin().await?;
    let group = resources::get_for_update(&mut tx, &allowed).await?.ok_or_else(|| not_found(&request.id))?;
    refuse_deleting(&group)?;
    let mut whole = json!({"location": group.location});
    if let (Value::Object(whole), Some(tags)) = (&mut whole, body.get("tags").cloned().or(json!(group.tags).into())) {
        whole.insert("tags".to_owned(), tags);
    }
    let mut draft = draft(&request.id, &whole, Some(&group))?;
    draft.properties = group.properties.clone();
    let group = change(&mut tx, &request, &allowed, &draft).await?;
    tx.commit().await?;
    Ok(Json(show(&group)))
}

/// Deletes a group with the fleets in it.
pub(crate) async fn delete(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    let allowed = request.authorize::<GroupsDelete>(&app).await?;
    let mut tx = app.pool.begin().await?;
    // Nothing can be created in the group from here on: a creation locks the group's row, too.
    let group = resources::get_for_update(&mut tx, &allowed).await?.ok_or_else(|| not_found(&request.id))?;
    if group.provisioning_state == ProvisioningState::Deleting
        && let Some(operation) = group.last_operation_id
    {
        return Ok(accepted(&request, operation));
    }
    let operation = Uuid::new_v4();
    for fleet in tracked::lock_fleets_of(&mut tx, &group).await? {
        settled(&fleet)?;
        if runs::fleet_has_running_member(&mut tx, fleet.id).await? {
            let message = format!(
                "An update run of the fleet '{}' has members that are being upgraded. Stop the run, wait until it is Stopped or Failed, then delete the resource group.",
                fleet.name
            );
            return Err(ArmError::conflict("ResourceGroupDeletionBlocked", message).into());
        }
        resources::begin_operation(&mut tx, &fleet, ProvisioningState::Deleting, operation).await?;
    }
    resources::begin_operation(&mut tx, &group, ProvisioningState::Deleting, operation).await?;
    let begun = NewOperation { id: operation, location: String::new(), verb: "DELETE", begun_by: request.begun_by() };
    operations::begin(&mut tx, &request.id, &begun, request.now).await?;
    work::enqueue(&mut tx, queue::delete_group(group.id, operation, request.correlation())).await?;
    tx.commit().await?;
    Ok(accepted(&request, operation))
}

/// Returns a resource's group, if it was found and may be written into.
///
/// # Errors
/// 404 `ResourceGroupNotFound`, 409 while it is being deleted.
pub(crate) fn for_write(group: Option<Resource>, id: &ResourceId) -> ApiResult<Resource> {
    let group = group.ok_or_else(|| not_found(&scope_of(id)))?;
    refuse_deleting(&group)?;
    Ok(group)
}

/// The resource group that a resource is in.
pub(crate) fn scope_of(id: &ResourceId) -> ResourceId {
    ResourceId::resource_group_scope(id.subscription(), id.resource_group().unwrap_or_default())
}

/// The 404 of a resource group.
pub(crate) fn not_found(id: &ResourceId) -> ApiError {
    let name = id.resource_group().unwrap_or_default();
    ArmError::not_found("ResourceGroupNotFound", format!("Resource group '{name}' could not be found.")).into()
}

fn refuse_deleting(group: &Resource) -> ApiResult<()> {
    if group.provisioning_state == ProvisioningState::Deleting {
        let message = format!(
            "The resource group '{}' is in deprovisioning state and cannot perform this operation.",
            group.name
        );
        return Err(ArmError::conflict("ResourceGroupBeingDeleted", message).into());
    }
    Ok(())
}

fn draft(id: &ResourceId, body: &Value, existing: Option<&Resource>) -> ApiResult<Draft> {
    let given: Option<String> = body::optional(body, "location")?;
    let location = given.as_deref().map(normalize_location).filter(|location| !location.is_empty());
    let Some(location) = location else {
        let message = "The location property is required for this definition.";
        return Err(ArmError::bad_request("LocationRequired", message).at("location").into());
    };
    match existing.and_then(|group| group.location.as_deref()) {
        Some(was) if was != location => {
            let message = format!(
                "Invalid resource group location '{location}'. The Resource group already exists in location '{was}'."
            );
            return Err(ArmError::conflict("InvalidResourceGroupLocation", message).at("location").into());
        }
        None if !LOCATIONS.iter().any(|known| known.name == location) => {
            let names: Vec<&str> = LOCATIONS.iter().map(|known| known.name).collect();
            let message = format!(
                "The provided location '{location}' is not available for resource group. List of available regions is '{}'.",
                names.join(",")
            );
            return Err(ArmError::bad_request("LocationNotAvailableForResourceGroup", message).at("location").into());
        }
        _ => {}
    }
    if let Some(name) = body.get("name").and_then(Value::as_str)
        && !name.eq_ignore_ascii_case(id.name())
    {
        let message =
            format!("The body's 'name' differs from the URL's '{}': leave it out, or send it as it is.", id.name());
        return Err(ArmError::bad_request("InvalidRequestContent", message).at("name").into());
    }
    let tags: Option<Tags> = body::optional(body, "tags")?;
    let mut problems = Problems::default();
    if let Some(tags) = &tags {
        check_tags(tags, &mut problems);
    }
    problems.into_result()?;
    let managed_by: Option<String> = body::optional(body, "managedBy")?;
    Ok(Draft {
        location: Some(location),
        tags,
        identity: None,
        properties: managed_by.map_or_else(|| json!({}), |by| json!({"managedBy": by})),
        provisioning_state: ProvisioningState::Succeeded,
        operation: None,
    })
}

async fn change(
    tx: &mut Connection,
    request: &ArmRequest,
    allowed: &Authorized<GroupsWrite>,
    draft: &Draft,
) -> ApiResult<Resource> {
    match resources::update(tx, allowed, Precondition::None, draft, request.author(), request.now).await? {
        Written::Done(group) => Ok(*group),
        Written::Refused(_) => Err(not_found(&request.id)),
    }
}

/// Begun: `Location` answers 202 until the group is gone.
fn accepted(request: &ArmRequest, operation: Uuid) -> Response {
    let mut response = StatusCode::ACCEPTED.into_response();
    let headers = response.headers_mut();
    render::put(headers, header::LOCATION, &result_url(request, operation));
    headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    response
}

/// Where the end of a group's deletion can be seen.
pub(crate) fn result_url(request: &ArmRequest, operation: Uuid) -> String {
    let (base, subscription) = (&request.base, request.id.subscription());
    format!("{base}/subscriptions/{subscription}/operationresults/{operation}?api-version={OPERATION_API_VERSION}")
}

fn show(group: &Resource) -> Value {
    let mut body = json!({
        "id": group.arm_id,
        "name": group.name,
        "type": types::RESOURCE_GROUPS,
        "location": group.location,
        "properties": {"provisioningState": group.provisioning_state},
    });
    if let Value::Object(body) = &mut body {
        if let Some(tags) = &group.tags {
            body.insert("tags".to_owned(), json!(tags));
        }
        if let Some(by) = group.properties.get("managedBy") {
            body.insert("managedBy".to_owned(), by.clone());
        }
    }
    body
}
