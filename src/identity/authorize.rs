//! What a caller may do.

use std::sync::Arc;

use http::StatusCode;

use super::{access::Access, caller::Caller};
use crate::arm::{ArmError, ResourceId};

/// Proof that a caller may perform an action on a resource. Made by [`authorize`] alone; whoever changes or shows a
/// resource demands one, so that no path can forget to ask.
#[derive(Debug, Clone)]
pub struct Authorized {
    id: ResourceId,
    action: String,
    caller: Arc<Caller>,
}

impl Authorized {
    /// The resource, or the scope of a list.
    #[must_use]
    pub fn id(&self) -> &ResourceId {
        &self.id
    }

    /// The action, such as `Microsoft.ContainerService/fleets/write`.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Who may.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }
}

/// Decides whether `caller`, whose access this is, may perform `action` on `scope`.
///
/// # Errors
/// 403 `AuthorizationFailed`.
pub fn authorize(
    caller: &Arc<Caller>,
    access: &Access,
    action: &str,
    scope: &ResourceId,
) -> Result<Authorized, ArmError> {
    if !access.allows(action, scope) {
        return Err(denied(caller, action, &scope.to_string()));
    }
    Ok(Authorized { id: scope.clone(), action: action.to_owned(), caller: Arc::clone(caller) })
}

/// The 403 of an action that no role of the caller grants.
#[must_use]
pub fn denied(caller: &Caller, action: &str, scope: &str) -> ArmError {
    let message = format!(
        "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
        caller.display_name(),
        caller.object_id
    );
    ArmError::new(StatusCode::FORBIDDEN, "AuthorizationFailed", message)
}

/// The 403 of an action on a resource that needs another action on a resource it names.
#[must_use]
pub fn denied_linked(caller: &Caller, action: &str, scope: &str, linked_action: &str, linked: &str) -> ArmError {
    let message = format!(
        "The client '{}' with object id '{}' has permission to perform action '{action}' on scope '{scope}'; however, it does not have permission to perform action(s) '{linked_action}' on the linked scope(s) '{linked}' (respectively) or the linked scope(s) are invalid.",
        caller.display_name(),
        caller.object_id
    );
    ArmError::new(StatusCode::FORBIDDEN, "LinkedAuthorizationFailed", message)
}
