//! Paths, methods, queries and headers that no client library sends: each gets a precise 4xx with ARM's error body, and
//! no spelling of a path gives access to resources of others.

use serde_json::{Value, json};

use crate::harness::{
    eventually,
    raw::{self, RawAnswer},
    world::{SUBSCRIPTION, World},
};

const OTHER: &str = "00000000-0000-0000-0000-000000000002";
const VERSION: &str = "api-version=2026-06-01";
/// A tag value of the fleet that must not be readable.
const MARK: &str = "hunter2";
const FLEETS: &str = "providers/Microsoft.ContainerService/fleets";

/// Sends a request as bytes and returns the response.
async fn raw(world: &World, method: &str, target: impl AsRef<[u8]>, headers: &[(&str, &[u8])]) -> RawAnswer {
    let address = world.url.trim_start_matches("http://");
    let mut request = format!("{method} ").into_bytes();
    request.extend_from_slice(target.as_ref());
    request.extend_from_slice(b" HTTP/1.1\r\nconnection: close\r\n");
    let given = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let own = [("host", address.to_owned()), ("authorization", format!("Bearer {}", world.token))];
    for (name, value) in own.iter().filter(|(name, _)| !given(name)) {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    for (name, value) in headers {
        request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    raw::exchange(address, &request).await
}

/// Returns how a response differs from this error: status, code, ARM's error body and a request ID.
fn wrong(answer: &RawAnswer, status: u16, code: &str, what: &str) -> Option<String> {
    let message = answer.body()["error"]["message"].as_str().unwrap_or_default().to_owned();
    let sound = (answer.status, answer.code().as_str()) == (status, code)
        && !message.is_empty()
        && answer.header("x-ms-request-id").is_some()
        && answer.header("x-ms-error-code") == Some(code);
    (!sound).then(|| format!("{what}: wanted {status} {code}: {} {}", answer.head, answer.text))
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} wrong:\n{}", findings.len(), findings.join("\n\n"));
}

/// A world with a marked fleet in the first subscription, and a group of the same name in the second.
async fn world() -> World {
    let world = World::start().await;
    let group = format!("/subscriptions/{OTHER}/resourceGroups/rg1");
    assert_eq!(world.put(&group, json!({"location": "eastus"})).await.status, 201);
    let fleet = world.fleet("f");
    assert_eq!(world.put(&fleet, json!({"location": "eastus", "tags": {"password": MARK}})).await.status, 201);
    world.settled(&fleet).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_reaches_another_subscription() {
    let world = world().await;
    let mut findings = Vec::new();
    let first = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1");
    let second = format!("/subscriptions/{OTHER}/resourceGroups/rg1");
    let up = "../../../../../..";
    let encoded = "%2e%2e/".repeat(6);
    let slashes = first.replace('/', "%2F");
    let double = first.replace('/', "%252F");
    for (tail, status, code) in [
        // The fleet's path in the other subscription.
        (format!("/{FLEETS}/f"), 404, "ResourceNotFound"),
        (format!("/{FLEETS}/%66"), 404, "ResourceNotFound"),
        (format!("//{FLEETS}///f//"), 404, "ResourceNotFound"),
        (format!("/{FLEETS}/f/members"), 404, "ParentResourceNotFound"),
        // Dot segments, plain and encoded, are not resolved.
        (format!("/{FLEETS}/{up}{first}/{FLEETS}/f"), 404, "InvalidResourceType"),
        (format!("/{FLEETS}/{encoded}{first}/{FLEETS}/f"), 404, "InvalidResourceType"),
        (format!("/{FLEETS}/."), 400, "InvalidResourceName"),
        (format!("/{FLEETS}/.."), 400, "InvalidResourceName"),
        (format!("/{FLEETS}/%2E%2e"), 400, "InvalidResourceName"),
        (format!("/{FLEETS}/.%2e"), 400, "InvalidResourceName"),
        (format!("/{FLEETS}/%252e%252e"), 400, "InvalidResourceName"),
        (format!("/{FLEETS}/..%5c..%5cf"), 400, "InvalidResourceName"),
        (format!("/{FLEETS}/..\\..\\f"), 400, "InvalidResourceName"),
        // An encoded slash is part of a name, and separates no segments.
        (format!("/{FLEETS}/x{slashes}%2F{FLEETS}%2Ff"), 404, "InvalidResourceType"),
        (
            format!("/{FLEETS}/x{slashes}%2Fproviders%2FMicrosoft.ContainerService%2Ffleets%2Ff"),
            400,
            "InvalidResourceName",
        ),
        (format!("/{FLEETS}/{double}"), 400, "InvalidResourceName"),
        (format!("/{FLEETS}/f%2Fmembers"), 400, "InvalidResourceName"),
        // A resource ID as a segment of a path.
        (format!("/{FLEETS}/f{first}/{FLEETS}/f"), 404, "InvalidResourceType"),
        (format!("/{FLEETS}{first}/{FLEETS}/f"), 404, "InvalidResourceType"),
        (format!("{first}/{FLEETS}/f"), 404, "NotFound"),
    ] {
        let target = format!("{second}{tail}?{VERSION}");
        for method in ["GET", "DELETE"] {
            let answer = raw(&world, method, &target, &[]).await;
            assert!(!answer.text.contains(MARK), "{method} {target}: {}", answer.text);
            // The deletion of a missing resource is a success.
            if method == "GET" {
                findings.extend(wrong(&answer, status, code, &target));
            } else {
                assert!(matches!(answer.status, 204 | 400 | 404 | 405), "{target}: {}", answer.head);
            }
        }
    }
    for target in [
        format!("/subscriptions/{OTHER}/../{SUBSCRIPTION}/resourceGroups/rg1/{FLEETS}/f?{VERSION}"),
        format!("/subscriptions/{OTHER}%2F..%2F{SUBSCRIPTION}/resourceGroups/rg1/{FLEETS}/f?{VERSION}"),
        format!("/subscriptions/{OTHER},{SUBSCRIPTION}/resourceGroups/rg1/{FLEETS}/f?{VERSION}"),
        format!("/subscriptions/{OTHER};{SUBSCRIPTION}/resourceGroups/rg1/{FLEETS}/f?{VERSION}"),
        format!("/subscriptions/*/resourceGroups/rg1/{FLEETS}/f?{VERSION}"),
        format!("/subscriptions/{OTHER}/resourceGroups/rg1/{FLEETS}/f?{VERSION}&subscriptionId={SUBSCRIPTION}"),
        format!("/subscriptions/{}/resourceGroups/rg1/{FLEETS}/f?{VERSION}", SUBSCRIPTION.replace('-', "")),
        format!("/subscriptions/%7B{SUBSCRIPTION}%7D/resourceGroups/rg1/{FLEETS}/f?{VERSION}"),
    ] {
        let answer = raw(&world, "GET", &target, &[]).await;
        assert!(matches!(answer.status, 400 | 404) && !answer.code().is_empty(), "{target}: {}", answer.text);
        assert!(!answer.text.contains(MARK));
    }
    // Lists, filters and continuation links stay in their subscription too.
    let resources = "/resources?api-version=2024-11-01&$filter=";
    for tail in [
        format!("/{FLEETS}?{VERSION}"),
        resources.to_owned(),
        format!("{resources}name eq 'f'").replace(' ', "%20"),
        format!("{resources}resourceGroup eq 'rg1'").replace(' ', "%20"),
    ] {
        let list = raw(&world, "GET", format!("/subscriptions/{OTHER}{tail}"), &[]).await;
        assert_eq!((list.status, &list.body()["value"]), (200, &json!([])), "{tail}: {}", list.text);
    }
    // An operation is not shown under another subscription.
    let begun = world.put(&world.fleet("g"), json!({"location": "eastus"})).await;
    let operation = begun.header("azure-asyncoperation").unwrap().replace(SUBSCRIPTION, OTHER);
    for url in [operation.clone(), operation.replace("/operations/", "/operationresults/")] {
        let answer = world.get(&url).await;
        assert_eq!((answer.status, answer.code()), (404, "OperationNotFound"), "{url}");
    }
    assert_eq!(world.get(&world.fleet("f")).await.status, 200, "nothing was deleted");
    assert_none(&findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_accepts_no_strategy_of_another_fleet() {
    let world = world().await;
    let strategy = json!({"properties": {"strategy": {"stages": [{"name": "a", "groups": [{"name": MARK}]}]}}});
    let strange = format!("{}/updateStrategies/s", world.fleet("f"));
    assert_eq!(world.put(&strange, strategy).await.status, 201);
    let own = format!("/subscriptions/{OTHER}/resourceGroups/rg1/{FLEETS}/o");
    assert_eq!(world.put(&own, json!({"location": "eastus"})).await.status, 201);
    world.settled(&own).await;
    let update = json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Latest"}});
    for id in [
        strange.clone(),
        strange.to_uppercase(),
        format!("{own}/updateStrategies/../../f/updateStrategies/s"),
        format!("{own}/updateStrategies/..%2Fs"),
        strange.replace(SUBSCRIPTION, OTHER),
    ] {
        let run = json!({"properties": {"updateStrategyId": id, "managedClusterUpdate": update}});
        let answer = world.put(&format!("{own}/updateRuns/r"), run).await;
        assert_eq!(answer.status, 400, "{id}: {}", answer.body);
        assert_eq!(answer.body["error"]["target"], "properties.updateStrategyId", "{id}: {}", answer.body);
        assert!(!answer.body.to_string().contains(MARK), "{id}");
    }
}

/// No spelling of a path gives the owner of one subscription access to a resource or a role in another.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_another_subscription_has_no_access() {
    let world = world().await;
    let mallory = "eeeeeeee-0000-4000-8000-000000000009";
    let token = world.command().args(["token", "--object-id", mallory]).output().unwrap();
    let bearer = format!("Bearer {}", String::from_utf8(token.stdout).unwrap().trim());
    let (first, second) = (format!("/subscriptions/{SUBSCRIPTION}"), format!("/subscriptions/{OTHER}"));
    let owner = json!({"properties": {
        "roleDefinitionId": format!("{second}/providers/Microsoft.Authorization/roleDefinitions/8e3af657-a8ff-443c-a75c-2fe8c4bcb635"),
        "principalId": mallory,
        "principalType": "User",
    }});
    let roles = "/providers/Microsoft.Authorization/roleAssignments/";
    let role = |scope: &str| format!("{scope}{roles}{}?api-version=2022-04-01", uuid::Uuid::new_v4());
    assert_eq!(world.put(&role(&second), owner.clone()).await.status, 201);
    let headers = [("authorization", bearer.as_bytes())];
    let own = format!("{second}/resourceGroups/rg1?api-version=2024-11-01");
    eventually("the role is known", || async { raw(&world, "GET", &own, &headers).await.status == 200 }).await;

    let fleet = format!("resourceGroups/rg1/{FLEETS}/f?{VERSION}");
    let shouted = first.to_uppercase();
    for target in [
        format!("{first}/{fleet}"),
        format!("{shouted}/{}", fleet.to_uppercase()),
        format!("//{first}//{fleet}"),
        format!("{first}/{}", fleet.replace("/f?", "/%66?")),
        format!("{second}/..{first}/{fleet}"),
        format!("{second}{first}/{fleet}"),
        format!("{second}%2F..%2F..{first}/{fleet}"),
        format!("{second}/resourceGroups/rg1/{FLEETS}/x/../../../../../..{first}/{fleet}"),
        format!("http://{OTHER}{first}/{fleet}"),
        format!("{first}/{fleet}&subscriptionId={OTHER}"),
        format!("{first}/{FLEETS}?{VERSION}"),
        format!("{first}/resources?api-version=2024-11-01"),
    ] {
        for method in ["GET", "DELETE"] {
            let answer = raw(&world, method, &target, &headers).await;
            // A list shows what the caller may read, which is nothing.
            let nothing = answer.body()["value"].as_array().is_some_and(Vec::is_empty);
            assert!(
                nothing || (400..500).contains(&answer.status),
                "{method} {target}: {} {}",
                answer.head,
                answer.text
            );
            assert!(!answer.text.contains(MARK), "{method} {target}: {}", answer.text);
        }
    }
    for scope in [
        String::new(),
        first.clone(),
        first.to_uppercase(),
        format!("/{first}"),
        format!("{second}/..{first}"),
        format!("{second}{first}"),
        format!("{second}%2F..%2F{SUBSCRIPTION}"),
        format!("{first}/resourceGroups/rg1"),
        format!("{first}/resourceGroups/%72g1"),
        format!("{first}/resourceGroups/rg1/{FLEETS}/f"),
        format!("{first}/resourceGroups/rg1/{FLEETS}/%66"),
        format!("{second}{roles}x{first}"),
        format!("{second}/resourceGroups/rg1/{FLEETS}/..{first}"),
    ] {
        let address = world.url.trim_start_matches("http://");
        let (target, body) = (role(&scope), owner.to_string());
        let request = format!(
            "PUT {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: {bearer}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw::exchange(address, request.as_bytes()).await;
        // The owner may assign roles on any resource ID in the own subscription. That gives no access here.
        let inside = scope.starts_with(&format!("{second}{roles}"));
        assert!(inside || (400..500).contains(&answer.status), "{target}: {} {}", answer.head, answer.text);
    }
    let denied = raw(&world, "GET", format!("{first}/{fleet}"), &headers).await;
    assert_eq!((denied.status, denied.code().as_str()), (403, "AuthorizationFailed"), "{}", denied.text);
    assert_eq!(world.get(&world.fleet("f")).await.status, 200);
}

/// The service reads a member's cluster from AKS with its own credential, so that a cluster ID must not become another path.
#[tokio::test(flavor = "multi_thread")]
async fn no_cluster_id_reaches_another_resource() {
    let world = world().await;
    let cluster = World::cluster(1);
    let before = world.emulator_log().await.len();
    let swap = |from: &str, to: &str| cluster.replacen(from, to, 1);
    for id in [
        swap("/rg1/", "/../"),
        swap("/rg1/", "/%2e%2e/"),
        swap("/rg1/", "/rg1%2F..%2F/"),
        swap("/rg1/", "/rg1?x=/"),
        swap("/rg1/", "/rg1#/"),
        swap("/rg1/", "/rg1@evil.example/"),
        swap("/rg1/", "//"),
        swap("/aks-1", "/.."),
        swap("/aks-1", "/aks-1?api-version=1&x="),
        swap("/aks-1", "/aks-1%00"),
        swap("/aks-1", "/aks-1\r\nX-Injected: 1"),
        swap("/aks-1", "/aks-1/agentPools/p"),
        swap("/aks-1", "/"),
        swap("managedClusters", "managedClusters/../virtualMachines"),
        swap("Microsoft.ContainerService", "Microsoft.Compute"),
        swap("/subscriptions/", "//evil.example/subscriptions/"),
        swap("/subscriptions/", "http://169.254.169.254/subscriptions/"),
        swap("/subscriptions/", "/../subscriptions/"),
        swap(SUBSCRIPTION, ".."),
        swap(SUBSCRIPTION, "*"),
        // Other spellings of a GUID are refused: one cluster would have several IDs.
        swap(SUBSCRIPTION, &SUBSCRIPTION.replace('-', "")),
        swap(SUBSCRIPTION, &format!("{{{SUBSCRIPTION}}}")),
        swap(SUBSCRIPTION, &format!("urn:uuid:{SUBSCRIPTION}")),
        cluster.repeat(30),
        String::new(),
    ] {
        let body = json!({"properties": {"clusterResourceId": id}});
        let answer = world.put(&format!("{}/members/m", world.fleet("f")), body).await;
        assert_eq!((answer.status, answer.code()), (400, "InvalidParameter"), "{id}: {}", answer.body);
        assert_eq!(answer.body["error"]["target"], "properties.clusterResourceId", "{id}: {}", answer.body);
    }
    assert_eq!(world.emulator_log().await.len(), before, "AKS was not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cannot_add_lines_to_the_log() {
    let world = world().await;
    let fleet = world.fleet("new");
    let forged = "\n2026-01-01T00:00:00Z  INFO forged by a caller\u{1b}[31m";
    for body in [
        json!({"location": forged}),
        json!({"location": "eastus", "name": forged}),
        json!({"location": "eastus", "identity": {"type": forged}}),
        json!({"location": "eastus", "tags": {forged: 1}}),
    ] {
        assert_eq!(world.put(&fleet, body).await.status, 400);
    }
    for query in ["$top%0aforged=1&$top%0aforged=2", "x%0aforged=%00", "$filter=%0aforged", "api-version=1%0aforged"] {
        let answer = raw(&world, "GET", format!("{fleet}?{VERSION}&{query}"), &[]).await;
        assert!(answer.status >= 400, "{query}: {}", answer.text);
    }
    raw(&world, "GET", format!("{fleet}/%0aforged?{VERSION}"), &[("x-ms-client-request-id", b"forged")]).await;
    let log = world.log_tail();
    assert!(log.contains("refused") && log.contains("forged by a caller"), "{log}");
    let looks_own = |line: &&str| line.trim_start().starts_with("forged") || line.starts_with("2026-01-01");
    assert_eq!(log.lines().find(looks_own), None, "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_paths_are_refused() {
    let world = world().await;
    let mut findings = Vec::new();
    let fleets = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/{FLEETS}");
    let long = "x".repeat(10_000);
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (format!("{fleets}/{long}?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/f/members/{long}?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{}?{VERSION}", "/a".repeat(10_000)).into(), 404, "NotFound"),
        (format!("{fleets}{}?{VERSION}", "/fleets/f".repeat(2_000)).into(), 404, "InvalidResourceType"),
        (format!("{fleets}/a%00?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/a%0d%0aX-Injected:%201?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%7f?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%4?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%zz?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%+1?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%u0041?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%ff?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%c0%ae%c0%ae?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/%ed%a0%80?{VERSION}").into(), 400, "InvalidResourceName"),
        // Well-formed names of fleets that do not exist.
        (format!("{fleets}/é?{VERSION}").into(), 404, "ResourceNotFound"),
        (format!("{fleets}/%C3%A9?{VERSION}").into(), 404, "ResourceNotFound"),
        (format!("{fleets}/f;v=1?{VERSION}").into(), 404, "ResourceNotFound"),
        (format!("{fleets}/f%20?{VERSION}").into(), 404, "ResourceNotFound"),
        (format!("{fleets}/f%3F{VERSION}?{VERSION}").into(), 400, "InvalidResourceName"),
        (format!("{fleets}/f%23x?{VERSION}").into(), 400, "InvalidResourceName"),
        // Encoded letters in fixed segments are refused.
        (format!("{}/f?{VERSION}", fleets.replace("fleets", "%66leets")).into(), 404, "InvalidResourceType"),
        (format!("{}/f?{VERSION}", fleets.replace("/providers/", "/%70roviders/")).into(), 404, "NotFound"),
        (
            format!("{}/f?{VERSION}", fleets.replace("Service/fleets", "Service%2Ffleets")).into(),
            404,
            "InvalidResourceNamespace",
        ),
        (format!("{}/f?{VERSION}", fleets.replace("/rg1/", "/r%C3%A9g/")).into(), 404, "ResourceGroupNotFound"),
        (format!("{}/f?{VERSION}", fleets.replace("/rg1/", "/r%20g/")).into(), 400, "InvalidResourceGroup"),
        (format!("{}/f?{VERSION}", fleets.replace("/rg1/", "/rg1./")).into(), 400, "InvalidResourceGroup"),
        (format!("{}/f?{VERSION}", fleets.replace(SUBSCRIPTION, "1")).into(), 400, "InvalidSubscriptionId"),
        (b"/".to_vec(), 404, "NotFound"),
        (b"//".to_vec(), 404, "NotFound"),
        (b"/%".to_vec(), 404, "NotFound"),
        (b"/subscriptions/".to_vec(), 200, ""),
    ];
    for (target, status, code) in cases {
        let shown = String::from_utf8_lossy(&target[..target.len().min(300)]).into_owned();
        let answer = raw(&world, "GET", &target, &[]).await;
        if status == 200 {
            assert_eq!(answer.status, 200, "{shown}: {}", answer.text);
        } else {
            findings.extend(wrong(&answer, status, code, &shown));
        }
        assert!(answer.header("x-injected").is_none() && !answer.text.contains(MARK), "{shown}");
        assert!(answer.text.len() < 70_000, "{shown}: an error much longer than its cause");
        let made = raw(&world, "DELETE", &target, &[]).await;
        assert!(made.status < 500, "DELETE {shown}: {}", made.head);
    }
    // Bytes that are not HTTP are refused by the HTTP server.
    let mut broken: Vec<Vec<u8>> = vec![format!("{fleets}/a\0b?{VERSION}").into()];
    broken.push([fleets.as_bytes(), b"/\xff\xfe?", VERSION.as_bytes()].concat());
    broken.push([fleets.as_bytes(), b"/a b?", VERSION.as_bytes()].concat());
    for target in broken {
        let answer = raw(&world, "GET", &target, &[]).await;
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(&target), answer.head);
    }
    let endless = raw(&world, "GET", format!("{fleets}/{}", "x".repeat(100_000)), &[]).await;
    assert_eq!(endless.status, 414, "{}", endless.head);
    // Fixed segments are accepted in any case. Answers have names as they were created.
    let shouted = format!("{}/F?API-VERSION=2026-06-01", fleets.to_uppercase());
    let found = raw(&world, "GET", &shouted, &[]).await;
    assert_eq!((found.status, &found.body()["id"]), (200, &json!(world.fleet("f"))), "{}", found.text);
    assert_none(&findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_names_are_refused_in_any_encoding() {
    let world = world().await;
    let fleets = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/{FLEETS}");
    let body = json!({"location": "eastus"});
    for name in ["a%20b", "%C3%A9", "a_b", "A", "-a", "a-", "a.b", "%E2%84%AA", "ſ", "a%2Bb", "a+b", "'or'1'='1", "%25"]
    {
        let answer = world.put(&format!("{fleets}/{name}?{VERSION}"), body.clone()).await;
        assert_eq!((answer.status, answer.code()), (400, "InvalidResourceName"), "{name}: {}", answer.body);
    }
    let exact = "x".repeat(63);
    assert_eq!(world.put(&format!("{fleets}/{exact}?{VERSION}"), body.clone()).await.status, 201);
    let answer = world.put(&format!("{fleets}/{exact}x?{VERSION}"), body.clone()).await;
    assert_eq!((answer.status, answer.code()), (400, "InvalidResourceName"));
    // A name with an encoded letter is the same name.
    let same = world.put(&format!("{fleets}/%66?{VERSION}"), json!({"location": "eastus", "tags": {}})).await;
    assert_eq!((same.status, &same.body["id"]), (200, &json!(world.fleet("f"))), "{}", same.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_are_refused() {
    let world = world().await;
    let mut findings = Vec::new();
    let fleet = format!("{}?{VERSION}", world.fleet("f"));
    let list = format!("/subscriptions/{SUBSCRIPTION}/{FLEETS}?{VERSION}");
    for method in ["TRACE", "OPTIONS", "get", "Put", "PROPFIND", "BREW", "POST"] {
        for target in [&fleet, &list] {
            let answer = raw(&world, method, target, &[]).await;
            findings.extend(wrong(&answer, 405, "MethodNotAllowed", &format!("{method} {target}")));
            let allow = answer.header("allow").unwrap_or_default();
            assert!(allow.contains("GET") && !allow.contains("TRACE"), "{method} {target}: {}", answer.head);
            assert!(!answer.text.contains(&world.token), "{method}: the token comes back");
        }
        let overridden = raw(&world, "GET", &fleet, &[("X-HTTP-Method-Override", b"DELETE")]).await;
        assert_eq!(overridden.status, 200);
    }
    for target in ["127.0.0.1:443", "169.254.169.254:80", fleet.as_str()] {
        let answer = raw(&world, "CONNECT", target, &[]).await;
        assert!((400..500).contains(&answer.status), "CONNECT {target}: {} {}", answer.head, answer.text);
    }
    let all = raw(&world, "OPTIONS", "*", &[]).await;
    findings.extend(wrong(&all, 404, "NotFound", "OPTIONS *"));
    let head = raw(&world, "HEAD", &fleet, &[]).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(world.get(&world.fleet("f")).await.status, 200, "it is still there");
    assert_none(&findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_parsed_as_in_arm() {
    let world = world().await;
    let mut findings = Vec::new();
    let f = world.fleet_of("q", &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g")]).await;
    world.fleet_of("p", &[("m4", 4, "g"), ("m5", 5, "g")]).await;
    let members = format!("{f}/members");
    let names = |answer: &RawAnswer| -> Vec<String> {
        let body: Value = answer.body();
        body["value"]
            .as_array()
            .unwrap_or_else(|| panic!("{}", answer.text))
            .iter()
            .map(|m| m["name"].to_string())
            .collect()
    };
    // Unknown parameters are ignored; names are decoded and compared without case.
    for query in [
        "api-version=2026-06-01&unknown=1&$unknown=2&t=3&c&=&==&&",
        "api%2Dversion=2026-06-01",
        "API-Version=2026-06-01&%24TOP=10",
        "api-version=2026-06-01&$top=99999999999999999999",
        "api-version=2026-06-01&$top=4294967296",
        "api-version=2026-06-01&$skipToken=",
        "api-version=2026-06-01&api-version=2026-06-01",
        "api-version=2026-06-01&unknown=1&unknown=2&x=%zz&y=%ff",
    ] {
        let answer = raw(&world, "GET", format!("{members}?{query}"), &[]).await;
        assert_eq!((answer.status, names(&answer).len()), (200, 3), "{query}: {}", answer.text);
    }
    let page = world.get(&format!("{members}?{VERSION}&$top=1")).await;
    let next = page.body["nextLink"].as_str().unwrap();
    let token = next.split("$skipToken=").nth(1).unwrap();
    let elsewhere = format!("{}/members", world.fleet("p"));
    let fleets = format!("/subscriptions/{OTHER}/{FLEETS}");
    for (path, query, code, target) in [
        (&members, "$top=0", "InvalidParameter", "$top"),
        (&members, "$top=-1", "InvalidParameter", "$top"),
        (&members, "$top=1.5", "InvalidParameter", "$top"),
        (&members, "$top=", "InvalidParameter", "$top"),
        (&members, "$top=%201", "InvalidParameter", "$top"),
        (&members, "$top=ten", "InvalidParameter", "$top"),
        (&members, "$top=%EF%BC%91", "InvalidParameter", "$top"),
        (&members, "$top=1&$top=2", "InvalidQueryParameter", "$top"),
        (&members, "$skipToken=garbage", "InvalidParameter", "$skipToken"),
        (&members, "$skipToken=%00", "InvalidQueryParameter", ""),
        (&members, "$skipToken=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "InvalidParameter", "$skipToken"),
        (&members, &format!("$skipToken={}A", token), "InvalidParameter", "$skipToken"),
        (&members, &format!("$skipToken={}", &token[1..]), "InvalidParameter", "$skipToken"),
        (&members, &format!("$skipToken={}", token.to_lowercase()), "InvalidParameter", "$skipToken"),
        (&elsewhere, &format!("$skipToken={token}"), "InvalidParameter", "$skipToken"),
        (&fleets, &format!("$skipToken={token}"), "InvalidParameter", "$skipToken"),
        (&members, &format!("$skipToken={token}&$skipToken=x"), "InvalidQueryParameter", "$skipToken"),
        (&members, "api-version=2023-10-15", "InvalidApiVersionParameter", "api-version"),
        (&members, "Api-Version=latest", "InvalidApiVersionParameter", "api-version"),
        (&members, "api%2Dversion=", "InvalidApiVersionParameter", "api-version"),
        (&members, "$filter=name%20eq%20'm1'", "InvalidParameter", "$filter"),
    ] {
        let answer = raw(&world, "GET", format!("{path}?{VERSION}&{query}"), &[]).await;
        findings.extend(wrong(&answer, 400, code, query));
        if !target.is_empty() {
            assert_eq!(answer.body()["error"]["target"], target, "{query}: {}", answer.text);
        }
    }
    let cut = format!("{}?api-version=", world.fleet("q"));
    for (version, code) in [
        ("", "MissingApiVersionParameter"),
        ("latest", "InvalidApiVersionParameter"),
        ("2026-06-01,2026-06-01", "InvalidApiVersionParameter"),
        ("2026-6-1", "InvalidApiVersionParameter"),
        ("2026-02-30", "InvalidApiVersionParameter"),
        ("2026-06-01-PREVIEW", "NoRegisteredProviderFound"),
        ("9999-12-31", "NoRegisteredProviderFound"),
        ("%00", "InvalidQueryParameter"),
    ] {
        let answer = raw(&world, "GET", format!("{cut}{version}"), &[]).await;
        findings.extend(wrong(&answer, 400, code, version));
    }
    // The list of the provider's operations parses its query in the same way.
    let operations = "/providers/Microsoft.ContainerService/operations";
    for (query, status) in
        [("api%2Dversion=2026-06-01", 200), ("", 400), ("api-version=2026-06-01&api-version=2023-10-15", 400)]
    {
        let answer = raw(&world, "GET", format!("{operations}?{query}"), &[]).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
    }
    let metadata = raw(&world, "GET", "/metadata/endpoints?api%2Dversion=%ff&a=1&a=2&%zz", &[]).await;
    assert!(metadata.status < 500, "{}", metadata.text);
    assert_none(&findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_headers_are_refused() {
    let world = world().await;
    let mut findings = Vec::new();
    let fleet = world.fleet("f");
    let target = format!("{fleet}?{VERSION}");
    let etag = world.get(&fleet).await.body["eTag"].as_str().unwrap().to_owned();
    // A malformed condition is refused, and never ignored.
    let unmet: [&[u8]; 8] = [
        b"garbage",
        b"\"",
        b"\"\"",
        b"\xff\xfe",
        b"\"\xe9\"",
        b"W/",
        b"**",
        b"\"00000000-0000-0000-0000-00000000000g\"",
    ];
    for value in unmet {
        let answer = raw(&world, "DELETE", &target, &[("If-Match", value)]).await;
        findings.extend(wrong(&answer, 412, "PreconditionFailed", &String::from_utf8_lossy(value)));
    }
    for value in [&b"\"x\""[..], b"\xff", b"garbage"] {
        let answer = raw(&world, "DELETE", &target, &[("If-None-Match", value)]).await;
        findings.extend(wrong(&answer, 400, "InvalidHeaderValue", &String::from_utf8_lossy(value)));
    }
    let both = raw(&world, "DELETE", &target, &[("If-Match", etag.as_bytes()), ("If-None-Match", b"*")]).await;
    findings.extend(wrong(&both, 400, "InvalidHeaderValue", "both"));
    assert_eq!(world.get(&fleet).await.body["eTag"], etag, "nothing changed");

    // The service replaces request IDs that would break the log or the answer.
    let long = "a".repeat(10_000);
    for value in [long.as_bytes(), b"a b", b"\xff", b"a\tb", b"<script>"] {
        let headers: [(&str, &[u8]); 3] = [
            ("x-ms-client-request-id", value),
            ("x-ms-correlation-request-id", value),
            ("x-ms-return-client-request-id", b"true"),
        ];
        let answer = raw(&world, "GET", &target, &headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.header("x-ms-client-request-id").is_none() && answer.head.len() < 2_000, "{}", answer.head);
    }
    for value in [&b""[..], b"Bearer", b"Bearer ", b"bearer \xff", b"Bearer a b", b"Basic dTpw", long.as_bytes()] {
        let answer = raw(&world, "GET", &target, &[("authorization", value)]).await;
        assert_eq!(answer.status, 401, "{}: {}", String::from_utf8_lossy(value), answer.text);
        assert!(!answer.code().is_empty() && answer.header("www-authenticate").is_some(), "{}", answer.head);
    }
    let large = raw(&world, "GET", &target, &[("x-large", "x".repeat(100_000).as_bytes())]).await;
    assert_eq!(large.status, 200, "{}", large.head);
    // Headers larger than the HTTP server accepts are refused before the request is parsed.
    let huge = raw(&world, "GET", &target, &[("x-huge", "x".repeat(1_000_000).as_bytes())]).await;
    assert_eq!(huge.status, 431, "{}", huge.head);
    let many: Vec<(&str, &[u8])> = (0..200).map(|_| ("x-many", &b"1"[..])).collect();
    assert_eq!(raw(&world, "GET", &target, &many).await.status, 431);

    // Links have the host that the caller asked, if it is one of the service's hosts, and never a malformed host.
    assert_eq!(
        world
            .put(&format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg2"), json!({"location": "eastus"}))
            .await
            .status,
        201
    );
    let groups = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups?api-version=2024-11-01&$top=1");
    for (host, base) in [
        ("localhost", "http://localhost/"),
        ("LOCALHOST:8443", "http://localhost:8443/"),
        ("[::1]:8443", "http://[::1]:8443/"),
        ("", &*format!("{}/", world.url)),
    ] {
        let list = raw(&world, "GET", &groups, &[("host", host.as_bytes())]).await;
        let link = list.body()["nextLink"].as_str().unwrap_or_default().to_owned();
        assert!(link.starts_with(base), "{host}: {} {}", list.head, list.text);
    }
    for (host, status) in [
        ("fleet.example", 421),
        ("user@localhost", 400),
        ("localhost/path?x", 400),
        ("localhost#x", 400),
        ("localhost\\x", 400),
        ("localhost, b", 400),
    ] {
        let list = raw(&world, "GET", &groups, &[("host", host.as_bytes())]).await;
        assert_eq!(list.status, status, "{host}: {} {}", list.head, list.text);
    }
    assert_none(&findings);
}
