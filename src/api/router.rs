//! The request path, top to bottom: canonical path, request IDs, panics, host, routes; a route authenticates, negotiates the
//! version, parses the resource ID (all in [`crate::api::http::request::ArmRequest`]), authorises, and handles.

use std::any::Any;

use axum::{
    Router,
    extract::Request,
    middleware,
    response::Response,
    routing::{get, post},
};
use tower::{ServiceBuilder, util::MapRequest};
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::{
    front_door::{events, health, metadata, operations, provider, resource_groups, resource_list, subscriptions},
    http::{audit, context, error, explain_404, host, normalize_path},
    openapi,
    resources::{fleets, gates, members, profiles, runs, strategies},
};
use crate::{api::App, arm::ArmError};

const PROVIDER: &str = "/providers/Microsoft.ContainerService";

/// The HTTP service: the router behind the rewriting of paths.
pub type Service = MapRequest<Router, fn(Request) -> Request>;

/// The whole HTTP service, with public routes that are not the API's own.
#[must_use]
pub fn router(app: App, beside: Router) -> Service {
    let subscription = format!("/subscriptions/{{subscription}}{PROVIDER}");
    let group = format!("/subscriptions/{{subscription}}/resourceGroups/{{group}}{PROVIDER}");
    let fleet = format!("{group}/fleets/{{fleet}}");
    let run = format!("{fleet}/updateRuns/{{run}}");
    let profile = format!("{fleet}/autoUpgradeProfiles/{{profile}}");
    let routes = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/events/deadLetters", get(events::dead_letters))
        .route("/events/replay", post(events::replay))
        .route("/tenants", get(subscriptions::tenants))
        .route("/subscriptions", get(subscriptions::list))
        .route("/subscriptions/{subscription}", get(subscriptions::get))
        .route("/subscriptions/{subscription}/locations", get(subscriptions::locations))
        .route("/subscriptions/{subscription}/resources", get(resource_list::list))
        .route("/subscriptions/{subscription}/resourceGroups", get(resource_groups::list))
        .route(
            "/subscriptions/{subscription}/resourceGroups/{group}",
            get(resource_groups::get)
                .head(resource_groups::head)
                .put(resource_groups::put)
                .patch(resource_groups::patch)
                .delete(resource_groups::delete),
        )
        .route("/subscriptions/{subscription}/resourceGroups/{group}/resources", get(resource_list::list))
        .route("/subscriptions/{subscription}/operationresults/{id}", get(operations::group_result))
        .route("/providers", get(provider::list_of_tenant))
        .route(PROVIDER, get(provider::get_of_tenant))
        .route("/subscriptions/{subscription}/providers", get(provider::list))
        .route(&subscription, get(provider::get))
        .route(&format!("{subscription}/register"), post(provider::register))
        .route("/metadata/endpoints", get(metadata::endpoints))
        .route("/openapi.json", get(openapi::serve))
        .route(&format!("{PROVIDER}/operations"), get(provider::operations))
        .route(&format!("{subscription}/locations/{{location}}/operations/{{id}}"), get(operations::status))
        .route(&format!("{subscription}/locations/{{location}}/operationresults/{{id}}"), get(operations::result))
        .route(&format!("{subscription}/fleets"), get(fleets::list))
        .route(&format!("{group}/fleets"), get(fleets::list))
        .route(&fleet, get(fleets::get).put(fleets::put).patch(fleets::patch).delete(fleets::delete))
        .route(&format!("{fleet}/listCredentials"), post(fleets::list_credentials))
        .route(&format!("{fleet}/members"), get(members::list))
        .route(
            &format!("{fleet}/members/{{member}}"),
            get(members::get).put(members::put).patch(members::patch).delete(members::delete),
        )
        .route(&format!("{fleet}/updateStrategies"), get(strategies::list))
        .route(
            &format!("{fleet}/updateStrategies/{{strategy}}"),
            get(strategies::get).put(strategies::put).delete(strategies::delete),
        )
        .route(&format!("{fleet}/updateRuns"), get(runs::list))
        .route(&run, get(runs::get).put(runs::put).delete(runs::delete))
        .route(&format!("{run}/start"), post(runs::start))
        .route(&format!("{run}/stop"), post(runs::stop))
        .route(&format!("{run}/skip"), post(runs::skip))
        .route(&format!("{fleet}/autoUpgradeProfiles"), get(profiles::list))
        .route(&profile, get(profiles::get).put(profiles::put).delete(profiles::delete))
        .route(&format!("{profile}/generateUpdateRun"), post(profiles::generate))
        .route(&format!("{fleet}/gates"), get(gates::list))
        .route(&format!("{fleet}/gates/{{gate}}"), get(gates::get).patch(gates::patch))
        .fallback(provider::unknown)
        .method_not_allowed_fallback(provider::wrong_method)
        .with_state(app.clone());
    let routes = routes
        .layer(middleware::from_fn_with_state(app.clone(), explain_404::explain))
        .layer(middleware::from_fn_with_state(app.clone(), audit::conclude));
    let routes = routes.merge(beside).layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn(context::identify))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(middleware::from_fn_with_state(app, host::check)),
    );
    // A router's own layers run after routing; what rewrites the path must wrap it from outside.
    MapRequest::new(routes, normalize_path::normalize as fn(Request) -> Request)
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
