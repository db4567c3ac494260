//! Bad input: each a precise 4xx with ARM's code and a target, and nothing changed.

use serde_json::{Value, json};

use crate::harness::world::{World, upgrade_to};

fn strategy(stages: Value) -> Value {
    json!({"properties": {"strategy": {"stages": stages}}})
}

fn update(upgrade: Value) -> Value {
    json!({"properties": {"managedClusterUpdate": {"upgrade": upgrade}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_is_named() {
    let world = World::start().await;
    let f = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    world.fleet_of("e", &[]).await;
    let e = world.fleet("e");
    let valid = json!({"properties": {"managedClusterUpdate": upgrade_to("Full", "1.33.2")}});
    assert_eq!(world.put(&format!("{f}/updateRuns/r"), valid.clone()).await.status, 201);
    assert_eq!(
        world
            .put(&format!("{f}/updateStrategies/s"), strategy(json!([{"name": "a", "groups": [{"name": "g"}]}])))
            .await
            .status,
        201
    );
    let before = world.get(&format!("{f}/updateRuns/r")).await.body;
    let cluster = |n| json!({"properties": {"clusterResourceId": World::cluster(n)}});
    let both = json!({"properties": {"updateStrategyId": format!("{f}/updateStrategies/s"),
        "strategy": {"stages": [{"name": "b", "groups": [{"name": "g"}]}]},
        "managedClusterUpdate": upgrade_to("Full", "1.33.2")}});
    let deep = (0..200).fold(json!(1), |inner, _| json!({"a": inner}));
    let stages = "properties.strategy.stages";
    let cases: Vec<(&str, String, Value, u16, &str, String)> = vec![
        ("PUT", world.fleet("x"), json!([]), 400, "InvalidRequestContent", String::new()),
        ("PUT", world.fleet("x"), json!({"location": 5}), 400, "InvalidRequestContent", "location".into()),
        ("PUT", world.fleet("x"), json!({}), 400, "LocationRequired", "location".into()),
        ("PUT", world.fleet("X"), json!({"location": "eastus"}), 400, "InvalidResourceName", "name".into()),
        (
            "PUT",
            world.fleet("x"),
            json!({"location": "eastus", "tags": {"a": "\u{0}"}}),
            400,
            "InvalidRequestContent",
            String::new(),
        ),
        (
            "PUT",
            world.fleet("x"),
            json!({"location": "eastus", "name": "y"}),
            400,
            "InvalidRequestContent",
            "name".into(),
        ),
        ("PUT", world.fleet("x"), deep, 400, "InvalidRequestContent", String::new()),
        ("PUT", f.clone(), json!({"location": "westus"}), 409, "InvalidResourceLocation", "location".into()),
        (
            "PUT",
            format!("{f}/members/m3"),
            cluster(1),
            409,
            "ClusterAlreadyJoined",
            "properties.clusterResourceId".into(),
        ),
        (
            "PUT",
            format!("{e}/members/m3"),
            cluster(1),
            409,
            "ClusterAlreadyJoinedAnotherFleet",
            "properties.clusterResourceId".into(),
        ),
        (
            "PUT",
            format!("{f}/members/m1"),
            cluster(3),
            400,
            "PropertyChangeNotAllowed",
            "properties.clusterResourceId".into(),
        ),
        ("PUT", format!("{}/members/m", world.fleet("none")), cluster(3), 404, "ParentResourceNotFound", String::new()),
        (
            "PATCH",
            format!("{f}/members/m1"),
            json!({"properties": {"group": "BAD"}}),
            400,
            "InvalidParameter",
            "properties.group".into(),
        ),
        (
            "PATCH",
            format!("{f}/members/m1"),
            json!({"properties": {"labels": {"fleet.azure.com/location": "mars"}}}),
            400,
            "InvalidParameter",
            "properties.labels.fleet.azure.com/location".into(),
        ),
        ("PUT", format!("{f}/updateStrategies/x"), strategy(json!([])), 400, "InvalidParameter", stages.into()),
        (
            "PUT",
            format!("{f}/updateStrategies/x"),
            strategy(json!([{"name": "a", "groups": [{"name": "g"}, {"name": "g"}]}])),
            400,
            "InvalidParameter",
            format!("{stages}[0].groups[1].name"),
        ),
        (
            "PUT",
            format!("{f}/updateStrategies/x"),
            strategy(json!([{"name": "a", "groups": [{"name": "g"}], "afterStageWaitInSeconds": -1}])),
            400,
            "InvalidParameter",
            format!("{stages}[0].afterStageWaitInSeconds"),
        ),
        (
            "PUT",
            format!("{f}/updateStrategies/x"),
            strategy(json!([{"name": "a", "groups": [{"name": "g", "maxConcurrency": "0%"}]}])),
            400,
            "InvalidParameter",
            format!("{stages}[0].groups[0].maxConcurrency"),
        ),
        (
            "PUT",
            format!("{f}/updateStrategies/x"),
            strategy(json!([{"name": "a", "groups": [{"name": "g", "maxConcurrency": "101%"}]}])),
            400,
            "InvalidParameter",
            format!("{stages}[0].groups[0].maxConcurrency"),
        ),
        (
            "PUT",
            format!("{f}/updateStrategies/x"),
            strategy(json!([{"name": "a", "groups": [{"name": "g", "beforeGates": [{"type": "Magic"}]}]}])),
            400,
            "InvalidRequestContent",
            format!("{stages}[0].groups[0].beforeGates[0].type"),
        ),
        ("PUT", format!("{f}/updateRuns/x"), both, 400, "InvalidParameter", "properties.updateStrategyId".into()),
        (
            "PUT",
            format!("{f}/updateRuns/x"),
            update(json!({"type": "Full"})),
            400,
            "InvalidParameter",
            "properties.managedClusterUpdate.upgrade.kubernetesVersion".into(),
        ),
        (
            "PUT",
            format!("{f}/updateRuns/x"),
            update(json!({"type": "Half"})),
            400,
            "InvalidRequestContent",
            "properties.managedClusterUpdate.upgrade.type".into(),
        ),
        (
            "PUT",
            format!("{f}/autoUpgradeProfiles/p"),
            json!({"properties": {"channel": "Fast"}}),
            400,
            "InvalidRequestContent",
            "properties.channel".into(),
        ),
        ("PUT", format!("{f}/autoUpgradeProfiles/p"), json!({}), 400, "InvalidRequestContent", "properties".into()),
        (
            "PUT",
            format!("{f}/autoUpgradeProfiles/p"),
            json!({"properties": {"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "newest"}}),
            400,
            "InvalidParameter",
            "properties.targetKubernetesVersion".into(),
        ),
        (
            "PUT",
            format!("{f}/autoUpgradeProfiles/p"),
            json!({"properties": {"channel": "NodeImage", "nodeImageSelection": {"type": "Latest"}}}),
            400,
            "InvalidParameter",
            "properties.nodeImageSelection".into(),
        ),
        (
            "PUT",
            format!("{f}/autoUpgradeProfiles/p"),
            json!({"properties": {"channel": "Rapid", "nodeImageSelection": {"type": "Custom"}}}),
            400,
            "InvalidRequestContent",
            "properties.nodeImageSelection.type".into(),
        ),
        (
            "PUT",
            format!("{f}/autoUpgradeProfiles/p"),
            json!({"properties": {"channel": "Rapid", "updateStrategyId": format!("{f}/updateStrategies/none")}}),
            400,
            "UpdateStrategyNotFound",
            "properties.updateStrategyId".into(),
        ),
        ("PUT", format!("{f}/autoUpgradeProfiles/BAD"), json!({}), 400, "InvalidResourceName", "name".into()),
        ("PATCH", format!("{f}/autoUpgradeProfiles/p"), json!({}), 405, "MethodNotAllowed", String::new()),
        (
            "POST",
            format!("{f}/updateRuns/r/skip"),
            json!({"targets": [{"type": "Member", "name": "nobody"}]}),
            400,
            "SkipTargetNotFound",
            "targets[0].name".into(),
        ),
        ("POST", format!("{f}/updateRuns/r/stop"), json!({}), 409, "UpdateRunNotStarted", String::new()),
        (
            "GET",
            format!("{f}/members?api-version=2026-06-01&$top=0"),
            Value::Null,
            400,
            "InvalidParameter",
            "$top".into(),
        ),
        (
            "GET",
            format!("{f}/members?api-version=2026-06-01&$skipToken=Zm9v"),
            Value::Null,
            400,
            "InvalidParameter",
            "$skipToken".into(),
        ),
        (
            "GET",
            format!("{f}?api-version=2020-01-01"),
            Value::Null,
            400,
            "NoRegisteredProviderFound",
            "api-version".into(),
        ),
        ("GET", format!("{f}?x=1"), Value::Null, 400, "MissingApiVersionParameter", "api-version".into()),
        (
            "GET",
            format!("{f}/gates?api-version=2025-03-01"),
            Value::Null,
            400,
            "NoRegisteredProviderFound",
            "api-version".into(),
        ),
        ("GET", world.fleet("a%2Fmembers%2Fb"), Value::Null, 400, "InvalidResourceName", String::new()),
        ("GET", format!("{f}/bananas"), Value::Null, 404, "InvalidResourceType", String::new()),
        ("POST", f.clone(), json!({}), 405, "MethodNotAllowed", String::new()),
    ];
    for (method, path, body, status, code, target) in cases {
        let answer = world.call(method, &path, Some(body.clone()).filter(|body| !body.is_null())).await;
        let said = (answer.status, answer.code().to_owned());
        assert_eq!(said, (status, code.to_owned()), "{method} {path} {body}: {}", answer.body);
        if !target.is_empty() {
            assert_eq!(answer.body["error"]["target"], target, "{method} {path}: {}", answer.body);
        }
        assert!(answer.header("x-ms-request-id").is_some() && answer.header("x-ms-error-code") == Some(code));
    }
    assert_eq!(world.get(&format!("{f}/updateRuns/r")).await.body, before, "nothing changed");

    // Stale and impossible conditions.
    let stale = [("If-Match", "\"00000000-0000-0000-0000-000000000000\"")];
    for (method, path) in
        [("PUT", f.clone()), ("PATCH", f.clone()), ("DELETE", f.clone()), ("DELETE", format!("{f}/updateRuns/r"))]
    {
        let answer = world.call_with(method, &path, Some(json!({"location": "eastus"})), &stale).await;
        assert_eq!((answer.status, answer.code()), (412, "PreconditionFailed"), "{method} {path}");
    }
    let absent = world.call_with("PUT", &f, Some(json!({"location": "eastus"})), &[("If-None-Match", "*")]).await;
    assert_eq!(absent.status, 412);

    // A run in progress: two starts at once are one; neither edit nor delete.
    let run = format!("{f}/updateRuns/r");
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
    assert_eq!(world.put(&run, valid).await.status, 200, "what changes nothing is no edit");
    let deleted = world.delete(&run).await;
    assert_eq!((deleted.status, deleted.code()), (409, "UpdateRunInProgress"));
    assert_eq!(world.delete(&f).await.code(), "UpdateRunInProgress");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_token_gets_an_answer() {
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
async fn pages_are_stable_and_names_are_found_in_any_case() {
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
            // What comes or goes behind the reader does not disturb it.
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
