//! Invalid requests get a precise 4xx with ARM's code and a target, and change nothing.

use serde_json::{Value, json};

use crate::harness::world::{World, upgrade_to};

const STAGES: &str = "properties.strategy.stages";

fn strategy(stages: Value) -> Value {
    json!({"properties": {"strategy": {"stages": stages}}})
}

fn update(upgrade: Value) -> Value {
    json!({"properties": {"managedClusterUpdate": {"upgrade": upgrade}}})
}

/// The body of a valid run.
fn valid_run() -> Value {
    json!({"properties": {"managedClusterUpdate": upgrade_to("Full", "1.33.2")}})
}

/// A world with a fleet of two members in one group.
async fn world() -> (World, String) {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    (world, fleet)
}

/// Checks that each body, sent to `path`, is refused with status, code and target (empty: any).
async fn refused(world: &World, method: &str, path: &str, cases: &[(Value, u16, &str, &str)]) {
    for (body, status, code, target) in cases {
        let answer = world.call(method, path, Some(body.clone()).filter(|body| !body.is_null())).await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (*status, *code), "{method} {path} {body}: {}", answer.body);
        if !target.is_empty() {
            assert_eq!(answer.body["error"]["target"], *target, "{method} {path} {body}: {}", answer.body);
        }
        assert!(answer.header("x-ms-request-id").is_some() && answer.header("x-ms-error-code") == Some(code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_fleets_are_refused() {
    let (world, fleet) = world().await;
    let before = world.get(&fleet).await.body;
    let deep = (0..200).fold(json!(1), |inner, _| json!({"a": inner}));
    let cases = [
        (json!([]), 400, "InvalidRequestContent", ""),
        (json!({"location": 5}), 400, "InvalidRequestContent", "location"),
        (json!({}), 400, "LocationRequired", "location"),
        (json!({"location": "eastus", "tags": {"a": "\u{0}"}}), 400, "InvalidRequestContent", ""),
        (json!({"location": "eastus", "name": "y"}), 400, "InvalidRequestContent", "name"),
        (deep, 400, "InvalidRequestContent", ""),
    ];
    refused(&world, "PUT", &world.fleet("x"), &cases).await;
    assert_eq!(world.get(&world.fleet("x")).await.status, 404);
    let name = [(json!({"location": "eastus"}), 400, "InvalidResourceName", "name")];
    refused(&world, "PUT", &world.fleet("X"), &name).await;
    let moved = [(json!({"location": "westus"}), 409, "InvalidResourceLocation", "location")];
    refused(&world, "PUT", &fleet, &moved).await;
    refused(&world, "POST", &fleet, &[(json!({}), 405, "MethodNotAllowed", "")]).await;
    assert_eq!(world.get(&fleet).await.body, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_members_are_refused() {
    let (world, fleet) = world().await;
    let other = world.fleet_of("e", &[]).await;
    let before = world.get(&format!("{fleet}/members/m1")).await.body;
    let cluster = |n| json!({"properties": {"clusterResourceId": World::cluster(n)}});
    let target = "properties.clusterResourceId";
    let joined = [(cluster(1), 409, "ClusterAlreadyJoined", target)];
    refused(&world, "PUT", &format!("{fleet}/members/m3"), &joined).await;
    let elsewhere = [(cluster(1), 409, "ClusterAlreadyJoinedAnotherFleet", target)];
    refused(&world, "PUT", &format!("{other}/members/m3"), &elsewhere).await;
    let another = [(cluster(3), 400, "PropertyChangeNotAllowed", target)];
    refused(&world, "PUT", &format!("{fleet}/members/m1"), &another).await;
    let no_fleet = [(cluster(3), 404, "ParentResourceNotFound", "")];
    refused(&world, "PUT", &format!("{}/members/m", world.fleet("none")), &no_fleet).await;
    let location = "fleet.azure.com/location";
    let changes = [
        (json!({"properties": {"group": "BAD"}}), 400, "InvalidParameter", "properties.group"),
        (
            json!({"properties": {"labels": {location: "mars"}}}),
            400,
            "InvalidParameter",
            "properties.labels.fleet.azure.com/location",
        ),
    ];
    refused(&world, "PATCH", &format!("{fleet}/members/m1"), &changes).await;
    assert_eq!(world.get(&format!("{fleet}/members/m1")).await.body, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_strategies_are_refused() {
    let (world, fleet) = world().await;
    let group = |group: Value| strategy(json!([{"name": "a", "groups": [group]}]));
    let at = |path: &str| format!("{STAGES}[0].{path}");
    let (second, wait) = (at("groups[1].name"), at("afterStageWaitInSeconds"));
    let (concurrency, gate) = (at("groups[0].maxConcurrency"), at("groups[0].beforeGates[0].type"));
    let cases: [(Value, u16, &str, &str); 6] = [
        (strategy(json!([])), 400, "InvalidParameter", STAGES),
        (strategy(json!([{"name": "a", "groups": [{"name": "g"}, {"name": "g"}]}])), 400, "InvalidParameter", &second),
        (
            strategy(json!([{"name": "a", "groups": [{"name": "g"}], "afterStageWaitInSeconds": -1}])),
            400,
            "InvalidParameter",
            &wait,
        ),
        (group(json!({"name": "g", "maxConcurrency": "0%"})), 400, "InvalidParameter", &concurrency),
        (group(json!({"name": "g", "maxConcurrency": "101%"})), 400, "InvalidParameter", &concurrency),
        (group(json!({"name": "g", "beforeGates": [{"type": "Magic"}]})), 400, "InvalidRequestContent", &gate),
    ];
    refused(&world, "PUT", &format!("{fleet}/updateStrategies/x"), &cases).await;
    assert_eq!(world.get(&format!("{fleet}/updateStrategies/x")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_runs_are_refused() {
    let (world, fleet) = world().await;
    let stored = strategy(json!([{"name": "a", "groups": [{"name": "g"}]}]));
    assert_eq!(world.put(&format!("{fleet}/updateStrategies/s"), stored).await.status, 201);
    let both = json!({"properties": {"updateStrategyId": format!("{fleet}/updateStrategies/s"),
        "strategy": {"stages": [{"name": "b", "groups": [{"name": "g"}]}]},
        "managedClusterUpdate": upgrade_to("Full", "1.33.2")}});
    let at = |name: &str| format!("properties.managedClusterUpdate.upgrade.{name}");
    let (version, kind) = (at("kubernetesVersion"), at("type"));
    let cases: [(Value, u16, &str, &str); 3] = [
        (both, 400, "InvalidParameter", "properties.updateStrategyId"),
        (update(json!({"type": "Full"})), 400, "InvalidParameter", &version),
        (update(json!({"type": "Half"})), 400, "InvalidRequestContent", &kind),
    ];
    refused(&world, "PUT", &format!("{fleet}/updateRuns/x"), &cases).await;
    assert_eq!(world.get(&format!("{fleet}/updateRuns/x")).await.status, 404);

    let run = format!("{fleet}/updateRuns/r");
    assert_eq!(world.put(&run, valid_run()).await.status, 201);
    let before = world.get(&run).await.body;
    let unknown = json!({"targets": [{"type": "Member", "name": "nobody"}]});
    refused(&world, "POST", &format!("{run}/skip"), &[(unknown, 400, "SkipTargetNotFound", "targets[0].name")]).await;
    refused(&world, "POST", &format!("{run}/stop"), &[(json!({}), 409, "UpdateRunNotStarted", "")]).await;
    assert_eq!(world.get(&run).await.body, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_auto_upgrade_profiles_are_refused() {
    let (world, fleet) = world().await;
    let profile = |properties: Value| json!({"properties": properties});
    let cases = [
        (json!({}), 400, "InvalidRequestContent", "properties"),
        (profile(json!({"channel": "Fast"})), 400, "InvalidRequestContent", "properties.channel"),
        (
            profile(json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "newest"})),
            400,
            "InvalidParameter",
            "properties.targetKubernetesVersion",
        ),
        (
            profile(json!({"channel": "NodeImage", "nodeImageSelection": {"type": "Latest"}})),
            400,
            "InvalidParameter",
            "properties.nodeImageSelection",
        ),
        (
            profile(json!({"channel": "Rapid", "nodeImageSelection": {"type": "Custom"}})),
            400,
            "InvalidRequestContent",
            "properties.nodeImageSelection.type",
        ),
        (
            profile(json!({"channel": "Rapid", "updateStrategyId": format!("{fleet}/updateStrategies/none")})),
            400,
            "UpdateStrategyNotFound",
            "properties.updateStrategyId",
        ),
    ];
    refused(&world, "PUT", &format!("{fleet}/autoUpgradeProfiles/p"), &cases).await;
    assert_eq!(world.get(&format!("{fleet}/autoUpgradeProfiles/p")).await.status, 404);
    let name = [(json!({}), 400, "InvalidResourceName", "name")];
    refused(&world, "PUT", &format!("{fleet}/autoUpgradeProfiles/BAD"), &name).await;
    let method = [(json!({}), 405, "MethodNotAllowed", "")];
    refused(&world, "PATCH", &format!("{fleet}/autoUpgradeProfiles/p"), &method).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_queries_and_paths_are_refused() {
    let (world, fleet) = world().await;
    for (path, status, code, target) in [
        (format!("{fleet}/members?api-version=2026-06-01&$top=0"), 400, "InvalidParameter", "$top"),
        (format!("{fleet}/members?api-version=2026-06-01&$skipToken=Zm9v"), 400, "InvalidParameter", "$skipToken"),
        (format!("{fleet}?api-version=2020-01-01"), 400, "NoRegisteredProviderFound", "api-version"),
        (format!("{fleet}?x=1"), 400, "MissingApiVersionParameter", "api-version"),
        (format!("{fleet}/gates?api-version=2025-03-01"), 400, "NoRegisteredProviderFound", "api-version"),
        (world.fleet("a%2Fmembers%2Fb"), 400, "InvalidResourceName", ""),
        (format!("{fleet}/bananas"), 404, "InvalidResourceType", ""),
    ] {
        refused(&world, "GET", &path, &[(Value::Null, status, code, target)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_a_condition_that_does_not_hold_are_refused() {
    let (world, fleet) = world().await;
    let run = format!("{fleet}/updateRuns/r");
    assert_eq!(world.put(&run, valid_run()).await.status, 201);
    let body = json!({"location": "eastus"});
    let stale = [("If-Match", "\"00000000-0000-0000-0000-000000000000\"")];
    for (method, path) in [("PUT", &fleet), ("PATCH", &fleet), ("DELETE", &fleet), ("DELETE", &run)] {
        let answer = world.call_with(method, path, Some(body.clone()), &stale).await;
        assert_eq!((answer.status, answer.code()), (412, "PreconditionFailed"), "{method} {path}");
    }
    let existing = world.call_with("PUT", &fleet, Some(body), &[("If-None-Match", "*")]).await;
    assert_eq!(existing.status, 412);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_progress_is_neither_edited_nor_deleted() {
    let (world, fleet) = world().await;
    let run = format!("{fleet}/updateRuns/r");
    assert_eq!(world.put(&run, valid_run()).await.status, 201);
    let start = format!("{run}/start");
    let (a, b) = tokio::join!(world.post(&start, None), world.post(&start, None));
    assert_eq!((a.status, b.status), (200, 200));
    world
        .until(&run, std::time::Duration::from_secs(20), "Running", |s| {
            crate::harness::world::members(s).iter().any(|m| m["status"]["state"] == "Running")
        })
        .await;
    let edited = world.put(&run, update(json!({"type": "NodeImageOnly"}))).await;
    assert_eq!((edited.status, edited.code()), (409, "UpdateRunAlreadyStarted"));
    assert_eq!(world.put(&run, valid_run()).await.status, 200, "an unchanged body is accepted");
    let deleted = world.delete(&run).await;
    assert_eq!((deleted.status, deleted.code()), (409, "UpdateRunInProgress"));
    assert_eq!(world.delete(&fleet).await.code(), "UpdateRunInProgress");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_valid_token_are_refused() {
    let world = World::start().await;
    let f = world.fleet("f");
    for path in [
        f.clone(), format!("{f}/autoUpgradeProfiles/p/generateUpdateRun"), format!("{f}/members"), format!("{f}/members/m"), format!("{f}/updateStrategies/s"),
        format!("{f}/updateRuns/r"), format!("{f}/gates"), "/providers/Microsoft.ContainerService/operations".to_owned(),
        "/nowhere".to_owned(), f.trim_end_matches("/f").to_owned(),
        "/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/locations/x/operations/y".to_owned(),
    ] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            for bearer in ["", "Bearer x", "Bearer a.b.c", "Basic dTpw"] {
                let answer = world.call_with(method, &path, None, &[("authorization", bearer)]).await;
                assert_eq!(answer.status, 401, "{method} {path} {bearer}: {}", answer.body);
                assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer ")));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_stable_and_paths_compare_without_case() {
    let world = World::start().await;
    let members: Vec<String> = (1..=7).map(|n| format!("m{n}")).collect();
    let list: Vec<(&str, usize, &str)> = members.iter().enumerate().map(|(n, m)| (m.as_str(), n + 1, "g")).collect();
    let f = world.fleet_of("f", &list).await;
    let mut seen = Vec::new();
    let mut next = Some(format!("{f}/members?api%2Dversion=2026-06-01&%24top=2"));
    while let Some(link) = next {
        let page = world.get(&link).await;
        assert_eq!(page.status, 200, "{}", page.body);
        seen.extend(page.body["value"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap().to_owned()));
        next = page.body["nextLink"].as_str().map(str::to_owned);
        if seen.len() == 2 {
            // Deleting an item of a page that was read does not change the next pages.
            world.delete(&format!("{f}/members/m1")).await;
        }
    }
    assert_eq!(seen, members);
    let odd = f.replace("/resourceGroups/rg1", "//RESOURCEGROUPS/RG1").replace("/fleets/f", "//FLEETS/F");
    let found = world.get(&odd).await;
    assert_eq!((found.status, &found.body["id"]), (200, &json!(f)));
    let old = world.get(&format!("{f}/members/m2?api-version=2025-03-01")).await;
    assert!(old.body["properties"]["labels"].is_null(), "labels came later: {}", old.body);
}
