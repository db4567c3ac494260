//! `GET /providers/Microsoft.ContainerService/operations`, and the answers for what no route knows.

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::Response,
};
use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        App,
        front_door::{
            actions::{self, Register, SubscriptionsRead},
            authorization, tags,
        },
        http::{
            body::RawBody,
            error::{ApiError, ApiResult},
            host::origin_of,
            principal::Principal,
            request::{ArmRequest, query_of, subscription_not_found, target},
        },
        resources::{registry::Registration, resource_type::Scope},
    },
    arm::{ApiVersion, ArmError},
    model::{location::LOCATIONS, types, versions},
};

/// The resource types that the provider has.
pub(crate) type Types = &'static [Registration];

/// Lists the provider's operations.
pub(crate) async fn operations(State(app): State<App>, request: Request, types: Types) -> ApiResult<Json<Value>> {
    let (parts, _) = request.into_parts();
    Principal::of(&parts, &app, Timestamp::now()).await?;
    let query = query_of(&parts)?;
    let type_name = format!("{}/operations", types::NAMESPACE);
    let served = versions::ALL.iter().copied();
    ApiVersion::negotiate(query.get("api-version").map(String::as_str), &type_name, served)?;
    let of_types = types.iter().flat_map(Registration::operations);
    let value: Vec<Value> = of_types
        .chain(actions::provider_operations())
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
pub(crate) async fn get(State(app): State<App>, request: ArmRequest, types: Types) -> ApiResult<Json<Value>> {
    request.enter::<SubscriptionsRead>(&app).await?;
    Ok(Json(describe(types, Some(request.id.subscription()))))
}

/// Registers the provider, which it is already.
pub(crate) async fn register(State(app): State<App>, request: ArmRequest, types: Types) -> ApiResult<Json<Value>> {
    request.authorize::<Register>(&app).await?;
    Ok(Json(describe(types, Some(request.id.subscription()))))
}

/// Lists the providers of a subscription: this one.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest, types: Types) -> ApiResult<Json<Value>> {
    request.enter::<SubscriptionsRead>(&app).await?;
    Ok(Json(json!({"value": [describe(types, Some(request.id.subscription()))]})))
}

/// The provider, as the tenant sees it.
pub(crate) async fn get_of_tenant(State(app): State<App>, request: Request, types: Types) -> ApiResult<Json<Value>> {
    Principal::of(&request.into_parts().0, &app, Timestamp::now()).await?;
    Ok(Json(describe(types, None)))
}

/// Lists the providers of the tenant: this one.
pub(crate) async fn list_of_tenant(State(app): State<App>, request: Request, types: Types) -> ApiResult<Json<Value>> {
    Principal::of(&request.into_parts().0, &app, Timestamp::now()).await?;
    Ok(Json(json!({"value": [describe(types, None)]})))
}

/// Types, their versions and regions: what `az resource` chooses an api-version by.
fn describe(types: Types, subscription: Option<&str>) -> Value {
    let locations: Vec<&str> = LOCATIONS.iter().map(|location| location.display_name).collect();
    let described = types.iter().map(|registration| {
        let versions: Vec<String> = registration.since.versions().map(|version| version.to_string()).collect();
        let full = registration.resource_type;
        let capabilities = match registration.scope {
            Scope::Tracked => "CrossResourceGroupResourceMove, SupportsTags, SupportsLocation",
            Scope::Fleet => "None",
        };
        json!({
            "resourceType": full.split_once('/').map_or(full, |(_, short)| short),
            "locations": locations,
            "apiVersions": versions,
            "defaultApiVersion": versions::NEWEST.to_string(),
            "capabilities": capabilities,
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
    if let Some(scope) = path.strip_suffix(tags::PATH).and_then(|scope| scope.strip_suffix("/providers/")) {
        let scope = scope.to_owned();
        return tags::serve(&app, principal, parts, body, &scope).await;
    }
    let named = types_of(path);
    let Some(kind) = named.last() else {
        return Err(ArmError::not_found("NotFound", format!("There is nothing at '{path}'.")).into());
    };
    if let Some(pass) = app.pass_through.as_ref().filter(|pass| named.iter().all(|kind| pass.takes(kind))) {
        let id = target(path)?;
        app.subscription(id.subscription()).ok_or_else(|| subscription_not_found(&id))?;
        if !PASSED_METHODS.contains(&parts.method) {
            let allow = HeaderValue::from_static("GET, HEAD, PUT, PATCH, POST, DELETE");
            return Err(not_supported(&parts.method).header(header::ALLOW, allow).into());
        }
        let action = action_of(&parts.method, kind);
        match app.upstream_decides {
            true => principal.record(&app, &action, path, true).await?,
            false => principal.demand(&app, &action, &id.to_string()).await?,
        }
        let RawBody(bytes) = RawBody::from_request(Request::from_parts(parts.clone(), body), &app).await?;
        return pass
            .pass(parts.method.clone(), &parts.uri, &parts.headers, bytes, origin_of(&parts, &app).as_str())
            .await;
    }
    let namespace = kind.split('/').next().unwrap_or_default();
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

/// What is passed on: not what would have the upstream echo a token, or open a tunnel.
const PASSED_METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::POST, Method::DELETE];

/// The full types that a path names: that of the resource, after those of what it extends. None where the path does not
/// begin as a resource's in the tenant, a subscription or a resource group.
fn types_of(path: &str) -> Vec<String> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut types: Vec<String> = Vec::new();
    for (at, pair) in segments.chunks(2).enumerate() {
        match (at, pair, types.last_mut()) {
            (_, ["providers", namespace], _) => types.push((*namespace).to_owned()),
            (_, [kind, ..], Some(full)) => *full = format!("{full}/{kind}"),
            (0, ["subscriptions", _], None) | (1, ["resourceGroups", _], None) => {}
            _ => return Vec::new(),
        }
    }
    types
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
    not_supported(&parts.method).into()
}

fn not_supported(method: &Method) -> ArmError {
    ArmError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        format!("The method {method} is not supported here: see the Allow header for those that are."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_paths() {
        let cluster = "/subscriptions/s/resourceGroups/g/providers/N.C/managedClusters/c";
        for (path, wanted) in [
            (cluster.to_owned(), vec!["N.C/managedClusters"]),
            (format!("{cluster}/agentPools/p/x"), vec!["N.C/managedClusters/agentPools/x"]),
            (format!("{cluster}/providers/N.I/rules/r"), vec!["N.C/managedClusters", "N.I/rules"]),
            ("/subscriptions/s/providers/N.C/locations/l/versions".to_owned(), vec!["N.C/locations/versions"]),
            ("/providers/N.C/operations".to_owned(), vec!["N.C/operations"]),
            // A name is no literal.
            ("/subscriptions/s/resourceGroups/providers/providers/N.C/x/c".to_owned(), vec!["N.C/x"]),
            (cluster.replace("/c", "/providers") + "/agentPools/p", vec!["N.C/managedClusters/agentPools"]),
            ("/subscriptions/s/subscriptions/t/providers/N.C/x/y".to_owned(), vec![]),
            (format!("/x/y{cluster}"), vec![]),
            ("/subscriptions/s".to_owned(), vec![]),
            ("/".to_owned(), vec![]),
        ] {
            assert_eq!(types_of(&path), wanted, "{path}");
        }
    }
}
