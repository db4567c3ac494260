//! Decides what a caller may do. The store demands the proof of it.

use std::{borrow::Cow, fmt, marker::PhantomData};

use http::StatusCode;

use super::{access::Access, caller::Caller};
use crate::arm::{ArmError, ResourceId};

/// An action that roles grant, as a type, so that a proof for one action cannot be used for another.
pub trait Action: Send + Sync + 'static {
    /// As role definitions name it: `Microsoft.ContainerService/fleets/write`.
    fn name() -> Cow<'static, str>;
}

/// An action that changes resources.
pub trait ChangeAction: Action {}

/// Proof that a caller may perform the action `A` on a resource. Only [`authorize`] and [`authorize_any`] make one. To load or
/// change a resource for a request, the store demands one.
pub struct Authorized<A> {
    id: ResourceId,
    action: PhantomData<fn() -> A>,
}

impl<A> Authorized<A> {
    /// The resource, or the scope of a list.
    #[must_use]
    pub fn id(&self) -> &ResourceId {
        &self.id
    }
}

impl<A> Clone for Authorized<A> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), action: PhantomData }
    }
}

impl<A: Action> fmt::Debug for Authorized<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorized({} on {})", A::name(), self.id)
    }
}

/// Proves that `caller`, whose access this is, may perform `A` on `scope`.
///
/// # Errors
/// 403 `AuthorizationFailed`.
pub fn authorize<A: Action>(caller: &Caller, access: &Access, scope: &ResourceId) -> Result<Authorized<A>, ArmError> {
    authorize_any(caller, access, &[&A::name()], scope)
}

/// Proves that `caller` may perform `A`, where each of `actions` is enough for it. A refusal names the first of them.
///
/// # Errors
/// 403 `AuthorizationFailed`.
pub fn authorize_any<A: Action>(
    caller: &Caller,
    access: &Access,
    actions: &[&str],
    scope: &ResourceId,
) -> Result<Authorized<A>, ArmError> {
    if actions.iter().any(|action| access.allows(action, scope)) {
        return Ok(Authorized { id: scope.clone(), action: PhantomData });
    }
    Err(denied(caller, actions.first().copied().unwrap_or_default(), &scope.to_string()))
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
