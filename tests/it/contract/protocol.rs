//! ARM's protocol around the resources: conditions, asynchronous operations, versions, and many at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::world::{Answer, Options, World, upgrade_to};

const STALE: &str = "\"00000000-0000-0000-0000-000000000000\"";

/// A resource of each type with a PUT: its path and a body.
async fn one_of_each(world: &World, fleet: &str) -> Vec<(String, Value)> {
    let stages = json!({"stages": [{"name": "s", "groups": [{"name": "g"}]}]});
    let all = vec![
        (fleet.to_owned(), json!({"location": "eastus"})),
        (format!("{fleet}/members/m"), json!({"properties": {"clusterResourceId": World::cluster(1), "group": "g"}})),
        (format!("{fleet}/updateStrategies/s"), json!({"properties": {"strategy": stages}})),
        (
            format!("{fleet}/updateRuns/r"),
            json!({"properties": {"strategy": stages, "managedClusterUpdate": upgrade_to("Full", "1.33.2")}}),
        ),
        (format!("{fleet}/autoUpgradeProfiles/p"), json!({"properties": {"channel": "Rapid", "disabled": true}})),
    ];
    for (path, body) in &all {
        // On a missing resource only `If-None-Match: *` holds.
        for (header, value) in [("If-Match", "*"), ("If-Match", STALE)] {
            let answer = world.call_with("PUT", path, Some(body.clone()), &[(header, value)]).await;
            assert_eq!((answer.status, answer.code()), (412, "PreconditionFailed"), "{path} {header}: {value}");
        }
        assert_eq!(world.get(path).await.status, 404, "{path}");
        let made = world.call_with("PUT", path, Some(body.clone()), &[("If-None-Match", "*")]).await;
        assert_eq!(made.status, 201, "{path}: {}", made.body);
        world.settled(path).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_for_every_type_and_verb() {
    let world = World::start().await;
    let fleet = world.fleet("f");
    let all = one_of_each(&world, &fleet).await;
    let etag = async |path: &str| world.settled(path).await["eTag"].as_str().unwrap().to_owned();
    for (path, body) in &all {
        let before = world.get(path).await.body;
        let tag = etag(path).await;
        let refused: [(&[(&str, &str)], u16); 5] = [
            (&[("If-Match", STALE)], 412),
            (&[("If-Match", "garbage")], 412),
            (&[("If-None-Match", "*")], 412),
            (&[("If-None-Match", &tag)], 400),
            (&[("If-Match", "*"), ("If-None-Match", "*")], 400),
        ];
        for (headers, status) in refused {
            let answer = world.call_with("PUT", path, Some(body.clone()), headers).await;
            assert_eq!(answer.status, status, "PUT {path} {headers:?}: {}", answer.body);
        }
        let answer = world.call_with("DELETE", path, None, &[("If-Match", STALE)]).await;
        assert_eq!((answer.status, answer.code()), (412, "PreconditionFailed"), "DELETE {path}");
        assert_eq!(world.get(path).await.body, before, "nothing changed");
        for value in ["*", tag.as_str()] {
            let answer = world.call_with("PUT", path, Some(body.clone()), &[("If-Match", value)]).await;
            assert_eq!(answer.status, 200, "PUT {path} If-Match: {value}: {}", answer.body);
            world.settled(path).await;
            if value == "*" {
                // The former ETag is stale now, unless the PUT changed nothing.
                assert!(etag(path).await != tag || path.contains("updateRuns"), "{path}");
                break;
            }
        }
        let tag = etag(path).await;
        let answer = world.call_with("PUT", path, Some(body.clone()), &[("If-Match", &tag)]).await;
        assert_eq!(answer.status, 200, "PUT {path} with its own tag: {}", answer.body);
        world.settled(path).await;
    }

    for (path, change) in
        [(&fleet, json!({"tags": {"a": "b"}})), (&format!("{fleet}/members/m"), json!({"properties": {"group": "g"}}))]
    {
        for (header, value, status) in [("If-Match", STALE, 412), ("If-None-Match", "*", 412), ("If-Match", "*", 200)] {
            let answer = world.call_with("PATCH", path, Some(change.clone()), &[(header, value)]).await;
            assert_eq!(answer.status, status, "PATCH {path} {header}: {value}: {}", answer.body);
        }
        let tag = etag(path).await;
        let patched = world.call_with("PATCH", path, Some(change.clone()), &[("If-Match", &tag)]).await;
        assert_eq!(patched.status, 200, "{}", patched.body);
        assert_ne!(patched.body["eTag"], tag.as_str(), "a change is a new version");
    }
    let run = format!("{fleet}/updateRuns/r");
    for action in ["start", "stop", "skip"] {
        let body = json!({"targets": [{"type": "Stage", "name": "s"}]});
        let answer = world.call_with("POST", &format!("{run}/{action}"), Some(body), &[("If-Match", STALE)]).await;
        assert_eq!(answer.status, 412, "{action}");
    }
    for (path, _) in all.iter().rev() {
        let tag = etag(path).await;
        let answer = world.call_with("DELETE", path, None, &[("If-Match", &tag)]).await;
        let expected: &[u16] = if path.contains("autoUpgradeProfiles") { &[204] } else { &[200, 202] };
        assert!(expected.contains(&answer.status), "DELETE {path}: {}", answer.body);
        gone(&world, path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_is_completed_only_with_its_current_etag() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m", 1, "g")]).await;
    let gates = json!([{"type": "Approval"}]);
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g"}], "beforeGates": gates}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.reaches(&run, "Pending", Duration::from_secs(20)).await;
    let gate = world.get(&format!("{fleet}/gates")).await.body["value"][0].clone();
    let (path, tag) = (gate["id"].as_str().unwrap(), gate["eTag"].as_str().unwrap());
    let open = json!({"properties": {"state": "Completed"}});
    for (headers, status) in [
        (&[("If-Match", STALE)][..], 412),
        (&[("If-None-Match", "*")], 412),
        (&[("If-None-Match", tag)], 400),
        (&[("If-Match", "*"), ("If-None-Match", "*")], 400),
    ] {
        let answer = world.call_with("PATCH", path, Some(open.clone()), headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
    }
    assert_eq!(world.get(path).await.body["eTag"], tag, "nothing changed");
    let opened = world.call_with("PATCH", path, Some(open.clone()), &[("If-Match", tag)]).await;
    assert_eq!((opened.status, &opened.body["properties"]["state"]), (200, &json!("Completed")));
    let late = world.call_with("PATCH", path, Some(open), &[("If-Match", tag)]).await;
    assert_eq!(late.status, 412, "what was seen is no longer so");
    world.reaches(&run, "Completed", Duration::from_secs(30)).await;
}

async fn gone(world: &World, path: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.get(path).await.status != 404 {
        assert!(Instant::now() < deadline, "{path} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_urls_have_the_requested_host() {
    let env = vec![
        ("FLEET_PUBLIC_URL", "http://fleet.example:4443".to_owned()),
        ("FLEET_INSECURE_LOCAL_AUTH", "true".to_owned()),
    ];
    let world = World::start_with(Options { env, ..Options::default() }).await;
    let fleet = world.fleet("f");
    let host = [("Host", "fleet.example:4443")];
    let made = world.call_with("PUT", &fleet, Some(json!({"location": "eastus"})), &host).await;
    assert_eq!(made.status, 201);
    let monitor = made.header("azure-asyncoperation").unwrap().to_owned();
    assert!(monitor.starts_with("http://fleet.example:4443/subscriptions/"), "{monitor}");
    assert_eq!((made.header("retry-after"), made.header("location")), (Some("1"), None));
    let here = |url: &str| url.replace("http://fleet.example:4443", "");
    let over = async |url: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = world.get(url).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            if answer.body["status"] != "InProgress" {
                return answer;
            }
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert!(Instant::now() < deadline, "{}", answer.body);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = over(&here(&monitor)).await;
    assert_eq!(status.body["status"], "Succeeded");
    let names: Vec<&String> = status.body.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 4, "name, status, startTime and endTime: {names:?}");
    assert!(monitor.contains(status.body["name"].as_str().unwrap()));

    // A join that fails says why, in the operation and on the member.
    let member = format!("{fleet}/members/m");
    let body = json!({"properties": {"clusterResourceId": World::cluster(999)}});
    let joining = world.put(&member, body).await;
    let failed = over(&here(joining.header("azure-asyncoperation").unwrap())).await;
    assert_eq!((failed.status, &failed.body["status"]), (200, &json!("Failed")));
    let shown = world.get(&member).await.body;
    assert_eq!(shown["properties"]["status"]["lastOperationError"]["code"], failed.body["error"]["code"]);

    let left = world.call_with("DELETE", &member, None, &host).await;
    assert_eq!((left.status, left.header("retry-after")), (202, Some("1")));
    let result = left.header("location").unwrap().to_owned();
    assert!(result.starts_with("http://fleet.example:4443/") && result.contains("/operationresults/"), "{result}");
    assert_eq!(over(&here(left.header("azure-asyncoperation").unwrap())).await.body["status"], "Succeeded");
    let result = world.call_with("GET", &here(&result), None, &host).await;
    assert_eq!((result.status, result.header("location").is_some()), (204, true));
    // The operation is shown in any API version, but not under another subscription or an unknown one.
    let other = monitor.replace("2016-03-30", "1999-01-01");
    assert_eq!(world.get(&here(&other)).await.status, 200);
    let other = here(&monitor).replace("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002");
    assert_eq!(world.get(&other).await.status, 404);
}

fn at(path: &str, version: &str) -> String {
    format!("{path}?api-version={version}")
}

const OLDEST: &str = "2023-10-15";
const STABLE: &str = "2026-06-01";
const PREVIEW: &str = "2026-06-02-preview";

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_that_puts_what_it_read_loses_nothing() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let gates = json!([{"type": "Approval", "displayName": "go"}]);
    let stages = json!({"stages": [{"name": "s", "maxConcurrency": "5", "maxAllowedFailures": "25%", "beforeGates": gates,
        "afterGates": gates, "afterStageWaitInSeconds": 60,
        "groups": [{"name": "g", "maxConcurrency": "50%", "maxAllowedFailures": "1", "afterGates": gates}]}]});
    let member = json!({"clusterResourceId": World::cluster(1), "group": "g", "labels": {"team": "a"}});
    let run = json!({"strategy": stages, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    for (path, properties) in [
        (format!("{fleet}/members/m"), member),
        (format!("{fleet}/updateStrategies/s"), json!({"strategy": stages})),
        (format!("{fleet}/updateRuns/r"), run),
    ] {
        let made = world.put(&at(&path, PREVIEW), json!({"properties": properties})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let full = world.settled(&at(&path, PREVIEW)).await;
        let old = world.get(&at(&path, OLDEST)).await.body;
        let text = old.to_string();
        for later in ["maxConcurrency", "maxAllowedFailures", "failureCount", "Gates", "labels", "lastOperationId"] {
            assert!(!text.contains(later), "{later} is not in {OLDEST}: {old:#}");
        }
        let put = world.put(&at(&path, OLDEST), old.clone()).await;
        assert_eq!(put.status, 200, "{}", put.body);
        let after = world.settled(&at(&path, PREVIEW)).await;
        let without_status = |body: &Value| {
            let mut body = body["properties"].clone();
            body.as_object_mut().unwrap().remove("status");
            body
        };
        assert_eq!(without_status(&after), without_status(&full), "{path}");
        let again = world.settled(&at(&path, OLDEST)).await;
        assert_eq!(again["properties"], old["properties"], "{path}");
    }
    // Stable versions neither show nor accept preview properties.
    let strategy = format!("{fleet}/updateStrategies/s");
    let stable = world.get(&at(&strategy, STABLE)).await.body;
    assert_eq!(stable["properties"]["strategy"]["stages"][0]["maxConcurrency"], "5");
    assert!(!stable.to_string().contains("maxAllowedFailures"), "{stable}");
    let other = format!("{fleet}/updateStrategies/t");
    let made = world.put(&at(&other, STABLE), json!({"properties": {"strategy": stages}})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let shown = world.get(&at(&other, PREVIEW)).await.body;
    assert!(!shown.to_string().contains("maxAllowedFailures"), "{shown}");
    // Actions have versions too.
    let skip = format!("{fleet}/updateRuns/r/skip");
    let targets = json!({"targets": [{"type": "Stage", "name": "s"}]});
    let refused = world.post(&at(&skip, OLDEST), Some(targets.clone())).await;
    assert_eq!((refused.status, refused.code()), (400, "NoRegisteredProviderFound"), "{}", refused.body);
    assert_eq!(world.post(&at(&skip, "2024-04-01"), Some(targets)).await.status, 200);
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creations_create_one_resource() {
    let world = World::start().await;
    let fleet = world.fleet("f");
    let stages = json!({"stages": [{"name": "s", "groups": [{"name": "g"}]}]});
    let run = json!({"properties": {"strategy": stages, "managedClusterUpdate": upgrade_to("Full", "1.33.2")}});
    for (path, body) in [
        (fleet.clone(), json!({"location": "eastus"})),
        (format!("{fleet}/updateStrategies/s"), json!({"properties": {"strategy": stages}})),
        (format!("{fleet}/updateRuns/r"), run),
    ] {
        let answers = join_all((0..20).map(|_| world.put(&path, body.clone()))).await;
        let statuses = statuses(&answers);
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{path}: {statuses:?}");
        assert!(statuses.iter().all(|status| [200, 201, 409].contains(status)), "{path}: {statuses:?}");
        world.settled(&path).await;
    }
    let join = |n: usize| {
        let (world, path) = (&world, format!("{fleet}/members/m{n}"));
        async move { world.put(&path, json!({"properties": {"clusterResourceId": World::cluster(1)}})).await }
    };
    let answers = join_all((0..20).map(join)).await;
    let joined: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(joined.len(), 1, "{:?}", statuses(&answers));
    assert!(answers.iter().all(|a| a.status == 201 || (a.status, a.code()) == (409, "ClusterAlreadyJoined")));
    let list = world.get(&format!("{fleet}/members")).await.body;
    assert_eq!(list["value"].as_array().unwrap().len(), 1, "what was refused left nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_select_images_says_why() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m", 1, "g")]).await;
    let broken = json!({"match": {"method": "GET", "path": "managedClusters"}, "times": 200,
        "action": {"status": 403, "code": "AuthorizationFailed", "message": "no right to list"}});
    world.fault(broken).await;
    let update = json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Consistent"}});
    let run = world.start_run(&fleet, "r", json!({"managedClusterUpdate": update})).await;
    let status =
        world.until(&run, Duration::from_secs(20), "explained", |status| status["status"]["error"].is_object()).await;
    assert_eq!(status["status"]["error"]["code"], "NodeImageVersionNotAvailable");
    assert!(status.to_string().contains("no right to list"), "AKS's own words: {status}");
    world.reaches(&run, "Pending", Duration::from_secs(20)).await;
    // The run can be stopped and started again.
    for _ in 0..2 {
        assert_eq!(world.post(&format!("{run}/stop"), None).await.status, 200);
        assert_eq!(world.get(&run).await.body["properties"]["status"]["status"]["state"], "Stopped");
        assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    }
    assert_eq!(world.delete(&run).await.status, 200);
}
