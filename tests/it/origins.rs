//! Hosts: every URL that the service hands out has the origin that was asked, over HTTP/1.1 and HTTP/2 alike, and a host that
//! is not on the allow-list gets no token.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use reqwest::{Client, Method, Version};
use serde_json::{Value, json};

use crate::harness::{
    raw,
    world::{Answer, Options, SUBSCRIPTION, World},
};

const GROUPS: &str = "api-version=2024-11-01";
const NAMES: [&str; 3] = ["fleet.example", "fleet.internal", "evil.example"];
const PRINCIPAL: &str = "33333333-3333-3333-3333-333333333333";

/// Clients of both versions of HTTP that resolve all names to the service.
fn clients(world: &World) -> [Client; 2] {
    let address: SocketAddr = world.url.trim_start_matches("http://").parse().unwrap();
    let builder = || {
        let none = reqwest::redirect::Policy::none();
        NAMES.iter().fold(Client::builder().redirect(none), |builder, name| builder.resolve(name, address))
    };
    [builder().http1_only().build().unwrap(), builder().http2_prior_knowledge().build().unwrap()]
}

struct Asked<'a> {
    client: &'a Client,
    /// The origin of the request, such as `http://localhost:8443`.
    url: String,
    token: &'a str,
}

impl Asked<'_> {
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send_with(method, path, body, &[("authorization", &format!("Bearer {}", self.token))]).await
    }

    async fn send_with(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let mut request =
            self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.json().await.unwrap_or(Value::Null) }
    }

    async fn form(&self, path: &str, body: &str) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).body(body.to_owned());
        let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }
}

/// All texts in a JSON document that are URLs.
fn urls(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if text.contains("://") => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(urls).collect(),
        Value::Object(map) => map.values().flat_map(urls).collect(),
        _ => Vec::new(),
    }
}

