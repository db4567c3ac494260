//! Fleets.

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
        front_door::resource_groups,
        http::{
            body::{self, RawBody},
            error::{ApiError, ApiResult},
            render::{self, Pointers},
            request::{ArmRequest, check_name, parts_of},
        },
    },
    arm::{
        ArmError, Problems, ResourceId,
        envelope::{Tags, check_tags, normalize_location},
        patch,
    },
    database::Connection,
    engine::queue,
    model::{
        fleet::{FleetProperties, ManagedServiceIdentity},
        name,
        types::{self, action},
        versions,
    },
    store::{
        operations,
        resources::{self, Draft, Resource, Written},
        runs, tracked,
    },
    work,
};

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    let allowed = request.authorize(&app, action::FLEETS_READ).await?;
    let mut conn = app.pool.acquire().await?;
    let fleet = resources::get(&mut conn, allowed.id()).await?.ok_or_else(|| not_found(&request.id))?;
    Ok(Json(show(&request, &fleet)?))
}

/// Lists those of a subscription or of a resource group.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    let reach = request.reach(&app, action::FLEETS_READ).await?;
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    let (subscription, group) = (request.id.subscription(), request.id.resource_group());
    let (rows, more) =
        resources::list_in_scope(&mut conn, subscription, group, types::FLEETS, parts_of(&reach), &page).await?;
    if rows.is_empty() && group.is_some() && !tracked::group_exists(&mut conn, &request.id).await? {
        return Err(resource_groups::not_found(&request.id));
    }
    let items = rows.iter().map(|fleet| show(&request, fleet)).collect::<ApiResult<_>>()?;
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

/// Creates or replaces.
pub(crate) async fn put(State(app): State<App>, request: ArmRequest, RawBody(bytes): RawBody) -> ApiResult<Response> {
    let allowed = request.authorize(&app, action::FLEETS_WRITE).await?;
    check_name(allowed.id(), name::MAX_TRACKED)?;
    let body = body::resource(request.headers(), &bytes, &request.id, types::FLEETS, request.version)?;
    let mut tx = app.pool.begin().await?;
    let existing = resources::get_for_update(&mut tx, &request.id).await?;
    request.precondition.check(existing.as_ref().map(|fleet| fleet.etag))?;
    let mut draft = draft(&request, &body, existing.as_ref())?;
    if let Some(fleet) = existing.as_ref().filter(|fleet| !fleet.is_settled()) {
        return rejoin(&request, fleet, &draft);
    }
    let operation = Uuid::new_v4();
    draft.operation = Some(operation);
    let (fleet, status) = match existing {
        Some(_) => {
            draft.provisioning_state = "Updating";
            (update(&mut tx, &request, &draft).await?, StatusCode::OK)
        }
        None => {
            draft.provisioning_state = "Creating";
            let group = Some(resource_groups::for_write(&mut tx, &request.id).await?.id);
            let made =
                resources::insert(&mut tx, &request.id, types::FLEETS, group, &draft, request.author(), request.now);
            // Somebody else's creation came between: the caller decides again.
            (made.await?.ok_or_else(concurrent)?, StatusCode::CREATED)
        }
    };
    let location = fleet.location.clone().unwrap_or_default();
    operations::begin(&mut tx, operation, &request.id, &location, "PUT", request.begun_by(), request.now).await?;
    work::enqueue(&mut tx, queue::provision_fleet(fleet.id, operation, request.correlation())).await?;
    let shown = show(&request, &fleet)?;
    tx.commit().await?;
    Ok(render::accepted(&request, status, shown, Some(operation), &location, Pointers::AsyncOperation))
}

