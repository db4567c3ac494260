//! Auto-upgrade profiles in the real binary: a release in the emulator starts runs.

mod continuous;
mod counted;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fleet_manager::{api::CatalogueChanges, store::catalogues};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{
    eventually,
    postgres::database,
    world::{Options, SUBSCRIPTION, World, members},
};

const LATE: Duration = Duration::from_secs(60);
const PREVIEW: &str = "?api-version=2026-06-02-preview";
const UBUNTU: &str = "AKSUbuntu-2204gen2containerd";

/// A world that reads the catalogue every second.
async fn watching() -> World {
    let env = vec![
        ("FLEET_CATALOGUE_WATCH_SECONDS", "1".to_owned()),
        ("FLEET_LEASE_SECONDS", "1".to_owned()),
        ("FLEET_OFFER_RECHECK_SECONDS", "2".to_owned()),
    ];
    World::start_with(Options { env, ..Options::default() }).await
}

fn profile(fleet: &str, name: &str) -> String {
    format!("{fleet}/autoUpgradeProfiles/{name}")
}

async fn make(world: &World, fleet: &str, name: &str, properties: Value) -> String {
    let path = format!("{}{PREVIEW}", profile(fleet, name));
    let made = world.put(&path, json!({"properties": properties})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    profile(fleet, name)
}

/// A cluster joins.
async fn join(world: &World, fleet: &str, member: &str, cluster: usize) {
    let properties = json!({"clusterResourceId": World::cluster(cluster), "group": "g"});
    let path = format!("{fleet}/members/{member}");
    assert_eq!(world.put(&path, json!({"properties": properties})).await.status, 201);
    world.settled(&path).await;
}

async fn publish(world: &World, region: &str, version: &str) {
    let body = json!({"region": region, "version": version});
    world.emulator("POST", "/emulator/versions", Some(body)).await;
}

/// Waits until all clusters of fleets with profiles were read, so that later publications are releases.
async fn all_seen(world: &World) {
    eventually("clusters are seen", async || {
        let unseen = "SELECT count(*) FROM memberships WHERE seen IS NULL AND fleet_id IN (SELECT fleet_id FROM auto_upgrade_profiles)";
        let unseen: i64 = sqlx::query_scalar(unseen).fetch_one(world.pool()).await.unwrap();
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM catalogues").fetch_one(world.pool()).await.unwrap();
        unseen == 0 && known > 0
    })
    .await;
}

/// Waits until two more reads of the catalogue, and the triggers that follow, have ended.
async fn two_more_looks(world: &World) {
    let looked = async || -> String {
        let text = "SELECT coalesce(max(looked_at)::text, '') FROM catalogue_watches";
        sqlx::query_scalar(text).fetch_one(world.pool()).await.unwrap()
    };
    for _ in 0..2 {
        let before = looked().await;
        eventually("another look", async || looked().await > before).await;
    }
    eventually("what followed is over", async || {
        let open = "SELECT count(*) FROM jobs WHERE kind = 'profile.trigger'";
        sqlx::query_scalar::<_, i64>(open).fetch_one(world.pool()).await.unwrap() == 0
    })
    .await;
}

/// The fleet's runs, by name.
async fn runs(world: &World, fleet: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let mut next = Some(format!("{fleet}/updateRuns"));
    while let Some(link) = next {
        let page = world.get(&link).await.body;
        for run in page["value"].as_array().unwrap() {
            all.insert(run["name"].as_str().unwrap().to_owned(), run["properties"].clone());
        }
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    all
}

/// Waits for the only run with this prefix, and returns its path.
async fn run_named(world: &World, fleet: &str, prefix: &str) -> String {
    let mut found = Vec::new();
    let deadline = std::time::Instant::now() + LATE;
    while found.is_empty() {
        assert!(std::time::Instant::now() < deadline, "no run {prefix}\n{}", world.log_tail());
        found = runs(world, fleet).await.into_keys().filter(|name| name.starts_with(prefix)).collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found.len(), 1, "{found:?}");
    format!("{fleet}/updateRuns/{}", found[0])
}

/// Waits until the profile has this trigger status, and returns its status.
async fn status(world: &World, profile: &str, wanted: &str) -> Value {
    let deadline = std::time::Instant::now() + LATE;
    loop {
        let shown = world.get(&format!("{profile}{PREVIEW}")).await.body;
        let status = shown["properties"]["autoUpgradeProfileStatus"].clone();
        if status["lastTriggerStatus"] == wanted {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "{profile} is not {wanted}: {shown:#}\n{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_channel_follows_its_releases() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m4", 4, "g")]).await;
    for channel in ["Rapid", "Stable", "NodeImage", "SecurityPatch"] {
        make(&world, &fleet, &channel.to_lowercase(), json!({"channel": channel})).await;
    }
    let stays = json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "1.32"});
    make(&world, &fleet, "stays", stays).await;
    all_seen(&world).await;
    two_more_looks(&world).await;
    assert!(runs(&world, &fleet).await.is_empty(), "neither new profiles nor old clusters are news");
    let shown = world.get(&profile(&fleet, "rapid")).await.body;
    assert!(shown["properties"].get("autoUpgradeProfileStatus").is_none(), "{shown}");

    // N is 1.34, so that Stable follows 1.33.
    publish(&world, "eastus", "1.33.9").await;
    let run = run_named(&world, &fleet, "auto-stable-stable-1-33-9-").await;
    let ended = world.reaches(&run, "Completed", LATE).await;
    assert!(members(&ended).iter().all(|member| member["status"]["state"] == "Completed"), "{ended}");
    let shown = world.get(&run).await.body["properties"].clone();
    assert_eq!(shown["autoUpgradeProfileId"], profile(&fleet, "stable"));
    let update =
        json!({"upgrade": {"type": "Full", "kubernetesVersion": "1.33.9"}, "nodeImageSelection": {"type": "Latest"}});
    assert_eq!(shown["managedClusterUpdate"], update);
    let shown = status(&world, &profile(&fleet, "stable"), "Succeeded").await;
    assert_eq!(shown["lastTriggerUpgradeVersions"], json!(["1.33.9"]));
    assert!(shown["lastTriggeredAt"].is_string() && shown["lastTriggerMessage"].is_string(), "{shown}");

    publish(&world, "eastus", "1.34.5").await;
    let run = run_named(&world, &fleet, "auto-rapid-rapid-1-34-5-").await;
    world.reaches(&run, "Completed", LATE).await;

    publish(&world, "eastus", "1.32.99").await;
    let run = run_named(&world, &fleet, "auto-stays-targetkubernetesversion-1-32-99-").await;
    let ended = world.reaches(&run, "Skipped", LATE).await;
    assert!(members(&ended).iter().all(|member| member["message"].is_string()), "all are ahead of it: {ended}");

    let image = json!({"region": "eastus", "family": UBUNTU, "version": "202601.15.0"});
    world.emulator("POST", "/emulator/images", Some(image)).await;
    for (name, windows) in [("nodeimage", true), ("securitypatch", false)] {
        let run = run_named(&world, &fleet, &format!("auto-{name}-{name}-")).await;
        let update = world.get(&run).await.body["properties"]["managedClusterUpdate"].clone();
        assert_eq!(update["upgrade"], json!({"type": "NodeImageOnly"}));
        assert_eq!(update["nodeImageSelection"]["type"], "Custom");
        let chosen = update["nodeImageSelection"]["customNodeImageVersions"].to_string();
        assert!(chosen.contains(&format!("{UBUNTU}-202601.15.0")), "{chosen}");
        assert!(windows || !chosen.contains("Windows"), "{chosen}");
        let shown = status(&world, &profile(&fleet, name), "Succeeded").await;
        assert!(shown["lastTriggerUpgradeVersions"].to_string().contains("202601.15.0"), "{shown}");
        world.until(&run, LATE, "started", |status| status["status"]["state"] != "NotStarted").await;
    }
    assert_eq!(runs(&world, &fleet).await.len(), 5, "one a release and profile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_released_in_one_region_starts_a_run_and_members_elsewhere_wait() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 4, "g")]).await;
    make(&world, &fleet, "p", json!({"channel": "Stable"})).await;
    all_seen(&world).await;
    publish(&world, "westeurope", "1.33.9").await;
    let run = run_named(&world, &fleet, "auto-p-stable-1-33-9-").await;
    let waiting = |status: &Value| {
        let state = |n: usize| members(status)[n]["status"]["state"].clone();
        (state(0), state(1), state(2)) == (json!("Pending"), json!("Completed"), json!("Pending"))
    };
    let status = world.until(&run, LATE, "waiting for the other region", waiting).await;
    assert_eq!(members(&status)[0]["status"]["error"]["code"], "KubernetesVersionNotAvailable", "{status}");
    publish(&world, "eastus", "1.33.9").await;
    two_more_looks(&world).await;
    assert_eq!(runs(&world, &fleet).await.len(), 1, "its arrival elsewhere is no release");
    world.reaches(&run, "Completed", LATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generate_update_run_creates_a_run_without_starting_it() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let strategy = format!("{fleet}/updateStrategies/s");
    let stages =
        |name: &str| json!({"properties": {"strategy": {"stages": [{"name": name, "groups": [{"name": "g"}]}]}}});
    assert_eq!(world.put(&strategy, stages("one")).await.status, 201);
    let path =
        make(&world, &fleet, "p", json!({"channel": "Rapid", "updateStrategyId": strategy, "disabled": true})).await;
    let generate = format!("{path}/generateUpdateRun");
    // Concurrent requests, before the catalogue was read, create one run.
    let answers = join_all((0..20).map(|_| world.post(&generate, None))).await;
    let id = answers[0].body["id"].as_str().unwrap().to_owned();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == json!({"id": id})), "{answers:?}");
    let run = world.get(&id).await.body["properties"].clone();
    assert_eq!(run["status"]["status"], json!({"state": "NotStarted"}));
    assert_eq!(run["strategy"]["stages"][0]["name"], "one");
    assert_eq!(run["managedClusterUpdate"]["upgrade"]["kubernetesVersion"], "1.34.1");
    assert_eq!((&run["autoUpgradeProfileId"], &run["updateStrategyId"]), (&json!(path), &json!(strategy)));
    assert!(world.get(&path).await.body["properties"].get("autoUpgradeProfileStatus").is_none(), "no trigger");

    // After an edit of the strategy the same run is returned.
    assert_eq!(world.put(&strategy, stages("two")).await.status, 200);
    assert_eq!(world.post(&generate, None).await.body["id"], *id);
    assert_eq!(world.get(&id).await.body["properties"]["strategy"]["stages"][0]["name"], "one");
    // A client that puts back what it read does not remove the profile's ID.
    let body = world.get(&id).await.body;
    let put = world
        .put(
            &id,
            json!({"properties": {"updateStrategyId": strategy, "managedClusterUpdate": run["managedClusterUpdate"]}}),
        )
        .await;
    assert_eq!((put.status, &put.body["properties"]["autoUpgradeProfileId"]), (200, &json!(path)), "{}", put.body);
    assert_eq!(world.put(&id, body).await.status, 200);

    // Runs of a profile stay when the profile is deleted.
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.get(&id).await.status, 200);
    assert_eq!(world.post(&generate, None).await.status, 404);
    let empty = world.fleet_of("empty", &[]).await;
    let path = make(&world, &empty, "p", json!({"channel": "Stable"})).await;
    let refused = world.post(&format!("{path}/generateUpdateRun"), None).await;
    assert_eq!((refused.status, refused.code()), (409, "FleetHasNoMembers"));
}

