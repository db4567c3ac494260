//! Gates over HTTP: scheduled starts, approvals, refused requests, and kills of the service.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use jiff_sqlx::ToSqlx as _;
use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{Answer, World, upgrade_to},
};

const SOON: Duration = Duration::from_secs(30);
const PREVIEW: &str = "?api-version=2026-06-02-preview";
const DONE: &str = "{\"properties\":{\"state\":\"Completed\"}}";

fn done() -> Option<Value> {
    serde_json::from_str(DONE).ok()
}

/// Returns a schedule three days from now, and its time.
fn in_three_days() -> (Value, Timestamp) {
    let date = Timestamp::now().to_zoned(TimeZone::UTC).date().checked_add(3.days()).unwrap();
    let at = date.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
    // The same moment, with another UTC offset.
    let schedule = json!({"startDay": format!("{:?}", date.weekday()), "startTime": "17:30", "utcOffset": "+05:30"});
    (json!({"type": "ScheduledStart", "displayName": "at night", "scheduledStartConfiguration": schedule}), at)
}

fn run_body(stages: Value) -> Value {
    json!({"properties": {"strategy": {"stages": stages}, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")}})
}

/// Creates a run in the newest preview version and starts it.
async fn start(world: &World, fleet: &str, stages: Value) -> String {
    let run = format!("{fleet}/updateRuns/r");
    let made = world.put(&format!("{run}{PREVIEW}"), run_body(stages)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    run
}

async fn gates(world: &World, fleet: &str, query: &str) -> Vec<Value> {
    let answer = world.get(&format!("{fleet}/gates{PREVIEW}{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["value"].as_array().unwrap().clone()
}

/// Returns when the timer of the only scheduled gate is due. `None`: there is none, or it is being executed.
async fn timer(world: &World) -> Option<Timestamp> {
    let at: Option<Option<jiff_sqlx::Timestamp>> =
        sqlx::query_scalar("SELECT run_at FROM jobs WHERE kind = 'run.gate'")
            .fetch_optional(world.pool())
            .await
            .unwrap();
    at.flatten().map(|at| at.to_jiff())
}

/// Moves the start of all waiting gates a week into the past.
async fn a_week_passes(world: &World) {
    let mut tx = world.pool().begin().await.unwrap();
    for statement in [
        "UPDATE run_gates SET start_time = start_time - interval '7 days' WHERE state = 'Pending'",
        "UPDATE jobs SET run_at = run_at - interval '7 days' WHERE kind = 'run.gate'",
        "NOTIFY jobs",
    ] {
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_gate_opens_on_time_although_the_service_was_killed() {
    let mut world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "h")]).await;
    let (gate, at) = in_three_days();
    let groups = json!([{"name": "g"}, {"name": "h", "beforeGates": [gate]}]);
    let run = start(&world, &fleet, json!([{"name": "s", "groups": groups}])).await;
    // The other group completes, then the run waits for the gate only.
    let status = world.reaches(&run, "Pending", SOON).await;
    assert_eq!(status["stages"][0]["groups"][0]["status"]["state"], "Completed");
    let gates_of = gates(&world, &fleet, "&%24filter=gateType%20eq%20ScheduledStart").await;
    assert_eq!(gates_of.len(), 1);
    let (path, properties) = (gates_of[0]["id"].as_str().unwrap(), &gates_of[0]["properties"]);
    let schedule = &properties["scheduledStartProperties"];
    assert_eq!((&properties["state"], &properties["displayName"]), (&json!("Pending"), &json!("at night")));
    assert_eq!((&schedule["startTime"], &schedule["utcOffset"]), (&json!("17:30"), &json!("+05:30")));
    assert_eq!(schedule["absoluteStartTime"].as_str().unwrap().parse::<Timestamp>().unwrap(), at);
    assert_eq!(properties["target"]["updateRunProperties"]["group"], "h");
    assert!(gates(&world, &fleet, "&%24filter=gateType%20eq%20Approval").await.is_empty());
    // Stable versions do not have schedules.
    let stable = world.get(path).await.body;
    assert_eq!(stable["properties"]["gateType"], "ScheduledStart");
    assert!(stable["properties"]["scheduledStartProperties"].is_null(), "{stable}");

    // The timer is due exactly at the opening. A timer that is executed too early opens no gate and is set again.
    assert_eq!(timer(&world).await, Some(at));
    let now = Timestamp::now();
    sqlx::query("UPDATE jobs SET run_at = $1 WHERE kind = 'run.gate'")
        .bind(now.to_sqlx())
        .execute(world.pool())
        .await
        .unwrap();
    sqlx::query("NOTIFY jobs").execute(world.pool()).await.unwrap();
    eventually("the timer is set again", async || timer(&world).await == Some(at)).await;
    assert_eq!(world.get(path).await.body["eTag"], stable["eTag"]);

    world.kill();
    a_week_passes(&world).await;
    world.restart().await;
    world.reaches(&run, "Completed", SOON).await;
    let opened = world.get(path).await.body;
    assert_eq!(opened["properties"]["state"], "Completed");
    assert!(opened["systemData"].is_null(), "nobody has opened it: {opened}");
    assert_ne!(opened["eTag"], stable["eTag"]);
    assert_eq!(gates(&world, &fleet, "").await.len(), 1, "made once");
    assert!(world.applied().await.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_approver_of_a_gate_is_recorded() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "h")]).await;
    let (scheduled, _) = in_three_days();
    let asked = json!({"type": "Approval"});
    let stages = json!([{"name": "s", "beforeGates": [asked, scheduled], "groups": [{"name": "g"}, {"name": "h", "beforeGates": [asked]}]}]);
    let run = start(&world, &fleet, stages).await;
    world.reaches(&run, "Pending", SOON).await;
    let pending = gates(&world, &fleet, "&%24filter=state%20eq%20Pending").await;
    assert_eq!(pending.len(), 2, "one of each type, made together");
    assert!(pending.iter().all(|gate| gate["systemData"].is_null()), "nobody has touched them");

    // A scheduled gate can be opened before its time, by a person as well.
    let by_type = |kind: &str| {
        pending.iter().find(|gate| gate["properties"]["gateType"] == kind).unwrap()["id"].as_str().unwrap()
    };
    for kind in ["ScheduledStart", "Approval"] {
        assert_eq!(world.get(&run).await.body["properties"]["status"]["status"]["state"], "Pending", "both must open");
        let opened = world.call("PATCH", by_type(kind), done()).await;
        assert_eq!((opened.status, &opened.body["properties"]["state"]), (200, &json!("Completed")), "{}", opened.body);
        let data = &opened.body["systemData"];
        assert!(data["createdBy"].as_str().is_some_and(|name| !name.is_empty()), "{data}");
        assert_eq!((&data["createdBy"], &data["createdAt"]), (&data["lastModifiedBy"], &data["lastModifiedAt"]));
        // A second approval changes nothing: the gate keeps its first approver.
        let again = world.call("PATCH", by_type(kind), done()).await;
        assert_eq!((again.status, again.body), (200, opened.body));
    }
    world
        .until(&run, SOON, "past the stage's gates", |s| s["stages"][0]["groups"][0]["status"]["state"] == "Completed")
        .await;
    let (action, resource) = ("Microsoft.ContainerService/fleets/gates/write", by_type("Approval"));
    let audited: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_events WHERE action = $1 AND resource = $2 AND status = 200")
            .bind(action)
            .bind(resource)
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!(audited, 2);

    // A skipped gate cannot be opened any more.
    let last = gates(&world, &fleet, "&%24filter=state%20eq%20'Pending'").await;
    assert_eq!(last.len(), 1, "{last:?}");
    let skip = json!({"targets": [{"type": "Group", "name": "h"}]});
    assert_eq!(world.post(&format!("{run}/skip"), Some(skip)).await.status, 200);
    let last = last[0]["id"].as_str().unwrap();
    let late = world.call("PATCH", last, done()).await;
    assert_eq!((late.status, late.code()), (409, "GateSkipped"));
    assert_eq!(world.get(last).await.body["properties"]["state"], "Skipped");
    world.reaches(&run, "Completed", SOON).await;
    for filter in
        ["displayName%20eq%20'x'", "state%20ne%20Pending", "state%20eq%20Pending%20and%20state%20eq%20Skipped"]
    {
        let answer = world.get(&format!("{fleet}/gates{PREVIEW}&%24filter={filter}")).await;
        assert_eq!((answer.status, answer.code()), (400, "InvalidFilterInQueryString"), "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_waits_while_its_run_is_stopped_and_is_deleted_with_it() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let (scheduled, _) = in_three_days();
    let stages = json!([{"name": "s", "beforeGates": [{"type": "Approval"}], "groups": [{"name": "g", "beforeGates": [scheduled]}]}]);
    let run = start(&world, &fleet, stages).await;
    world.reaches(&run, "Pending", SOON).await;
    let stopped = world.post(&format!("{run}/stop"), None).await;
    assert_eq!(stopped.body["properties"]["status"]["status"]["state"], "Stopped", "at once");
    let path = gates(&world, &fleet, "").await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.call("PATCH", &path, done()).await.status, 200);
    assert_eq!(world.get(&run).await.body["properties"]["status"]["status"]["state"], "Stopped");
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    world.until(&run, SOON, "at its next gate", |s| s["stages"][0]["groups"][0]["status"]["state"] == "Pending").await;
    assert_eq!(gates(&world, &fleet, "").await.len(), 2, "without asking again");
    assert!(timer(&world).await.is_some());

    assert_eq!(world.delete(&run).await.status, 200);
    assert!(gates(&world, &fleet, "").await.is_empty());
    assert_eq!(timer(&world).await, None);
    assert_eq!(world.call("PATCH", &path, done()).await.status, 404);
    // The gates of a fleet are deleted with the fleet.
    let run =
        start(&world, &fleet, json!([{"name": "s", "beforeGates": [{"type": "Approval"}], "groups": [{"name": "g"}]}]))
            .await;
    world.reaches(&run, "Pending", SOON).await;
    assert_eq!(world.delete(&fleet).await.status, 202);
    eventually("the fleet is gone", async || world.get(&fleet).await.status == 404).await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM resources WHERE type LIKE '%/gates'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_gates_are_refused() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let (scheduled, _) = in_three_days();
    let (asked, with) = (json!({"type": "Approval"}), |change: Value| {
        let mut gate = scheduled.clone();
        gate["scheduledStartConfiguration"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        gate
    });
    let at = "properties.strategy.stages[0]";
    let stage = |before: Value, after: Value| json!([{"name": "s", "groups": [{"name": "g"}], "beforeGates": before, "afterGates": after}]);
    let cases = [
        (stage(json!([asked, asked]), json!([])), format!("{at}.beforeGates[1]")),
        (stage(json!([scheduled, asked, scheduled]), json!([])), format!("{at}.beforeGates[2]")),
        (stage(json!([]), json!([scheduled])), format!("{at}.afterGates[0]")),
        (
            json!([{"name": "s", "groups": [{"name": "g", "afterGates": [scheduled]}]}]),
            format!("{at}.groups[0].afterGates[0]"),
        ),
        (
            stage(json!([{"type": "ScheduledStart"}]), json!([])),
            format!("{at}.beforeGates[0].scheduledStartConfiguration"),
        ),
        (
            stage(
                json!([{"type": "Approval", "scheduledStartConfiguration": scheduled["scheduledStartConfiguration"]}]),
                json!([]),
            ),
            format!("{at}.beforeGates[0].scheduledStartConfiguration"),
        ),
        (
            stage(json!([with(json!({"startTime": "24:00"}))]), json!([])),
            format!("{at}.beforeGates[0].scheduledStartConfiguration.startTime"),
        ),
        (
            stage(json!([with(json!({"utcOffset": "+14:30"}))]), json!([])),
            format!("{at}.beforeGates[0].scheduledStartConfiguration.utcOffset"),
        ),
    ];
    let strategy = |stages: &Value| json!({"properties": {"strategy": {"stages": stages}}});
    for (stages, target) in cases {
        for (path, body) in [("updateStrategies", strategy(&stages)), ("updateRuns", run_body(stages))] {
            let answer = world.put(&format!("{fleet}/{path}/x{PREVIEW}"), body.clone()).await;
            assert_eq!((answer.status, answer.code()), (400, "InvalidParameter"), "{body}: {}", answer.body);
            assert_eq!(answer.body["error"]["target"], target, "{}", answer.body);
        }
    }
    let day = world
        .put(
            &format!("{fleet}/updateStrategies/x{PREVIEW}"),
            strategy(&stage(json!([with(json!({"startDay": "Someday"}))]), json!([]))),
        )
        .await;
    assert_eq!((day.status, day.code()), (400, "InvalidRequestContent"), "{}", day.body);
    assert!(day.body["error"]["target"].as_str().is_some_and(|target| target.ends_with("startDay")), "{}", day.body);
    // Gates of a run without a strategy are refused, and not dropped silently.
    let mut one_by_one =
        json!({"properties": {"managedClusterUpdate": upgrade_to("Full", "1.33.2"), "beforeGates": [asked]}});
    let answer = world.put(&format!("{fleet}/updateRuns/x{PREVIEW}"), one_by_one.clone()).await;
    assert_eq!((answer.status, &answer.body["error"]["target"]), (400, &json!("properties.beforeGates")));
    one_by_one["properties"]["beforeGates"] = json!([]);
    assert_eq!(world.put(&format!("{fleet}/updateRuns/x{PREVIEW}"), one_by_one).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_stable_version_keeps_the_schedules_it_does_not_see() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let (scheduled, _) = in_three_days();
    let stages = json!([{"name": "s", "beforeGates": [{"type": "Approval"}, scheduled], "groups": [{"name": "g", "beforeGates": [scheduled]}]}]);
    let path = format!("{fleet}/updateStrategies/s");
    let made = world.put(&format!("{path}{PREVIEW}"), json!({"properties": {"strategy": {"stages": stages}}})).await;
    assert_eq!((made.status, &made.body["properties"]["strategy"]["stages"]), (201, &stages), "{}", made.body);
    let seen = world.get(&path).await.body;
    assert!(!seen.to_string().contains("scheduledStart"), "{seen}");
    let mut properties = seen["properties"].clone();
    properties["strategy"]["stages"][0]["afterStageWaitInSeconds"] = json!(60);
    let put = world.put(&path, json!({"properties": properties})).await;
    assert_eq!(put.status, 200, "{}", put.body);
    let mut kept = stages;
    kept[0]["afterStageWaitInSeconds"] = json!(60);
    assert_eq!(world.get(&format!("{path}{PREVIEW}")).await.body["properties"]["strategy"]["stages"], kept);
    // The client cannot create a schedule. The error says why.
    let new = json!([{"name": "new", "beforeGates": [scheduled], "groups": [{"name": "n"}]}]);
    let refused = world.put(&path, json!({"properties": {"strategy": {"stages": new}}})).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("2026-05-01-preview"), "{}", refused.body);
}

/// Approves all waiting gates, while the service may be killed at any moment.
async fn open_all(world: &World, fleet: &str) -> Option<()> {
    let call = async |method, path: &str, body| world.try_call(method, path, body, &[]).await.ok();
    let pending: Answer =
        call("GET", &format!("{fleet}/gates?api-version=2026-06-01&%24filter=state%20eq%20Pending"), None).await?;
    for gate in pending.body["value"].as_array()? {
        let answer = call("PATCH", gate["id"].as_str()?, done()).await?;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_are_created_once_despite_kills() {
    let mut world = World::start_with(crate::harness::world::Options {
        env: vec![("FLEET_LEASE_SECONDS", "1".to_owned())],
        ..Default::default()
    })
    .await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g1"), ("m2", 2, "g2"), ("m3", 3, "g3"), ("m4", 4, "g4")]).await;
    let asked = |at: String| json!([{"type": "Approval", "displayName": at}]);
    let group = |g: usize| json!({"name": format!("g{g}"), "beforeGates": asked(format!("before g{g}")), "afterGates": asked(format!("after g{g}"))});
    let stage = |s: usize| {
        json!({"name": format!("s{s}"), "beforeGates": asked(format!("before s{s}")), "afterGates": asked(format!("after s{s}")),
            "groups": [group(2 * s - 1), group(2 * s)]})
    };
    let run = start(&world, &fleet, json!([stage(1), stage(2)])).await;
    for n in 0..20_u64 {
        let _ = open_all(&world, &fleet).await;
        // The kills are spread from just after the answer until well into the work that follows.
        tokio::time::sleep(Duration::from_millis(n * 37 % 120)).await;
        world.kill();
        world.restart().await;
    }
    let deadline = Instant::now() + 2 * SOON;
    while world.get(&run).await.body["properties"]["status"]["status"]["state"] != "Completed" {
        assert!(Instant::now() < deadline, "{}", world.log_tail());
        open_all(&world, &fleet).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let made = gates(&world, &fleet, "").await;
    let names: BTreeSet<&str> = made.iter().filter_map(|gate| gate["properties"]["displayName"].as_str()).collect();
    assert_eq!((made.len(), names.len()), (12, 12), "{names:?}");
    assert!(
        made.iter()
            .all(|gate| gate["properties"]["state"] == "Completed" && gate["systemData"]["createdBy"].is_string())
    );
    assert!(world.applied().await.values().all(|times| *times == 1));
}
