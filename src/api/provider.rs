//! `GET /providers/Microsoft.ContainerService/operations`, and the answers for what no route knows.

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::Response,
};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    App, authorization,
    body::RawBody,
    error::{ApiError, ApiResult},
    principal::Principal,
    request::{ArmRequest, base_of, subscription_not_found, target},
};
use crate::{
    arm::{ApiVersion, ArmError},
    model::{
        location::LOCATIONS,
        types::{self, arm_action},
        versions,
    },
};

/// Lists the provider's operations.
pub(crate) async fn operations(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    let (parts, _) = request.into_parts();
    Principal::of(&parts, &app, Timestamp::now()).await?;
    let version = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .ok()
        .and_then(|query| query.0.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("api-version")));
    let type_name = format!("{}/operations", types::NAMESPACE);
    ApiVersion::negotiate(version.as_ref().map(|(_, value)| value.as_str()), &type_name, versions::ALL)?;
    let value: Vec<Value> = types::OPERATIONS
        .iter()
        .map(|operation| {
            json!({
                "name": operation.action,
                "isDataAction": false,
                "origin": "user,system",
                "display": {
                    "provider": "Microsoft Container Service",
                    "resource": operation.resource,
                    "operation": operation.operation,
                    "description": operation.description,
                },
            })
        })
        .collect();
    Ok(Json(json!({"value": value})))
}

/// The provider, as a subscription sees it: registered, always.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.enter(&app, arm_action::SUBSCRIPTIONS_READ).await?;
    Ok(Json(describe(Some(request.id.subscription()))))
}

/// Registers the provider, which it is already.
pub(crate) async fn register(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.authorize(&app, arm_action::REGISTER).await?;
    Ok(Json(describe(Some(request.id.subscription()))))
}

/// Lists the providers of a subscription: this one.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.enter(&app, arm_action::SUBSCRIPTIONS_READ).await?;
    Ok(Json(json!({"value": [describe(Some(request.id.subscription()))]})))
}

/// The provider, as the tenant sees it.
pub(crate) async fn get_of_tenant(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    Principal::of(&request.into_parts().0, &app, Timestamp::now()).await?;
    Ok(Json(describe(None)))
}

/// Lists the providers of the tenant: this one.
pub(crate) async fn list_of_tenant(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    Principal::of(&request.into_parts().0, &app, Timestamp::now()).await?;
    Ok(Json(json!({"value": [describe(None)]})))
}

/// Types, their versions and regions: what `az resource` chooses an api-version by.
fn describe(subscription: Option<&str>) -> Value {
    let locations: Vec<&str> = LOCATIONS.iter().map(|location| location.display_name).collect();
    let described = types::ALL.iter().map(|full| {
        let versions: Vec<String> = versions::of_type(full).iter().map(ToString::to_string).collect();
        let short = full.split_once('/').map_or(*full, |(_, short)| short);
        json!({
            "resourceType": short,
            "locations": locations,
            "apiVersions": versions,
            "defaultApiVersion": versions::NEWEST.to_string(),
            "capabilities": if *full == types::FLEETS { "CrossResourceGroupResourceMove, SupportsTags, SupportsLocation" } else { "None" },
        })
    });
    let described: Vec<Value> = described.collect();
    let id = format!("/providers/{}", types::NAMESPACE);
    json!({
        "id": subscription.map_or_else(|| id.clone(), |subscription| format!("/subscriptions/{subscription}{id}")),
        "namespace": types::NAMESPACE,
        "registrationPolicy": "RegistrationRequired",
        "registrationState": "Registered",
        "resourceTypes": described,
    })
}

/// What no route knows.
pub(crate) async fn unknown(State(app): State<App>, request: Request) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let principal = Principal::of(&parts, &app, Timestamp::now()).await?;
    let path = parts.uri.path();
    if let Some((scope, rest)) = path.rsplit_once(&format!("/providers/{}/", authorization::NAMESPACE)) {
        let (scope, rest) = (scope.to_owned(), rest.to_owned());
        return authorization::serve(&app, principal, parts, body, &scope, &rest).await;
    }
    let Some((_, after)) = path.split_once("/providers/") else {
        return Err(ArmError::not_found("NotFound", format!("There is nothing at '{path}'.")).into());
    };
    let mut words = after.split('/');
    let namespace = words.next().unwrap_or_default();
    let kind = words.step_by(2).fold(namespace.to_owned(), |text, word| text + "/" + word);
    if let Some(pass) = app.pass_through.as_ref().filter(|pass| pass.takes(&kind)) {
        let id = target(path)?;
        app.subscription(id.subscription()).ok_or_else(|| subscription_not_found(&id))?;
        let action = action_of(&parts.method, &kind);
        principal.record(&app, &action, path, true).await?;
        let RawBody(bytes) = RawBody::from_request(Request::from_parts(parts.clone(), body), &app).await?;
        return pass.pass(parts.method.clone(), &parts.uri, &parts.headers, bytes, &base_of(&parts, &app)).await;
    }
    if namespace != types::NAMESPACE {
        return Err(ArmError::not_found(
            "InvalidResourceNamespace",
            format!("The resource namespace '{namespace}' is invalid: this service provides '{}'.", types::NAMESPACE),
        )
        .into());
    }
    let supported: Vec<String> = versions::ALL.iter().map(ToString::to_string).collect();
    Err(ArmError::not_found(
        "InvalidResourceType",
        format!(
            "The resource type '{kind}' could not be found in the namespace '{namespace}' at '{path}'. The supported api-versions are '{}'.",
            supported.join(", ")
        ),
    )
    .into())
}

/// What a request that is passed on would do, for the audit trail.
fn action_of(method: &Method, kind: &str) -> String {
    match (method, kind.rsplit_once('/')) {
        (&Method::GET | &Method::HEAD, _) => format!("{kind}/read"),
        (&Method::DELETE, _) => format!("{kind}/delete"),
        (&Method::POST, Some((kind, action))) => format!("{kind}/{action}/action"),
        _ => format!("{kind}/write"),
    }
}

/// A known route with another verb. The router adds `Allow`.
pub(crate) async fn wrong_method(State(app): State<App>, request: Request) -> ApiError {
    let (parts, _) = request.into_parts();
    if let Err(error) = Principal::of(&parts, &app, Timestamp::now()).await {
        return error;
    }
    let method: &Method = &parts.method;
    ArmError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        format!("The method {method} is not supported here: see the Allow header for those that are."),
    )
    .into()
}
