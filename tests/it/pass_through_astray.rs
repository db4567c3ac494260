//! Attempts to send a caller's token to another host: targets that name another host, redirects, links that resemble the upstream's,
//! methods that echo or tunnel. The upstream in these tests is malicious, and a second server records any request that it gets.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{
    raw::{self, RawAnswer},
    world::{Options, SUBSCRIPTION, World},
};

const AKS: &str = "api-version=2026-06-01";
const TYPES: &str = "Microsoft.ContainerService/managedClusters,Microsoft.ContainerService/locations";

/// A request as the upstream saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    target: String,
    host: String,
    authorization: String,
    headers: String,
}

struct Scene {
    world: World,
    /// `host:port` of the upstream.
    upstream: String,
    /// `host:port` of the server that must get no request.
    trap: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    trapped: Arc<AtomicUsize>,
}

impl Scene {
    async fn start() -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let trapped = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bait = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (upstream, trap) = (listener.local_addr().unwrap().to_string(), bait.local_addr().unwrap().to_string());
        let count = Arc::clone(&trapped);
        tokio::spawn(async move {
            while bait.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let log = Arc::clone(&seen);
        let (own, other) = (upstream.clone(), trap.clone());
        let router = Router::new().fallback(move |request: Request| async move {
            let text = |name: &str| {
                request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
            };
            log.lock().unwrap().push(Seen {
                method: request.method().to_string(),
                target: request.uri().to_string(),
                host: text("host"),
                authorization: text("authorization"),
                headers: format!("{:?}", request.headers()),
            });
            answer(request.uri().path(), &own, &other)
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let env = vec![
            ("FLEET_PASS_THROUGH", TYPES.to_owned()),
            ("FLEET_ARM_ENDPOINT", format!("http://{upstream}")),
            ("FLEET_PUBLIC_URL", "http://me.example".to_owned()),
            ("FLEET_INSECURE_LOCAL_AUTH", "true".to_owned()),
        ];
        let world = World::start_with(Options { env, ..Options::default() }).await;
        Self { world, upstream, trap, seen, trapped }
    }

    async fn send(&self, method: &str, target: &str, host: &str) -> RawAnswer {
        let address = self.world.url.trim_start_matches("http://");
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            self.world.token,
        );
        raw::exchange(address, request.as_bytes()).await
    }

    async fn get(&self, name: &str) -> RawAnswer {
        self.send("GET", &format!("{}?{AKS}", cluster(name)), "me.example").await
    }

    fn taken(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn assert_nobody_trapped(&self, what: &str) {
        assert_eq!(self.trapped.load(Ordering::SeqCst), 0, "{what}: went where it should not");
    }
}

fn cluster(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.ContainerService/managedClusters/{name}"
    )
}

/// The cluster's name selects the behaviour of the upstream.
fn answer(path: &str, own: &str, other: &str) -> Response {
    let json = |status: u16, body: Value| {
        Response::builder().status(status).header("content-type", "application/json").body(Body::from(body.to_string()))
    };
    let to =
        |status: u16, place: String| Response::builder().status(status).header("location", place).body(Body::empty());
    let page = |link: String| json!({"value": [], "nextLink": link});
    let made = match path.rsplit('/').next().unwrap_or_default() {
        "redirect-301" => to(301, format!("http://{other}/secret")),
        "redirect-302" => to(302, format!("http://{other}/secret")),
        "redirect-307" => to(307, format!("http://{other}/secret")),
        "redirect-308" => to(308, format!("//{other}/secret")),
        "redirect-home" => to(307, format!("http://{own}/elsewhere?x=y")),
        "redirect-lookalike" => to(307, format!("http://{own}.evil.example/")),
        "redirect-longer-port" => to(307, format!("http://{own}0/")),
        "redirect-userinfo" => to(307, format!("http://{own}@{other}/")),
        "list-lookalike" => json(200, page(format!("http://{own}@{other}/x"))),
        "list-elsewhere" => json(200, page(format!("http://{other}/x"))),
        "list-in-chunks" => {
            let text = page(format!("http://{own}/next?$skiptoken=1")).to_string();
            let (a, b) = text.split_at(text.len() / 2);
            let parts: Vec<Result<Bytes, std::io::Error>> =
                vec![Ok(Bytes::from(a.to_owned())), Ok(Bytes::from(b.to_owned()))];
            let body = Body::from_stream(futures_util::stream::iter(parts));
            Response::builder().header("content-type", "application/json; charset=utf-8").body(body)
        }
        "list-endless" => json(200, json!({"nextLink": format!("http://{own}/next"), "x": "y".repeat(9 << 20)})),
        "missing" => {
            json(404, json!({"error": {"code": "ResourceNotFound", "message": "by the upstream", "more": [1]}}))
        }
        "broken" => json(500, json!({"error": {"code": "InternalServerError", "message": "by the upstream"}})),
        "throttled" => Response::builder().status(429).header("retry-after", "7").body(Body::empty()),
        _ => json(200, json!({"name": "ordinary"})),
    };
    made.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_reaches_another_host() {
    let scene = Scene::start().await;
    let (trap, me) = (&scene.trap, "me.example");
    let path = format!("{}?{AKS}", cluster("c"));
    let metadata = "http://169.254.169.254/metadata/instance?api-version=2021-02-01";
    let userinfo = format!("http://{}@{trap}{path}", scene.upstream);
    let named = |name: &str| format!("{}?{AKS}", cluster(name));
    let subscription = |text: &str| path.replace(SUBSCRIPTION, text);
    // The third value: the request is passed to the upstream, whatever host it names; otherwise it is refused.
    for (target, host, passed) in [
        (path.clone(), me, true),
        (path.clone(), trap.as_str(), true),
        (path.clone(), "169.254.169.254", false),
        (path.clone(), "user@evil.example", false),
        (format!("http://{trap}{path}"), me, false),
        (format!("http://{trap}{path}"), trap.as_str(), true),
        (format!("https://{trap}{path}"), me, false),
        (userinfo, me, false),
        (metadata.to_owned(), "169.254.169.254", false),
        (format!("http://{trap}/"), trap.as_str(), false),
        (format!("//{trap}{path}"), me, false),
        (format!("///{trap}{path}"), me, false),
        (format!("/http://{trap}{path}"), me, false),
        (format!("/\\{trap}{path}"), me, false),
        (format!("/@{trap}{path}"), me, false),
        (format!("@{trap}{path}"), me, false),
        (subscription(&format!("x@{trap}")), me, false),
        (subscription(&format!("{SUBSCRIPTION}@{trap}")), me, false),
        (subscription(&format!("{SUBSCRIPTION}%2F..%2F..%2F@{trap}")), me, false),
        (named(&format!("c@{trap}")), me, true),
        (named(&format!("http:%2F%2F{trap}")), me, false),
        (named(".."), me, false),
        (named("%2e%2E"), me, false),
        (named("%2e%2e%2f%2e%2e"), me, false),
        (named("..%5c..%5cx"), me, false),
        (named("c\\..\\x"), me, false),
        (named("c%0d%0aX-Injected:%201"), me, false),
        (named("c%0aHost:%20evil"), me, false),
        (named("c%20HTTP/1.1%0d%0a"), me, false),
        (named("c%00"), me, false),
        (named("c%23"), me, false),
        (named("c%3Fx"), me, false),
        (named("c%252e"), me, false),
        (format!("{path}&x=%0d%0aX-Injected:%201"), me, true),
        (format!("{path}&x=http://{trap}/#@{trap}"), me, true),
    ] {
        let answer = scene.send("GET", &target, host).await;
        let what = format!("{target} by {host}");
        scene.assert_nobody_trapped(&what);
        let seen = scene.taken();
        if passed {
            assert_eq!((answer.status, seen.len()), (200, 1), "{what}: {} {}", answer.head, answer.text);
            assert_eq!(seen[0].host, scene.upstream, "{what}");
            assert!(seen[0].target.starts_with("/subscriptions/"), "{what}: {seen:?}");
            assert_eq!(seen[0].authorization, format!("Bearer {}", scene.world.token));
            assert!(!seen[0].headers.to_lowercase().contains("injected"), "{what}: {seen:?}");
        } else {
            assert!(matches!(answer.status, 400 | 404 | 421), "{what}: {} {}", answer.head, answer.text);
            assert!(seen.is_empty(), "{what}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_returned_and_not_followed() {
    let scene = Scene::start().await;
    let (own, other) = (&scene.upstream, &scene.trap);
    for (name, status, location) in [
        ("redirect-301", 301, format!("http://{other}/secret")),
        ("redirect-302", 302, format!("http://{other}/secret")),
        ("redirect-307", 307, format!("http://{other}/secret")),
        ("redirect-308", 308, format!("//{other}/secret")),
        ("redirect-home", 307, "http://me.example/elsewhere?x=y".to_owned()),
        // A URL that only begins like that of the upstream is another host.
        ("redirect-lookalike", 307, format!("http://{own}.evil.example/")),
        ("redirect-longer-port", 307, format!("http://{own}0/")),
        ("redirect-userinfo", 307, format!("http://{own}@{other}/")),
    ] {
        let answer = scene.get(name).await;
        assert_eq!((answer.status, answer.header("location")), (status, Some(location.as_str())), "{name}");
        scene.assert_nobody_trapped(name);
        assert_eq!(scene.taken().len(), 1, "{name}: asked once");
    }
    for (name, link) in
        [("list-lookalike", format!("http://{own}@{other}/x")), ("list-elsewhere", format!("http://{other}/x"))]
    {
        assert_eq!(scene.get(name).await.body()["nextLink"], link);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_lists_point_to_the_service() {
    let scene = Scene::start().await;
    let path = format!("{}{}?{AKS}", scene.world.url, cluster("list-in-chunks"));
    let list = scene.world.get(&path).await;
    assert_eq!(list.body["nextLink"], format!("{}/next?$skiptoken=1", scene.world.url), "{}", list.body);
    let endless = scene.world.get(&path.replace("in-chunks", "endless")).await;
    assert_eq!(endless.body["x"].as_str().map(str::len), Some(9 << 20), "whole, though it is not looked through");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_upstream_are_returned_unchanged() {
    let scene = Scene::start().await;
    let missing = scene.get("missing").await;
    let error = json!({"code": "ResourceNotFound", "message": "by the upstream", "more": [1]});
    assert_eq!((missing.status, &missing.body()["error"]), (404, &error), "{}", missing.text);
    // The same for a group that this service does not know, since the upstream has groups of its own.
    let nowhere = format!("{}?{AKS}", cluster("missing").replace("rg1", "nowhere"));
    let missing = scene.send("GET", &nowhere, "me.example").await;
    assert_eq!((missing.status, &missing.body()["error"]), (404, &error), "{}", missing.text);
    let broken = scene.get("broken").await;
    assert_eq!((broken.status, broken.code().as_str()), (500, "InternalServerError"));
    let throttled = scene.get("throttled").await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, Some("7")));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_types_and_methods_are_passed_through() {
    let scene = Scene::start().await;
    let path = cluster("c");
    let scope = path.split("/providers").next().unwrap();
    let extension = "providers/Microsoft.Insights/diagnosticSettings/d";
    for target in [
        // An extension of a cluster is a resource of another type.
        format!("{path}/{extension}"),
        format!("{path}/providers/Microsoft.ContainerService/fleets/f"),
        format!(
            "{scope}/providers/Microsoft.Compute/virtualMachines/v/providers/Microsoft.ContainerService/managedClusters/c"
        ),
        // Only a subscription and a group may stand before the provider.
        format!("/x/y{path}"),
        format!("/subscriptions/00000000-0000-0000-0000-000000000009{path}"),
        format!("/providers/Microsoft.Management/managementGroups/g{path}"),
        format!("{scope}/x/y/providers/Microsoft.ContainerService/managedClusters/c"),
        "/providers/Microsoft.ContainerService/managedClusters/c".to_owned(),
        format!("{scope}/providers/Microsoft.ContainerService/managed%43lusters/c"),
        format!("{scope}/providers/Microsoft.ContainerService/managedClustersnapshots/c"),
        format!("{scope}/providers/Microsoft.ContainerService%2FmanagedClusters/c"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = scene.send(method, &format!("{target}?{AKS}"), "me.example").await;
            assert_eq!(answer.status, 404, "{method} {target}: {} {}", answer.head, answer.text);
            assert!(!answer.code().is_empty(), "{method} {target}: {}", answer.text);
        }
    }
    for method in ["TRACE", "CONNECT", "OPTIONS", "PROPFIND", "get"] {
        let answer = scene.send(method, &format!("{path}?{AKS}"), "me.example").await;
        assert!(matches!(answer.status, 400 | 404 | 405), "{method}: {} {}", answer.head, answer.text);
        assert!(!answer.text.contains(&scene.world.token), "{method}: the token comes back");
        if method != "CONNECT" {
            assert_eq!((answer.status, answer.code().as_str()), (405, "MethodNotAllowed"), "{method}");
            assert!(answer.header("allow").is_some_and(|allow| allow.contains("PATCH")), "{method}: {}", answer.head);
        }
    }
    assert!(scene.taken().is_empty(), "nothing went on");
    for method in ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"] {
        assert_eq!(scene.send(method, &format!("{path}?{AKS}"), "me.example").await.status, 200, "{method}");
        assert_eq!(scene.taken()[0].method, method);
    }
}
