//! Get, list, put, patch, delete and actions, for every resource type.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    at::{At, Delete, Read, Within, Write},
    resource_type::{Change, Replace, ResourceAction, ResourceType, Scope},
    tracked,
};
use crate::{
    api::{
        App,
        front_door::resource_groups,
        http::{
            body::{self, RawBody},
            error::{ApiError, ApiResult},
            refusals::{created_concurrently, not_found, settled},
            render::{self, Pointers},
            request::{ArmRequest, check_name, parts_of},
        },
    },
    arm::{ArmError, Problems, ResourceId, page::Page, patch::merge},
    database::Connection,
    identity::ChangeAction,
    model::{provisioning_state::ProvisioningState, versions},
    store::{
        operations::{self, NewOperation},
        resources::{self, ByService, Draft, Parent, Resource, Written},
        tracked as groups,
    },
    work,
};

/// GET of one.
pub(super) async fn get<T: ResourceType>(State(app): State<App>, at: At<Read<T>>) -> ApiResult<Response> {
    let _slot = read_slot::<T>().await;
    let mut conn = app.pool.acquire().await?;
    let row = resources::get(&mut conn, &at.allowed).await?.ok_or_else(|| not_found(&at.id))?;
    if at.parameter("explain") == Some("true") {
        let mut extras = T::extras(&mut conn, std::slice::from_ref(&row)).await?;
        T::explain(&mut conn, &row, &mut extras).await?;
        return Ok(Json(show_with::<T>(&at, &row, &mut extras)?).into_response());
    }
    // Written out while the slot is held: the tree of a body is several times as large as its text.
    Ok(Json(show::<T>(&mut conn, &at, &row).await?).into_response())
}

async fn read_slot<T: ResourceType>() -> Option<tokio::sync::SemaphorePermit<'static>> {
    // None of these semaphores is ever closed.
    T::READ_SLOTS?.acquire().await.ok()
}

/// Lists the resources of a fleet.
pub(super) async fn list<T: ResourceType>(State(app): State<App>, at: At<Read<T>>) -> ApiResult<Response> {
    let page = page::<T>(&app, &at)?;
    let _slot = read_slot::<T>().await;
    let mut conn = app.pool.acquire().await?;
    let parent = resources::get(&mut conn, &at.allowed).await?.ok_or_else(|| parent_not_found(&at.id))?;
    let (rows, more) = T::page(&mut conn, &at, &parent, &page).await?;
    show_page::<T>(&mut conn, &app, &at, &rows, more).await
}

/// Lists the resources of a subscription or of a resource group that the caller may read.
pub(super) async fn list_tracked<T: ResourceType>(
    State(app): State<App>,
    Within { request, reach, .. }: Within<Read<T>>,
) -> ApiResult<Response> {
    let page = page::<T>(&app, &request)?;
    let mut conn = app.pool.acquire().await?;
    let (subscription, group) = (request.id.subscription(), request.id.resource_group());
    let (rows, more) =
        resources::list_in_scope(&mut conn, subscription, group, T::TYPE, parts_of(&reach), &page).await?;
    if rows.is_empty() && group.is_some() && !groups::group_exists(&mut conn, &request.id).await? {
        return Err(resource_groups::not_found(&request.id));
    }
    show_page::<T>(&mut conn, &app, &request, &rows, more).await
}

