//! Role assignments.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    definitions::{not_found as role_not_found, parse as parse_role},
    scope::{NAMESPACE, ScopedRequest, list as answer, role_id},
};
use crate::{
    api::{
        front_door::resource_groups,
        http::{body, error::ApiResult, refusals},
    },
    arm::{ArmError, ResourceId},
    database::Connection,
    identity::roles::{OWNER, Role},
    model::types,
    store::{
        resources::{self, ByService},
        role_assignments::{self as store, RoleAssignment, Wanted},
    },
};

const KIND: &str = "roleAssignments";
const READ: &str = "Microsoft.Authorization/roleAssignments/read";
const WRITE: &str = "Microsoft.Authorization/roleAssignments/write";
const DELETE: &str = "Microsoft.Authorization/roleAssignments/delete";
const MOST_DESCRIPTION: usize = 1024;

/// What a PUT says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    role_definition_id: String,
    principal_id: Uuid,
    #[serde(default)]
    principal_type: PrincipalType,
    description: Option<String>,
    condition: Option<String>,
}

/// What a principal is.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
enum PrincipalType {
    #[default]
    User,
    Group,
    ServicePrincipal,
    ForeignGroup,
    Device,
}

/// Lists those on a scope, above it, and in it.
pub(super) async fn list(request: &ScopedRequest<'_>) -> ApiResult<Response> {
    request.demand(READ).await?;
    let wanted = wanted(request)?;
    let mut conn = request.app.pool.acquire().await?;
    let rows = store::list(&mut conn, &request.scope, &wanted).await?;
    let owners = request.app.access.owners().iter().copied().filter(|owner| {
        wanted.principal.is_none_or(|principal| principal == *owner)
            && wanted.any_of.as_ref().is_none_or(|any| any.contains(owner))
    });
    Ok(answer(owners.map(|owner| show_owner(request, owner)).chain(rows.iter().map(show)).collect()))
}

/// GET of one.
pub(super) async fn get(request: &ScopedRequest<'_>, name: &str) -> ApiResult<Response> {
    request.demand(READ).await?;
    let name = parse_name(name)?;
    if let Some(owner) = configured(request, name) {
        return Ok(Json(show_owner(request, owner)).into_response());
    }
    let mut conn = request.app.pool.acquire().await?;
    let found = store::get(&mut conn, &request.id(KIND, name)).await?.ok_or_else(|| not_found(name))?;
    Ok(Json(show(&found)).into_response())
}

/// Assigns a role, or changes the description of an assignment.
pub(super) async fn put(request: &ScopedRequest<'_>, name: &str, body: &Value) -> ApiResult<Response> {
    request.demand(WRITE).await?;
    let name = parse_name(name)?;
    let given: Properties = body::part(body, "properties")?;
    let role = parse_role(&given.role_definition_id).ok_or_else(|| {
        ArmError::bad_request(
            "RoleDefinitionDoesNotExist",
            role_not_found(&given.role_definition_id).detail().message.clone(),
        )
    })?;
    if given.condition.is_some_and(|condition| !condition.is_empty()) {
        let message = "Conditions of role assignments are not available: leave 'condition' out.";
        return Err(ArmError::bad_request("RoleAssignmentConditionNotSupported", message)
            .at("properties.condition")
            .into());
    }
    if given.description.as_ref().is_some_and(|text| text.chars().count() > MOST_DESCRIPTION) {
        let message = format!("A description has at most {MOST_DESCRIPTION} characters.");
        return Err(ArmError::bad_request("InvalidRequestContent", message).at("properties.description").into());
    }
    let mut tx = request.app.pool.begin().await?;
    let by = request.principal.caller.object_id;
    let mut assignment = RoleAssignment {
        arm_id: request.id(KIND, name),
        name,
        scope: request.scope.clone(),
        principal_id: given.principal_id,
        principal_type: format!("{:?}", given.principal_type),
        role_id: role.id,
        description: given.description,
        created_at: request.now,
        created_by: by,
        updated_at: request.now,
        updated_by: by,
    };
    let status = match store::get_for_update(&mut tx, &assignment.arm_id).await? {
        Some(old) if (old.principal_id, old.role_id) != (given.principal_id, role.id) => {
            let message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.";
            return Err(ArmError::bad_request("RoleAssignmentUpdateNotPermitted", message).into());
        }
        Some(old) => {
            assignment = RoleAssignment {
                created_at: old.created_at,
                created_by: old.created_by,
                arm_id: old.arm_id,
                ..assignment
            };
            store::describe(&mut tx, &assignment).await?;
            StatusCode::OK
        }
        None => {
            insert(request, &mut tx, &assignment).await?;
            StatusCode::CREATED
        }
    };
    tx.commit().await?;
    tell(request, "a role was assigned", &assignment);
    request.app.access.forget(assignment.principal_id);
    Ok((status, Json(show(&assignment))).into_response())
}

async fn insert(request: &ScopedRequest<'_>, tx: &mut Connection, new: &RoleAssignment) -> ApiResult<()> {
    if let Some(scope) = &request.scope_id {
        exists(tx, scope).await?;
        let subscription = ResourceId::subscription_scope(scope.subscription()).to_string();
        if store::count_within(tx, &subscription).await? >= store::MOST_IN_SUBSCRIPTION {
            let message = format!(
                "No more role assignments can be created: a subscription has at most {}. Assign roles to groups, or on wider scopes.",
                store::MOST_IN_SUBSCRIPTION
            );
            return Err(ArmError::bad_request("RoleAssignmentLimitExceeded", message).into());
        }
    }
    if let Some(other) = store::insert(tx, new).await? {
        let message = format!(
            "The role assignment already exists. The ID of the existing role assignment is {}.",
            other.name.simple()
        );
        return Err(ArmError::conflict("RoleAssignmentExists", message).into());
    }
    Ok(())
}

