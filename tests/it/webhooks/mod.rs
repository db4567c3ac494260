//! Delivery of events from the real binary to receivers in this process.

mod given_up;
mod known;
mod receiver;

use std::{collections::HashMap, time::Duration};

use fleet_manager::store::{
    deliveries::{self, DeadLetters},
    housekeeping::{self, Grows},
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use self::receiver::{Answer, Receiver};
use crate::harness::{
    eventually,
    postgres::database,
    world::{Options, World, upgrade_to},
};

const SECRET: &str = "hunter2-hunter2-hunter2";
const PREFIX: &str = "Microsoft.ResourceNotifications.AKSResources.";

fn webhook(name: &str, receiver: &Receiver) -> Value {
    json!({"name": name, "url": receiver.url, "secretEnv": "OPS_SECRET"})
}

async fn world(webhooks: Value, more: &[(&'static str, &str)]) -> World {
    let mut env = vec![
        ("FLEET_WEBHOOKS", webhooks.to_string()),
        ("OPS_SECRET", SECRET.to_owned()),
        ("FLEET_LEASE_SECONDS", "1".to_owned()),
    ];
    env.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    World::start_with(Options { env, ..Options::default() }).await
}

/// canary (gate before, wait) → rest (gate after its group).
fn strategy() -> Value {
    let gate = json!([{"displayName": "ok?", "type": "Approval"}]);
    json!({"stages": [
        {"name": "canary", "beforeGates": gate, "groups": [{"name": "a"}], "afterStageWaitInSeconds": 1},
        {"name": "rest", "groups": [{"name": "b", "maxConcurrency": "2", "afterGates": gate}]},
    ]})
}

fn properties() -> Value {
    json!({"strategy": strategy(), "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})
}

/// Approves each gate as soon as it exists, until the run is complete.
async fn approve_all(world: &World, fleet: &str, run: &str) {
    eventually("the run is complete", || async {
        for gate in world.get(&format!("{fleet}/gates")).await.body["value"].as_array().unwrap() {
            if gate["properties"]["state"] == "Pending" {
                let id = gate["id"].as_str().unwrap();
                let done = world.patch(id, json!({"properties": {"state": "Completed"}})).await;
                assert_eq!(done.status, 200, "{}", done.body);
            }
        }
        world.get(run).await.body["properties"]["status"]["status"]["state"] == "Completed"
    })
    .await;
}

fn kind(event: &Value) -> &str {
    event["type"].as_str().unwrap().strip_prefix(PREFIX).unwrap()
}

fn sequence(event: &Value) -> u64 {
    event["sequence"].as_str().unwrap().parse().unwrap()
}

fn properties_of(event: &Value) -> &Value {
    &event["data"]["resourceInfo"]["properties"]
}

/// Returns each event as `member m1 Completed`.
fn story(events: &[Value]) -> Vec<String> {
    let tell = |event: &Value| {
        let properties = properties_of(event);
        let name = ["member", "timing", "group", "stage"].iter().find_map(|key| properties[*key].as_str());
        let state = properties["status"]["state"].as_str().or(properties["state"].as_str()).unwrap_or_default();
        let kind = kind(event).trim_start_matches("FleetUpdateRun").trim_end_matches("StateChanged");
        format!("{kind} {} {state}", name.unwrap_or_default()).replace("  ", " ").trim_start().to_owned()
    };
    events.iter().map(tell).collect()
}

/// Whether the receiver got the event of the run's end.
async fn has_ended(receiver: &Receiver) {
    eventually("the receiver knows the end of the run", || async {
        let ended = |event: &Value| {
            kind(event) == "FleetUpdateRunStateChanged" && properties_of(event)["status"]["state"] == "Completed"
        };
        receiver.events().iter().any(ended)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_delivered_once_in_order_and_signed() {
    let (ops, grid) = (Receiver::start().await, Receiver::start().await);
    let mut product = webhook("grid", &grid);
    product["schema"] = json!("EventGridSchema");
    product["maxEventsPerBatch"] = json!(10);
    product["includedEventTypes"] =
        json!(["Created", "Updated", "Deleted"].map(|what| format!("{PREFIX}FleetGate{what}")));
    let mut world = world(json!([webhook("ops", &ops), product]), &[]).await;
    // Only one of the two processes delivers.
    world.add_replica();
    let fleet = world.fleet_of("f", &[("m1", 1, "a"), ("m2", 2, "b"), ("m3", 3, "b")]).await;
    let run = world.start_run(&fleet, "r", properties()).await;
    approve_all(&world, &fleet, &run).await;
    has_ended(&ops).await;

    let events = ops.events();
    assert_eq!(ops.taken().len(), events.len(), "nothing went wrong, so nothing is repeated");
    let sequences: Vec<u64> = events.iter().map(sequence).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    // The two members of the last group may end in either order.
    let lines = story(&events);
    let position = |wanted: &str| {
        lines.iter().position(|line| line == wanted).unwrap_or_else(|| panic!("{wanted} is not in {lines:#?}"))
    };
    for chain in [
        &[
            "Pending",
            "Stage canary Pending",
            "FleetGateCreated Pending",
            "Gate Before Pending",
            "Stage canary Running",
            "FleetGateUpdated Completed",
            "Gate Before Completed",
            "Group a Running",
            "Member m1 Running",
            "Member m1 Completed",
            "Group a Completed",
            "Wait canary Running",
            "Wait canary Completed",
            "Stage canary Completed",
            "Stage rest Running",
            "Group b Running",
            "Member m2 Running",
            "Member m2 Completed",
            "Gate After Pending",
            "Gate After Completed",
            "Group b Completed",
            "Stage rest Completed",
            "Completed",
        ][..],
        &["Group b Running", "Member m3 Running", "Member m3 Completed", "Gate After Pending"],
    ] {
        assert!(chain.is_sorted_by_key(|line| position(line)), "{chain:?}: {lines:#?}");
    }
    assert_eq!(position("Completed"), lines.len() - 1);
    for event in &events {
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["source"], "/subscriptions/00000000-0000-0000-0000-000000000001");
        assert_eq!(event["datacontenttype"], "application/json");
        assert!(event["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert!(event["type"].as_str().unwrap().starts_with(PREFIX), "{event}");
    }
    let member = events.iter().find(|event| story(&[(*event).clone()]) == ["Member m1 Completed"]).unwrap();
    assert_eq!(member["subject"], format!("{run}/stages/canary/groups/a/members/m1"));
    assert_eq!(member["data"]["resourceInfo"]["id"], run);
    let properties = properties_of(member);
    assert_eq!(properties["clusterResourceId"], World::cluster(1));
    assert!(properties["operationId"].is_string() && properties["status"]["completedTime"].is_string(), "{member}");

    for delivery in ops.came() {
        assert_eq!(delivery.header("content-type"), "application/cloudevents+json; charset=utf-8");
        assert_eq!(delivery.header("fleet-webhook-name"), "ops");
        let seconds = delivery.header("fleet-webhook-timestamp");
        assert!((jiff::Timestamp::now().as_second() - seconds.parse::<i64>().unwrap()).abs() < 120);
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(&[seconds.as_bytes(), b".", &delivery.body].concat());
        let wanted: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(delivery.header("fleet-webhook-signature"), format!("sha256={wanted}"));
    }

    // Events in Event Grid's schema, and the events of a deleted run.
    let gates = world.get(&format!("{fleet}/gates")).await.body["value"].clone();
    assert_eq!(world.delete(&run).await.status, 200);
    eventually("the deletion is lines", || async { grid.events().len() == 6 }).await;
    let kinds: Vec<String> = grid.events().iter().map(|event| event["eventType"].to_string()).collect();
    assert_eq!(kinds.iter().filter(|kind| kind.contains("FleetGateDeleted")).count(), 2, "{kinds:?}");
    for event in grid.events() {
        assert_eq!((event["dataVersion"].as_str(), event["metadataVersion"].as_str()), (Some("1"), Some("1")));
        assert_eq!(event["topic"], "/subscriptions/00000000-0000-0000-0000-000000000001");
        let resource = &event["data"]["resourceInfo"];
        assert_eq!(
            (&resource["id"], &resource["type"]),
            (&event["subject"], &json!("Microsoft.ContainerService/fleets/gates"))
        );
        let gate = gates.as_array().unwrap().iter().find(|gate| gate["id"] == event["subject"]).unwrap();
        let properties = &resource["properties"];
        for name in ["displayName", "gateType", "target"] {
            assert_eq!(properties[name], gate["properties"][name], "{event}");
        }
        let of_group = properties["target"]["updateRunProperties"].get("group");
        assert_eq!(of_group.is_some(), properties["target"]["updateRunProperties"]["stage"] == "rest", "{event}");
    }
    assert_eq!(grid.came()[0].header("aeg-event-type"), "Notification");

    assert!(!world.log_text().contains("hunter2"), "{}", world.log_tail());
    let kept: Vec<String> = sqlx::query_scalar(
        "SELECT row_to_json(w)::text FROM webhooks w UNION ALL SELECT row_to_json(j)::text FROM jobs j
         UNION ALL SELECT row_to_json(d)::text FROM event_deliveries d",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    assert!(kept.len() > 2 && !kept.concat().contains("hunter2"), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_delivered_in_order_despite_kills() {
    let ops = Receiver::start().await;
    // The receiver is so slow that most kills happen during a delivery.
    ops.behave(|_| Answer::Dawdle(Duration::from_millis(30)));
    let mut world = world(json!([webhook("ops", &ops)]), &[]).await;
    let members: Vec<String> = (1..=8).map(|n| format!("m{n}")).collect();
    let list: Vec<_> = members.iter().enumerate().map(|(n, name)| (name.as_str(), n + 1, "b")).collect();
    let fleet = world.fleet_of("f", &list).await;
    let run =
        world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})).await;
    for kill in 1..=6 {
        eventually("more was lines", || async { ops.taken().len() >= kill * 2 }).await;
        world.kill();
        world.restart().await;
    }
    world.reaches(&run, "Completed", Duration::from_secs(60)).await;
    has_ended(&ops).await;
    let sequences: Vec<u64> = ops.events().iter().map(sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    let lines = story(&ops.events());
    for member in members {
        assert!(lines.contains(&format!("Member {member} Completed")), "{lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_and_slow_receivers_delay_no_other_webhook() {
    let (ops, slow, dead) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    slow.behave(|_| Answer::Dawdle(Duration::from_secs(60)));
    let mut nobody = webhook("nobody", &dead);
    // The port of the discard service, on which no process listens.
    nobody["url"] = json!("http://127.0.0.1:9/");
    let webhooks = json!([webhook("ops", &ops), webhook("slow", &slow), nobody]);
    // There is one slot for jobs, so that a delivery that held it would delay the run.
    let world = world(webhooks, &[("FLEET_WORKER_CONCURRENCY", "1")]).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a"), ("m2", 2, "b")]).await;
    let run =
        world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})).await;
    world.reaches(&run, "Completed", Duration::from_secs(15)).await;
    has_ended(&ops).await;
    assert!(slow.taken().is_empty(), "nothing has waited for it");
    eventually("an answer that comes late does not count, and the one that never comes neither", || async {
        let failing: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM event_deliveries WHERE failures > 0 AND delivered = 0
                 AND (last_error LIKE '%no answer within 10 s%' OR webhook = 'nobody')",
        )
        .fetch_one(world.pool())
        .await
        .unwrap();
        failing == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn undelivered_events_are_dead_letters_until_replayed() {
    let (ops, inside) = (Receiver::start().await, Receiver::start().await);
    let leads_inside = inside.url.clone();
    ops.behave(move |_| Answer::Refuse(307, vec![("location", leads_inside.clone())]));
    let world = world(json!([webhook("ops", &ops)]), &[("FLEET_WEBHOOK_RETRY_SECONDS", "0")]).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a")]).await;
    let run =
        world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})).await;
    world.reaches(&run, "Completed", Duration::from_secs(20)).await;
    let all = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events").fetch_one(world.pool()).await.unwrap();
    let dead =
        || async { world.get("/events/deadLetters?webhook=ops").await.body["value"].as_array().unwrap().clone() };
    eventually("all is given up", || async { dead().await.len() == usize::try_from(all).unwrap() }).await;
    assert!(ops.came().len() >= 3, "it was tried three times at least");
    assert!(inside.came().is_empty(), "redirects are not followed");
    let letters = dead().await;
    let first = &letters[0];
    assert!(first["error"].as_str().unwrap().contains("redirects are not followed"), "{first}");
    assert!(first["attempts"].as_i64().unwrap() >= 3 && first["deadAt"].is_string(), "{first}");
    assert_eq!(world.get("/events/deadLetters?webhook=other").await.body["value"], json!([]));
    assert_eq!(world.get("/events/deadLetters?$top=1").await.body["value"].as_array().unwrap().len(), 1);
    assert!(world.log_text().contains("events given up") && !world.log_text().contains("hunter2"));

    // Only an owner may replay, and a request must say what to replay.
    let stranger =
        world.command().args(["token", "--object-id", "99999999-9999-9999-9999-999999999999"]).output().unwrap();
    let stranger = format!("Bearer {}", String::from_utf8(stranger.stdout).unwrap().trim());
    let as_stranger = [("authorization", stranger.as_str())];
    assert_eq!(world.call_with("GET", "/events/deadLetters", None, &as_stranger).await.status, 403);
    assert_eq!(
        world.call_with("POST", "/events/replay", Some(json!({"webhook": "ops"})), &as_stranger).await.status,
        403
    );
    assert_eq!(world.call_with("GET", "/events/deadLetters", None, &[("authorization", "")]).await.status, 401);
    assert_eq!(world.post("/events/replay", Some(json!({}))).await.status, 400);
    assert_eq!(world.post("/events/replay", Some(json!({"webhooks": "ops"}))).await.status, 400);
    assert_eq!(world.get("/events/deadLetters?$top=0").await.status, 400);

    // One event is replayed while the receiver still rejects it: a dead letter again.
    let id = first["id"].as_str().unwrap();
    assert_eq!(world.post("/events/replay", Some(json!({"ids": [id]}))).await.body, json!({"replayed": 1}));
    eventually("it is dead again", || async {
        let again = dead().await;
        let again = again.iter().find(|letter| letter["id"] == id).unwrap();
        again.get("replayAt").is_none() && again["attempts"].as_i64() >= Some(6)
    })
    .await;

    ops.behave(|_| Answer::Take);
    let printed = world.command().args(["events", "dead-letters", "--webhook", "ops"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let ids: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids.len(), letters.len());
    let replayed = world.command().args(["events", "replay", "--webhook", "ops"]).output().unwrap();
    assert_eq!(String::from_utf8(replayed.stdout).unwrap().trim(), all.to_string());
    eventually("all has come after all", || async { ops.events().len() == letters.len() }).await;
    let came: HashMap<String, u64> =
        ops.events().iter().map(|event| (event["id"].as_str().unwrap().to_owned(), sequence(event))).collect();
    assert!(letters.iter().all(|letter| came[letter["id"].as_str().unwrap()] == letter["sequence"].as_u64().unwrap()));
    eventually("none is dead", || async { dead().await.is_empty() }).await;
}

#[tokio::test]
async fn dead_letters_of_a_removed_webhook_are_not_replayed() {
    let db = database().await;
    for statement in [
        "INSERT INTO webhooks (name) VALUES ('ops')",
        "INSERT INTO events (run_id, sequence, type, subject, at, data)
             VALUES ('00000000-0000-0000-0000-00000000000a', 1, 't', '/', now(), '{}')",
        "INSERT INTO event_dead_letters (webhook, run_id, sequence, attempts, error)
             SELECT webhook, '00000000-0000-0000-0000-00000000000a', 1, 3, 'e' FROM unnest('{ops,gone}'::text[]) webhook",
    ] {
        sqlx::query(statement).execute(&db.pool).await.unwrap();
    }
    let mut conn = db.pool.acquire().await.unwrap();
    let asked = deliveries::replay(&mut conn, &DeadLetters::default()).await.unwrap();
    assert_eq!(asked.iter().map(|(webhook, _)| webhook.as_str()).collect::<Vec<_>>(), ["ops"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_configured_later_are_delivered_for_completed_runs_too() {
    let ops = Receiver::start().await;
    let mut world = world(json!([webhook("ops", &ops)]), &[]).await;
    // The stored webhook has the former configuration.
    sqlx::query("UPDATE webhooks SET types = $1")
        .bind([format!("{PREFIX}FleetUpdateRunGroupStateChanged")])
        .execute(world.pool())
        .await
        .unwrap();
    let fleet = world.fleet_of("f", &[("m1", 1, "a")]).await;
    let run =
        world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})).await;
    world.reaches(&run, "Completed", Duration::from_secs(20)).await;
    eventually("it has what it wants", || async {
        let jobs = "SELECT count(*) FROM jobs WHERE kind = 'events.deliver'";
        ops.events().len() == 2 && sqlx::query_scalar::<_, i64>(jobs).fetch_one(world.pool()).await.unwrap() == 0
    })
    .await;
    assert!(ops.events().iter().all(|event| kind(event) == "FleetUpdateRunGroupStateChanged"), "{:?}", ops.events());
    world.kill();
    world.restart().await;
    has_ended(&ops).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_event_does_not_block_others() {
    let ops = Receiver::start().await;
    ops.behave(|delivery| {
        let poison = delivery.events().iter().any(|event| kind(event).contains("Group"));
        if poison { Answer::Refuse(400, vec![]) } else { Answer::Take }
    });
    let mut hook = webhook("ops", &ops);
    hook["maxEventsPerBatch"] = json!(20);
    let world = world(json!([hook]), &[]).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a")]).await;
    let run =
        world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})).await;
    world.reaches(&run, "Completed", Duration::from_secs(20)).await;
    has_ended(&ops).await;
    assert!(ops.events().is_sorted_by_key(sequence));
    assert!(ops.came().iter().all(|d| d.header("content-type") == "application/cloudevents-batch+json; charset=utf-8"));
    let letters = world.get("/events/deadLetters").await.body["value"].clone();
    let letters = letters.as_array().unwrap();
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(letters.iter().all(|letter| kind(letter) == "FleetUpdateRunGroupStateChanged"), "{letters:?}");
    let all = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events").fetch_one(world.pool()).await.unwrap();
    assert_eq!(ops.events().len() as i64, all - 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_of_a_receiver_is_honoured() {
    let ops = Receiver::start().await;
    ops.behave(|_| Answer::Refuse(503, vec![("retry-after", "3".to_owned())]));
    let world = world(json!([webhook("ops", &ops)]), &[]).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a")]).await;
    let run =
        world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})).await;
    eventually("it was asked", || async { !ops.came().is_empty() }).await;
    ops.behave(|_| Answer::Take);
    world.reaches(&run, "Completed", Duration::from_secs(20)).await;
    has_ended(&ops).await;
    let came = ops.came();
    assert!(came[1].at - came[0].at >= Duration::from_secs(3), "events of the run meanwhile change nothing");
    assert_eq!(came[0].events()[0]["id"], came[1].events()[0]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_take_one_statement_a_step_and_none_without_webhooks() {
    let ops = Receiver::start().await;
    let quiet = [("FLEET_LOG", "info,sqlx::query=debug")];
    let members: Vec<String> = (1..=12).map(|n| format!("m{n:02}")).collect();
    let list: Vec<_> = members.iter().enumerate().map(|(n, name)| (name.as_str(), n + 1, "b")).collect();
    for (webhooks, statements, events) in [(json!([webhook("ops", &ops)]), 1, 15), (json!([]), 0, 0)] {
        let world = world(webhooks, &quiet).await;
        let fleet = world.fleet_of("f", &list).await;
        let run = format!("{fleet}/updateRuns/r");
        let made = world
            .put(
                &run,
                json!({"properties": {"strategy": strategy(), "managedClusterUpdate": upgrade_to("Full", "1.33.2")}}),
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        let skip = json!({"targets": [{"type": "Stage", "name": "rest"}]});
        assert_eq!(world.post(&format!("{run}/skip"), Some(skip)).await.status, 200);
        // Twelve members, a group, a stage and a gate that is never reached.
        let lines = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events").fetch_one(world.pool()).await.unwrap();
        assert_eq!(lines, events);
        let recording = recorded(&world);
        assert!(world.log_text().contains("sqlx::query"), "statements are logged");
        assert_eq!(recording, statements, "{}", world.log_tail());

        // Twelve members one by one: the end of one member and the begin of the next are one step. A start is two steps: the request, and the
        // job that chooses the members.
        let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
        let run = world.start_run(&fleet, "all", properties).await;
        world.reaches(&run, "Completed", Duration::from_secs(30)).await;
        let recording = recorded(&world) - recording;
        assert!(recording <= statements * 14, "{recording} statements for 12 members and a start");
    }
}

/// Returns how often events were recorded.
fn recorded(world: &World) -> usize {
    world.log_text().lines().filter(|line| line.contains("WITH new AS")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_removed_and_needed_ones_stay() {
    let ops = Receiver::start().await;
    ops.behave(|_| Answer::Refuse(500, vec![]));
    let mut world = world(json!([webhook("ops", &ops)]), &[("FLEET_AUDIT_DAYS", "10")]).await;
    for statement in [
        "INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time, end_time)
             SELECT gen_random_uuid(), 's', 'l', 'old', 'PUT', 'Succeeded', now() - interval '9 days', now() - interval '8 days'
             FROM generate_series(1, 2500)",
        "INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time)
             VALUES (gen_random_uuid(), 's', 'l', 'old', 'PUT', 'InProgress', now() - interval '9 days')",
        "INSERT INTO audit_events (id, at, object_id, caller, caller_type, action, resource, allowed, correlation_id)
             SELECT gen_random_uuid(), now() - make_interval(days => day), gen_random_uuid(), 'old', '', '', '', true, ''
             FROM generate_series(1, 20) day",
        // Events from before the webhook, a delivered one, one still to be delivered, and a dead letter.
        "INSERT INTO event_streams (run_id, last_sequence, last_at)
             VALUES ('00000000-0000-0000-0000-00000000000a', 4, now() - interval '9 days')",
        "UPDATE webhooks SET since = now() - interval '20 days'",
        "INSERT INTO event_deliveries (run_id, webhook, delivered)
             VALUES ('00000000-0000-0000-0000-00000000000a', 'ops', 3)",
        "INSERT INTO events (run_id, sequence, type, subject, at, recorded_at, data)
             SELECT '00000000-0000-0000-0000-00000000000a', n, 't', '/', now(),
                 now() - make_interval(days => CASE n WHEN 1 THEN 30 ELSE 8 END), '{}'
             FROM generate_series(1, 4) n",
        "INSERT INTO event_dead_letters (webhook, run_id, sequence, attempts, error)
             VALUES ('ops', '00000000-0000-0000-0000-00000000000a', 3, 3, 'e')",
    ] {
        sqlx::query(statement).execute(world.pool()).await.unwrap();
    }
    world.kill();
    world.restart().await;
    let pool = world.pool();
    let count = |what: &'static str| async move { sqlx::query_scalar::<_, i64>(what).fetch_one(pool).await.unwrap() };
    eventually("what is old is gone", || async {
        count("SELECT count(*) FROM operations WHERE resource_arm_id = 'old'").await == 1
            && count("SELECT count(*) FROM audit_events WHERE caller = 'old'").await == 9
            && count("SELECT sum(sequence)::bigint FROM events").await == 3 + 4
    })
    .await;
    assert_eq!(count("SELECT count(*) FROM event_streams").await, 1);
    assert_eq!(
        count("SELECT count(*) FROM jobs WHERE kind = 'housekeeping'").await,
        1,
        "one job, however many processes start"
    );
    // While the job is executed it has no next time.
    eventually("the housekeeping is due in an hour", || async {
        count(
            "SELECT count(*) FROM jobs WHERE kind = 'housekeeping'
                 AND run_at BETWEEN now() + interval '50 minutes' AND now() + interval '1 hour'",
        )
        .await
            == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_deleted_with_their_fleet_have_events() {
    let ops = Receiver::start().await;
    let world = world(json!([webhook("ops", &ops)]), &[]).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a"), ("m2", 2, "b")]).await;
    for run in ["r1", "r2"] {
        let run = world.start_run(&fleet, run, properties()).await;
        world.until(&run, Duration::from_secs(20), "at its gate", |s| s["status"]["state"] == "Pending").await;
    }
    assert_eq!(world.delete(&fleet).await.status, 202);
    let deleted = || {
        let events = ops.events().into_iter().filter(|event| kind(event) == "FleetGateDeleted");
        events.map(|event| properties_of(&event)["target"]["id"].clone()).collect::<Vec<_>>()
    };
    eventually("both gates are lines to be gone", || async { deleted().len() == 2 }).await;
    let mut runs = deleted();
    runs.sort_by_key(Value::to_string);
    assert_eq!(runs, ["r1", "r2"].map(|run| json!(format!("{fleet}/updateRuns/{run}"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_without_its_secret_stops_the_start() {
    let ops = Receiver::start().await;
    let world = world(json!([webhook("ops", &ops)]), &[]).await;
    for (secret, lines) in [(None, "OPS_SECRET is not set"), (Some("short"), "16 bytes or more")] {
        let mut command = world.command();
        command.arg("worker").env_remove("OPS_SECRET");
        if let Some(secret) = secret {
            command.env("OPS_SECRET", secret);
        }
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let line = error.lines().last().unwrap();
        assert!(line.contains("the webhook 'ops'") && line.contains(lines), "{line}");
    }
}

#[tokio::test]
async fn housekeeping_uses_indexes() {
    let db = database().await;
    let mut tx = db.pool.begin().await.unwrap();
    sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *tx).await.unwrap();
    for what in Grows::ALL {
        assert_eq!(housekeeping::remove(&mut tx, what, 1).await.unwrap(), 0);
    }
    let scanned: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_stat_xact_user_tables WHERE seq_scan > 0 AND relname NOT IN ('webhooks')",
    )
    .fetch_all(&mut *tx)
    .await
    .unwrap();
    assert_eq!(scanned, [] as [String; 0]);
}
