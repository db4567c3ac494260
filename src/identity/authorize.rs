//! What a caller may do.

use std::sync::Arc;

use super::caller::Caller;
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

/// Decides whether `caller` may perform `action` on `scope`.
///
/// Every caller whose token was accepted, and thus every principal of the tenant, may do everything.
///
/// # Errors
/// None so far.
pub fn authorize(caller: &Arc<Caller>, action: &str, scope: &ResourceId) -> Result<Authorized, ArmError> {
    Ok(Authorized { id: scope.clone(), action: action.to_owned(), caller: Arc::clone(caller) })
}
