//! The request path, top to bottom: canonical path, request IDs, panics, host, routes; a route authenticates, negotiates the
//! version, parses the resource ID (all in [`crate::api::http::request::ArmRequest`]), authorises, and handles.

use std::any::Any;

use axum::{
    Router, middleware,
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
    http::{audit, budgets, context, error, explain_404, host, normalize_path::NormalizePath},
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
    let routes = routes
        .layer(middleware::from_fn_with_state(app.clone(), explain_404::explain))
        .layer(middleware::from_fn_with_state(app.clone(), audit::conclude))
        .layer(middleware::from_fn(budgets::tell_left));
    let beside = beside.layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, app.body_deadline));
    let routes = routes.merge(beside).layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn(context::identify))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(middleware::from_fn_with_state(app, host::check)),
    );
    NormalizePath::new(routes, types.iter().flat_map(Registration::literals))
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
