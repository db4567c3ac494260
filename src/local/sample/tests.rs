//! The sample against the real emulator, and against a stand-in for the service that remembers what it is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    http::{Method, StatusCode, Uri},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;

/// Resources by path, and how often each run was read since it was started.
#[derive(Default)]
struct Kept {
    resources: BTreeMap<String, Value>,
    reads: BTreeMap<String, u32>,
}

/// Members are not made at once, runs run for three reads, and nothing is there but what was put.
fn answer(kept: &Mutex<Kept>, method: &Method, uri: &Uri, body: &[u8]) -> (StatusCode, Json<Value>) {
    let mut kept = kept.lock().unwrap();
    let path = uri.path().to_owned();
    assert_eq!(uri.query(), Some("api-version=2026-06-01"), "{method} {path}");
    let run = |reads: Option<&u32>| match reads {
        None => "NotStarted",
        Some(0..3) => "Running",
        Some(_) => "Completed",
    };
    match *method {
        Method::PUT => {
            let mut body: Value = serde_json::from_slice(body).unwrap();
            if path.contains("/members/") {
                body["properties"]["provisioningState"] = "Joining".into();
            }
            kept.resources.insert(path, body.clone());
            (StatusCode::CREATED, Json(body))
        }
        Method::POST => {
            let run = path.strip_suffix("/start").unwrap();
            assert!(kept.resources.contains_key(run), "{run}");
            kept.reads.insert(run.to_owned(), 0);
            (StatusCode::OK, Json(Value::Null))
        }
        _ if path.ends_with("/updateRuns") => {
            let runs = kept.resources.keys().filter_map(|key| key.strip_prefix(&format!("{path}/")));
            (StatusCode::OK, Json(json!({"value": runs.map(|name| json!({"name": name})).collect::<Vec<_>>()})))
        }
        _ if path.ends_with("/resourceGroups") => (StatusCode::OK, Json(json!({"value": []}))),
        _ => {
            let Some(mut resource) = kept.resources.get(&path).cloned() else {
                let error = json!({"error": {"code": "ResourceNotFound", "message": "no such thing"}});
                return (StatusCode::NOT_FOUND, Json(error));
            };
            resource["properties"]["provisioningState"] = "Succeeded".into();
            if path.contains("/updateRuns/") {
                let state = run(kept.reads.get(&path));
                resource["properties"]["status"] = json!({"status": {"state": state}, "nodeImageSelection": {}});
                kept.reads.entry(path).and_modify(|reads| *reads += 1);
            }
            (StatusCode::OK, Json(resource))
        }
    }
}

struct World {
    sample: SampleFleet,
    kept: Arc<Mutex<Kept>>,
    _stop: tokio_util::sync::DropGuard,
}

impl World {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stop = CancellationToken::new();
        let (at_arm, arm) = listener().await;
        tokio::spawn(azure_emulator::Emulator::new(azure_emulator::Config::default()).serve(at_arm, stop.clone()));
        let kept = Arc::new(Mutex::new(Kept::default()));
        let (at_service, service) = listener().await;
        let shared = Arc::clone(&kept);
        let router = Router::new().fallback(move |method: Method, uri: Uri, body: Bytes| {
            let answer = answer(&shared, &method, &uri, &body);
            async move { answer }
        });
        let ended = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(at_service, router).with_graceful_shutdown(ended).await });
        Self { sample: SampleFleet::new(&service, &arm, "token".into(), None).unwrap(), kept, _stop: stop.drop_guard() }
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn makes_the_fleet_and_follows_its_runs() {
    let World { sample, kept, _stop } = World::new().await;
    sample.ready().await.unwrap();
    assert_eq!(sample.newest_run().await.unwrap(), None);

    let plan = sample.plan().await.unwrap();
    assert_eq!(plan.members.len(), 12);
    assert_eq!(plan.first["upgrade"]["type"], "Full");
    sample.make(&plan).await.unwrap();
    let made = kept.lock().unwrap().resources.clone();
    assert_eq!(made.len(), 1 + 1 + 12 + 1);
    assert!(made.keys().any(|path| path.ends_with("/fleets/fleet1/members/aks-12")), "{made:?}");

    let now = "2026-11-21T23:58:30Z".parse().unwrap();
    let opens = sample.close_window(plan.closed.as_ref().unwrap(), now).await.unwrap();
    assert_eq!(opens.to_string(), "2026-11-22T00:00:00Z");

    let run = next_run(sample.newest_run().await.unwrap().as_deref());
    assert_eq!(run, "run-1");
    sample.make_run(&run, &plan.first).await.unwrap();
    let mut shown = 0;
    assert_eq!(sample.watch(&run, |_| shown += 1).await.unwrap(), Some(UpdateState::Completed));
    assert!(shown > 1);
    assert_eq!(next_run(sample.newest_run().await.unwrap().as_deref()), "run-2");
}

#[tokio::test]
async fn a_run_that_is_deleted_while_it_is_shown_is_no_error() {
    let World { sample, kept, _stop } = World::new().await;
    let plan = sample.plan().await.unwrap();
    sample.make_run("run-1", &plan.first).await.unwrap();
    let deleted = sample
        .watch("run-1", |status| {
            assert_eq!(status.status.state, UpdateState::Running);
            kept.lock().unwrap().resources.retain(|path, _| !path.ends_with("/updateRuns/run-1"));
        })
        .await;
    assert_eq!(deleted.unwrap(), None);
}

#[tokio::test]
async fn says_what_was_refused_and_who_did_not_answer() {
    let World { sample, _stop, .. } = World::new().await;
    let refused = sample.status("run-9").await.unwrap_err().to_string();
    assert!(refused.contains("404 Not Found: ResourceNotFound no such thing"), "{refused}");
    assert!(refused.contains("/fleets/fleet1/updateRuns/run-9"), "{refused}");

    let (closed, url) = listener().await;
    drop(closed);
    let nobody = SampleFleet::new(&url, &url, "token".into(), None).unwrap();
    assert!(matches!(nobody.plan().await, Err(SampleError::Unreachable { .. })));
}
