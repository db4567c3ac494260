//! `Microsoft.Authorization`: who may do what, as resources on any scope (Azure RBAC REST API 2022-04-01).

mod assignments;
mod definitions;
mod scope;

use axum::{body::Body, extract::FromRequest, extract::Request, response::Response};
use http::{Method, StatusCode, request::Parts};
use jiff::Timestamp;

pub(crate) use self::scope::NAMESPACE;
use self::scope::ScopedRequest;
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
};

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
    let request = ScopedRequest {
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
        (&Method::GET, "roleassignments", []) => assignments::list(&request).await,
        (&Method::GET, "roleassignments", [name]) => assignments::get(&request, name).await,
        (&Method::PUT, "roleassignments", [name]) => {
            let headers = parts.headers.clone();
            let RawBody(bytes) = RawBody::from_request(Request::from_parts(parts, body), app).await?;
            let body = body::json(&headers, &bytes)?;
            assignments::put(&request, name, &body).await
        }
        (&Method::DELETE, "roleassignments", [name]) => assignments::delete(&request, name).await,
        (&Method::GET, "roledefinitions", []) => definitions::list(&request).await,
        (&Method::GET, "roledefinitions", [name]) => definitions::get(&request, name).await,
        (_, "roledefinitions", [_]) => {
            let message = "Role definitions are those that this version has built in: custom roles cannot be made.";
            Err(ArmError::new(StatusCode::METHOD_NOT_ALLOWED, "CustomRolesNotAvailable", message).into())
        }
        (&Method::GET, "permissions", []) => definitions::permissions(&request).await,
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