/// Takes a role back.
pub(super) async fn delete(request: &ScopedRequest<'_>, name: &str) -> ApiResult<Response> {
    request.demand(DELETE).await?;
    let name = parse_name(name)?;
    if configured(request, name).is_some() {
        let message =
            "This owner is named in the service's configuration: change FLEET_OWNERS, and start the service anew.";
        return Err(ArmError::conflict("OwnerOfConfiguration", message).into());
    }
    let mut tx = request.app.pool.begin().await?;
    let id = request.id(KIND, name);
    let Some(found) = store::get_for_update(&mut tx, &id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    store::delete(&mut tx, &id).await?;
    tx.commit().await?;
    tell(request, "a role was taken back", &found);
    request.app.access.forget(found.principal_id);
    Ok(Json(show(&found)).into_response())
}

/// What the audit trail's row does not have: which role it is, and whose.
fn tell(request: &ScopedRequest<'_>, what: &'static str, assignment: &RoleAssignment) {
    let by = request.principal.caller.object_id;
    let role = Role::with_id(assignment.role_id).map_or("", |role| role.name);
    tracing::info!(target: "audit", %by, principal = %assignment.principal_id, role, scope = assignment.scope, "{what}");
}

/// Of what this service keeps, the scope must be there. Of others' resources it cannot know.
async fn exists(conn: &mut Connection, scope: &ResourceId) -> ApiResult<()> {
    let Some(group) = scope.resource_group() else { return Ok(()) };
    let group = ResourceId::resource_group_scope(scope.subscription(), group);
    // Held, so that it is not deleted in between.
    resources::get_for_share(conn, &ByService(&group)).await?.ok_or_else(|| resource_groups::not_found(&group))?;
    let ours = scope.resource_type().is_some_and(|kind| kind.to_lowercase().starts_with(&types::FLEETS.to_lowercase()));
    if ours {
        resources::get_for_share(conn, &ByService(scope)).await?.ok_or_else(|| refusals::not_found(scope))?;
    }
    Ok(())
}

fn wanted(request: &ScopedRequest<'_>) -> Result<Wanted, ArmError> {
    let mut wanted = Wanted::default();
    let text = request.filter.as_deref().unwrap_or_default().trim();
    let lower = text.to_ascii_lowercase();
    for part in lower.split(" and ").map(str::trim).filter(|part| !part.is_empty()) {
        let quoted = || part.split('\'').nth(1).and_then(|id| id.parse::<Uuid>().ok());
        if part == "atscope()" {
            wanted.at_scope = true;
        } else if part == "astarget()" {
            let caller = &request.principal.caller;
            wanted.any_of = Some(std::iter::once(caller.object_id).chain(caller.groups.iter().copied()).collect());
        } else if let (true, Some(id)) =
            (part.starts_with("principalid eq ") || part.starts_with("assignedto("), quoted())
        {
            wanted.principal = Some(id);
        } else {
            let message = "$filter knows atScope(), asTarget(), assignedTo('{objectId}') and principalId eq '{objectId}' of role assignments, joined by 'and'.";
            return Err(ArmError::bad_request("InvalidFilterInQueryString", message).at("$filter"));
        }
    }
    Ok(wanted)
}

fn parse_name(name: &str) -> Result<Uuid, ArmError> {
    name.parse().map_err(|_| {
        let message = format!("The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID.");
        ArmError::bad_request("InvalidRoleAssignmentId", message)
    })
}

fn not_found(name: Uuid) -> ArmError {
    ArmError::not_found("RoleAssignmentNotFound", format!("The role assignment '{name}' is not found."))
}

/// The name under which an owner of the configuration is shown.
fn owner_name(owner: Uuid) -> Uuid {
    Uuid::from_u128(owner.as_u128() ^ OWNER.id.as_u128())
}

fn configured(request: &ScopedRequest<'_>, name: Uuid) -> Option<Uuid> {
    let at_root = request.scope_id.is_none();
    request.app.access.owners().iter().copied().find(|owner| at_root && owner_name(*owner) == name)
}

fn show_owner(request: &ScopedRequest<'_>, owner: Uuid) -> Value {
    let name = owner_name(owner);
    json!({
        "id": format!("/providers/{NAMESPACE}/{KIND}/{name}"),
        "name": name,
        "type": format!("{NAMESPACE}/{KIND}"),
        "properties": {
            "roleDefinitionId": role_id(&request.scope, OWNER),
            "principalId": owner,
            "principalType": "User",
            "scope": "/",
            "description": "Owner by the configuration of the service",
        },
    })
}

fn show(assignment: &RoleAssignment) -> Value {
    let role = Role::with_id(assignment.role_id)
        .map_or_else(|| assignment.role_id.to_string(), |role| role_id(&assignment.scope, role));
    let mut properties = json!({
        "roleDefinitionId": role,
        "principalId": assignment.principal_id,
        "principalType": assignment.principal_type,
        "scope": assignment.scope,
        "createdOn": assignment.created_at,
        "createdBy": assignment.created_by,
        "updatedOn": assignment.updated_at,
        "updatedBy": assignment.updated_by,
    });
    if let (Value::Object(properties), Some(description)) = (&mut properties, &assignment.description) {
        properties.insert("description".to_owned(), json!(description));
    }
    json!({
        "id": assignment.arm_id,
        "name": assignment.name,
        "type": format!("{NAMESPACE}/{KIND}"),
        "properties": properties,
    })
}
