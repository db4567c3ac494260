//! What all requests of the namespace share: the scope and the caller, resource IDs, lists.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    api::{
        App,
        http::{error::ApiResult, principal::Principal},
    },
    arm::ResourceId,
    identity::roles::Role,
};

/// The provider's namespace.
pub(crate) const NAMESPACE: &str = "Microsoft.Authorization";

/// A request for a resource of this namespace on a scope.
pub(super) struct ScopedRequest<'a> {
    /// The service.
    pub(super) app: &'a App,
    /// The caller.
    pub(super) principal: Principal,
    /// The scope's ID as it will be shown; `/` for everything.
    pub(super) scope: String,
    /// Its parsed form, unless it is everything.
    pub(super) scope_id: Option<ResourceId>,
    /// The value of `$filter`.
    pub(super) filter: Option<String>,
    /// When the request was received.
    pub(super) now: Timestamp,
}

impl ScopedRequest<'_> {
    /// Returns an error unless the caller may perform the action on the scope.
    pub(super) async fn demand(&self, action: &str) -> ApiResult<()> {
        self.principal.demand(self.app, action, &self.scope).await
    }

    /// The ID of a resource of this namespace on the scope.
    pub(super) fn id(&self, kind: &str, name: Uuid) -> String {
        format!("{}/providers/{NAMESPACE}/{kind}/{name}", self.scope.trim_end_matches('/'))
    }
}

/// The resource ID of a role, seen from the scope `below`; from the tenant when `below` is empty.
pub(super) fn role_id(below: &str, role: &Role) -> String {
    // Azure names the built-in roles by the subscription they are looked at from.
    let subscription: String = below.split('/').take(3).collect::<Vec<_>>().join("/");
    format!("{}/providers/{NAMESPACE}/roleDefinitions/{}", subscription.trim_end_matches('/'), role.id)
}

/// A list answer.
pub(super) fn list(value: Vec<Value>) -> Response {
    Json(json!({"value": value})).into_response()
}
