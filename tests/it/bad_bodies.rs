//! Bodies that are not a JSON object, too large, too deep or ambiguous get a precise 4xx and change nothing.

use serde_json::{Value, json};

use crate::harness::{
    raw::{self, RawAnswer},
    world::{Options, World, upgrade_to},
};

const LIMIT: usize = 64 * 1024;

struct Sent<'a> {
    world: &'a World,
    method: &'static str,
    path: String,
}

impl Sent<'_> {
    /// Sends bytes as they are, under this media type.
    async fn with(&self, media: Option<&str>, body: &[u8]) -> RawAnswer {
        let length = format!("content-length: {}\r\n\r\n", body.len());
        self.bytes(media, &[length.as_bytes(), body].concat()).await
    }

    async fn json(&self, body: impl AsRef<[u8]>) -> RawAnswer {
        self.with(Some("application/json"), body.as_ref()).await
    }

    /// Sends the last headers and the body.
    async fn bytes(&self, media: Option<&str>, rest: &[u8]) -> RawAnswer {
        let address = self.world.url.trim_start_matches("http://");
        let media = media.map(|media| format!("content-type: {media}\r\n")).unwrap_or_default();
        let head = format!(
            "{} {}?api-version=2026-06-01 HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nconnection: close\r\n{media}",
            self.method, self.path, self.world.token,
        );
        raw::exchange(address, &[head.as_bytes(), rest].concat()).await
    }
}

/// Checks status and code of an ARM error body.
fn assert_refused(answer: &RawAnswer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {} {}", answer.head, answer.text);
    assert_eq!(answer.header("x-ms-error-code"), Some(code), "{what}");
    let message = answer.body()["error"]["message"].as_str().unwrap_or_default().len();
    assert!((1..5_000).contains(&message), "{what}: a message of {message} bytes");
}