/// A service with two public names on its own port.
async fn world() -> (World, String) {
    let env = vec![(
        "FLEET_PASS_THROUGH",
        "Microsoft.ContainerService/managedClusters,Microsoft.ContainerService/locations".to_owned(),
    )];
    let mut world = World::start_with(Options { env, ..Options::default() }).await;
    let port = world.url.rsplit(':').next().unwrap().to_owned();
    let public = format!("https://fleet.example:{port},http://fleet.internal:{port}");
    world.restart_with(&[("FLEET_PUBLIC_URL", &public), ("FLEET_INSECURE_LOCAL_AUTH", "true")]).await;
    (world, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_url_has_the_origin_that_was_asked() {
    let (world, port) = world().await;
    let clients = clients(&world);
    let mut cluster = 0;
    for (host, scheme) in
        [("127.0.0.1", "http"), ("localhost", "http"), ("fleet.internal", "http"), ("fleet.example", "https")]
    {
        for (http, client) in clients.iter().enumerate() {
            let asked = Asked { client, url: format!("http://{host}:{port}"), token: &world.token };
            let base = format!("{scheme}://{host}:{port}");
            let own = |url: &str| {
                let rest =
                    url.strip_prefix(&base).unwrap_or_else(|| panic!("{url} is not below {base}, HTTP/{}", http + 1));
                assert!(rest.is_empty() || rest.starts_with('/'), "{url}");
            };
            let header = |answer: &Answer, name: &str| own(answer.header(name).unwrap_or_else(|| panic!("no {name}")));

            // A group and a fleet of their own, in operations and lists.
            let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{}-{http}", host.replace('.', "-"));
            let made = asked.send("PUT", &format!("{group}?{GROUPS}"), Some(json!({"location": "eastus"}))).await;
            assert_eq!(made.status, 201, "{}", made.body);
            let fleet = format!("{group}/providers/Microsoft.ContainerService/fleets/f");
            let put = asked
                .send("PUT", &format!("{fleet}?api-version=2026-06-01"), Some(json!({"location": "eastus"})))
                .await;
            assert_eq!(put.status, 201, "{}", put.body);
            header(&put, "azure-asyncoperation");
            world.settled(&fleet).await;
            let list = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups?{GROUPS}&$top=1");
            let page = asked.send("GET", &list, None).await;
            own(page.body["nextLink"].as_str().unwrap());
            let delete = asked.send("DELETE", &format!("{fleet}?api-version=2026-06-01"), None).await;
            assert_eq!(delete.status, 202, "{}", delete.body);
            header(&delete, "azure-asyncoperation");
            header(&delete, "location");
            let deadline = Instant::now() + Duration::from_secs(60);
            while world.get(&fleet).await.status != 404 {
                assert!(Instant::now() < deadline, "{fleet} is still there");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let group_end = asked.send("DELETE", &format!("{group}?{GROUPS}"), None).await;
            assert_eq!(group_end.status, 202, "{}", group_end.body);
            header(&group_end, "location");

            // Requests that are passed through.
            cluster += 1;
            let upgrade = format!("{}?api-version=2026-06-01", World::cluster(cluster));
            let shown = asked.send("GET", &upgrade, None).await;
            let mut body = shown.body.clone();
            body["tags"] = json!({"asked": format!("{host}-{http}")});
            let passed = asked.send("PUT", &upgrade, Some(body)).await;
            assert!(passed.status < 300, "{}", passed.body);
            if passed.header("azure-asyncoperation").is_some() {
                header(&passed, "azure-asyncoperation");
            }

            // Where clients learn about the service, and where tokens come from.
            let cloud = asked.send_with("GET", "/metadata/endpoints?api-version=2022-09-01", None, &[]).await;
            own(cloud.body["resourceManager"].as_str().unwrap());
            own(cloud.body["authentication"]["loginEndpoint"].as_str().unwrap());
            let challenged = asked.send_with("GET", "/subscriptions?api-version=2022-12-01", None, &[]).await;
            assert_eq!(challenged.status, 401);
            let challenge = challenged.header("www-authenticate").unwrap();
            own(challenge.split('"').nth(1).unwrap());
            for authority in ["adfs", "11111111-1111-1111-1111-111111111111/v2.0", "common/v2.0"] {
                let path = format!("/{authority}/.well-known/openid-configuration");
                let found = asked.send_with("GET", &path, None, &[]).await.body;
                assert_eq!(found["issuer"], format!("{base}/{authority}"), "MSAL compares it with the authority");
                let links = urls(&found);
                assert!(links.len() >= 5, "{found}");
                links.iter().for_each(|url| own(url));
            }
            let instance = asked.send_with("GET", "/common/discovery/instance?api-version=1.1", None, &[]).await.body;
            own(instance["tenant_discovery_endpoint"].as_str().unwrap());
            assert_eq!(instance["metadata"][0]["aliases"], json!([format!("{host}:{port}")]));

            // The service accepts a token whose audience is this origin.
            let fields = format!(
                "grant_type=client_credentials&client_id={PRINCIPAL}&client_secret=secret&scope={base}/.default"
            );
            let (status, issued) = asked.form("/adfs/oauth2/token", &fields).await;
            assert_eq!(status, 200, "{issued}");
            let token = issued["access_token"].as_str().unwrap();
            let opened = Asked { client, url: asked.url.clone(), token };
            assert_eq!(opened.send("GET", "/subscriptions?api-version=2022-12-01", None).await.status, 200);
        }
    }
    let version = clients[1].get(format!("{}/healthz", world.url)).send().await.unwrap().version();
    assert_eq!(version, Version::HTTP_2, "what was tested");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_foreign_host_name_gets_no_token() {
    let world = World::start().await;
    let port = world.url.rsplit(':').next().unwrap();
    let secret = format!("grant_type=client_credentials&client_id={PRINCIPAL}&client_secret=secret");
    let identity = "/metadata/identity/oauth2/token?resource=https://management.azure.com";
    let machine = [("metadata", "true")];
    for client in &clients(&world) {
        let evil = Asked { client, url: format!("http://evil.example:{port}"), token: &world.token };
        for path in ["/adfs/oauth2/token", "/common/oauth2/v2.0/token", "/adfs/oauth2/devicecode"] {
            let (status, body) = evil.form(path, &secret).await;
            assert_eq!((status, &body["error"]["code"]), (421, &json!("MisdirectedRequest")), "{path} {body}");
            assert!(body["error"]["message"].as_str().unwrap().contains("FLEET_PUBLIC_URL"), "{body}");
        }
        let app_service = "/msi/token?resource=https://management.azure.com";
        for (path, headers) in [(identity, machine), (app_service, [("x-identity-header", "x")])] {
            let answer = evil.send_with("GET", path, None, &headers).await;
            assert_eq!((answer.status, answer.code()), (421, "MisdirectedRequest"), "{}", answer.body);
        }
        assert_eq!(evil.send("GET", "/subscriptions?api-version=2022-12-01", None).await.status, 421);
        assert_eq!(evil.send("GET", "/metadata/endpoints", None).await.status, 421);
        assert_eq!(evil.send("GET", "/healthz", None).await.status, 200, "probes ask by any address");

        // A proxy on this machine may set a loopback host, but names its client in a header.
        let here = Asked { client, url: world.url.clone(), token: &world.token };
        for name in ["forwarded", "x-forwarded-for"] {
            let answer = here.send_with("GET", identity, None, &[machine[0], (name, "for=203.0.113.9")]).await;
            assert_eq!(answer.status, 421, "{name}: {}", answer.body);
        }
        assert_eq!(here.send_with("GET", identity, None, &machine).await.status, 200);
    }
    let address = world.url.trim_start_matches("http://");
    let ask = async |head: &str| {
        raw::exchange(address, format!("{head}\r\nmetadata: true\r\nconnection: close\r\n\r\n").as_bytes()).await
    };
    for head in [
        format!("GET {identity} HTTP/1.1\r\nhost: localhost\r\nhost: evil.example"),
        format!("GET http://evil.example{identity} HTTP/1.1\r\nhost: localhost"),
        format!("GET {identity} HTTP/1.1\r\nhost: localhost@evil.example"),
    ] {
        let answer = ask(&head).await;
        assert!(matches!(answer.status, 400 | 421), "{head}: {} {}", answer.head, answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_insecure_local_auth_every_token_needs_a_password() {
    let (world, _) = world().await;
    let [client, _] = clients(&world);
    let asked = Asked { client: &client, url: world.url.clone(), token: &world.token };
    for (path, header) in [
        ("/metadata/identity/oauth2/token?resource=https://management.azure.com", ("metadata", "true")),
        ("/msi/token?resource=https://management.azure.com", ("x-identity-header", "x")),
    ] {
        let answer = asked.send_with("GET", path, None, &[header]).await;
        assert_eq!((answer.status, &answer.body["error"]), (403, &json!("access_denied")), "{path}");
    }
    let (status, body) = asked.form("/adfs/oauth2/devicecode", "client_id=cli").await;
    assert_eq!((status, &body["error"]), (403, &json!("access_denied")));
    let secret = format!("grant_type=client_credentials&client_id={PRINCIPAL}&client_secret=secret");
    assert_eq!(asked.form("/adfs/oauth2/token", &secret).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_is_of_the_issuer_that_was_discovered() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let world = World::start().await;
    let [client, _] = clients(&world);
    let asked = Asked { client: &client, url: world.url.replace("127.0.0.1", "localhost"), token: "" };
    for (token, authority) in [("adfs/oauth2/token", "adfs"), ("organizations/oauth2/v2.0/token", "organizations/v2.0")]
    {
        let fields = "grant_type=password&username=ann&password=secret&client_id=cli";
        let (_, issued) = asked.form(&format!("/{token}"), fields).await;
        let part = issued["id_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let path = format!("/{authority}/.well-known/openid-configuration");
        let found = asked.send_with("GET", &path, None, &[]).await.body;
        assert_eq!(claims["iss"], found["issuer"]);
    }
}
