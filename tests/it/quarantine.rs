//! What resources say when the jobs that work on them end their process again and again.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::harness::world::{Options, World, members, upgrade_to};

const LATE: Duration = Duration::from_secs(60);

/// Makes the job of this kind look as if its process had ended for the tenth time.
async fn end_for_the_tenth_time(world: &mut World, kind: &str) {
    world.kill();
    let vanished = format!(
        "UPDATE jobs SET vanished = 9, attempt = 9, run_at = NULL, lease_owner = 'gone', lease_until = now() WHERE kind = '{kind}'"
    );
    let changed = world.pool().execute(AssertSqlSafe(vanished)).await.unwrap();
    assert_eq!(changed.rows_affected(), 1, "{}", world.log_tail());
    world.restart().await;
}

fn member(status: &Value) -> Value {
    members(status)[0]["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_job_fails_its_resource_and_the_same_request_tries_again() {
    let mut world = World::start_with(Options { upgrade_seconds: 1.0, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[]).await;

    // A join.
    let m = format!("{fleet}/members/m");
    let delay = json!({"match": {"method": "GET", "cluster": "aks-1"}, "times": 1, "action": {"delay": 60}});
    world.fault(delay).await;
    let body = json!({"properties": {"clusterResourceId": World::cluster(1), "group": "g"}});
    assert_eq!(world.put(&m, body.clone()).await.status, 201);
    end_for_the_tenth_time(&mut world, "member.join").await;
    let failed = world.settled(&m).await;
    assert_eq!(failed["properties"]["provisioningState"], "Failed", "{failed}");
    let operations =
        "SELECT count(*) FROM operations WHERE status = 'Failed' AND error->>'code' = 'InternalServerError'
                         AND error->>'message' LIKE '%10 times in a row%'";
    assert_eq!(sqlx::query_scalar::<_, i64>(operations).fetch_one(world.pool()).await.unwrap(), 1);
    assert!(world.put(&m, body).await.status < 300);
    let joined = world.settled(&m).await;
    assert_eq!(joined["properties"]["provisioningState"], "Succeeded", "{joined}");

    // An upgrade.
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"hangOperation": true}})).await;
    let run = world.start_run(&fleet, "r", json!({"managedClusterUpdate": upgrade_to("Full", "1.33.2")})).await;
    world.until(&run, LATE, "begun", |status| members(status)[0]["operationId"].is_string()).await;
    end_for_the_tenth_time(&mut world, "member.upgrade").await;
    let status = world.reaches(&run, "Failed", LATE).await;
    let error = member(&status)["error"].clone();
    assert_eq!(error["code"], "UpgradeAbandoned", "{status:#}");
    assert!(error["message"].as_str().unwrap().contains("may still be under way"), "{error}");
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    world
        .until(&run, LATE, "tried again", |status| {
            matches!(member(status)["state"].as_str(), Some("Running" | "Pending"))
        })
        .await;
}
