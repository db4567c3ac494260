//! The `fleet` extension of the Azure CLI is in no package registry, so each request that its commands send is sent here
//! as they send it, and each response is checked for what they read: accepted codes, polling of operations, printed
//! fields. In the versions of the extension's releases and of its newest source.

mod client;

use std::time::Duration;

use serde_json::{Value, json};

use self::client::{Az, assert_at_once, assert_not_followed, cloud};
use crate::harness::world::{SUBSCRIPTION, World};

/// The API versions of the extension's releases 1.6, and of its newest source.
const VERSIONS: [&str; 2] = ["2025-04-01-preview", "2026-02-01-preview"];
const SOON: Duration = Duration::from_secs(30);
const PROVIDER: &str = "providers/Microsoft.ContainerService";

/// `stages.json` as the extension sends it: absent gates are empty arrays, an absent wait is none.
fn stages() -> Value {
    let gate = |text: &str| json!([{"displayName": text, "type": "Approval"}]);
    json!({"stages": [
        {
            "name": "one",
            "groups": [
                {"name": "g1", "beforeGates": gate("before g1"), "afterGates": []},
                {"name": "g2", "beforeGates": [], "afterGates": gate("after g2")},
                {"name": "nobody", "beforeGates": [], "afterGates": []},
            ],
            "afterStageWaitInSeconds": 3600,
            "beforeGates": gate("before one"),
            "afterGates": [],
        },
        {
            "name": "two",
            "groups": [{"name": "g3", "beforeGates": [], "afterGates": []}],
            "afterStageWaitInSeconds": 0,
            "beforeGates": [],
            "afterGates": [],
        },
    ]})
}

