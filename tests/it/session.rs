//! A session over HTTP: the requests of a person with a fleet, and the responses.

use std::time::Duration;

use fleet_manager::model::update_run::UpdateRunStatus;
use serde_json::{Value, json};

use crate::harness::world::{World, members, upgrade_to};

const SOON: Duration = Duration::from_secs(30);

/// Checks that a status document has the names, shapes and enum values of the contract.
fn sound(status: &Value) -> bool {
    let read: UpdateRunStatus = serde_json::from_value(status.clone()).unwrap_or_else(|e| panic!("{e}: {status:#}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *status, "the document has more, or less, than the contract");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_stopped_restarted_and_skipped() {
    let world = World::start().await;
    let names: Vec<String> = (1..=12).map(|n| format!("m{n:02}")).collect();
    let group = |n: usize| ["canary", "staging", "production"][n / 4];
    let list: Vec<(&str, usize, &str)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), n + 1, group(n))).collect();
    let fleet = world.fleet_of("f", &list).await;

    let strategy = json!({"stages": [
        {"name": "one", "groups": [{"name": "canary"}], "afterStageWaitInSeconds": 3600},
        {"name": "two", "groups": [{"name": "staging", "maxConcurrency": "50%"}, {"name": "production", "maxConcurrency": "2"}]},
    ]});
    let path = format!("{fleet}/updateStrategies/s");
    let made = world.put(&path, json!({"properties": {"strategy": strategy}})).await;
    assert_eq!((made.status, &made.body["properties"]["provisioningState"]), (201, &json!("Succeeded")));

    let run = format!("{fleet}/updateRuns/r");
    let properties =
        json!({"properties": {"updateStrategyId": path, "managedClusterUpdate": upgrade_to("Full", "1.33.2")}});
    let made = world.put(&run, properties.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let status = &made.body["properties"]["status"];
    sound(status);
    assert_eq!(made.body["properties"]["strategy"], strategy);
    assert_eq!(status["nodeImageSelection"], json!({}));
    assert_eq!(members(status).len(), 12);
    assert_eq!(status["stages"][0]["afterStageWaitStatus"]["status"]["state"], "NotStarted");
    assert_eq!(status["stages"][1]["groups"][0]["maxConcurrency"], 2);
    // The same PUT again changes nothing.
    let again = world.put(&run, properties).await;
    assert_eq!((again.status, &again.body["eTag"]), (200, &made.body["eTag"]));

    let started = world.post(&format!("{run}/start"), None).await;
    assert_eq!(started.body["properties"]["status"]["status"]["state"], "NotStarted", "as it was before the start");
    assert_eq!(started.body["eTag"], made.body["eTag"]);
    world
        .until(&run, SOON, "past its first member", |s| {
            sound(s) && members(s).iter().any(|m| m["status"]["state"] == "Completed")
        })
        .await;

    let stopped = world.post(&format!("{run}/stop"), None).await;
    assert_eq!(stopped.status, 200);
    world.until(&run, SOON, "Stopped", |s| sound(s) && s["status"]["state"] == "Stopped").await;
    let twice = world.post(&format!("{run}/stop"), None).await;
    assert_eq!((twice.status, twice.code()), (409, "UpdateRunStopped"));

    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let skip = |kind: &str, name: &str| json!({"targets": [{"type": kind, "name": name}]});
    let skipped = world.post(&format!("{run}/skip"), Some(skip("Member", "m12"))).await;
    assert_eq!(skipped.status, 200, "{}", skipped.body);
    let m12 = members(&skipped.body["properties"]["status"]).into_iter().find(|m| m["name"] == "m12").cloned().unwrap();
    assert_eq!((&m12["status"]["state"], &m12["message"]), (&json!("Skipped"), &json!("skipped by request.")));
    assert!(m12["status"]["completedTime"].is_string() && m12["status"]["startTime"].is_null(), "{m12}");

    world
        .until(&run, SOON, "waiting after stage one", |s| {
            sound(s) && s["stages"][0]["afterStageWaitStatus"]["status"]["state"] == "Running"
        })
        .await;
    assert_eq!(world.post(&format!("{run}/skip"), Some(skip("AfterStageWait", "one"))).await.status, 200);
    let status = world.until(&run, SOON, "Completed", |s| sound(s) && s["status"]["state"] == "Completed").await;
    assert_eq!(status["stages"][0]["afterStageWaitStatus"]["status"]["state"], "Skipped");
    let done = members(&status).iter().filter(|m| m["status"]["state"] == "Completed").count();
    assert_eq!(done, 11);
    assert!(world.applied().await.iter().all(|((cluster, _), times)| *times == 1 && !cluster.ends_with("aks-12")));

    // A run over clusters at the target upgrades nothing, and says so.
    let second =
        world.start_run(&fleet, "again", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")}));
    let second = second.await;
    let status = world.reaches(&second, "Completed", SOON).await;
    let skipped: Vec<_> = members(&status).into_iter().filter(|m| m["status"]["state"] == "Skipped").collect();
    assert_eq!(skipped.len(), 11);
    assert!(skipped.iter().all(|m| m["message"].as_str().is_some_and(|text| !text.is_empty())));

    assert_eq!(world.delete(&run).await.status, 200);
    assert_eq!(world.delete(&run).await.status, 204);
    let gone = world.delete(&fleet).await;
    assert_eq!((gone.status, &gone.body["properties"]["provisioningState"]), (202, &json!("Deleting")));
    let location = gone.header("location").unwrap().to_owned();
    let deadline = std::time::Instant::now() + SOON;
    while world.get(&location).await.status == 202 {
        assert!(std::time::Instant::now() < deadline, "the deletion does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.get(&location).await.status, 204);
    assert_eq!(world.get(&fleet).await.code(), "ResourceNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_approval_of_its_gates() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "h")]).await;
    let gate = |text: &str| json!([{"type": "Approval", "displayName": text}]);
    let strategy = json!({"stages": [{"name": "s", "beforeGates": gate("before s"), "groups": [
        {"name": "g", "afterGates": gate("after g")}, {"name": "h"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    let pending = format!("{fleet}/gates?api-version=2026-06-01&%24filter=state%20eq%20Pending");
    for (name, timing) in [("before s", "Before"), ("after g", "After")] {
        world.until(&run, SOON, "at a gate", |s| sound(s) && s["status"]["state"] == "Pending").await;
        let gates = world.get(&pending).await.body["value"].clone();
        assert_eq!(gates.as_array().unwrap().len(), 1, "{gates}");
        assert_eq!(gates[0]["properties"]["displayName"], name);
        assert_eq!(gates[0]["properties"]["target"]["updateRunProperties"]["timing"], timing);
        assert!(gates[0]["systemData"].is_null(), "nobody has touched it");
        let id = gates[0]["id"].as_str().unwrap();
        let wrong = world.patch(id, json!({"properties": {"state": "Skipped"}})).await;
        assert_eq!((wrong.status, wrong.code()), (400, "InvalidParameter"));
        let opened = world.patch(id, json!({"properties": {"state": "Completed"}})).await;
        assert_eq!((opened.status, &opened.body["properties"]["state"]), (200, &json!("Completed")));
        assert!(opened.body["systemData"]["createdBy"].is_string(), "who approved");
    }
    world.until(&run, SOON, "Completed", |s| sound(s) && s["status"]["state"] == "Completed").await;
    assert_eq!(world.delete(&run).await.status, 200);
    assert_eq!(world.get(&format!("{fleet}/gates")).await.body["value"], json!([]));
}
