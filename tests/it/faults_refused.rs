//! A member fails at once, with AKS's own words and a remedy, when AKS refuses the upgrade for good. It waits when AKS cannot answer at
//! the moment.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{World, members, upgrade_to},
};

const LATE: Duration = Duration::from_secs(60);
const FOR_EVER: u32 = 1_000_000;

async fn run_of(world: &World, many: usize) -> String {
    let names: Vec<String> = (1..=many).map(|n| format!("m{n}")).collect();
    let listed: Vec<(&str, usize, &str)> = names.iter().zip(1..).map(|(name, n)| (name.as_str(), n, "g")).collect();
    let fleet = world.fleet_of("f", &listed).await;
    let strategy = json!({"stages": [{"name": "s", "maxAllowedFailures": "100%", "groups": [
        {"name": "g", "maxConcurrency": "10", "maxAllowedFailures": "100%"}]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = format!("{fleet}/updateRuns/r");
    let made = world
        .call("PUT", &format!("{run}?api-version=2026-06-02-preview"), Some(json!({"properties": properties})))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    run
}

fn member<'a>(status: &'a Value, name: &str) -> &'a Value {
    members(status).into_iter().find(|member| member["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_fail_at_once_and_say_what_to_do() {
    let world = World::start().await;
    let cases = [
        (409, "ScopeLocked", "UpgradeFailed", "Remove the lock"),
        (409, "ReadOnlyDisabledSubscription", "UpgradeFailed", "Make the subscription active"),
        (403, "RequestDisallowedByPolicy", "UpgradeFailed", "Azure Policy"),
        (403, "AuthorizationFailed", "ClusterPermissionDenied", "Give the identity the role"),
        (409, "SomethingNew", "UpgradeFailed", "SomethingNew"),
    ];
    for (n, (status, code, ..)) in (1..).zip(&cases) {
        let action = json!({"status": status, "code": code, "message": "as AKS says"});
        let matched = json!({"method": "PUT", "cluster": format!("aks-{n}")});
        world.fault(json!({"match": matched, "times": FOR_EVER, "action": action})).await;
    }
    let run = run_of(&world, cases.len()).await;
    world.post(&format!("{run}/start"), None).await;
    let ended = |s: &Value| members(s).iter().all(|m| m["status"]["state"] == "Failed");
    let status = world.until(&run, LATE, "refused", ended).await;
    for (n, (_, code, ours, remedy)) in (1..).zip(&cases) {
        let error = &member(&status, &format!("m{n}"))["status"]["error"];
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["code"], *ours, "{error}");
        assert!(message.contains(remedy), "{error}");
        assert!(error["details"][0]["code"] == *code && error.to_string().contains("as AKS says"), "{error}");
        assert!(*code == "AuthorizationFailed" || !message.contains("the role"), "{error}");
    }
    let tries = world.emulator_log().await.len();
    assert_eq!(tries, cases.len(), "each was tried once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_whose_status_is_refused_for_ever_ends_by_the_cluster() {
    let world = World::start().await;
    for (n, status) in [(1, 403), (2, 400)] {
        let matched = json!({"method": "GET", "path": "/operations/", "cluster": format!("aks-{n}")});
        let action = json!({"status": status, "code": "Refused", "message": "no"});
        world.fault(json!({"match": matched, "times": FOR_EVER, "action": action})).await;
    }
    let matched = json!({"method": "GET", "path": "/operations/", "cluster": "aks-3"});
    world.fault(json!({"match": matched, "times": FOR_EVER, "action": {"garbage": true}})).await;
    let run = run_of(&world, 3).await;
    world.post(&format!("{run}/start"), None).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert!(members(&status).iter().all(|m| m["status"]["state"] == "Completed"), "{status:#}");
    assert!(world.applied().await.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_aks_makes_members_wait_and_fails_none() {
    let world = World::start().await;
    let run = run_of(&world, 2).await;
    world.fault(json!({"match": {"cluster": "aks-1"}, "times": FOR_EVER, "action": {"cut": "before"}})).await;
    world.post(&format!("{run}/start"), None).await;
    let waits = |s: &Value| {
        let m1 = &member(s, "m1")["status"];
        m1["state"] == "Pending" && m1["error"]["code"] == "UpstreamUnavailable"
    };
    let status = world.until(&run, LATE, "m1 waits", waits).await;
    assert_eq!(member(&status, "m2")["status"]["state"], "Completed", "{status:#}");
    world.emulator("DELETE", "/emulator/faults", None).await;
    let status = world.reaches(&run, "Completed", Duration::from_secs(120)).await;
    assert_eq!(member(&status, "m1")["status"]["state"], "Completed", "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_leave_out_a_member_whose_upgrade_never_ends() {
    let world = World::start().await;
    for cluster in ["aks-1", "aks-2"] {
        let matched = json!({"method": "PUT", "cluster": cluster});
        world.fault(json!({"match": matched, "action": {"hangOperation": true}})).await;
    }
    let run = run_of(&world, 3).await;
    world.post(&format!("{run}/start"), None).await;
    let hangs = |s: &Value| {
        let state = |name| &member(s, name)["status"]["state"];
        state("m1") == "Running" && state("m2") == "Running" && state("m3") == "Completed"
    };
    world.until(&run, LATE, "waiting for two upgrades", hangs).await;
    while world.applied().await.len() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let skip = async |kind: &str, name: &str| {
        world.post(&format!("{run}/skip"), Some(json!({"targets": [{"type": kind, "name": name}]}))).await
    };
    let refused = skip("Member", "m1").await;
    assert_eq!((refused.status, refused.code()), (409, "MemberUpdateInProgress"));
    assert_eq!(skip("RunningMember", "m1").await.status, 200);
    assert_eq!(world.post(&format!("{run}/stop"), None).await.status, 200);
    assert_eq!(skip("RunningMember", "m2").await.status, 200, "also while the run stops");
    let over = |s: &Value| matches!(s["status"]["state"].as_str(), Some("Stopped" | "Completed"));
    let status = world.until(&run, LATE, "over", over).await;
    for name in ["m1", "m2"] {
        let left_out = member(&status, name);
        assert_eq!(left_out["status"]["state"], "Skipped");
        assert!(left_out["message"].as_str().unwrap().contains("may go on in AKS"), "{left_out}");
    }
    let locks: i64 = sqlx::query_scalar("SELECT count(*) FROM cluster_locks").fetch_one(world.pool()).await.unwrap();
    assert_eq!(locks, 0, "other runs may upgrade the clusters");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_says_which_operation_takes_long_and_how_to_leave_it_out() {
    let mut world = World::start().await;
    let matched = json!({"method": "PUT", "cluster": "aks-1"});
    world.fault(json!({"match": matched, "action": {"hangOperation": true}})).await;
    let run = run_of(&world, 1).await;
    world.post(&format!("{run}/start"), None).await;
    eventually("the operation is recorded", async || {
        let sql = "SELECT count(*) FROM run_members WHERE upgrade #>> '{steps,0,state,type}' = 'started'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(world.pool()).await.unwrap() == 1
    })
    .await;
    // Moves the start of the operation three hours into the past.
    world.kill();
    let at = Timestamp::now() - SignedDuration::from_hours(3);
    let sql = "UPDATE run_members SET upgrade = jsonb_set(upgrade, '{steps,0,state,at}', to_jsonb($1::text))";
    sqlx::query(sql).bind(at.to_string()).execute(world.pool()).await.unwrap();
    world.restart().await;
    let says = |s: &Value| {
        let m1 = member(s, "m1");
        let message = m1["message"].as_str().unwrap_or_default();
        m1["status"]["state"] == "Running"
            && ["control plane to Kubernetes 1.33.2", &format!("since {at:.0}"), "'RunningMember'"]
                .iter()
                .all(|word| message.contains(word))
    };
    world.until(&run, LATE, "waiting with a reason and a way out", says).await;
    let targets = json!({"targets": [{"type": "RunningMember", "name": "m1"}]});
    assert_eq!(world.post(&format!("{run}/skip"), Some(targets)).await.status, 200);
    let over = |s: &Value| s["status"]["state"] == "Skipped";
    let status = world.until(&run, LATE, "over", over).await;
    assert_eq!(member(&status, "m1")["status"]["state"], "Skipped", "{status:#}");
}
