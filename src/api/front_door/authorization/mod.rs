//! `Microsoft.Authorization`: who may do what, as resources on any scope (Azure RBAC REST API 2022-04-01).

mod assignments;
mod definitions;

use axum::{body::Body, extract::FromRequest, extract::Request, response::Response};
use http::{Method, StatusCode, request::Parts};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::{
    api::{
        App,
        http::{
            body::{self, RawBody},
            error::ApiResult,
            principal::Principal,
            request::{query_of, segments, subscription_not_found, target},
        },
    },
    arm::{ApiVersion, ArmError, ResourceId},
    identity::roles::Role,
};

/// The namespace.
pub(crate) const NAMESPACE: &str = "Microsoft.Authorization";

/// A request for something of this namespace.
struct Asked<'a> {
    app: &'a App,
    principal: Principal,
    /// The scope's ID as it will be shown; `/` for everything.
    scope: String,
    /// Its parsed form, unless it is everything.
    scope_id: Option<ResourceId>,
    filter: Option<String>,
    now: Timestamp,
}

impl Asked<'_> {
    async fn demand(&self, action: &str) -> ApiResult<()> {
        self.principal.demand(self.app, action, &self.scope).await
    }

    /// The ID of something of this namespace on the scope.
    fn id(&self, kind: &str, name: Uuid) -> String {
        format!("{}/providers/{NAMESPACE}/{kind}/{name}", self.scope.trim_end_matches('/'))
    }
}

/// Answers a request whose path ends in `…/providers/Microsoft.Authorization/{rest}`; `scope` is what is before.
pub(crate) async fn serve(
    app: &App,
    principal: Principal,
    parts: Parts,
    body: Body,
    scope: &str,
    rest: &str,
) -> ApiResult<Response> {
    let query = query_of(&parts)?;
    ApiVersion::any(query.get("api-version").map(String::as_str))?;
    let scope_id = match scope {
        "" => None,
        path => {
            target(path)?;
            let decoded: String = segments(path)?.iter().map(|segment| format!("/{segment}")).collect();
            let id: ResourceId = decoded.parse().map_err(|_| invalid_scope(path))?;
            app.subscription(id.subscription()).ok_or_else(|| subscription_not_found(&id))?;
            Some(id)
        }
    };
    let asked = Asked {
        app,
        principal,
        scope: scope_id.as_ref().map_or_else(|| "/".to_owned(), ToString::to_string),
        scope_id,
        filter: query.get("$filter").cloned(),
        now: Timestamp::now(),
    };
    let words: Vec<&str> = rest.split('/').collect();
    let kind = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    match (&parts.method, kind.as_str(), words.get(1..).unwrap_or_default()) {
        (&Method::GET, "roleassignments", []) => assignments::list(&asked).await,
        (&Method::GET, "roleassignments", [name]) => assignments::get(&asked, name).await,
        (&Method::PUT, "roleassignments", [name]) => {
            let headers = parts.headers.clone();
            let RawBody(bytes) = RawBody::from_request(Request::from_parts(parts, body), app).await?;
            let body = body::json(&headers, &bytes)?;
            assignments::put(&asked, name, &body).await
        }
        (&Method::DELETE, "roleassignments", [name]) => assignments::delete(&asked, name).await,
        (&Method::GET, "roledefinitions", []) => definitions::list(&asked).await,
        (&Method::GET, "roledefinitions", [name]) => definitions::get(&asked, name).await,
        (_, "roledefinitions", [_]) => {
            let message = "Role definitions are those that this version has built in: custom roles cannot be made.";
            Err(ArmError::new(StatusCode::METHOD_NOT_ALLOWED, "CustomRolesNotAvailable", message).into())
        }
        (&Method::GET, "permissions", []) => definitions::permissions(&asked).await,
        (method, "roleassignments" | "roledefinitions" | "permissions", [] | [_]) => {
            let message = format!("The method {method} is not supported here.");
            Err(ArmError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).into())
        }
        _ => {
            let message = format!(
                "The resource type '{rest}' could not be found in the namespace '{NAMESPACE}': there are roleAssignments, roleDefinitions and permissions."
            );
            Err(ArmError::not_found("InvalidResourceType", message).into())
        }
    }
}

fn invalid_scope(path: &str) -> ArmError {
    let message = format!("The scope '{path}' is neither a subscription, nor a resource group, nor a resource.");
    ArmError::bad_request("InvalidScope", message)
}

/// A role as a resource of the scope `below`; of the tenant when that is empty.
fn role_id(below: &str, role: &Role) -> String {
    // Azure names the built-in roles by the subscription they are looked at from.
    let subscription: String = below.split('/').take(3).collect::<Vec<_>>().join("/");
    format!("{}/providers/{NAMESPACE}/roleDefinitions/{}", subscription.trim_end_matches('/'), role.id)
}

fn list(value: Vec<serde_json::Value>) -> Response {
    axum::response::IntoResponse::into_response(axum::Json(json!({"value": value})))
}