/// Creates or replaces one.
pub(super) async fn put<T: ResourceType>(
    State(app): State<App>,
    at: At<Write<T>>,
    RawBody(bytes): RawBody,
) -> ApiResult<Response> {
    let request = &at.request;
    check_name(&request.id, T::MAX_NAME)?;
    let mut body = body::resource(request.headers(), &bytes, &request.id, T::TYPE, request.version)?;
    T::check_linked_access(&app, &at, &body["properties"]).await?;
    let mut tx = app.pool.begin_locking(request.id.key()).await?;
    let (parent, existing) = resources::get_in_parent_for_update(&mut tx, &at.allowed).await?;
    let parent = parent_for_write::<T>(parent, request)?;
    request.precondition.check(existing.as_ref().map(|row| row.etag))?;
    if let Some(row) = &existing {
        keep_unseen::<T>(&mut body, row, request);
    }
    let mut change = Change { tx: &mut tx, request, parent: Some(&parent), existing: existing.as_ref(), body: &body };
    let mut problems = Problems::default();
    let mut draft = match T::SCOPE {
        Scope::Tracked => tracked::draft(&change, &mut problems)?,
        Scope::Fleet => Draft::default(),
    };
    let given: T::Properties = body::part(&body, "properties")?;
    let stored = existing.as_ref().map(stored::<T>).transpose()?;
    T::check(&mut change, &given, stored.as_ref(), &mut problems).await?;
    problems.into_result()?;
    let new = T::complete(&mut change, given, stored.as_ref()).await?;
    draft.properties = serde_json::to_value(&new)?;
    let location = draft.location.clone().or_else(|| parent.location.clone()).unwrap_or_default();

    if let Some(row) = existing.as_ref().filter(|row| !row.is_settled()) {
        // The same goal gets the operation that is in progress, another goal a conflict.
        let deleting = T::PROVISIONING.is_some_and(|how| how.deleting == row.provisioning_state);
        if deleting || !draft.is_goal_of(row) {
            settled(row)?;
        }
        let shown = show::<T>(&mut tx, request, row).await?;
        let operation = row.last_operation_id;
        return Ok(render::accepted(request, StatusCode::OK, shown, operation, &location, Pointers::AsyncOperation));
    }
    let operation = T::PROVISIONING.map(|_| Uuid::new_v4());
    draft.operation =
        operation.map(|id| NewOperation { id, location: location.clone(), verb: "PUT", begun_by: request.begun_by() });
    let (row, status) = match (&existing, &stored) {
        (Some(row), Some(stored)) => {
            draft.provisioning_state =
                if operation.is_some() { ProvisioningState::Updating } else { ProvisioningState::Succeeded };
            let row = match T::before_replace(&mut change, row, &new, stored).await? {
                Replace::Write => update(change.tx, &at, &draft).await?,
                Replace::Keep => row.clone(),
            };
            (row, StatusCode::OK)
        }
        _ => {
            draft.provisioning_state = T::PROVISIONING.map_or(ProvisioningState::Succeeded, |how| how.creating);
            let (author, now) = (request.author(), request.now);
            let place = Parent { row: parent.id, most: Some(T::MOST.most) };
            let created = resources::insert(change.tx, &at.allowed, T::TYPE, Some(place), &draft, author, now).await?;
            let Some(row) = created else { return Err(not_created::<T>(change.tx, &parent).await) };
            T::after_create(&mut change, &row, &new).await?;
            (row, StatusCode::CREATED)
        }
    };
    T::after_put(&mut change, &row, &new).await?;
    if let (Some(how), Some(operation)) = (T::PROVISIONING, operation) {
        work::enqueue(&mut tx, (how.provision)(request, &row, operation)).await?;
    }
    let shown = show::<T>(&mut tx, request, &row).await?;
    tx.commit().await?;
    Ok(render::accepted(request, status, shown, operation, &location, Pointers::AsyncOperation))
}

/// Why a resource was not created in `parent`.
async fn not_created<T: ResourceType>(tx: &mut Connection, parent: &Resource) -> ApiError {
    let limit = T::MOST;
    match resources::count_children(tx, parent, T::TYPE).await {
        Ok(there) if there >= limit.most => {
            let (most, many) = (limit.most, T::NOUN.many);
            let holder = if T::SCOPE == Scope::Tracked { "resource group" } else { "fleet" };
            let message = format!("A {holder} has at most {most} {many}. Use another {holder}, or delete {many}.");
            ArmError::new(limit.status, limit.code, message).into()
        }
        Ok(_) => created_concurrently(),
        Err(error) => error.into(),
    }
}

