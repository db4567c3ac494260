//! Members selected by labels: when, which, each once, and invalid selectors.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::world::{World, upgrade_to};

const SOON: Duration = Duration::from_secs(30);
const PREVIEW: &str = "?api-version=2026-06-02-preview";

fn stages(stages: &Value) -> Value {
    json!({"properties": {"strategy": {"stages": stages}, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")}})
}

fn by(text: &str) -> Value {
    json!({"byLabel": text})
}

async fn label(world: &World, fleet: &str, member: &str, labels: Value) {
    let answer = world.patch(&format!("{fleet}/members/{member}"), json!({"properties": {"labels": labels}})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// `stage/group: members`, with `-` in front of those that are skipped as part of another group and `!` in front of those
/// that are skipped by request.
fn shown(status: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for stage in list(&status["stages"]) {
        for group in list(&stage["groups"]) {
            let member = |member: &Value| {
                let sign = match (member["status"]["state"].as_str(), member["message"].as_str()) {
                    (Some("Skipped"), Some("skipped by request.")) => "!",
                    (Some("Skipped"), Some(message)) => {
                        assert!(message.starts_with("skipped: already part of "), "{message}");
                        "-"
                    }
                    _ => "",
                };
                format!("{sign}{}", member["name"].as_str().unwrap())
            };
            let names: Vec<_> = list(&group["members"]).iter().map(member).collect();
            lines.push(format!(
                "{}/{}: {}",
                stage["name"].as_str().unwrap(),
                group["name"].as_str().unwrap(),
                names.join(" ")
            ));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_selected_by_their_labels_at_the_first_start() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, ""), ("m3", 3, "h"), ("m4", 4, "")]).await;
    label(&world, &fleet, "m1", json!({"env": "prod"})).await;
    label(&world, &fleet, "m2", json!({"env": "prod", "tier": "web"})).await;
    label(&world, &fleet, "m3", json!({"env": "test"})).await;
    let strategy = json!([
        {"name": "one", "memberSelector": by("env = prod"), "maxConcurrency": "2"},
        {"name": "two", "memberSelector": by("fleet.azure.com/member-name in (m1,m2,m3)"), "beforeGates": [{"type": "Approval"}],
         "groups": [{"name": "late", "memberSelector": by("env")}, {"name": "h"}]},
    ]);
    let run = format!("{fleet}/updateRuns/r");
    let made = world.put(&format!("{run}{PREVIEW}"), stages(&strategy)).await;
    assert_eq!((made.status, &made.body["properties"]["strategy"]["stages"]), (201, &strategy), "{}", made.body);
    let status = &made.body["properties"]["status"];
    assert_eq!(shown(status), ["one/one: m1 m2", "two/late: -m1 -m2 m3", "two/h: -m3"]);
    assert_eq!(status["stages"][0]["groups"][0]["maxConcurrency"], 2, "the stage's, not one");
    assert_eq!(status["stages"][1]["groups"][1]["status"]["state"], "Skipped", "nobody is left for it");
    assert_eq!(status["stages"][1]["status"]["state"], "NotStarted");
    // The labels at the first start count, so that this change matters.
    label(&world, &fleet, "m1", json!({"env": "test"})).await;
    assert_eq!(shown(&world.get(&run).await.body["properties"]["status"])[0], "one/one: m1 m2");
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let status = world.reaches(&run, "Pending", SOON).await;
    assert_eq!(shown(&status), ["one/one: m2", "two/late: m1 -m2 m3", "two/h: -m3"]);
    // After the first start the members are fixed, also over a stop and a start.
    label(&world, &fleet, "m3", json!({"env": null})).await;
    let kept = json!({"properties": {"labels": {"env": "prod"}}});
    assert_eq!(world.patch(&format!("{fleet}/members/m4"), kept).await.status, 200);
    assert_eq!(world.post(&format!("{run}/stop"), None).await.status, 200);
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let status = world.reaches(&run, "Pending", SOON).await;
    assert_eq!(shown(&status), ["one/one: m2", "two/late: m1 -m2 m3", "two/h: -m3"]);
    let gate = world.get(&format!("{fleet}/gates")).await.body["value"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.patch(&gate, json!({"properties": {"state": "Completed"}})).await.status, 200);
    let status = world.reaches(&run, "Completed", SOON).await;
    assert_eq!(status["stages"][1]["groups"][0]["status"]["state"], "Completed");
    let applied = world.applied().await;
    assert_eq!(applied.len(), 3, "{applied:?}");
    assert!(applied.iter().all(|((cluster, _), times)| *times == 1 && !cluster.ends_with("aks-4")));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_skipped_on_request_stay_skipped() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, ""), ("m2", 2, ""), ("m3", 3, "")]).await;
    for member in ["m1", "m2", "m3"] {
        label(&world, &fleet, member, json!({"a": "", "b": ""})).await;
    }
    let strategy = json!([
        {"name": "one", "memberSelector": by("a")},
        {"name": "two", "memberSelector": by("b"), "afterStageWaitInSeconds": 1},
        {"name": "three", "memberSelector": by("c")},
    ]);
    let run = format!("{fleet}/updateRuns/r");
    let made = world.put(&format!("{run}{PREVIEW}"), stages(&strategy)).await;
    assert_eq!(
        shown(&made.body["properties"]["status"]),
        ["one/one: m1 m2 m3", "two/two: -m1 -m2 -m3", "three/three: "]
    );
    let skip = |kind: &str, name: &str| Some(json!({"targets": [{"type": kind, "name": name}]}));
    let skipped = world.post(&format!("{run}/skip"), skip("Member", "m1")).await;
    assert_eq!(shown(&skipped.body["properties"]["status"])[..2], ["one/one: !m1 m2 m3", "two/two: -m1 -m2 -m3"]);
    // The implicit group has the name of its stage.
    assert_eq!(world.post(&format!("{run}/skip"), skip("Group", "three")).await.status, 200);
    label(&world, &fleet, "m1", json!({"a": null})).await;
    label(&world, &fleet, "m2", json!({"a": null})).await;
    label(&world, &fleet, "m3", json!({"c": ""})).await;
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let status = world.reaches(&run, "Completed", SOON).await;
    assert_eq!(shown(&status), ["one/one: m3", "two/two: !m1 m2 -m3", "three/three: -m3"]);
    assert_eq!(status["stages"][1]["afterStageWaitStatus"]["status"]["state"], "Completed", "nobody has skipped it");
    assert_eq!(world.applied().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_selector_is_refused_with_its_position() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let cases = [
        ("env='production'", "at character 5:"),
        ("env in production", "at character 8:"),
        ("env=prod,,tier=web", "at character 10:"),
        ("env>3", "at character 4:"),
        ("", "at character 1:"),
        (&"a,".repeat(300), "at most 512 characters"),
    ];
    for (text, message) in cases {
        for (stage, at) in [
            (json!({"name": "s", "memberSelector": by(text)}), "stages[0].memberSelector.byLabel"),
            (
                json!({"name": "s", "groups": [{"name": "a"}, {"name": "b", "memberSelector": by(text)}]}),
                "stages[0].groups[1].memberSelector.byLabel",
            ),
        ] {
            for collection in ["updateStrategies", "updateRuns"] {
                let answer = world.put(&format!("{fleet}/{collection}/x{PREVIEW}"), stages(&json!([stage]))).await;
                assert_eq!((answer.status, answer.code()), (400, "InvalidParameter"), "{text}: {}", answer.body);
                assert_eq!(answer.body["error"]["target"], format!("properties.strategy.{at}"));
                let said = answer.body["error"]["message"].as_str().unwrap();
                assert!(said.contains(message), "{text}: {said}");
            }
        }
    }
    let wrong = async |stage: Value| {
        let answer = world.put(&format!("{fleet}/updateStrategies/x{PREVIEW}"), stages(&json!([stage]))).await;
        (answer.status, answer.body["error"]["target"].as_str().unwrap_or_default().to_owned())
    };
    let at = |rest: &str| (400, format!("properties.strategy.stages[0].{rest}"));
    assert_eq!(wrong(json!({"name": "s"})).await, at("groups"));
    assert_eq!(wrong(json!({"name": "s", "memberSelector": {}})).await, at("memberSelector"));
    assert_eq!(wrong(json!({"name": "s", "memberSelector": "env=prod"})).await, at("memberSelector"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_stable_version_keeps_the_selectors_it_does_not_see() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let path = format!("{fleet}/updateStrategies/s");
    let all = json!([
        {"name": "s", "memberSelector": by("env=prod")},
        {"name": "t", "memberSelector": by("env"), "groups": [{"name": "g", "memberSelector": by("tier in (web, api)")}]},
    ]);
    assert_eq!(world.put(&format!("{path}{PREVIEW}"), stages(&all)).await.status, 201);
    let seen = world.get(&path).await.body;
    assert_eq!(
        seen["properties"]["strategy"]["stages"],
        json!([{"name": "s"}, {"name": "t", "groups": [{"name": "g"}]}])
    );
    let put = world.put(&path, json!({"properties": seen["properties"]})).await;
    assert_eq!(put.status, 200, "{}", put.body);
    assert_eq!(world.get(&format!("{path}{PREVIEW}")).await.body["properties"]["strategy"]["stages"], all);
    // The client's API version does not know selectors. Its new stage would have no groups, which is refused.
    let refused = world.put(&format!("{fleet}/updateStrategies/new"), stages(&json!([all[0]]))).await;
    assert_eq!(
        (refused.status, &refused.body["error"]["target"]),
        (400, &json!("properties.strategy.stages[0].groups"))
    );
}
