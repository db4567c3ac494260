//! Runs against an AKS that enforces its limits on calls: they take longer, cost no more, and no member fails.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::world::{Options, SUBSCRIPTION, World, members, upgrade_to};

const LATE: Duration = Duration::from_secs(300);

/// A fleet whose members are clusters of one subscription, with these agent pools.
async fn fleet(world: &World, name: &str, many: usize, pools: &Value) -> String {
    let fleet = world.fleet_of(name, &[]).await;
    for n in 0..many {
        let cluster = json!({"name": format!("{name}-{n}"), "location": "eastus", "agentPools": pools});
        world.emulator("POST", "/emulator/clusters", Some(cluster)).await;
        let id = format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.ContainerService/managedClusters/{name}-{n}"
        );
        let member = json!({"properties": {"clusterResourceId": id, "group": "g"}});
        assert_eq!(world.put(&format!("{fleet}/members/m{n}"), member).await.status, 201);
    }
    for n in 0..many {
        world.settled(&format!("{fleet}/members/m{n}")).await;
    }
    fleet
}

/// Spends what the limit on other calls of the subscription allows together, so that one call a second is left.
async fn use_up_the_limit(world: &World) {
    world.emulator("PATCH", "/emulator/settings", Some(json!({"enforceThrottles": true}))).await;
    let path = format!(
        "{}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/eastus/kubernetesVersions?api-version=2026-08-01",
        world.emulator_url
    );
    while world.call("GET", &path, None).await.status != 429 {}
}

fn strategy(at_once: usize) -> Value {
    json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": at_once.to_string()}]}]})
}

/// Runs, and returns the statements that it cost. Waits by a statement of its own, which does not count.
async fn statements_of_run(world: &World, run: &str) -> i64 {
    let statements = async || {
        sqlx::query_scalar::<_, i64>(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements /* test */
              WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND query NOT LIKE '%/* test */%'",
        )
        .fetch_one(world.pool())
        .await
        .unwrap()
    };
    let before = statements().await;
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let deadline = Instant::now() + LATE;
    loop {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM run_members m JOIN resources r ON r.id = m.run_id /* test */
              WHERE lower(r.arm_id) = lower($1) AND m.state NOT IN ('Completed', 'Failed', 'Skipped')",
        )
        .bind(run)
        .fetch_one(world.pool())
        .await
        .unwrap();
        if open == 0 {
            return statements().await - before;
        }
        assert!(Instant::now() < deadline, "{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_run_fails_no_member_and_costs_no_more_statements() {
    const MANY: usize = 20;
    let world = World::start_with(Options { clusters: 1, upgrade_seconds: 0.1, ..Options::default() }).await;
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(world.pool()).await.unwrap();
    let mut costs = Vec::new();
    // One member after the other: like a throttled run, no two members end together.
    for (name, at_once) in [("free", 1), ("throttled", MANY)] {
        let fleet = fleet(&world, name, MANY, &json!([{"name": "nodepool1", "mode": "System"}])).await;
        let run = format!("{fleet}/updateRuns/r");
        let update = upgrade_to("ControlPlaneOnly", "1.33.2");
        let made = json!({"properties": {"strategy": strategy(at_once), "managedClusterUpdate": update}});
        assert_eq!(world.put(&run, made).await.status, 201);
        if name == "throttled" {
            use_up_the_limit(&world).await;
        }
        let began = Instant::now();
        costs.push(statements_of_run(&world, &run).await);
        let status = world.reaches(&run, "Completed", LATE).await;
        assert!(members(&status).iter().all(|m| m["status"]["state"] == "Completed"), "{status:#}");
        if name == "throttled" {
            assert!(began.elapsed() > Duration::from_secs(MANY as u64 / 2), "AKS allowed one call a second");
        }
    }
    let [free, throttled] = costs[..] else { panic!("{costs:?}") };
    println!("{free} statements for {MANY} members, {throttled} when throttled");
    // The workers wake once a second, and a member may have to give its slot back while it waits.
    let allowed = free.min(22 * MANY as i64) + MANY as i64;
    assert!(throttled <= allowed, "{throttled} statements for {MANY} members, {free} without throttling");
    let refused = world.emulator("GET", "/emulator/state", None).await.body["throttled"].as_u64().unwrap();
    assert!(refused <= 1 + 2 * MANY as u64, "AKS refused {refused} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_run_of_chosen_node_images_fails_no_member() {
    let env = vec![("FLEET_ARM_CREDENTIAL", "static".to_owned()), ("FLEET_ARM_TOKEN", "token".to_owned())];
    let world = World::start_with(Options { clusters: 1, upgrade_seconds: 0.1, env, ..Options::default() }).await;
    let pools = json!([{"name": "a", "mode": "System"}, {"name": "b"}, {"name": "c"}]);
    let fleet = fleet(&world, "images", 20, &pools).await;
    world.emulator("PATCH", "/emulator/settings", Some(json!({"enforceThrottles": true}))).await;
    let newest = json!([{"version": "AKSUbuntu-2204gen2containerd-202510.29.0"}]);
    let selection = json!({"type": "Custom", "customNodeImageVersions": newest});
    let update = json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": selection});
    let wish = json!({"strategy": strategy(10), "managedClusterUpdate": update});
    let run = world.start_run(&fleet, "r", wish).await;
    let status = world
        .until(&run, LATE, "over", |s| matches!(s["status"]["state"].as_str(), Some("Completed" | "Failed")))
        .await;
    assert!(members(&status).iter().all(|m| m["status"]["state"] == "Completed"), "{status:#}");
    let applied = world.applied().await;
    assert!(applied.len() == 60 && applied.values().all(|times| *times == 1), "{applied:?}");
}