/// Changes tags and identity.
pub(crate) async fn patch(
    State(app): State<App>,
    request: ArmRequest,
    RawBody(bytes): RawBody,
) -> ApiResult<Json<Value>> {
    request.authorize(&app, action::FLEETS_WRITE).await?;
    let body = body::json(request.headers(), &bytes)?;
    let mut tx = app.pool.begin().await?;
    let fleet = resources::get_for_update(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    request.precondition.check(Some(fleet.etag))?;
    settled(&fleet)?;
    let mut problems = Problems::default();
    let mut next = Draft {
        location: fleet.location.clone(),
        tags: fleet.tags.clone(),
        identity: fleet.identity.clone(),
        properties: fleet.properties.clone(),
        provisioning_state: "Succeeded",
        operation: None,
    };
    if body.get("tags").is_some() {
        next.tags = body::optional::<Tags>(&body, "tags")?;
    }
    if let Some(change) = body.get("identity").filter(|change| !change.is_null()) {
        let mut identity = fleet.identity.clone().unwrap_or_else(|| json!({}));
        patch::merge(&mut identity, change.clone());
        body::part::<ManagedServiceIdentity>(&json!({"identity": identity}), "identity")?.check(&mut problems);
        next.identity = Some(identity);
    }
    if let Some(tags) = &next.tags {
        check_tags(tags, &mut problems);
    }
    problems.into_result()?;
    // As Azure does: the type None is kept as it was sent by a PUT, and is gone after a PATCH.
    next.identity = next.identity.filter(|identity| identity.get("type").and_then(Value::as_str) != Some("None"));
    if fleet.provisioning_state == "Failed" {
        next.provisioning_state = "Failed";
    }
    let fleet = update(&mut tx, &request, &next).await?;
    let shown = show(&request, &fleet)?;
    tx.commit().await?;
    Ok(Json(shown))
}

/// Deletes a fleet with all that is in it; clusters are left alone.
pub(crate) async fn delete(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    request.authorize(&app, action::FLEETS_DELETE).await?;
    let mut tx = app.pool.begin().await?;
    let Some(fleet) = resources::get_for_update(&mut tx, &request.id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    request.precondition.check(Some(fleet.etag))?;
    let location = fleet.location.clone().unwrap_or_default();
    if fleet.provisioning_state == "Deleting" {
        let shown = show(&request, &fleet)?;
        let operation = fleet.last_operation_id;
        return Ok(render::accepted(&request, StatusCode::ACCEPTED, shown, operation, &location, Pointers::Both));
    }
    settled(&fleet)?;
    if runs::fleet_has_running_member(&mut tx, fleet.id).await? {
        return Err(ArmError::conflict(
            "UpdateRunInProgress",
            "An update run of this fleet has members that are being upgraded. Stop the run, wait until it is Stopped or Failed, then delete the fleet.",
        )
        .into());
    }
    let operation = Uuid::new_v4();
    let fleet = resources::begin_operation(&mut tx, fleet.id, "Deleting", operation)
        .await?
        .ok_or_else(|| not_found(&request.id))?;
    operations::begin(&mut tx, operation, &request.id, &location, "DELETE", request.begun_by(), request.now).await?;
    work::enqueue(&mut tx, queue::delete_fleet(fleet.id, operation, request.correlation())).await?;
    let shown = show(&request, &fleet)?;
    tx.commit().await?;
    Ok(render::accepted(&request, StatusCode::ACCEPTED, shown, Some(operation), &location, Pointers::Both))
}

/// A fleet without a hub has no credentials; one with a hub does not exist in this version.
pub(crate) async fn list_credentials(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    let allowed = request.authorize(&app, action::FLEETS_LIST_CREDENTIALS).await?;
    let mut conn = app.pool.acquire().await?;
    let fleet = resources::get(&mut conn, allowed.id()).await?.ok_or_else(|| not_found(&request.id))?;
    let message = if has_hub(&fleet) {
        "The fleet's hub cluster does not exist: hub clusters are not available in this version of the service."
    } else {
        "The fleet is hubless: it has no hub cluster whose credentials could be listed."
    };
    Err(ArmError::bad_request("InvalidHubOperation", message).into())
}

/// A resource's parent fleet, held against deletion until the transaction ends, and fit to be written into.
///
/// # Errors
/// 404 `ParentResourceNotFound`, 409 while it is being deleted.
pub(crate) async fn parent_for_write(
    tx: &mut Connection,
    request: &ArmRequest,
    action: &str,
    resource_type: &str,
) -> ApiResult<Resource> {
    let id = request.fleet();
    let fleet = resources::get_for_share(tx, &id).await?.ok_or_else(|| {
        ArmError::not_found(
            "ParentResourceNotFound",
            format!("Failed to perform '{action}' on resource(s) of type '{resource_type}', because the parent resource '{id}' could not be found."),
        )
    })?;
    if fleet.provisioning_state == "Deleting" {
        return Err(ArmError::conflict("Conflict", format!("The fleet '{}' is being deleted.", fleet.name)).into());
    }
    Ok(fleet)
}

/// A resource's parent fleet, for reading.
///
/// # Errors
/// 404 `ParentResourceNotFound`.
pub(crate) async fn parent(conn: &mut Connection, request: &ArmRequest) -> ApiResult<Resource> {
    let id = request.fleet();
    Ok(resources::get(conn, &id).await?.ok_or_else(|| {
        ArmError::not_found("ParentResourceNotFound", format!("The parent resource '{id}' could not be found."))
    })?)
}

/// The 404 of a resource.
pub(crate) fn not_found(id: &ResourceId) -> ApiError {
    let (kind, group) = (id.resource_type().unwrap_or_default(), id.resource_group().unwrap_or_default());
    let names: Vec<&str> = ["fleets", "members", "updateStrategies", "updateRuns", "autoUpgradeProfiles", "gates"]
        .iter()
        .filter_map(|k| id.named(k))
        .collect();
    ArmError::not_found(
        "ResourceNotFound",
        format!(
            "The Resource '{kind}/{}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            names.join("/")
        ),
    )
    .into()
}

/// The 409 of a creation that another one overtook.
pub(crate) fn concurrent() -> ApiError {
    ArmError::conflict("Conflict", "Another request created this resource at the same moment. Get it and decide again.")
        .into()
}

/// Refuses to change what an operation is changing.
///
/// # Errors
/// 409 while an operation is under way.
pub(crate) fn settled(resource: &Resource) -> ApiResult<()> {
    if resource.is_settled() {
        return Ok(());
    }
    Err(ArmError::conflict(
        "OperationNotAllowed",
        format!(
            "'{}' is {}: another operation is in progress on it. Wait until its provisioningState is Succeeded or Failed, then try again.",
            resource.name, resource.provisioning_state
        ),
    )
    .into())
}

/// Writes a draft under the request's condition.
///
/// # Errors
/// 412 when the resource has changed.
pub(crate) async fn update(tx: &mut Connection, request: &ArmRequest, draft: &Draft) -> ApiResult<Resource> {
    match resources::update(tx, &request.id, request.precondition, draft, request.author(), request.now).await? {
        Written::Done(resource) => Ok(*resource),
        Written::Refused(current) => {
            request.precondition.check(current)?;
            Err(not_found(&request.id))
        }
    }
}

fn draft(request: &ArmRequest, body: &Value, existing: Option<&Resource>) -> ApiResult<Draft> {
    let mut problems = Problems::default();
    let given = body::optional::<String>(body, "location")?.map(|text| normalize_location(&text));
    let location = match (given.filter(|text| !text.is_empty()), existing.and_then(|fleet| fleet.location.as_deref())) {
        (Some(new), Some(old)) if new != old => {
            return Err(ArmError::conflict(
                "InvalidResourceLocation",
                format!("The resource '{}' already exists in location '{old}'. A resource with the same name cannot be created in location '{new}'.", request.id.name()),
            )
            .at("location")
            .into());
        }
        (Some(new), _) if is_location(&new) => Some(new),
        (Some(new), _) => {
            problems.add_coded(
                "LocationNotAvailableForResourceType",
                "location",
                format!("'{new}' is not a region's name."),
            );
            None
        }
        (None, Some(old)) => Some(old.to_owned()),
        (None, None) => {
            problems.add_coded(
                "LocationRequired",
                "location",
                "The location property is required for this definition.",
            );
            None
        }
    };
    let tags = body::optional::<Tags>(body, "tags")?;
    if let Some(tags) = &tags {
        check_tags(tags, &mut problems);
    }
    let identity = body::optional::<ManagedServiceIdentity>(body, "identity")?;
    if let Some(identity) = &identity {
        identity.check(&mut problems);
    }
    let new: FleetProperties = body::part(body, "properties")?;
    let mut properties = serde_json::to_value(&new)?;
    if let Some(fleet) = existing {
        versions::keep_unseen(&mut properties, &fleet.properties, types::FLEETS, request.version);
    }
    let new: FleetProperties = serde_json::from_value(properties.clone())?;
    let stored = existing.map(|fleet| serde_json::from_value(fleet.properties.clone())).transpose()?;
    new.check(stored.as_ref(), &mut problems);
    problems.into_result()?;
    Ok(Draft {
        location,
        tags,
        identity: identity.map(serde_json::to_value).transpose()?,
        properties,
        provisioning_state: "Succeeded",
        operation: None,
    })
}

/// A PUT while an operation runs: the same goal gets the running operation, another one a conflict.
fn rejoin(request: &ArmRequest, fleet: &Resource, draft: &Draft) -> ApiResult<Response> {
    let same = fleet.provisioning_state != "Deleting"
        && fleet.properties == draft.properties
        && fleet.tags == draft.tags
        && fleet.identity == draft.identity;
    if !same {
        settled(fleet)?;
    }
    let location = fleet.location.clone().unwrap_or_default();
    let shown = show(request, fleet)?;
    Ok(render::accepted(request, StatusCode::OK, shown, fleet.last_operation_id, &location, Pointers::AsyncOperation))
}

fn show(request: &ArmRequest, fleet: &Resource) -> ApiResult<Value> {
    render::resource(request, fleet, fleet.properties.clone())
}

fn has_hub(fleet: &Resource) -> bool {
    fleet.properties.get("hubProfile").is_some()
}

fn is_location(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
