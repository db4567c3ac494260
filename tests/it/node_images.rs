//! Consistent node images, by the real binary, where regions are ahead of each other. The emulator refuses images as AKS does.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::world::{Options, World, members};

const LATE: Duration = Duration::from_secs(90);
const FAMILY: &str = "AKSUbuntu-2204gen2containerd";
/// Newest in swedencentral; eastus is ahead of it.
const COMMON: &str = "AKSUbuntu-2204gen2containerd-202509.11.0";
const OLD: &str = "AKSUbuntu-2204gen2containerd-202508.20.1";

async fn world(more: &[(&'static str, &str)]) -> World {
    let mut env =
        vec![("FLEET_OFFER_RECHECK_SECONDS", "1".to_owned()), ("FLEET_CATALOGUE_WATCH_SECONDS", "1".to_owned())];
    env.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    World::start_with(Options { clusters: 0, env, ..Options::default() }).await
}

/// A cluster of one pool.
async fn cluster(world: &World, name: &str, location: &str, version: &str, image: &str) {
    let pool = json!({"name": "pool", "mode": "System", "osSKU": "Ubuntu", "orchestratorVersion": version, "nodeImageVersion": image});
    let body = json!({"name": name, "resourceGroup": "rg1", "location": location, "kubernetesVersion": version, "agentPools": [pool]});
    world.emulator("POST", "/emulator/clusters", Some(body)).await;
}

/// A fleet of these clusters.
async fn fleet(world: &World, clusters: &[&str]) -> String {
    let fleet = world.fleet_of("f", &[]).await;
    for name in clusters {
        let member = format!("{fleet}/members/{name}");
        let id = World::cluster(1).replace("aks-1", name);
        assert_eq!(world.put(&member, json!({"properties": {"clusterResourceId": id}})).await.status, 201);
        assert_eq!(world.settled(&member).await["properties"]["provisioningState"], "Succeeded");
    }
    fleet
}

async fn image(world: &World, cluster: &str) -> Value {
    let id = World::cluster(1).replace("aks-1", cluster);
    let url = format!("{}{id}?api-version=2026-08-01", world.emulator_url);
    world.get(&url).await.body["properties"]["agentPoolProfiles"][0]["nodeImageVersion"].clone()
}

async fn publish(world: &World, region: &str, version: &str) {
    let body = json!({"region": region, "family": FAMILY, "version": version});
    world.emulator("POST", "/emulator/images", Some(body)).await;
}

fn consistent(upgrade: &Value) -> Value {
    json!({"managedClusterUpdate": {"upgrade": upgrade, "nodeImageSelection": {"type": "Consistent"}}})
}

fn images() -> Value {
    json!({"type": "NodeImageOnly"})
}

fn full() -> Value {
    json!({"type": "Full", "kubernetesVersion": "1.33.2"})
}

fn states(status: &Value) -> Vec<String> {
    members(status).iter().map(|member| member["status"]["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_common_image_fails_whole_and_can_be_repeated() {
    let world = world(&[]).await;
    cluster(&world, "east", "eastus", "1.32.7", OLD).await;
    cluster(&world, "north", "swedencentral", "1.32.7", OLD).await;
    let fleet = fleet(&world, &["east", "north"]).await;
    let run = world.start_run(&fleet, "r", consistent(&images())).await;
    let status = world.reaches(&run, "Failed", LATE).await;
    let error = &status["status"]["error"];
    assert_eq!(error["code"], "NoConsistentNodeImage", "{status:#}");
    let message = error["message"].as_str().unwrap();
    for part in ["eastus 202510.29.0", "swedencentral 202509.11.0", "east/pool in eastus", "Nothing was changed"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(states(&status), ["NotStarted", "NotStarted"], "nothing was touched");
    assert!(world.applied().await.is_empty());

    publish(&world, "swedencentral", "202510.29.0").await;
    let deadline = std::time::Instant::now() + LATE;
    // What a region offers is cached for half a second, so that the first starts may still fail.
    let status = loop {
        world.post(&format!("{run}/start"), None).await;
        let status = world.get(&run).await.body["properties"]["status"].clone();
        if status["status"]["state"] == "Completed" {
            break status;
        }
        assert!(std::time::Instant::now() < deadline, "{status:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let newest = format!("{FAMILY}-202510.29.0");
    assert_eq!(status["nodeImageSelection"]["selectedNodeImageVersions"], json!([{"version": newest}]));
    for name in ["east", "north"] {
        assert_eq!(image(&world, name).await, newest.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_without_the_common_image_can_be_skipped() {
    let world = world(&[]).await;
    cluster(&world, "east", "eastus", "1.32.7", OLD).await;
    cluster(&world, "north", "swedencentral", "1.32.7", OLD).await;
    let fleet = fleet(&world, &["east", "north"]).await;
    let run = world.start_run(&fleet, "r", consistent(&images())).await;
    world.reaches(&run, "Failed", LATE).await;
    let targets = json!({"targets": [{"type": "Member", "name": "east"}]});
    assert_eq!(world.post(&format!("{run}/skip"), Some(targets)).await.status, 200);
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!((image(&world, "north").await, image(&world, "east").await), (json!(COMMON), json!(OLD)));
}

/// Waits until the service keeps so many snapshots.
async fn snapshots(world: &World, count: usize) -> Vec<Value> {
    let url = format!(
        "{}/subscriptions/{}/providers/Microsoft.ContainerService/snapshots?api-version=2026-08-01",
        world.emulator_url,
        crate::harness::world::SUBSCRIPTION
    );
    let deadline = std::time::Instant::now() + LATE;
    loop {
        let kept = world.get(&url).await.body["value"].as_array().cloned().unwrap_or_default();
        if kept.len() >= count {
            return kept;
        }
        assert!(std::time::Instant::now() < deadline, "{kept:?}\n{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_keep_the_common_image_within_reach() {
    let world = world(&[("FLEET_NODE_IMAGE_SNAPSHOTS", "rg1")]).await;
    cluster(&world, "east", "eastus", "1.32.7", OLD).await;
    cluster(&world, "north", "swedencentral", "1.33.2", COMMON).await;
    let fleet = fleet(&world, &["east", "north"]).await;
    let kept = snapshots(&world, 2).await;
    assert!(kept.iter().all(|kept| kept["tags"]["created-by"] == "fleet-manager"), "{kept:?}");
    // A newer image appears after the control plane was upgraded. The snapshot still brings the chosen image.
    world.fault(json!({"match": {"method": "PUT", "cluster": "east"}, "action": {"hangOperation": true}})).await;
    let run = world.start_run(&fleet, "r", consistent(&full())).await;
    world.until(&run, LATE, "running", |status| states(status).contains(&"Running".to_owned())).await;
    let begun = |log: &[Value]| log.iter().any(|entry| entry["step"] == "ControlPlane" && entry["applied"] == true);
    let deadline = std::time::Instant::now() + LATE;
    while !begun(&world.emulator_log().await) {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    publish(&world, "eastus", "202511.20.0").await;
    world.emulator("POST", "/emulator/operations/release", None).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert_eq!(states(&status), ["Completed", "Skipped"], "{status:#}");
    assert_eq!((image(&world, "east").await, image(&world, "north").await), (json!(COMMON), json!(COMMON)));
    let moved: Vec<Value> = world.emulator_log().await.into_iter().filter(|e| e["step"] == "AgentPool:pool").collect();
    assert_eq!((moved.len(), &moved[0]["nodeImage"]), (1, &json!(COMMON)), "{moved:?}");

    // The next run upgrades a pool that the service has bound to one of its snapshots.
    let latest = json!({"managedClusterUpdate": {"upgrade": images(), "nodeImageSelection": {"type": "Latest"}}});
    let run = world.start_run(&fleet, "latest", latest).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!(image(&world, "east").await, format!("{FAMILY}-202511.20.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_alone_comes_from_a_snapshot() {
    let world = world(&[("FLEET_NODE_IMAGE_SNAPSHOTS", "rg1")]).await;
    cluster(&world, "east", "eastus", "1.33.2", OLD).await;
    cluster(&world, "north", "swedencentral", "1.33.2", COMMON).await;
    let fleet = fleet(&world, &["east", "north"]).await;
    snapshots(&world, 2).await;
    let run = world.start_run(&fleet, "r", consistent(&images())).await;
    let over = |status: &Value| matches!(status["status"]["state"].as_str(), Some("Completed" | "Failed"));
    let status = world.until(&run, LATE, "over", over).await;
    assert_eq!(status["status"]["state"], "Completed", "{status:#}");
    assert_eq!(image(&world, "east").await, COMMON);
    let moved = world.applied().await;
    assert_eq!(moved.get(&("east".to_owned(), "nodeimage:pool".to_owned())), Some(&1), "{moved:?}");
}

/// Both regions offer the same image at the start; a newer one appears in one of them when its control plane has moved.
async fn outdated(unavailable: Option<&str>) -> (World, Value) {
    let world = world(&[]).await;
    publish(&world, "swedencentral", "202510.29.0").await;
    cluster(&world, "east", "eastus", "1.32.7", OLD).await;
    cluster(&world, "north", "swedencentral", "1.32.7", OLD).await;
    let fleet = fleet(&world, &["east", "north"]).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "east"}, "action": {"hangOperation": true}})).await;
    let mut properties = consistent(&full());
    if let Some(unavailable) = unavailable {
        properties["managedClusterUpdate"]["whenImageUnavailable"] = unavailable.into();
    }
    let run = world.start_run(&fleet, "r", properties).await;
    let shown = world.get(&run).await.body["properties"]["managedClusterUpdate"].get("whenImageUnavailable").cloned();
    assert_eq!(shown, unavailable.map(Value::from), "only who asked for it sees it");
    let deadline = std::time::Instant::now() + LATE;
    while !world.applied().await.contains_key(&("east".to_owned(), "controlplane".to_owned())) {
        assert!(std::time::Instant::now() < deadline, "{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    publish(&world, "eastus", "202511.20.0").await;
    // The service uses a cached offer of the region for half a second at most.
    tokio::time::sleep(Duration::from_millis(600)).await;
    world.emulator("POST", "/emulator/operations/release", None).await;
    let over = |status: &Value| matches!(status["status"]["state"].as_str(), Some("Completed" | "Failed"));
    let status = world.until(&run, LATE, "over", over).await;
    (world, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_gone_when_the_pool_has_its_turn_fails_the_member() {
    let (world, status) = outdated(None).await;
    assert_eq!(states(&status)[0], "Failed", "{status:#}");
    let error = &members(&status)[0]["status"]["error"];
    assert_eq!(error["code"], "NodeImageVersionUnavailable", "{error}");
    assert!(error["message"].as_str().unwrap().contains("202511.20.0"), "{error}");
    assert_eq!(image(&world, "east").await, OLD);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_gets_the_newest_image_when_the_run_says_so() {
    let (world, status) = outdated(Some("Newest")).await;
    assert_eq!(status["status"]["state"], "Completed", "{status:#}");
    assert_eq!(image(&world, "east").await, format!("{FAMILY}-202511.20.0"));
    assert_eq!(image(&world, "north").await, format!("{FAMILY}-202510.29.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_for_chosen_images_and_is_kept() {
    let world = world(&[]).await;
    let fleet = fleet(&world, &[]).await;
    let run = format!("{fleet}/updateRuns/r");
    let with = |selection: &str, unavailable: Option<&str>| {
        let mut update = json!({"upgrade": images(), "nodeImageSelection": {"type": selection}});
        if let Some(unavailable) = unavailable {
            update["whenImageUnavailable"] = unavailable.into();
        }
        json!({"properties": {"managedClusterUpdate": update}})
    };
    let refused = world.put(&run, with("Latest", Some("Newest"))).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.to_string().contains("properties.managedClusterUpdate.whenImageUnavailable"));
    assert_eq!(world.put(&run, with("Consistent", Some("Sometimes"))).await.status, 400);
    let shown = async |body| {
        world.put(&run, body).await.body["properties"]["managedClusterUpdate"].get("whenImageUnavailable").cloned()
    };
    assert_eq!(shown(with("Consistent", Some("Newest"))).await, Some(json!("Newest")));
    assert_eq!(
        shown(with("Consistent", None)).await,
        Some(json!("Newest")),
        "who does not know it does not turn it off"
    );
    assert_eq!(shown(with("Consistent", Some("Fail"))).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_a_profile_explains_itself_too() {
    let world = world(&[]).await;
    cluster(&world, "east", "eastus", "1.33.5", OLD).await;
    cluster(&world, "north", "swedencentral", "1.33.5", OLD).await;
    let fleet = fleet(&world, &["east", "north"]).await;
    let profile = format!("{fleet}/autoUpgradeProfiles/p");
    let body =
        json!({"channel": "Stable", "nodeImageSelection": {"type": "Consistent"}, "whenImageUnavailable": "Newest"});
    let made = world.put(&profile, json!({"properties": body})).await;
    assert!(made.status < 300, "{}", made.body);
    let generated = async || world.post(&format!("{profile}/generateUpdateRun"), None).await;
    let deadline = std::time::Instant::now() + LATE;
    let run = loop {
        let answer = generated().await;
        if let Some(id) = answer.body["id"].as_str() {
            break id.to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "{} {}", answer.status, answer.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let shown = world.get(&run).await.body;
    assert_eq!(shown["properties"]["managedClusterUpdate"]["whenImageUnavailable"], "Newest", "{shown:#}");
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let status = world.reaches(&run, "Failed", LATE).await;
    assert_eq!(status["status"]["error"]["code"], "NoConsistentNodeImage", "{status:#}");
    assert!(world.applied().await.is_empty());
}