/// Merges the body into what is stored (RFC 7396), and checks the result as a PUT does.
pub(super) async fn patch<T: ResourceType>(
    State(app): State<App>,
    at: At<Write<T>>,
    RawBody(bytes): RawBody,
) -> ApiResult<Response> {
    let request = &at.request;
    let mut body = body::json(request.headers(), &bytes)?;
    versions::hide(&mut body, T::TYPE, request.version);
    let mut tx = app.pool.begin_locking(request.id.key()).await?;
    let row = existing(&mut tx, &at).await?;
    settled(&row)?;
    let mut change = Change { tx: &mut tx, request, parent: None, existing: Some(&row), body: &body };
    let mut problems = Problems::default();
    let mut draft = match T::SCOPE {
        Scope::Tracked => tracked::patched_draft(&change, &row, &mut problems)?,
        Scope::Fleet => Draft::default(),
    };
    let mut merged = json!({"properties": row.properties});
    if let Some(Value::Object(given)) = body.get("properties") {
        let mut given = given.clone();
        given.retain(|name, _| T::PATCHABLE.contains(&name.as_str()));
        merge(&mut merged, json!({"properties": given}));
    }
    let new: T::Properties = body::part(&merged, "properties")?;
    let stored = stored::<T>(&row)?;
    T::check(&mut change, &new, Some(&stored), &mut problems).await?;
    problems.into_result()?;
    let new = T::complete(&mut change, new, Some(&stored)).await?;
    draft.properties = serde_json::to_value(new)?;
    draft.provisioning_state = match row.provisioning_state {
        ProvisioningState::Failed => ProvisioningState::Failed,
        _ => ProvisioningState::Succeeded,
    };
    let row = update(&mut tx, &at, &draft).await?;
    let shown = show::<T>(&mut tx, request, &row).await?;
    tx.commit().await?;
    Ok(Json(shown).into_response())
}

/// Deletes one, at once or by a job.
pub(super) async fn delete<T: ResourceType>(State(app): State<App>, at: At<Delete<T>>) -> ApiResult<Response> {
    let request = &at.request;
    let mut tx = app.pool.begin_locking(request.id.key()).await?;
    let Some(row) = resources::get_for_update(&mut tx, &at.allowed).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    request.precondition.check(Some(row.etag))?;
    let Some(how) = T::PROVISIONING else {
        T::before_delete(&mut tx, request, &row).await?;
        T::remove(&mut tx, request, &row).await?;
        tx.commit().await?;
        return Ok(T::DELETED.into_response());
    };
    let location = location(&mut tx, &row).await?;
    let (row, operation) = if row.provisioning_state == how.deleting {
        let operation = row.last_operation_id;
        (row, operation)
    } else {
        settled(&row)?;
        T::before_delete(&mut tx, request, &row).await?;
        let operation = Uuid::new_v4();
        let row = resources::begin_operation(&mut tx, &row, how.deleting, operation)
            .await?
            .ok_or_else(|| not_found(&request.id))?;
        let begun =
            NewOperation { id: operation, location: location.clone(), verb: "DELETE", begun_by: request.begun_by() };
        operations::begin(&mut tx, &request.id, &begun, request.now).await?;
        work::enqueue(&mut tx, (how.delete)(request, &row, operation)).await?;
        (row, Some(operation))
    };
    let shown = show::<T>(&mut tx, request, &row).await?;
    tx.commit().await?;
    Ok(render::accepted(request, StatusCode::ACCEPTED, shown, operation, &location, Pointers::Both))
}

/// Performs an action.
pub(super) async fn perform<A: ResourceAction>(
    State(app): State<App>,
    at: At<A>,
    body: RawBody,
) -> ApiResult<Response> {
    A::perform(app, at, body).await
}

/// Locks the resource that a request changes. Fails with 404, or with 412 when the request's condition does not hold.
pub(super) async fn existing<A: ChangeAction>(tx: &mut Connection, at: &At<A>) -> ApiResult<Resource> {
    let row = resources::get_for_update(tx, &at.allowed).await?.ok_or_else(|| not_found(&at.id))?;
    at.precondition.check(Some(row.etag))?;
    Ok(row)
}

/// A resource as answers show it.
pub(super) async fn show<T: ResourceType>(
    conn: &mut Connection,
    request: &ArmRequest,
    row: &Resource,
) -> ApiResult<Value> {
    let mut extras = T::extras(conn, std::slice::from_ref(row)).await?;
    show_with::<T>(request, row, &mut extras)
}

