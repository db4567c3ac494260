//! The table of resource types: each of its routes is refused to strangers and documented, and a type that is added to it needs
//! nothing else.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use clap::Parser;
use fleet_manager::{
    api::{
        self, ApiResult,
        resources::{
            registry::{REGISTERED, Registration, Route},
            resource_type::{Change, Noun, ResourceType, Scope, Verbs},
        },
    },
    arm::{Origins, Problems, origin::OtherHosts, page::TokenSealer},
    config::Settings,
    identity::Verifier,
    local::keys::{self, LOCAL_USER, LocalKey, TokenClaims},
    model::versions::Since,
};
use http::StatusCode;
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::harness::{
    postgres::database,
    world::{SUBSCRIPTION, World},
};

const STRANGER: &str = "cccccccc-0000-4000-8000-000000000003";

fn routes() -> Vec<Route> {
    REGISTERED.iter().flat_map(Registration::routes).collect()
}

/// The path of a route, with names for its parameters.
fn path_of(route: &Route) -> String {
    let segments = route.path.split('/').map(|segment| match segment {
        "{subscriptionId}" => SUBSCRIPTION,
        "{resourceGroupName}" => "rg1",
        "{gateName}" => "dddddddd-0000-4000-8000-000000000004",
        name if name.starts_with('{') => "x",
        literal => literal,
    });
    segments.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_is_refused_without_a_token_and_without_a_role() {
    let world = World::start().await;
    let token = world.command().args(["token", "--object-id", STRANGER, "--name", "eve@contoso.com"]).output().unwrap();
    let token = format!("Bearer {}", String::from_utf8(token.stdout).unwrap().trim());
    let mut tried = 0;
    for route in routes() {
        for method in &route.methods {
            let path = path_of(&route);
            let body = (*method != "GET" && *method != "DELETE").then(|| json!({}));
            let anonymous = world.call_with(method, &path, body.clone(), &[("authorization", "")]).await;
            assert_eq!(anonymous.status, 401, "{method} {path}: {}", anonymous.body);
            let stranger = world.call_with(method, &path, body, &[("authorization", &token)]).await;
            let refusal = (stranger.status, stranger.code());
            assert_eq!(refusal, (403, "AuthorizationFailed"), "{method} {path}: {}", stranger.body);
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} routes");
}

#[test]
fn the_document_and_the_table_have_the_same_routes() {
    let document: Value = serde_json::from_str(api::openapi::document()).unwrap();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| path.contains("/fleets"))
        .flat_map(|(path, verbs)| {
            let verbs = verbs.as_object().unwrap().keys().filter(|verb| *verb != "parameters");
            verbs.map(|verb| (path.clone(), verb.to_uppercase())).collect::<Vec<_>>()
        })
        .collect();
    let registered: BTreeSet<(String, String)> = routes()
        .into_iter()
        .flat_map(|route| {
            route.methods.iter().map(|method| (route.path.clone(), (*method).to_owned())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(documented, registered);
}

/// A type that exists in this test alone.
struct Widget;

#[derive(Serialize, Deserialize, PartialEq)]
struct WidgetProperties {
    colour: String,
}

impl ResourceType for Widget {
    const TYPE: &'static str = "Microsoft.ContainerService/fleets/widgets";
    const SCOPE: Scope = Scope::Fleet;
    const SINCE: Since = Since::ALWAYS;
    const NOUN: Noun = Noun { article: "a", one: "widget", many: "widgets" };
    const VERBS: Verbs = Verbs { put: true, patch: false, delete: true };
    const NAME_PARAMETER: &'static str = "widgetName";

    type Properties = WidgetProperties;
    type Extras = ();

    async fn check(
        _: &mut Change<'_>,
        new: &WidgetProperties,
        _: Option<&WidgetProperties>,
        problems: &mut Problems,
    ) -> ApiResult<()> {
        if new.colour != "green" {
            problems.add("properties.colour", "Widgets are green.");
        }
        Ok(())
    }
}

static WITH_WIDGETS: &[Registration] = &[REGISTERED[0], Registration::of::<Widget>(&[])];

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::test]
async fn a_type_that_is_added_to_the_table_is_served() {
    let database = database().await;
    let data = tempfile::tempdir().unwrap();
    let settings = Flags::try_parse_from(["test", "--database-url", "postgres://h/d"]).unwrap().settings;
    let key = LocalKey::load_or_create(data.path()).unwrap();
    let claims = TokenClaims::local_user(settings.tenant_id, Duration::from_secs(3600));
    let token = key.mint(&claims, Timestamp::now()).unwrap();
    let verifier = Verifier::new(
        vec![key.verification_key()],
        keys::issuer(settings.tenant_id),
        settings.audiences(),
        settings.tenant_id,
        "http://localhost/adfs",
    );
    let state = api::AppState {
        pool: database.pool.clone(),
        stopping: tokio_util::sync::CancellationToken::new(),
        verifier: Arc::new(verifier),
        access: Arc::new(api::AccessCache::new(vec![LOCAL_USER])),
        catalogues: Arc::default(),
        sealer: TokenSealer::new(rand::random()),
        origins: Origins::new("http", settings.listen, Vec::new(), OtherHosts::Answer),
        pass_through: None,
        login_endpoint: None,
        tenant: settings.tenant_id,
        subscriptions: settings.subscriptions.clone().into(),
        upstream_decides: false,
        max_body_bytes: 1 << 20,
        body_deadline: std::time::Duration::from_secs(60),
        budgets: api::RequestBudgets::new(api::RequestRates { reads: 1000, writes: 1000, deletes: 1000 }),
    };
    let service = api::router_of(state.into(), Router::new(), WITH_WIDGETS);
    let call = async |method: &str, path: &str, body: Value, if_match: &str| {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://localhost{path}?api-version=2026-06-01"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("if-match", if_match)
            .body(Body::from(if body.is_null() { String::new() } else { body.to_string() }))
            .unwrap();
        let answer = service.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, serde_json::from_slice::<Value>(&bytes).unwrap_or_default())
    };
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1");
    let fleet = format!("{group}/providers/Microsoft.ContainerService/fleets/f");
    let widget = format!("{fleet}/widgets/w");
    for (path, body) in [(&group, json!({"location": "eastus"})), (&fleet, json!({"location": "eastus"}))] {
        let (status, shown) = call("PUT", path, body, "").await;
        assert_eq!(status, StatusCode::CREATED, "{shown}");
    }

    let (status, refused) = call("PUT", &widget, json!({"properties": {"colour": "red"}}), "").await;
    assert_eq!((status, &refused["error"]["target"]), (StatusCode::BAD_REQUEST, &json!("properties.colour")));
    let green = json!({"properties": {"colour": "green"}});
    // Fixed segments compare without case.
    let (status, made) = call("PUT", &widget.replace("/widgets/", "/WIDGETS/"), green.clone(), "").await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["properties"], json!({"colour": "green", "provisioningState": "Succeeded"}));
    assert_eq!((&made["id"], &made["type"]), (&json!(widget), &json!(Widget::TYPE)));
    let (status, replaced) = call("PUT", &widget, green.clone(), made["eTag"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{replaced}");
    let (status, _) = call("PUT", &widget, green, made["eTag"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(call("GET", &widget, Value::Null, "").await, (StatusCode::OK, replaced.clone()));
    let (_, list) = call("GET", &format!("{fleet}/widgets"), Value::Null, "").await;
    assert_eq!(list, json!({"value": [replaced]}));

    let (status, refused) = call("PATCH", &widget, json!({}), "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{refused}");
    let (_, types) = call("GET", "/providers/Microsoft.ContainerService", Value::Null, "").await;
    assert!(types["resourceTypes"].as_array().unwrap().iter().any(|known| known["resourceType"] == "fleets/widgets"));
    let (_, operations) = call("GET", "/providers/Microsoft.ContainerService/operations", Value::Null, "").await;
    let names: Vec<_> = operations["value"].as_array().unwrap().iter().map(|operation| &operation["name"]).collect();
    for action in ["widgets/read", "widgets/write", "widgets/delete", "events/replay/action"] {
        assert!(names.contains(&&json!(format!("Microsoft.ContainerService/fleets/{action}"))), "{action}");
    }

    let deletion = async || call("DELETE", &widget, Value::Null, "").await.0;
    assert_eq!((deletion().await, deletion().await), (StatusCode::OK, StatusCode::NO_CONTENT));
    assert_eq!(call("GET", &widget, Value::Null, "").await.0, StatusCode::NOT_FOUND);
}
