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
    App,
    body::RawBody,
    error::{ApiError, ApiResult},
    request::{ArmRequest, authenticate, base_of, query_of, subscription_not_found, target},
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
    authenticate(&parts, &app, Timestamp::now()).await?;
    let query = query_of(&parts)?;
    let type_name = format!("{}/operations", types::NAMESPACE);
    ApiVersion::negotiate(query.get("api-version").map(String::as_str), &type_name, versions::ALL)?;
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
pub(crate) async fn get(State(_): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.authorize(arm_action::SUBSCRIPTIONS_READ)?;
    Ok(Json(describe(Some(request.id.subscription()))))
}

/// Registers the provider, which it is already.
pub(crate) async fn register(State(_): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.authorize(arm_action::REGISTER)?;
    Ok(Json(describe(Some(request.id.subscription()))))
}

/// Lists the providers of a subscription: this one.
pub(crate) async fn list(State(_): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.authorize(arm_action::SUBSCRIPTIONS_READ)?;
    Ok(Json(json!({"value": [describe(Some(request.id.subscription()))]})))
}

/// The provider, as the tenant sees it.
pub(crate) async fn get_of_tenant(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    authenticate(&request.into_parts().0, &app, Timestamp::now()).await?;
    Ok(Json(describe(None)))
}

/// Lists the providers of the tenant: this one.
pub(crate) async fn list_of_tenant(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    authenticate(&request.into_parts().0, &app, Timestamp::now()).await?;
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
    authenticate(&parts, &app, Timestamp::now()).await?;
    let path = parts.uri.path();
    let Some((_, after)) = path.split_once("/providers/") else {
        return Err(ArmError::not_found("NotFound", format!("There is nothing at '{path}'.")).into());
    };
    let mut words = after.split('/');
    let namespace = words.next().unwrap_or_default();
    let kind = words.step_by(2).fold(namespace.to_owned(), |text, word| text + "/" + word);
    if let Some(pass) = app.pass_through.as_ref().filter(|pass| pass.takes(&kind)) {
        let id = target(path)?;
        app.subscription(id.subscription()).ok_or_else(|| subscription_not_found(&id))?;
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

/// A known route with another verb. The router adds `Allow`.
pub(crate) async fn wrong_method(State(app): State<App>, request: Request) -> ApiError {
    let (parts, _) = request.into_parts();
    if let Err(error) = authenticate(&parts, &app, Timestamp::now()).await {
        return error.into();
    }
    let method: &Method = &parts.method;
    ArmError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        format!("The method {method} is not supported here: see the Allow header for those that are."),
    )
    .into()
}
