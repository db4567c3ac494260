//! Permissions of a caller: everything, except for callers with read-only permission.

use axum::http::StatusCode;
use serde_json::json;

use super::Answer;
use crate::call::{Call, Reply};
use crate::errors::ArmError;
use crate::world::World;

fn is_reader(world: &World, call: &Call) -> bool {
    call.caller.as_ref().is_some_and(|caller| world.settings.readers.contains(caller))
}

/// `GET …/providers/Microsoft.Authorization/permissions`.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    super::check_is_get(call)?;
    let actions = if is_reader(world, call) { "*/read" } else { "*" };
    let permission = json!({"actions": [actions], "notActions": [], "dataActions": [], "notDataActions": []});
    Ok(Reply::ok(json!({"value": [permission]})))
}

/// Refuses changes of callers with read-only permission.
pub(super) fn check(world: &World, call: &Call) -> Result<(), ArmError> {
    if !call.is_mutating() || !is_reader(world, call) {
        return Ok(());
    }
    let message = format!(
        "The client '{}' does not have authorization to perform this action over scope '{}' or the scope is invalid.",
        call.caller.as_deref().unwrap_or_default(),
        call.path
    );
    Err(ArmError::new(StatusCode::FORBIDDEN, "AuthorizationFailed", message))
}
