//! The client: requests with the extension's headers, and the checks of its libraries on a response.

use std::time::{Duration, Instant};

use fleet_manager::local::ca;
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::world::{Answer, Options, SUBSCRIPTION, World};

const SOON: Duration = Duration::from_secs(30);

/// A client in one version of the extension.
pub struct Az<'a> {
    world: &'a World,
    version: &'static str,
    /// The fleet of this version's commands.
    pub fleet: String,
}

/// A world served by https, since `az` sends no token over http, and the folder of its certificates.
pub async fn cloud() -> (World, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let files = ca::certificates(home.path(), "127.0.0.1".parse().unwrap(), Timestamp::now()).unwrap();
    let env = vec![
        ("FLEET_TLS_CERT", files.certificate.display().to_string()),
        ("FLEET_TLS_KEY", files.key.display().to_string()),
    ];
    let world = World::start_with(Options { env, tls: Some(files.ca.clone()), ..Options::default() }).await;
    (world, home)
}

impl<'a> Az<'a> {
    /// Returns a client whose commands are for this fleet.
    pub fn new(world: &'a World, version: &'static str, fleet: &str) -> Self {
        Self { world, version, fleet: world.fleet(fleet) }
    }

    /// Sends a request as `az {command}` does.
    pub async fn run(&self, command: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.run_if(command, method, path, body, &[]).await
    }

    pub async fn run_if(
        &self,
        command: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
        conditions: &[(&str, &str)],
    ) -> Answer {
        let id = uuid::Uuid::new_v4().to_string();
        let mut headers = vec![
            (
                "User-Agent",
                "AZURECLI/2.91.0 (PIP) azsdk-python-core/1.35.0 Python/3.12.11 (Linux-6.8.0-x86_64-with-glibc2.39)",
            ),
            ("CommandName", command),
            ("ParameterSetName", "-g -f -n"),
            ("x-ms-client-request-id", &id),
            ("Accept", "application/json"),
            ("Accept-Encoding", "gzip, deflate"),
            ("Connection", "keep-alive"),
        ];
        headers.extend_from_slice(conditions);
        let url = match (path.starts_with("http"), path.contains('?')) {
            (true, _) | (_, true) => path.to_owned(),
            _ => format!("{path}?api-version={}", self.version),
        };
        let answer = self.world.call_with(method, &url, body, &headers).await;
        let what = format!("{command}: {method} {url}: {} {}", answer.status, answer.body);
        assert!(answer.status < 500, "{what}: `az` tries again, three times");
        assert!(answer.header("x-ms-request-id").is_some() && answer.header("content-encoding").is_none(), "{what}");
        assert!(answer.header("etag").is_none(), "{what}: ETags are in bodies");
        assert!(!has_null(&answer.body), "{what}: what is absent is left out");
        if !answer.body.is_null() {
            assert!(answer.header("content-type").unwrap().starts_with("application/json"), "{what}");
        }
        answer
    }

