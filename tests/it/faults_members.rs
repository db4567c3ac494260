//! Faults of one member's cluster or region: the member shows the reason, and other members continue.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{Options, World, members, upgrade_to},
};

const LATE: Duration = Duration::from_secs(60);

fn member<'a>(status: &'a Value, name: &str) -> &'a Value {
    members(status).into_iter().find(|member| member["name"] == name).unwrap()
}

/// Checks that no cluster got two upgrade calls, whether AKS accepted or refused the second.
async fn assert_told_once(world: &World) {
    let applied = world.applied().await;
    assert!(!applied.is_empty() && applied.values().all(|times| *times == 1), "{applied:?}");
    let log = world.emulator_log().await;
    let refused: Vec<_> = log.iter().filter(|entry| entry["status"] == 409).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_upgrades_fail_with_the_message_of_aks() {
    for method in ["GET", "PUT"] {
        let world = World::start().await;
        let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
        let action = json!({"status": 403, "code": "AuthorizationFailed", "message": "no right to aks-1"});
        world.fault(json!({"match": {"method": method, "cluster": "aks-1"}, "times": 100, "action": action})).await;
        let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
        let run = world.start_run(&fleet, "r", properties).await;
        let status = world.reaches(&run, "Failed", LATE).await;
        let error = &member(&status, "m1")["status"]["error"];
        assert_eq!(error["code"], "ClusterPermissionDenied", "{method}: {error}");
        let text = error.to_string();
        assert!(text.contains("AuthorizationFailed") && text.contains("no right to aks-1"), "{method}: {text}");
        assert!(world.applied().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_operation_is_followed_until_it_ends() {
    let world = World::start().await;
    let hang = json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"hangOperation": true}});
    world.fault(hang).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "2"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    let status = world.until(&run, LATE, "m2 done", |s| member(s, "m2")["status"]["state"] == "Completed").await;
    assert_eq!(member(&status, "m1")["status"]["state"], "Running", "it hangs");
    let released = world.emulator("POST", "/emulator/operations/release?cluster=aks-1", None).await;
    assert_eq!(released.body["released"], 1);
    world.reaches(&run, "Completed", LATE).await;
    assert_told_once(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_waits_for_a_version_to_reach_its_region() {
    let env = vec![("FLEET_OFFER_RECHECK_SECONDS", "1".to_owned())];
    let world = World::start_with(Options { env, ..Options::default() }).await;
    // All regions offer 1.33.5. The test withdraws it from the region of the second cluster.
    let version = json!({"region": "westeurope", "version": "1.33.5"});
    world.emulator("DELETE", "/emulator/versions", Some(version.clone())).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "2"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.5")});
    let run = world.start_run(&fleet, "r", properties).await;
    let status = world.until(&run, LATE, "m2 pending", |s| member(s, "m2")["status"]["state"] == "Pending").await;
    let error = &member(&status, "m2")["status"]["error"];
    assert_eq!(error["code"], "KubernetesVersionNotAvailable", "{error}");
    assert!(error["message"].as_str().unwrap().contains("westeurope"), "{error}");
    world.emulator("POST", "/emulator/versions", Some(version)).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert_eq!(member(&status, "m2")["status"]["state"], "Completed");
    assert_told_once(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_auto_provisioning_and_clusters_at_the_target_are_skipped_with_the_reason() {
    let world = World::start().await;
    let made = json!({"name": "aks-nap", "resourceGroup": "rg1", "location": "eastus", "nodeProvisioningMode": "Auto"});
    world.emulator("POST", "/emulator/clusters", Some(made)).await;
    world.emulator("PATCH", "/emulator/clusters/aks-1", Some(json!({"kubernetesVersion": "1.33.2"}))).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let id = World::cluster(1).replace("aks-1", "aks-nap");
    let nap = format!("{fleet}/members/nap");
    let properties = json!({"clusterResourceId": id, "group": "h"});
    assert_eq!(world.put(&nap, json!({"properties": properties})).await.status, 201);
    assert_eq!(world.settled(&nap).await["properties"]["provisioningState"], "Succeeded");
    let at_target = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2"),
        "strategy": {"stages": [{"name": "s", "groups": [{"name": "g"}]}]}});
    let run = world.start_run(&fleet, "at-target", at_target).await;
    let status = world.until(&run, LATE, "ended", |s| member(s, "m1")["status"]["state"] == "Skipped").await;
    assert!(member(&status, "m1")["message"].as_str().unwrap().contains("1.33.2"), "{status:#}");
    let full = json!({"managedClusterUpdate": upgrade_to("Full", "1.33.2"),
        "strategy": {"stages": [{"name": "s", "groups": [{"name": "h"}]}]}});
    let run = world.start_run(&fleet, "nap", full).await;
    let status = world.until(&run, LATE, "ended", |s| member(s, "nap")["status"]["state"] == "Skipped").await;
    assert!(member(&status, "nap")["message"].as_str().unwrap().contains("auto-provisioning"), "{status:#}");
    assert!(world.applied().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_cannot_join_says_why_and_can_be_deleted() {
    let world = World::start().await;
    let foreign = json!({"name": "aks-foreign", "resourceGroup": "rg1", "location": "eastus",
        "tenantId": "22222222-2222-2222-2222-222222222222"});
    world.emulator("POST", "/emulator/clusters", Some(foreign)).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    for (name, cluster, code) in
        [("foreign", "aks-foreign", "ClusterInAnotherTenant"), ("missing", "aks-none", "ClusterNotFound")]
    {
        let path = format!("{fleet}/members/{name}");
        let id = World::cluster(1).replace("aks-1", cluster);
        let made = world.put(&path, json!({"properties": {"clusterResourceId": id}})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let operation = made.header("azure-asyncoperation").unwrap().to_owned();
        assert_eq!(world.settled(&path).await["properties"]["provisioningState"], "Failed");
        let ended = world.get(&operation).await.body;
        assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("Failed"), &json!(code)), "{ended}");
        assert!(matches!(world.delete(&path).await.status, 200 | 202 | 204));
    }
    let properties = json!({"properties": {"clusterResourceId": World::cluster(1)}});
    let twice = world.put(&format!("{fleet}/members/again"), properties.clone()).await;
    assert_eq!(twice.code(), "ClusterAlreadyJoined", "{}", twice.body);
    let other = world.fleet_of("other", &[]).await;
    let held = world.put(&format!("{other}/members/m"), properties).await;
    assert_eq!(held.code(), "ClusterAlreadyJoinedAnotherFleet", "{}", held.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn during_an_outage_of_aks_the_member_says_so() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let action = json!({"status": 500, "code": "InternalServerError", "message": "oops of aks-1"});
    world.fault(json!({"match": {"cluster": "aks-1"}, "times": 1000, "action": action})).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    let says = |s: &Value| member(s, "m1")["message"].as_str().is_some_and(|text| text.contains("oops of aks-1"));
    world.until(&run, LATE, "telling the reason", says).await;
    world.emulator("DELETE", "/emulator/faults", None).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_told_once(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_waits_for_a_node_image_to_reach_its_region() {
    let env = vec![("FLEET_OFFER_RECHECK_SECONDS", "1".to_owned())];
    let world = World::start_with(Options { env, ..Options::default() }).await;
    let made = json!({"name": "aks-late", "resourceGroup": "rg1", "location": "swedencentral",
        "agentPools": [{"name": "nodepool1", "mode": "System", "osSKU": "Ubuntu"}]});
    world.emulator("POST", "/emulator/clusters", Some(made)).await;
    let fleet = world.fleet_of("f", &[]).await;
    let path = format!("{fleet}/members/m1");
    let id = World::cluster(1).replace("aks-1", "aks-late");
    assert_eq!(world.put(&path, json!({"properties": {"clusterResourceId": id}})).await.status, 201);
    world.settled(&path).await;
    // eastus offers the image, swedencentral does not yet.
    let image = "AKSUbuntu-2204gen2containerd-202510.29.0";
    let selection = json!({"type": "Custom", "customNodeImageVersions": [{"version": image}]});
    let properties =
        json!({"managedClusterUpdate": {"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": selection}});
    let run = world.start_run(&fleet, "r", properties).await;
    let status = world.until(&run, LATE, "pending", |s| member(s, "m1")["status"]["state"] == "Pending").await;
    assert_eq!(member(&status, "m1")["status"]["error"]["code"], "NodeImageVersionNotAvailable", "{status:#}");
    let published =
        json!({"region": "swedencentral", "family": "AKSUbuntu-2204gen2containerd", "version": "202510.29.0"});
    world.emulator("POST", "/emulator/images", Some(published)).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_told_once(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_response_are_retried() {
    let world = World::start().await;
    for method in ["GET", "PUT"] {
        world.fault(json!({"match": {"method": method, "cluster": "aks-1"}, "action": {"timeout": 2}})).await;
    }
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_told_once(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_deleted_in_the_middle_fails_and_one_that_had_failed_is_upgraded() {
    let world = World::start().await;
    world.emulator("PATCH", "/emulator/clusters/aks-2", Some(json!({"provisioningState": "Failed"}))).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"hangOperation": true}})).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let strategy = json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": "2"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.until(&run, LATE, "m2 done", |s| member(s, "m2")["status"]["state"] == "Completed").await;
    eventually("both upgrades of aks-1 began", async || world.applied().await.len() == 2).await;
    world.emulator("DELETE", "/emulator/clusters/aks-1", None).await;
    let status = world.reaches(&run, "Failed", LATE).await;
    assert_eq!(member(&status, "m1")["status"]["error"]["code"], "ClusterNotFound", "{status:#}");
    assert_eq!(member(&status, "m2")["status"]["state"], "Completed");
    assert_told_once(&world).await;
}

/// A start that cannot be completed yet is retried. Deleting the run in the meantime neither waits for the start nor makes it fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_deleted_while_its_start_is_retried() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m", 1, "g")]).await;
    let fault = json!({"match": {"method": "GET"}, "times": 100_000, "action": {"status": 500, "code": "InternalError", "message": "x"}});
    world.fault(fault).await;
    let consistent = json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Consistent"}});
    for round in 0..20 {
        let run = world.start_run(&fleet, &format!("r{round}"), json!({"managedClusterUpdate": consistent})).await;
        let deleted = world.delete(&run).await;
        assert_eq!(deleted.status, 200, "{round}: {}", deleted.body);
    }
    assert!(!world.log_tail().contains("deadlock"), "{}", world.log_tail());
}