#[tokio::test(flavor = "multi_thread")]
async fn fleets() {
    let (world, _home) = cloud().await;
    for version in VERSIONS {
        let az = Az::new(&world, version, &format!("fl-{}", &version[..4]));
        let (fleet, name) = (&az.fleet, az.fleet.rsplit('/').next().unwrap());
        // Without --location, `az` reads the location of the resource group by another client, with another spelling of paths.
        let group = format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/RG1?api-version=2024-11-01");
        let group = az.run("fleet create", "GET", &group, None).await;
        let location = group.body["location"].as_str().unwrap().to_owned();
        let body = json!({"location": location, "identity": {"type": "None"}});
        let made = az.run_if("fleet create", "PUT", fleet, Some(body), &[("If-None-Match", "*")]).await;
        assert_eq!(az.resource(&made, &[201], fleet)["properties"]["provisioningState"], "Creating");
        let made = az.finish("fleet create", &made, fleet).await;
        let shown = az.resource(&made, &[200], fleet);
        assert_eq!((&shown["location"], &shown["identity"]), (&json!("eastus"), &json!({"type": "None"})));
        assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
        let operation = shown["properties"]["status"]["lastOperationId"].as_str().unwrap();
        assert!(uuid::Uuid::try_parse(operation).is_ok());

        let show = az.run("fleet show", "GET", fleet, None).await;
        assert_eq!(show.body, *shown);
        for path in [fleet.rsplit_once('/').unwrap().0, &format!("/subscriptions/{SUBSCRIPTION}/{PROVIDER}/fleets")] {
            let listed = az.list("fleet list", path).await;
            assert_eq!(listed.iter().filter(|item| **item == *shown).count(), 1, "{path}: {listed:?}");
        }
        // `az resource` takes an API version from the provider's list, and has its own spelling of paths.
        let provider = format!("/subscriptions/{SUBSCRIPTION}/{PROVIDER}?api-version=2024-11-01");
        let provider = az.run("resource show", "GET", &provider, None).await;
        let types = provider.body["resourceTypes"].as_array().unwrap();
        for kind in [
            "fleets",
            "fleets/members",
            "fleets/updateStrategies",
            "fleets/updateRuns",
            "fleets/autoUpgradeProfiles",
            "fleets/gates",
        ] {
            let versions =
                types.iter().find(|t| t["resourceType"] == kind).unwrap_or_else(|| panic!("{kind}: {types:?}"));
            let newest = versions["apiVersions"].as_array().unwrap().iter().map(|v| v.as_str().unwrap());
            let stable = newest.into_iter().find(|version| !version.ends_with("preview")).unwrap();
            assert_eq!(stable, "2026-06-01");
        }
        let odd = format!(
            "/subscriptions/{SUBSCRIPTION}/resourcegroups/rg1/{PROVIDER}//fleets/{name}?api-version=2026-06-01"
        );
        assert_eq!(az.run("resource show", "GET", &odd, None).await.body["id"], *fleet);

        let tags = json!({"tags": {"foo": "doo"}});
        let updated = az.run("fleet update", "PATCH", fleet, Some(tags)).await;
        let updated_body = az.resource(&updated, &[200], fleet).clone();
        assert_at_once(&updated);
        assert_eq!(updated_body["tags"], json!({"foo": "doo"}));
        assert_ne!(updated_body["eTag"], shown["eTag"]);

        // `az fleet reconcile` puts back the fleet that it read, unless the fleet was changed in between.
        let stale = shown["eTag"].as_str().unwrap();
        let got = az.run("fleet reconcile", "GET", fleet, None).await;
        let etag = got.body["eTag"].as_str().unwrap();
        let again = json!({"tags": got.body["tags"], "location": got.body["location"]});
        let refused = az.run_if("fleet reconcile", "PUT", fleet, Some(again.clone()), &[("If-Match", stale)]).await;
        assert_eq!((refused.status, refused.code()), (412, "PreconditionFailed"));
        let begun = az.run_if("fleet reconcile", "PUT", fleet, Some(again), &[("If-Match", etag)]).await;
        assert_eq!(az.resource(&begun, &[200], fleet)["properties"]["provisioningState"], "Updating");
        let done = az.finish("fleet reconcile", &begun, fleet).await;
        assert_eq!(az.resource(&done, &[200], fleet)["tags"], json!({"foo": "doo"}));
        let twice = az
            .run_if("fleet create", "PUT", fleet, Some(json!({"location": "eastus"})), &[("If-None-Match", "*")])
            .await;
        assert_eq!(twice.status, 412);

        // Links have the host name that the client used.
        let here = world.url.replace("127.0.0.1", "localhost");
        let begun =
            az.run("fleet reconcile", "PUT", &format!("{here}{fleet}?api-version={version}"), Some(json!({}))).await;
        let pointer = begun.header("azure-asyncoperation").unwrap();
        assert!(pointer.starts_with(&format!("{here}/")), "{pointer}");
        world.settled(fleet).await;

        let begun = az.run("fleet delete", "DELETE", fleet, None).await;
        assert_eq!(az.resource(&begun, &[202], fleet)["properties"]["provisioningState"], "Deleting");
        let done = az.finish("fleet delete", &begun, fleet).await;
        assert_eq!((done.status, done.body), (204, Value::Null));
        az.missing("fleet show", fleet).await;
        assert_eq!(az.run("fleet delete", "DELETE", fleet, None).await.status, 204, "absent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members() {
    let (world, _home) = cloud().await;
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let az = Az::new(&world, version, &format!("f{at}"));
        world.fleet_of(&format!("f{at}"), &[]).await;
        let member = format!("{}/members/m1", az.fleet);
        // Cluster IDs come from `az aks show`, in AKS's spelling.
        let cluster = World::cluster(at + 1).replace("resourceGroups", "resourcegroups");
        let body =
            json!({"properties": {"clusterResourceId": cluster, "group": "group1", "labels": {"team": "fleet"}}});
        // AKS does not answer until the test has polled once, so that the test sees the operation in progress.
        let away = json!({"match": {"method": "GET", "cluster": format!("aks-{}", at + 1)}, "times": 1000, "action": {"status": 503}});
        world.fault(away).await;
        let begun = az.run("fleet member create", "PUT", &member, Some(body)).await;
        assert_eq!(az.resource(&begun, &[201], &member)["properties"]["provisioningState"], "Joining");
        let pointer = begun.header("azure-asyncoperation").unwrap();
        let busy = az.run("fleet member create", "GET", pointer, None).await;
        assert_eq!((busy.status, &busy.body["status"]), (200, &json!("InProgress")), "200 while it runs, too");
        assert!(busy.header("retry-after") == Some("1") && busy.body.get("endTime").is_none(), "{}", busy.body);
        world.emulator("DELETE", "/emulator/faults", None).await;
        let done = az.finish("fleet member create", &begun, &member).await;
        let shown = az.resource(&done, &[200], &member);
        assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
        assert_eq!(shown["properties"]["clusterResourceId"], *cluster, "in its own spelling");
        let labels = &shown["properties"]["labels"];
        assert_eq!(labels["team"], "fleet");
        for (name, value) in [
            ("member-name", "m1"),
            ("cluster-name", &format!("aks-{}", at + 1)),
            ("resource-group", "rg1"),
            ("subscription-id", SUBSCRIPTION),
        ] {
            assert_eq!(labels[format!("fleet.azure.com/{name}")], *value, "{labels}");
        }
        assert!(labels["fleet.azure.com/location"].is_string(), "{labels}");

        let group = json!({"properties": {"group": "group2"}});
        let updated = az.run("fleet member update", "PATCH", &member, Some(group)).await;
        assert_eq!(az.resource(&updated, &[200], &member)["properties"]["group"], "group2");
        assert_at_once(&updated);
        let shown = az.run("fleet member show", "GET", &member, None).await;
        assert_eq!(shown.body, updated.body);
        assert_eq!(
            az.list("fleet member list", &format!("{}/members", az.fleet)).await,
            std::slice::from_ref(&updated.body)
        );

        // Reconcile sends back the labels that the service has added.
        let properties = &shown.body["properties"];
        let again = json!({"properties": {"clusterResourceId": properties["clusterResourceId"], "group": properties["group"],
            "labels": properties["labels"]}});
        let etag = [("If-Match", shown.body["eTag"].as_str().unwrap())];
        let begun = az.run_if("fleet member reconcile", "PUT", &member, Some(again), &etag).await;
        assert_eq!(az.resource(&begun, &[200], &member)["properties"]["provisioningState"], "Updating");
        let done = az.finish("fleet member reconcile", &begun, &member).await;
        assert_eq!(az.resource(&done, &[200], &member)["properties"]["labels"], properties["labels"]);

        let begun = az.run("fleet member delete", "DELETE", &member, None).await;
        assert_eq!(az.resource(&begun, &[202], &member)["properties"]["provisioningState"], "Leaving");
        let done = az.finish("fleet member delete", &begun, &member).await;
        assert_eq!((done.status, done.body), (204, Value::Null));
        az.missing("fleet member show", &member).await;
        assert_eq!(az.run("fleet member delete", "DELETE", &member, None).await.status, 204, "absent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strategies_and_the_three_ways_to_create_a_run() {
    let (world, _home) = cloud().await;
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let az = Az::new(&world, version, &format!("f{at}"));
        let clusters = at * 3;
        let members = [("m1", clusters + 1, "g1"), ("m2", clusters + 2, "g2"), ("m3", clusters + 3, "g3")];
        world.fleet_of(&format!("f{at}"), &members).await;
        let strategy = format!("{}/updateStrategies/st1", az.fleet);
        let body = json!({"properties": {"strategy": stages()}});
        let made = az.run("fleet updatestrategy create", "PUT", &strategy, Some(body.clone())).await;
        az.resource(&made, &[201], &strategy);
        assert_at_once(&made);
        let again = az.run("fleet updatestrategy create", "PUT", &strategy, Some(body)).await;
        az.resource(&again, &[200], &strategy);
        let shown = az.run("fleet updatestrategy show", "GET", &strategy, None).await;
        assert_eq!(az.resource(&shown, &[200], &strategy)["properties"]["strategy"]["stages"][0]["name"], "one");
        let all = format!("{}/updateStrategies", az.fleet);
        assert_eq!(az.list("fleet updatestrategy list", &all).await, std::slice::from_ref(&shown.body));

        let update = |kind: &str, version: Option<&str>| {
            let mut upgrade = json!({"type": kind});
            if let Some(version) = version {
                upgrade["kubernetesVersion"] = json!(version);
            }
            json!({"upgrade": upgrade, "nodeImageSelection": {"type": "Latest"}})
        };
        let full = update("Full", Some("1.33.2"));
        for (name, properties, stages) in [
            ("by-name", json!({"updateStrategyId": strategy, "managedClusterUpdate": full}), vec!["one", "two"]),
            (
                "by-stages",
                json!({"strategy": stages(), "managedClusterUpdate": update("ControlPlaneOnly", Some("1.33.2"))}),
                vec!["one", "two"],
            ),
            ("plain", json!({"managedClusterUpdate": update("NodeImageOnly", None)}), vec![]),
        ] {
            let run = format!("{}/updateRuns/{name}", az.fleet);
            let command = "fleet updaterun create";
            let made = az.run(command, "PUT", &run, Some(json!({"properties": properties}))).await;
            let shown = az.resource(&made, &[201], &run);
            assert_at_once(&made);
            assert_eq!(shown["properties"]["managedClusterUpdate"], properties["managedClusterUpdate"]);
            assert_eq!(shown["properties"].get("updateStrategyId"), properties.get("updateStrategyId"));
            let status = &shown["properties"]["status"];
            assert_eq!(
                (&status["status"], &status["nodeImageSelection"]),
                (&json!({"state": "NotStarted"}), &json!({}))
            );
            let listed = status["stages"].as_array().unwrap();
            if stages.is_empty() {
                assert!(shown["properties"].get("strategy").is_none(), "{shown}");
                assert!(!listed.is_empty(), "{status}");
                continue;
            }
            let names: Vec<&str> = listed.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
            assert_eq!(names, stages);
            let sent = stages_of(&shown["properties"]["strategy"]);
            assert_eq!(sent, stages_of(&self::stages()), "a copy of it");
            let groups = &listed[0]["groups"];
            assert_eq!(groups[0]["members"][0]["name"], "m1");
            assert_eq!(groups[0]["members"][0]["status"]["state"], "NotStarted");
            assert!(groups[2].get("members").is_none(), "an empty group has none: {}", groups[2]);
            assert_eq!(groups[0]["beforeGates"][0]["displayName"], "before g1");
            assert!(groups[0]["beforeGates"][0].get("gateId").is_none(), "not reached: {}", groups[0]);
            assert_eq!(listed[0]["afterStageWaitStatus"]["waitDurationInSeconds"], 3600);
            assert!(listed[1].get("afterStageWaitStatus").is_none(), "no wait is set: {}", listed[1]);
        }
        let runs = format!("{}/updateRuns", az.fleet);
        let names: Vec<Value> =
            az.list("fleet updaterun list", &runs).await.iter().map(|r| r["name"].clone()).collect();
        assert_eq!(names, ["by-name", "by-stages", "plain"]);
        az.delete("fleet updatestrategy delete", &strategy).await;
        let kept = az.run("fleet updaterun show", "GET", &format!("{runs}/by-name"), None).await;
        assert_eq!(kept.body["properties"]["updateStrategyId"], *strategy, "runs keep their copy");
        for name in ["by-name", "by-stages", "plain"] {
            az.delete("fleet updaterun delete", &format!("{runs}/{name}")).await;
        }
    }
}

fn stages_of(strategy: &Value) -> Vec<(Value, Vec<Value>)> {
    let groups =
        |stage: &Value| stage["groups"].as_array().unwrap().iter().map(|group| group["name"].clone()).collect();
    strategy["stages"].as_array().unwrap().iter().map(|stage| (stage["name"].clone(), groups(stage))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_its_gates() {
    let (world, _home) = cloud().await;
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let az = Az::new(&world, version, &format!("f{at}"));
        let members = [("m1", at * 3 + 1, "g1"), ("m2", at * 3 + 2, "g2"), ("m3", at * 3 + 3, "g3")];
        world.fleet_of(&format!("f{at}"), &members).await;
        let run = format!("{}/updateRuns/r1", az.fleet);
        let update = json!({"upgrade": {"type": "ControlPlaneOnly", "kubernetesVersion": "1.33.2"}, "nodeImageSelection": {"type": "Latest"}});
        let body = json!({"properties": {"strategy": stages(), "managedClusterUpdate": update}});
        assert_eq!(az.run("fleet updaterun create", "PUT", &run, Some(body)).await.status, 201);

        let targets = json!({"targets": [{"type": "Group", "name": "g2"}]});
        let skipped = az.run("fleet updaterun skip", "POST", &format!("{run}/skip"), Some(targets)).await;
        let groups = &az.resource(&skipped, &[200], &run)["properties"]["status"]["stages"][0]["groups"];
        assert_at_once(&skipped);
        let member = &groups[1]["members"][0];
        assert_eq!(
            (&member["status"]["state"], &member["message"]),
            (&json!("Skipped"), &json!("skipped by request."))
        );
        assert!(member["status"]["completedTime"].is_string(), "{member}");
        assert_eq!(groups[1]["afterGates"][0]["status"]["state"], "Skipped", "its gates as well: {}", groups[1]);

        let started = az.run("fleet updaterun start", "POST", &format!("{run}/start"), None).await;
        assert_eq!(az.resource(&started, &[200], &run)["properties"]["status"]["status"]["state"], "NotStarted");
        assert_at_once(&started);
        // As `--query status.status.state` would print it.
        world.until(&run, SOON, "at its first gate", |s| s["status"]["state"] == "Pending").await;
        let shown = az.run("fleet updaterun show", "GET", &run, None).await;
        let row = az.resource(&shown, &[200], &run)["properties"]["status"]["stages"][0]["beforeGates"][0].clone();
        assert_eq!((&row["displayName"], &row["status"]["state"]), (&json!("before one"), &json!("Pending")));

        let pending = format!("{}/gates?api-version={version}&$filter=state%20eq%20Pending", az.fleet);
        let quoted = pending.replace("Pending", "'Pending'");
        let gates = az.list("fleet gate list", &pending).await;
        assert_eq!(gates, az.list("fleet gate list", &quoted).await);
        assert_eq!(az.list("fleet gate list", &format!("{}/gates", az.fleet)).await.len(), 1);
        let gate = gates[0]["id"].as_str().unwrap();
        assert_eq!(row["gateId"], gate);
        let shown = az.run("fleet gate show", "GET", gate, None).await;
        let properties = &az.resource(&shown, &[200], gate)["properties"];
        assert!(uuid::Uuid::try_parse(shown.body["name"].as_str().unwrap()).is_ok());
        let target = json!({"id": run, "updateRunProperties": {"name": "r1", "stage": "one", "timing": "Before"}});
        assert_eq!(properties["target"], target);
        assert_eq!(
            (&properties["displayName"], &properties["gateType"], &properties["state"]),
            (&json!("before one"), &json!("Approval"), &json!("Pending"))
        );
        let approval = json!({"properties": {"state": "Completed"}});
        let approved = az.run("fleet gate approve", "PATCH", gate, Some(approval.clone())).await;
        assert_eq!(az.resource(&approved, &[200], gate)["properties"]["state"], "Completed");
        assert_at_once(&approved);
        let reached = |s: &Value| s["stages"][0]["groups"][0]["beforeGates"][0]["status"]["state"] == "Pending";
        world.until(&run, SOON, "at its next gate", reached).await;
        let gates = az.list("fleet gate list", &pending).await;
        assert_eq!(gates[0]["properties"]["target"]["updateRunProperties"]["group"], "g1");

        let stopped = az.run("fleet updaterun stop", "POST", &format!("{run}/stop"), None).await;
        az.resource(&stopped, &[200], &run);
        assert_at_once(&stopped);
        world.reaches(&run, "Stopped", SOON).await;
        az.delete("fleet updaterun delete", &run).await;
        assert!(az.list("fleet gate list", &format!("{}/gates", az.fleet)).await.is_empty(), "they go with their run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_upgrade_profiles() {
    let (world, _home) = cloud().await;
    // The minor version of an example in the extension's documentation.
    let published = json!({"region": "eastus", "version": "1.30.14"});
    world.emulator("POST", "/emulator/versions", Some(published)).await;
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let az = Az::new(&world, version, &format!("f{at}"));
        // aks-1 and aks-4 are both in that region.
        world.fleet_of(&format!("f{at}"), &[("m1", at * 3 + 1, "g1")]).await;
        let strategy = format!("{}/updateStrategies/st1", az.fleet);
        let body = json!({"properties": {"strategy": stages()}});
        assert_eq!(az.run("fleet updatestrategy create", "PUT", &strategy, Some(body)).await.status, 201);
        let profile = |name: &str| format!("{}/autoUpgradeProfiles/{name}", az.fleet);
        for (name, properties) in [
            (
                "rapid",
                json!({"updateStrategyId": strategy, "channel": "Rapid", "nodeImageSelection": {"type": "Latest"},
                    "disabled": true, "longTermSupport": false}),
            ),
            (
                "target",
                json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "1.30", "disabled": false,
                    "longTermSupport": true}),
            ),
        ] {
            let command = "fleet autoupgradeprofile create";
            let path = profile(name);
            let made = az.run(command, "PUT", &path, Some(json!({"properties": properties}))).await;
            let mut shown = az.resource(&made, &[201], &path)["properties"].clone();
            assert_at_once(&made);
            assert_eq!(shown.as_object_mut().unwrap().remove("provisioningState"), Some(json!("Succeeded")));
            assert_eq!(shown, properties, "what was not sent is not made up");
            let show = az.run("fleet autoupgradeprofile show", "GET", &path, None).await;
            assert_eq!(show.body, made.body);
        }
        let listed = az.list("fleet autoupgradeprofile list", &format!("{}/autoUpgradeProfiles", az.fleet)).await;
        let names: Vec<&Value> = listed.iter().map(|profile| &profile["name"]).collect();
        assert_eq!(names, ["rapid", "target"]);

        let generate = "fleet autoupgradeprofile generate-update-run";
        let made = az.run(generate, "POST", &format!("{}/generateUpdateRun", profile("rapid")), None).await;
        assert_eq!(made.status, 200, "{}", made.body);
        assert_not_followed(&made);
        let run = made.body["id"].as_str().unwrap();
        assert!(run.starts_with(&format!("{}/updateRuns/auto-rapid-rapid-1-34-1-", az.fleet)), "{run}");
        let shown = az.run("fleet updaterun show", "GET", run, None).await;
        let properties = &az.resource(&shown, &[200], run)["properties"];
        assert_eq!(properties["autoUpgradeProfileId"], profile("rapid"));
        assert_eq!(properties["status"]["status"]["state"], "NotStarted");

        // Never 200, which the extension does not expect here.
        for status in [204, 204] {
            let gone = az.run("fleet autoupgradeprofile delete", "DELETE", &profile("rapid"), None).await;
            assert_eq!((gone.status, &gone.body), (status, &Value::Null));
            assert_not_followed(&gone);
        }
        az.missing("fleet autoupgradeprofile show", &profile("rapid")).await;
    }
}

/// Commands of resource types that are not supported yet. Each is refused with an unknown type, which `az` prints and does not
/// retry. When a type is added, its rows move into a test above.
const STILL_REFUSED: &[(&str, &str, &str, &str, &str)] = &[
    // command, api-version, method, path in the fleet, body
    (
        "fleet managednamespace create",
        "2026-02-01-preview",
        "PUT",
        "/managedNamespaces/n",
        r#"{"location":"eastus","properties":{"adoptionPolicy":"Never","deletePolicy":"Keep","managedNamespaceProperties":{"labels":{"a":"b"}}}}"#,
    ),
    ("fleet managednamespace list", "2026-02-01-preview", "GET", "/managedNamespaces", ""),
    ("fleet managednamespace show", "2026-02-01-preview", "GET", "/managedNamespaces/n", ""),
    ("fleet managednamespace update", "2026-02-01-preview", "PATCH", "/managedNamespaces/n", r#"{"tags":{"a":"b"}}"#),
    ("fleet managednamespace delete", "2026-02-01-preview", "DELETE", "/managedNamespaces/n", ""),
    (
        "fleet clustermeshprofile create",
        "2026-03-02-preview",
        "PUT",
        "/clusterMeshProfiles/c",
        r#"{"properties":{"memberSelector":{"byLabel":"env=production"}}}"#,
    ),
    ("fleet clustermeshprofile list", "2026-03-02-preview", "GET", "/clusterMeshProfiles", ""),
    ("fleet clustermeshprofile show", "2026-03-02-preview", "GET", "/clusterMeshProfiles/c", ""),
    ("fleet clustermeshprofile apply", "2026-03-02-preview", "POST", "/clusterMeshProfiles/c/apply", ""),
    ("fleet clustermeshprofile delete", "2026-03-02-preview", "DELETE", "/clusterMeshProfiles/c", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_operations_are_refused_with_a_message() {
    let (world, _home) = cloud().await;
    let fleet = world.fleet_of("f", &[]).await;
    for (command, version, method, path, body) in STILL_REFUSED {
        let az = Az::new(&world, version, "f");
        let body = (!body.is_empty()).then(|| serde_json::from_str(body).unwrap());
        let answer = az.run(command, method, &format!("{fleet}{path}"), body).await;
        let actual = (answer.status, answer.code());
        assert_eq!(
            actual,
            (404, "InvalidResourceType"),
            "{command}: is it there now? Then move its row: {}",
            answer.body
        );
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(path.split('/').nth(1).unwrap()), "{command}: names the type: {message}");
        assert!(answer.header("retry-after").is_none() && answer.header("azure-asyncoperation").is_none());
    }
    // `az fleet member list --cluster-mesh-profile`, and `list-members`: an unknown filter is refused, and not ignored.
    let az = Az::new(&world, "2026-03-02-preview", "f");
    let filter = format!("{fleet}/members?api-version=2026-03-02-preview&$filter=clusterMeshProfile%20eq%20'c'");
    let answer = az.run("fleet member list", "GET", &filter, None).await;
    assert_eq!((answer.status, answer.code()), (400, "InvalidParameter"));
    assert_eq!(answer.body["error"]["target"], "$filter");
}

/// Hubs are not supported yet: a fleet with a hub is stored, and its operation fails with the reason. Reverse this test when hubs are
/// added.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_refused_with_the_reason() {
    let (world, _home) = cloud().await;
    for version in VERSIONS {
        let az = Az::new(&world, version, &format!("hub-{}", &version[..4]));
        let profile = json!({"apiServerAccessProfile": {"enablePrivateCluster": false, "enableVnetIntegration": false},
            "agentProfile": {"vmSize": "Standard_A8_v2"}});
        let body = json!({"location": "westus", "identity": {"type": "None"}, "properties": {"hubProfile": profile}});
        let begun = az.run("fleet create --enable-hub", "PUT", &az.fleet, Some(body)).await;
        az.resource(&begun, &[201], &az.fleet);
        let status = az.finish("fleet create --enable-hub", &begun, &az.fleet).await;
        assert_eq!((&status.body["status"], status.status), (&json!("Failed"), 200), "{}", status.body);
        let error = &status.body["error"];
        assert_eq!(error["code"], "FeatureNotAvailable");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("hubProfile")), "{error}");
        let shown = az.run("fleet show", "GET", &az.fleet, None).await;
        assert_eq!(az.resource(&shown, &[200], &az.fleet)["properties"]["provisioningState"], "Failed");
        let credentials = az.run("fleet get-credentials", "POST", &format!("{}/listCredentials", az.fleet), None).await;
        assert_eq!((credentials.status, credentials.code()), (400, "InvalidHubOperation"), "{}", credentials.body);
        let begun = az.run("fleet delete", "DELETE", &az.fleet, None).await;
        assert_eq!(az.finish("fleet delete", &begun, &az.fleet).await.status, 204);

        let hubless = world.fleet_of(&format!("hubless-{}", &version[..4]), &[]).await;
        let path = format!("{hubless}/listCredentials");
        let credentials = az.run("fleet get-credentials", "POST", &path, None).await;
        assert_eq!((credentials.status, credentials.code()), (400, "InvalidHubOperation"), "{}", credentials.body);
    }
}