    /// Returns the resource of a response, after checking the properties that every command prints.
    pub fn resource<'b>(&self, answer: &'b Answer, statuses: &[u16], id: &str) -> &'b Value {
        let body = &answer.body;
        assert!(statuses.contains(&answer.status), "{id}: {} {body}", answer.status);
        assert_eq!(body["id"], id);
        assert!(id.contains(&format!("/{}", body["name"].as_str().unwrap())), "{body}");
        let after = id.split("/providers/").nth(1).unwrap().split('/');
        let kind: Vec<&str> =
            after.enumerate().filter(|(at, _)| at % 2 == 1 || *at == 0).map(|(_, word)| word).collect();
        assert_eq!(body["type"], kind.join("/"));
        let etag = body["eTag"].as_str().unwrap_or_else(|| panic!("{body}"));
        assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "its quotes are inside: {etag}");
        assert!(body["properties"]["provisioningState"].is_string(), "{body}");
        let of = &body["systemData"];
        for name in ["createdAt", "lastModifiedAt"] {
            let known =
                of.is_null() || of[name].as_str().is_some_and(|t| t.ends_with('Z') && t.parse::<Timestamp>().is_ok());
            assert!(known, "{of}");
        }
        body
    }

    /// Polls an operation as azure-mgmt-core does, and returns the result. `path` is that of the resource.
    pub async fn finish(&self, command: &str, begun: &Answer, path: &str) -> Answer {
        let url = begun.header("azure-asyncoperation").unwrap_or_else(|| panic!("{command}: {:?}", begun.headers));
        self.check_pointer(url);
        assert_eq!(begun.header("retry-after"), Some("1"), "{command}: without it `az` waits for 30 seconds");
        let deadline = Instant::now() + SOON;
        loop {
            // Azure's own URLs carry a signature behind the version.
            let status = self.run(command, "GET", &format!("{url}&t=1&c=2&s=3&h=4"), None).await;
            assert_eq!(status.status, 200, "{command}: {}", status.body);
            assert!(url.contains(status.body["name"].as_str().unwrap()), "{}", status.body);
            assert!(status.body["startTime"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{}", status.body);
            match status.body["status"].as_str().unwrap() {
                "InProgress" => assert_eq!(status.header("retry-after"), Some("1")),
                "Succeeded" => {
                    assert!(status.body["endTime"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{}", status.body);
                    break;
                }
                other => {
                    assert!(matches!(other, "Failed" | "Canceled"), "{}", status.body);
                    return status;
                }
            }
            assert!(Instant::now() < deadline, "{command}: {}\n{}", status.body, self.world.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match begun.header("location") {
            Some(location) => {
                self.check_pointer(location);
                self.run(command, "GET", location, None).await
            }
            None => self.run(command, "GET", path, None).await,
        }
    }

    fn check_pointer(&self, url: &str) {
        assert!(url.starts_with(&format!("{}/subscriptions/{SUBSCRIPTION}/", self.world.url)), "{url}");
        assert!(url.contains("?api-version="), "{url}");
    }

    pub async fn list(&self, command: &str, path: &str) -> Vec<Value> {
        let answer = self.run(command, "GET", path, None).await;
        assert_eq!(answer.status, 200, "{command}: {}", answer.body);
        assert!(answer.body.get("nextLink").is_none(), "one page: {}", answer.body);
        answer.body["value"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).clone()
    }

    /// Sends `az … delete` of a resource that is deleted synchronously, or does not exist.
    pub async fn delete(&self, command: &str, path: &str) {
        let deleted = self.run(command, "DELETE", path, None).await;
        assert_eq!((deleted.status, deleted.header("content-length")), (200, Some("0")), "{command}: {}", deleted.body);
        assert!(deleted.header("azure-asyncoperation").is_none() && deleted.header("location").is_none());
        assert_eq!(self.run(command, "DELETE", path, None).await.status, 204, "{command}: absent");
        self.missing(command, path).await;
    }

    /// Checks that `az … show` of a missing resource gets 404, for which it exits with 3.
    pub async fn missing(&self, command: &str, path: &str) {
        let answer = self.run(command, "GET", path, None).await;
        assert_eq!((answer.status, answer.code()), (404, "ResourceNotFound"), "{command}: {}", answer.body);
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| item.is_null() || has_null(item)),
        Value::Object(object) => object.values().any(|value| value.is_null() || has_null(value)),
        _ => false,
    }
}

/// The operation ended with the response.
pub fn assert_at_once(answer: &Answer) {
    assert_eq!(answer.body["properties"]["provisioningState"], "Succeeded", "{}", answer.body);
    assert_not_followed(answer);
}

/// The response names no operation to poll.
pub fn assert_not_followed(answer: &Answer) {
    for name in ["azure-asyncoperation", "location", "retry-after"] {
        assert!(answer.header(name).is_none(), "{name}: `az` would poll");
    }
}