/// What is shown of a resource whose extras were read before.
pub(super) fn show_with<T: ResourceType>(
    request: &ArmRequest,
    row: &Resource,
    extras: &mut T::Extras,
) -> ApiResult<Value> {
    let properties = T::show(row, extras)?;
    let mut body = render::resource(request, row, properties, T::PROVISIONING.is_some())?;
    T::finish(row, &mut body);
    Ok(body)
}

async fn show_page<T: ResourceType>(
    conn: &mut Connection,
    app: &App,
    request: &ArmRequest,
    rows: &[Resource],
    more: bool,
) -> ApiResult<Response> {
    let mut extras = T::extras(conn, rows).await?;
    let items = rows.iter().map(|row| show_with::<T>(request, row, &mut extras)).collect::<ApiResult<_>>()?;
    Ok(render::list(app, request, items, render::last_key(rows, more).as_deref()))
}

fn page<T: ResourceType>(app: &App, request: &ArmRequest) -> Result<Page, ArmError> {
    let page = request.page(app)?;
    Ok(Page { limit: page.limit.min(T::MAX_PAGE), ..page })
}

/// The stored properties of a resource.
pub(super) fn stored<T: ResourceType>(row: &Resource) -> ApiResult<T::Properties> {
    Ok(serde_json::from_value(row.properties.clone())?)
}

/// Keeps what the request's API version cannot express.
fn keep_unseen<T: ResourceType>(body: &mut Value, row: &Resource, request: &ArmRequest) {
    let Value::Object(body) = body else { return };
    let properties = body.entry("properties").or_insert(Value::Null);
    if properties.is_null() {
        *properties = json!({});
    }
    if T::keeps_unseen(properties, &row.properties) {
        versions::keep_unseen(properties, &row.properties, T::TYPE, request.version);
    }
}

/// Writes a draft under the request's condition.
async fn update<T: ResourceType>(tx: &mut Connection, at: &At<Write<T>>, draft: &Draft) -> ApiResult<Resource> {
    match resources::update(tx, &at.allowed, at.precondition, draft, at.author(), at.now).await? {
        Written::Done(resource) => Ok(*resource),
        Written::Refused(current) => {
            at.precondition.check(current)?;
            Err(not_found(&at.id))
        }
    }
}

/// The fleet of a request that changes something in it, held against deletion until the transaction ends.
pub(super) async fn fleet_for_write<T: ResourceType>(tx: &mut Connection, request: &ArmRequest) -> ApiResult<Resource> {
    let fleet = resources::get_for_share(tx, &ByService(&request.fleet())).await?;
    parent_for_write::<T>(fleet, request)
}

/// Returns the parent of a resource, if it was found and accepts changes of its children.
fn parent_for_write<T: ResourceType>(parent: Option<Resource>, request: &ArmRequest) -> ApiResult<Resource> {
    if T::SCOPE == Scope::Tracked {
        return resource_groups::for_write(parent, &request.id);
    }
    let fleet = parent.ok_or_else(|| {
        ArmError::not_found(
            "ParentResourceNotFound",
            format!(
                "Failed to perform '{0}/write' on resource(s) of type '{0}', because the parent resource '{1}' could not be found.",
                T::TYPE,
                request.fleet()
            ),
        )
    })?;
    if fleet.provisioning_state == ProvisioningState::Deleting {
        return Err(ArmError::conflict("Conflict", format!("The fleet '{}' is being deleted.", fleet.name)).into());
    }
    Ok(fleet)
}

fn parent_not_found(id: &ResourceId) -> ArmError {
    ArmError::not_found("ParentResourceNotFound", format!("The parent resource '{id}' could not be found."))
}

/// The region of a resource, or of what it is in.
async fn location(tx: &mut Connection, row: &Resource) -> ApiResult<String> {
    let location = match &row.location {
        Some(location) => Some(location.clone()),
        None => resources::get_parent(tx, row).await?.and_then(|parent| parent.location),
    };
    Ok(location.unwrap_or_default())
}