/// A world with a small limit for bodies, and all operations in it that accept a body.
async fn world() -> (World, Vec<(&'static str, String)>) {
    let env = vec![("FLEET_MAX_BODY_BYTES", LIMIT.to_string())];
    let world = World::start_with(Options { env, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m", 1, "g")]).await;
    let gates = json!([{"type": "Approval"}]);
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g"}], "beforeGates": gates}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    let waiting = |status: &Value| status["status"]["state"] == "Pending";
    world.until(&run, std::time::Duration::from_secs(30), "at its gate", waiting).await;
    let gates = world.get(&format!("{fleet}/gates")).await.body;
    let gate = gates["value"][0]["id"].as_str().unwrap().to_owned();
    let paths = vec![
        ("PUT", fleet.clone()),
        ("PATCH", fleet.clone()),
        ("PUT", world.fleet("new")),
        ("PUT", format!("{fleet}/members/m")),
        ("PATCH", format!("{fleet}/members/m")),
        ("PUT", format!("{fleet}/updateStrategies/s")),
        ("PUT", format!("{fleet}/autoUpgradeProfiles/p")),
        ("PUT", run.clone()),
        ("POST", format!("{run}/skip")),
        ("PATCH", gate),
        ("PUT", fleet.split("/providers").next().unwrap().to_owned()),
        ("PATCH", fleet.split("/providers").next().unwrap().to_owned()),
    ];
    (world, paths)
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_with_a_body_accept_one_json_object() {
    let (world, paths) = world().await;
    let deep =
        |open: &str, close: &str, times: usize| format!("{{\"a\":{}1{}}}", open.repeat(times), close.repeat(times));
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("blank", b" \r\n\t".to_vec()),
        ("null", b"null".to_vec()),
        ("array", b"[]".to_vec()),
        ("array of objects", b"[{}]".to_vec()),
        ("number", b"1".to_vec()),
        ("string", b"\"{}\"".to_vec()),
        ("true", b"true".to_vec()),
        ("two", b"{}{}".to_vec()),
        ("cut", b"{\"location\":\"eastus\"".to_vec()),
        ("comment", b"{} // x".to_vec()),
        ("trailing comma", b"{\"a\":1,}".to_vec()),
        ("single quotes", b"{'a':1}".to_vec()),
        ("NaN", b"{\"a\":NaN}".to_vec()),
        ("too large a number", b"{\"a\":1e999}".to_vec()),
        ("invalid UTF-8", b"{\"a\":\"\xff\"}".to_vec()),
        ("overlong UTF-8", b"{\"a\":\"\xc0\xaf\"}".to_vec()),
        ("lone surrogate", b"{\"a\":\"\\ud800\"}".to_vec()),
        ("control character", b"{\"a\":\"\x01\"}".to_vec()),
        ("UTF-16", utf16),
        ("NUL", b"{\"a\":\"\\u0000\"}".to_vec()),
        ("NUL in a name", b"{\"a\\u0000\":1}".to_vec()),
        ("NUL bytes", vec![0; 10]),
        ("deep objects", deep("{\"a\":", "}", 9_000).into_bytes()),
        ("deep arrays", deep("[", "]", 30_000).into_bytes()),
        ("deep, never closed", b"[".repeat(60_000)),
        ("form", b"location=eastus".to_vec()),
        ("XML", b"<fleet/>".to_vec()),
    ];
    for (method, path) in paths {
        let sent = Sent { world: &world, method, path };
        for (what, body) in &broken {
            let what = format!("{method} {} {what}", sent.path);
            assert_refused(&sent.json(body).await, 400, "InvalidRequestContent", &what);
        }
        for media in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonp"),
            Some("json"),
            Some("\u{e9}"),
        ] {
            let answer = sent.with(media, b"{}").await;
            assert_refused(&answer, 415, "UnsupportedMediaType", &format!("{method} {} {media:?}", sent.path));
        }
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(LIMIT));
        let what = format!("{method} {} too large", sent.path);
        assert_refused(&sent.json(&large).await, 413, "RequestEntityTooLarge", &what);
        // The same body in chunks, so that its size is not announced.
        let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
        let chunked = format!("transfer-encoding: chunked\r\n\r\n{chunk}");
        let answer = sent.bytes(Some("application/json"), chunked.as_bytes()).await;
        assert_refused(&answer, 413, "RequestEntityTooLarge", &what);
    }
    assert_eq!(world.get(&world.fleet("new")).await.status, 404);
    let fleet = world.get(&world.fleet("f")).await;
    assert_eq!((fleet.status, &fleet.body["tags"]), (200, &Value::Null), "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_names_in_an_object_are_refused() {
    let (world, _) = world().await;
    let fleet = world.fleet("f");
    let group = fleet.split("/providers").next().unwrap().to_owned();
    let cluster = World::cluster(1);
    let upgrade = r#""upgrade":{"type":"NodeImageOnly","type":"Full"}"#;
    for (method, path, body, target) in [
        ("PUT", world.fleet("new"), r#"{"location":"eastus","location":"westus"}"#.to_owned(), "location"),
        // A name that occurs twice with the same value is refused too.
        ("PUT", world.fleet("new"), r#"{"location":"eastus","location":"eastus"}"#.to_owned(), "location"),
        ("PUT", world.fleet("new"), r#"{"location":"eastus","locatio\u006e":"westus"}"#.to_owned(), "location"),
        ("PATCH", fleet.clone(), r#"{"tags":{"a":"1","b":"2","a":"3"}}"#.to_owned(), "tags.a"),
        ("PUT", group, r#"{"location":"eastus","tags":{},"tags":{}}"#.to_owned(), "tags"),
        (
            "PUT",
            format!("{fleet}/members/m"),
            format!(r#"{{"properties":{{"clusterResourceId":"{cluster}","group":"a","group":"b"}}}}"#),
            "properties.group",
        ),
        (
            "PUT",
            format!("{fleet}/updateStrategies/s"),
            r#"{"properties":{"strategy":{"stages":[{"name":"a"},{"name":"b","groups":[{"name":"x","name":"y"}]}]}}}"#
                .to_owned(),
            "properties.strategy.stages[1].groups[0].name",
        ),
        (
            "PUT",
            format!("{fleet}/updateRuns/x"),
            format!(r#"{{"properties":{{"managedClusterUpdate":{{{upgrade}}}}}}}"#),
            "properties.managedClusterUpdate.upgrade.type",
        ),
        (
            "POST",
            format!("{fleet}/updateRuns/r/skip"),
            r#"{"targets":[{"type":"Group","name":"g","name":"h"}]}"#.to_owned(),
            "targets[0].name",
        ),
        // Unknown properties are checked for duplicates too.
        ("PATCH", fleet.clone(), r#"{"unknown":[[{"a":{"b":1,"b":2}}]]}"#.to_owned(), "unknown[0][0].a.b"),
    ] {
        let answer = Sent { world: &world, method, path: path.clone() }.json(&body).await;
        assert_refused(&answer, 400, "InvalidRequestContent", &format!("{method} {path} {body}"));
        let error = &answer.body()["error"];
        assert_eq!(error["target"], target, "{body}: {error}");
        let name = target.rsplit('.').next().unwrap();
        assert!(error["message"].as_str().unwrap().contains(&format!("'{name}'")), "{body}: {error}");
    }
    let long = format!(r#"{{"{0}":1,"{0}":2}}"#, "x".repeat(20_000));
    let answer = Sent { world: &world, method: "PATCH", path: fleet.clone() }.json(&long).await;
    assert_refused(&answer, 400, "InvalidRequestContent", "a long name");
    assert!(answer.text.len() < 5_000, "an answer of {} bytes", answer.text.len());
    // Names in different objects, or in another case, are different names.
    let fine = r#"{"tags":{"a":"1","A":"2"},"identity":{"type":"None"}}"#;
    let answer = Sent { world: &world, method: "PATCH", path: fleet }.json(fine).await;
    assert!(answer.status == 200 || answer.code() == "InvalidParameter", "{}", answer.text);
    assert_eq!(world.get(&world.fleet("new")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_and_mislabelled_bodies_are_refused() {
    let (world, _) = world().await;
    let sent = Sent { world: &world, method: "PUT", path: world.fleet("new") };
    let body = r#"{"location":"eastus"}"#;
    for (what, rest) in [
        ("two lengths", format!("content-length: 3\r\ncontent-length: {}\r\n\r\n{body}", body.len())),
        ("a negative length", format!("content-length: -1\r\n\r\n{body}")),
        ("no number", format!("content-length: 0x15\r\n\r\n{body}")),
        ("a bad chunk", format!("transfer-encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n")),
        ("an unknown coding", format!("transfer-encoding: gzip\r\n\r\n{body}")),
    ] {
        let answer = sent.bytes(Some("application/json"), rest.as_bytes()).await;
        assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.head, answer.text);
    }
    // The body of an operation without one is not read.
    let start = Sent { world: &world, method: "POST", path: format!("{}/updateRuns/r/stop", world.fleet("f")) };
    let answer = start.with(Some("text/plain"), b"garbage").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let get = Sent { world: &world, method: "GET", path: world.fleet("f") };
    assert_eq!(get.with(Some("text/plain"), &b"x".repeat(2 * LIMIT)).await.status, 200);
    assert_eq!(world.get(&world.fleet("new")).await.status, 404);
    // A body of exactly the largest size is accepted.
    let body = format!(r#"{{"location":"eastus","unknown":"{}"}}"#, "x".repeat(LIMIT));
    let exact = &body.as_bytes()[..body.len()];
    let over = exact.len() - LIMIT;
    let body = body.replacen(&"x".repeat(over), "", 1);
    assert_eq!(body.len(), LIMIT);
    let answer = sent.json(&body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}
