//! The extension `reconcile: Continuous`.

use fleet_manager::model::extensions::EXTENSIONS;

use super::*;

/// Returns the names of the members of each run, and whether the run has ended.
async fn made(world: &World, fleet: &str) -> Vec<(Vec<String>, bool)> {
    let runs = runs(world, fleet).await;
    let mut made: Vec<_> = runs
        .values()
        .map(|run| {
            let names = members(&run["status"]).iter().map(|m| m["name"].as_str().unwrap().to_owned()).collect();
            (names, run["status"]["status"]["state"] == "Completed")
        })
        .collect();
    made.sort();
    made
}

fn run_of(names: &[&str]) -> (Vec<String>, bool) {
    (names.iter().map(|name| (*name).to_owned()).collect(), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_behind_the_target_get_a_run() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 4, "g")]).await;
    let path = make(&world, &fleet, "p", json!({"channel": "Stable", "reconcile": "Continuous"})).await;
    eventually("those that lag behind are upgraded", async || made(&world, &fleet).await == [run_of(&["m1", "m2"])])
        .await;
    let shown = status(&world, &path, "Succeeded").await;
    assert!(shown["lastTriggerMessage"].as_str().unwrap().contains("2 members"), "{shown}");
    join(&world, &fleet, "m3", 7).await;
    let both = [run_of(&["m1", "m2"]), run_of(&["m3"])];
    eventually("who joined late is upgraded", async || made(&world, &fleet).await == both).await;
    two_more_looks(&world).await;
    assert_eq!(made(&world, &fleet).await, both, "and then nothing lags behind");
    assert!(world.applied().await.values().all(|times| *times == 1));

    // A release starts a run for all members, as without the option.
    publish(&world, "eastus", "1.33.9").await;
    let run = run_named(&world, &fleet, "auto-p-stable-1-33-9-").await;
    assert_eq!(members(&world.reaches(&run, "Completed", LATE).await).len(), 3);
    two_more_looks(&world).await;
    assert_eq!(runs(&world, &fleet).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_not_started_again_by_its_profile() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let refuse = json!({"match": {"method": "PUT", "cluster": "aks-1"}, "times": 1,
        "action": {"status": 400, "code": "BadRequest", "message": "no"}});
    world.fault(refuse).await;
    let path = make(&world, &fleet, "p", json!({"channel": "Stable", "reconcile": "Continuous"})).await;
    let run = run_named(&world, &fleet, "auto-p-stable-").await;
    world.reaches(&run, "Failed", LATE).await;
    two_more_looks(&world).await;
    assert_eq!(runs(&world, &fleet).await.len(), 1, "no second attempt by itself");
    assert_eq!(world.delete(&run).await.status, 200);
    two_more_looks(&world).await;
    assert!(runs(&world, &fleet).await.is_empty(), "nor is what was deleted made again");
    assert_eq!(world.delete(&path).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn continuous_is_off_by_default_and_official_clients_do_not_reset_it() {
    let world = watching().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let path = make(&world, &fleet, "p", json!({"channel": "Stable"})).await;
    all_seen(&world).await;
    join(&world, &fleet, "m2", 4).await;
    all_seen(&world).await;
    two_more_looks(&world).await;
    assert!(runs(&world, &fleet).await.is_empty(), "the product picks up nobody");
    let shown = world.get(&path).await.body;
    assert!(shown["properties"].get("reconcile").is_none(), "{shown}");

    let reconcile = async |body: Value| {
        let put = world.put(&path, json!({"properties": body})).await;
        assert_eq!(put.status, 200, "{}", put.body);
        put.body["properties"].get("reconcile").cloned()
    };
    let disabled = |reconcile: &str| json!({"channel": "Stable", "disabled": true, "reconcile": reconcile});
    assert_eq!(reconcile(disabled("Continuous")).await, Some(json!("Continuous")));
    assert_eq!(reconcile(json!({"channel": "Stable", "disabled": true})).await, Some(json!("Continuous")));
    assert_eq!(reconcile(disabled("OnNewVersion")).await, None);
    let odd = world.put(&path, json!({"properties": disabled("Sometimes")})).await;
    assert_eq!((odd.status, &odd.body["error"]["target"]), (400, &json!("properties.reconcile")));
}

#[test]
fn every_extension_is_on_its_page_and_in_the_document() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/extensions.md")).unwrap();
    let document = std::fs::read_to_string(root.join("openapi/fleets-2026-06-01.json")).unwrap();
    for extension in EXTENSIONS {
        assert!(page.contains(extension.resource_type), "{extension:?}");
        for word in std::iter::once(extension.path).chain(extension.values.iter().copied()) {
            let word = word.rsplit('.').next().unwrap();
            assert!(page.contains(&format!("`{word}`")), "{word} is not on the page");
            assert!(document.contains(&format!("\"{word}\"")), "{word} is not in the document");
        }
    }
}
