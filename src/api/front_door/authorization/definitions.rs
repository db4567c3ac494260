//! Role definitions, and the permissions that they add up to.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::scope::{NAMESPACE, ScopedRequest, list as answer, role_id};
use crate::{
    api::http::error::ApiResult,
    arm::{ArmError, filter},
    identity::roles::{BUILT_IN, Role},
};

const READ: &str = "Microsoft.Authorization/roleDefinitions/read";
const PERMISSIONS_READ: &str = "Microsoft.Authorization/permissions/read";

/// Lists roles, by name where `$filter` says so.
pub(super) async fn list(request: &ScopedRequest<'_>) -> ApiResult<Response> {
    readable(request).await?;
    let mut roles: Vec<&Role> = BUILT_IN.iter().collect();
    let scoped = |text: &str| ["atscope()", "atscopeandbelow()"].contains(&text.trim().to_ascii_lowercase().as_str());
    let text = request.filter.as_deref().filter(|text| !scoped(text));
    for comparison in filter::parse(text)? {
        match comparison.name.to_ascii_lowercase().as_str() {
            "rolename" => roles.retain(|role| role.name.eq_ignore_ascii_case(&comparison.value)),
            "type" => roles.retain(|_| comparison.value.eq_ignore_ascii_case("BuiltInRole")),
            name => {
                let message = format!("$filter knows roleName and type of role definitions, and not '{name}'.");
                return Err(ArmError::bad_request("InvalidFilterInQueryString", message).at("$filter").into());
            }
        }
    }
    Ok(answer(roles.into_iter().map(|role| show(&request.scope, role)).collect()))
}

/// GET of one.
pub(super) async fn get(request: &ScopedRequest<'_>, name: &str) -> ApiResult<Response> {
    readable(request).await?;
    let role = name.parse().ok().and_then(Role::with_id).ok_or_else(|| not_found(name))?;
    Ok(Json(show(&request.scope, role)).into_response())
}

/// What the caller may do on the scope.
pub(super) async fn permissions(request: &ScopedRequest<'_>) -> ApiResult<Response> {
    let key = request.scope.trim_end_matches('/').to_lowercase();
    let roles: Vec<&Role> = request.principal.access.roles_on(&key).collect();
    if roles.is_empty() {
        request.demand(PERMISSIONS_READ).await?;
    }
    Ok(answer(roles.into_iter().map(permission).collect()))
}

/// What roles there are is no secret to those who have one: everybody with access to a part of the scope may look.
async fn readable(request: &ScopedRequest<'_>) -> ApiResult<()> {
    let key = request.scope.trim_end_matches('/').to_lowercase();
    match request.principal.access.enters(&key) {
        true => Ok(()),
        false => request.demand(READ).await,
    }
}

/// The 404 of a role.
pub(super) fn not_found(name: &str) -> ArmError {
    let message = format!("The specified role definition with ID '{name}' does not exist.");
    ArmError::not_found("RoleDefinitionDoesNotExist", message)
}

/// The role that a resource ID names.
pub(super) fn parse(id: &str) -> Option<&'static Role> {
    let (before, name) = id.rsplit_once('/')?;
    let wanted = format!("/providers/{NAMESPACE}/roleDefinitions").to_lowercase();
    before.to_lowercase().ends_with(&wanted).then(|| name.parse::<Uuid>().ok())?.and_then(Role::with_id)
}

fn permission(role: &Role) -> Value {
    json!({
        "actions": role.actions,
        "notActions": role.not_actions,
        "dataActions": role.data_actions,
        "notDataActions": [],
    })
}

fn show(scope: &str, role: &Role) -> Value {
    json!({
        "id": role_id(scope, role),
        "name": role.id,
        "type": format!("{NAMESPACE}/roleDefinitions"),
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": role.description,
            "assignableScopes": ["/"],
            "permissions": [permission(role)],
        },
    })
}
