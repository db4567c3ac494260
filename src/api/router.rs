//! The request path, top to bottom: canonical path, request IDs, panics, host, routes; a route authenticates, negotiates the
//! version, parses the resource ID (all in [`crate::api::http::request::ArmRequest`]), authorises, and handles.

use std::any::Any;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use http::StatusCode;
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::App;
use super::{
    front_door::{
        events, health, metadata, operations,
        provider::{self, Types},
        resource_groups, resource_list, subscriptions,
    },
    http::{audit::Trail, budgets::Left, context, error, explain_404, normalize_path::NormalizePath},
    openapi,
    resources::registry::{REGISTERED, Registration},
};
use crate::arm::ArmError;

const PROVIDER: &str = "/providers/Microsoft.ContainerService";

/// The HTTP service: the router behind the rewriting of paths.
pub type Service = NormalizePath<Router>;

/// The whole HTTP service, with public routes that are not the API's own.
#[must_use]
pub fn router(app: App, beside: Router) -> Service {
    router_of(app, beside, REGISTERED)
}

/// [`router`] for these resource types.
#[must_use]
pub fn router_of(app: App, beside: Router, types: Types) -> Service {
    let subscription = format!("/subscriptions/{{subscriptionId}}{PROVIDER}");
    let routes = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/events/deadLetters", get(events::dead_letters))
        .route("/events/replay", post(events::replay))
        .route("/tenants", get(subscriptions::tenants))
        .route("/subscriptions", get(subscriptions::list))
        .route("/subscriptions/{subscriptionId}", get(subscriptions::get))
        .route("/subscriptions/{subscriptionId}/locations", get(subscriptions::locations))
        .route("/subscriptions/{subscriptionId}/resources", get(resource_list::list))
        .route("/subscriptions/{subscriptionId}/resourceGroups", get(resource_groups::list))
        .route(
            "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}",
            get(resource_groups::get)
                .head(resource_groups::head)
                .put(resource_groups::put)
                .patch(resource_groups::patch)
                .delete(resource_groups::delete),
        )
        .route("/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/resources", get(resource_list::list))
        .route("/subscriptions/{subscriptionId}/operationresults/{id}", get(operations::group_result))
        .route("/providers", get(move |app, request| provider::list_of_tenant(app, request, types)))
        .route(PROVIDER, get(move |app, request| provider::get_of_tenant(app, request, types)))
        .route(
            "/subscriptions/{subscriptionId}/providers",
            get(move |app, request| provider::list(app, request, types)),
        )
        .route(&subscription, get(move |app, request| provider::get(app, request, types)))
        .route(&format!("{subscription}/register"), post(move |app, request| provider::register(app, request, types)))
        .route("/metadata/endpoints", get(metadata::endpoints))
        .route("/openapi.json", get(openapi::serve))
        .route(&format!("{PROVIDER}/operations"), get(move |app, request| provider::operations(app, request, types)))
        .route(&format!("{subscription}/locations/{{location}}/operations/{{id}}"), get(operations::status))
        .route(&format!("{subscription}/locations/{{location}}/operationresults/{{id}}"), get(operations::result));
    let routes = types
        .iter()
        .fold(routes, |routes, registration| registration.route(routes))
        .fallback(provider::unknown)
        .method_not_allowed_fallback(provider::wrong_method)
        .with_state(app.clone());
    // Few layers: each costs every request allocations, and more so the layers around it.
    let routes = routes.layer(middleware::from_fn_with_state(app.clone(), conclude));
    let beside = beside.layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, app.body_deadline));
    let routes = routes.merge(beside).layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn_with_state(app, context::identify))
            .layer(CatchPanicLayer::custom(panicked)),
    );
    NormalizePath::new(routes, types.iter().flat_map(Registration::literals))
}

/// Adds to an answer what follows from the whole request: which parent is missing, the status of its audit events, and what is left
/// of its budget.
async fn conclude(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let (trail, left) = (Trail::default(), Left::default());
    request.extensions_mut().insert(trail.clone());
    request.extensions_mut().insert(left.clone());
    let uri = request.uri().clone();
    let response = next.run(request).await;
    let mut response = explain_404::explain(&app, &uri, response).await;
    trail.conclude(&app, response.status()).await;
    left.tell(&mut response);
    response
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = message, "a handler panicked");
    error::arm_response(&ArmError::internal())
}