/// A request that waits for the first read of what AKS offers does not ask the database again and again.
#[tokio::test]
async fn a_read_of_a_catalogue_wakes_the_requests_that_wait_for_it() {
    let database = database().await;
    let changes = Arc::new(CatalogueChanges::default());
    let mut waiting = changes.subscribe();
    let (heard, pool) = (Arc::clone(&changes), database.pool.clone());
    let listening = tokio::spawn(async move { heard.listen(&pool).await });
    tokio::time::timeout(LATE, waiting.changed()).await.expect("connected").unwrap();
    let mut tx = database.pool.begin().await.unwrap();
    catalogues::keep_outcome(&mut tx, SUBSCRIPTION, None, Timestamp::now()).await.unwrap();
    tx.commit().await.unwrap();
    tokio::time::timeout(LATE, waiting.changed()).await.expect("notified").unwrap();
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_profile_starts_nothing() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let rapid = |disabled: bool| json!({"channel": "Rapid", "disabled": disabled});
    let path = make(&world, &fleet, "p", rapid(true)).await;
    make(&world, &fleet, "other", rapid(false)).await;
    all_seen(&world).await;
    publish(&world, "eastus", "1.34.5").await;
    run_named(&world, &fleet, "auto-other-").await;
    let enabled = world.put(&path, json!({"properties": rapid(false)})).await;
    assert_eq!((enabled.status, &enabled.body["properties"]["disabled"]), (200, &json!(false)));
    two_more_looks(&world).await;
    assert_eq!(runs(&world, &fleet).await.len(), 1, "what was released meanwhile is not made up for");
    publish(&world, "eastus", "1.34.6").await;
    run_named(&world, &fleet, "auto-p-rapid-1-34-6-").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_replicas_start_one_run() {
    let mut world = watching().await;
    for _ in 0..2 {
        world.add_replica();
    }
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    for n in 0..10 {
        make(&world, &fleet, &format!("p{n}"), json!({"channel": "Rapid"})).await;
    }
    all_seen(&world).await;
    publish(&world, "eastus", "1.34.5").await;
    publish(&world, "westeurope", "1.34.5").await;
    for n in 0..10 {
        run_named(&world, &fleet, &format!("auto-p{n}-rapid-1-34-5-")).await;
        status(&world, &profile(&fleet, &format!("p{n}")), "Succeeded").await;
    }
    two_more_looks(&world).await;
    assert_eq!(runs(&world, &fleet).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_survive_kills_and_happen_once() {
    let mut world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    for n in 0..10 {
        make(&world, &fleet, &format!("p{n}"), json!({"channel": "Stable"})).await;
    }
    all_seen(&world).await;
    publish(&world, "eastus", "1.33.9").await;
    // The kills are spread from before the read of the catalogue until after the creation of some runs.
    for pause in [5, 400, 30, 900, 120, 60, 250, 700, 15, 500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        world.kill();
        world.restart().await;
    }
    for n in 0..10 {
        let run = run_named(&world, &fleet, &format!("auto-p{n}-stable-1-33-9-")).await;
        let ended = |status: &Value| ["Completed", "Skipped"].iter().any(|state| status["status"]["state"] == *state);
        world.until(&run, LATE, "over", ended).await;
        status(&world, &profile(&fleet, &format!("p{n}")), "Succeeded").await;
    }
    two_more_looks(&world).await;
    assert_eq!(runs(&world, &fleet).await.len(), 10);
    assert!(world.applied().await.values().all(|times| *times == 1), "each cluster was upgraded once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_with_a_deleted_strategy_shows_an_error() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let strategy = format!("{fleet}/updateStrategies/s");
    let missing = world
        .put(&profile(&fleet, "p"), json!({"properties": {"channel": "Rapid", "updateStrategyId": strategy}}))
        .await;
    assert_eq!((missing.status, missing.code()), (400, "UpdateStrategyNotFound"));
    let stages = json!({"properties": {"strategy": {"stages": [{"name": "one", "groups": [{"name": "g"}]}]}}});
    assert_eq!(world.put(&strategy, stages.clone()).await.status, 201);
    let path = make(&world, &fleet, "p", json!({"channel": "Rapid", "updateStrategyId": strategy})).await;
    all_seen(&world).await;
    assert_eq!(world.delete(&strategy).await.status, 200);
    publish(&world, "eastus", "1.34.5").await;
    let shown = status(&world, &path, "Failed").await;
    assert_eq!(shown["lastTriggerError"]["code"], "UpdateStrategyNotFound");
    assert!(shown["lastTriggerError"]["message"].as_str().unwrap().contains("Create it again"), "{shown}");
    assert_eq!(shown["lastTriggerUpgradeVersions"], json!(["1.34.5"]));
    two_more_looks(&world).await;
    assert!(runs(&world, &fleet).await.is_empty(), "never one by one instead");
    assert_eq!(status(&world, &path, "Failed").await, shown, "the error stays the same");
    // The profile can still be edited, and works again.
    let edited = world.put(&path, json!({"properties": {"channel": "Stable", "updateStrategyId": strategy}})).await;
    assert_eq!(edited.status, 200, "{}", edited.body);
    assert_eq!(world.post(&format!("{path}/generateUpdateRun"), None).await.code(), "UpdateStrategyNotFound");
    assert_eq!(world.put(&strategy, stages).await.status, 201);
    assert_eq!(world.post(&format!("{path}/generateUpdateRun"), None).await.status, 200);
    publish(&world, "eastus", "1.33.9").await;
    status(&world, &path, "Succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_target_versions_are_reported() {
    let world = watching().await;
    publish(&world, "eastus", "1.30.14").await;
    let stays = |minor: &str, long_term: bool| json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": minor, "longTermSupport": long_term});
    // The target of a fleet without members is unknown. The error shows later.
    let fleet = world.fleet_of("f", &[]).await;
    let early = make(&world, &fleet, "early", stays("1.77", false)).await;
    let gone = make(&world, &fleet, "gone", stays("1.20", true)).await;
    let plain = make(&world, &fleet, "plain", stays("1.30", false)).await;
    let supported = make(&world, &fleet, "supported", stays("1.30", true)).await;
    join(&world, &fleet, "m1", 1).await;
    let shown = status(&world, &early, "Failed").await;
    assert_eq!(shown["lastTriggerError"]["code"], "KubernetesVersionNotReleased");
    assert_eq!(status(&world, &gone, "Failed").await["lastTriggerError"]["code"], "KubernetesVersionNotSupported");
    let refused = world.put(&profile(&fleet, "late"), json!({"properties": stays("1.77", false)})).await;
    assert_eq!((refused.status, refused.code()), (400, "KubernetesVersionNotReleased"), "{}", refused.body);
    assert_eq!(refused.body["error"]["target"], "properties.targetKubernetesVersion");

    // Community support has ended for 1.30: N is 1.34.
    publish(&world, "eastus", "1.30.15").await;
    let shown = status(&world, &plain, "Failed").await;
    assert_eq!(shown["lastTriggerError"]["code"], "LongTermSupportRequired");
    assert!(shown["lastTriggerError"]["message"].as_str().unwrap().contains("longTermSupport"), "{shown}");
    status(&world, &supported, "Succeeded").await;
    run_named(&world, &fleet, "auto-suppo").await;
    publish(&world, "eastus", "1.77.0").await;
    status(&world, &early, "Succeeded").await;
    let run = run_named(&world, &fleet, "auto-early-").await;
    let ended = world.reaches(&run, "Skipped", LATE).await;
    let message = members(&ended)[0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("more than one minor version behind"), "{message}");
    assert_eq!(runs(&world, &fleet).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_catalogue_is_shown_and_recovered_from() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let path = make(&world, &fleet, "p", json!({"channel": "Rapid"})).await;
    all_seen(&world).await;
    let away = json!({"match": {"method": "GET", "path": "kubernetesVersions"}, "times": 100_000,
        "action": {"status": 503, "code": "ServiceUnavailable", "message": "under repair"}});
    world.fault(away).await;
    let message = async || {
        let shown = world.get(&format!("{path}{PREVIEW}")).await.body;
        shown["properties"]["autoUpgradeProfileStatus"]["lastTriggerMessage"].as_str().unwrap_or_default().to_owned()
    };
    eventually("the profile shows the error", async || message().await.contains("under repair")).await;
    assert!(message().await.contains("since"), "{}", message().await);
    assert!(world.log_text().contains("the catalogue cannot be read"));
    publish(&world, "eastus", "1.34.5").await;
    two_more_looks(&world).await;
    assert!(runs(&world, &fleet).await.is_empty());
    let generated = world.post(&format!("{path}/generateUpdateRun"), None).await;
    assert!(generated.body["id"].as_str().unwrap().contains("1-34-1"), "by what was known last: {}", generated.body);
    world.emulator("DELETE", "/emulator/faults", None).await;
    run_named(&world, &fleet, "auto-p-rapid-1-34-5-").await;
    eventually("the profile no longer shows the error", async || !message().await.contains("under repair")).await;
    assert!(world.log_text().contains("can be read again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_pools_do_not_hide_other_pools_or_versions() {
    let world = watching().await;
    // Both are in the same region.
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m4", 4, "g")]).await;
    make(&world, &fleet, "images", json!({"channel": "NodeImage"})).await;
    let versions = make(&world, &fleet, "versions", json!({"channel": "Rapid"})).await;
    all_seen(&world).await;
    let broken = |path: &str| {
        json!({"match": {"method": "GET", "path": path}, "times": 100_000,
            "action": {"status": 500, "code": "InternalError", "message": "this pool is broken"}})
    };
    let shown = async || {
        let shown = world.get(&format!("{versions}{PREVIEW}")).await.body;
        let message = shown["properties"]["autoUpgradeProfileStatus"]["lastTriggerMessage"].clone();
        message.as_str().is_some_and(|message| message.contains("this pool is broken"))
    };
    world.fault(broken("aks-1/agentPools")).await;
    let image = json!({"region": "eastus", "family": UBUNTU, "version": "202601.15.0"});
    world.emulator("POST", "/emulator/images", Some(image)).await;
    run_named(&world, &fleet, "auto-images-nodeimage-").await;

    world.fault(broken("agentPools")).await;
    eventually("the profile shows the error", async || shown().await).await;
    publish(&world, "eastus", "1.34.5").await;
    run_named(&world, &fleet, "auto-versions-rapid-1-34-5-").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_api_version_shows_its_own_properties() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let path = make(&world, &fleet, "p", json!({"channel": "Rapid"})).await;
    let old = world.get(&format!("{path}?api-version=2024-04-01")).await;
    assert_eq!((old.status, old.code()), (400, "NoRegisteredProviderFound"));
    let old = world.post(&format!("{path}/generateUpdateRun?api-version=2024-04-01"), None).await;
    assert_eq!(old.code(), "NoRegisteredProviderFound");
    let shown = world.get(&format!("{path}?api-version=2025-03-01")).await.body;
    let properties = json!({"channel": "Rapid", "disabled": false, "provisioningState": "Succeeded"});
    assert_eq!(shown["properties"], properties);
    let shown = world.get(&path).await.body;
    assert_eq!(shown["properties"]["longTermSupport"], false);
    for (version, channel, status) in [
        ("2025-03-01", "TargetKubernetesVersion", 400),
        ("2026-06-01", "SecurityPatch", 400),
        ("2026-06-02-preview", "SecurityPatch", 201),
    ] {
        let mut properties = json!({"channel": channel});
        if channel == "TargetKubernetesVersion" {
            properties["targetKubernetesVersion"] = json!("1.33");
        }
        let path = format!("{}?api-version={version}", profile(&fleet, "q"));
        let made = world.put(&path, json!({"properties": properties})).await;
        assert_eq!(made.status, status, "{version} {channel}: {}", made.body);
    }
    // A client of an older version does not reset what it cannot see.
    let stays =
        json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "1.33", "longTermSupport": true});
    let path = make(&world, &fleet, "stays", stays).await;
    let body = json!({"properties": {"channel": "TargetKubernetesVersion", "disabled": true}});
    let put = world.put(&format!("{path}?api-version=2025-03-01"), body).await;
    assert_eq!(put.status, 200, "{}", put.body);
    let shown = world.get(&path).await.body["properties"].clone();
    assert_eq!((&shown["targetKubernetesVersion"], &shown["longTermSupport"]), (&json!("1.33"), &json!(true)));
    let body = json!({"properties": {"channel": "Rapid"}});
    assert_eq!(world.put(&format!("{path}?api-version=2025-03-01"), body).await.status, 200);
    assert!(world.get(&path).await.body["properties"].get("targetKubernetesVersion").is_none());
}
