//! What it costs PostgreSQL that a cluster joins a fleet: the request that makes the member, and the job that joins it.

use serde_json::json;

use crate::harness::{
    eventually,
    world::{Options, World},
};

/// The correlation ID of the request, which the job takes over: the statements of both are logged with it.
const TRACE: &str = "one-member";

/// The statements that a trace has in the log, in their order: the first words of each.
fn statements(world: &World) -> Vec<String> {
    let log = world.log_text();
    let lines = log.lines().filter(|line| line.contains("sqlx::query") && line.contains(TRACE));
    lines.map(|line| line.split_once("summary=\"").map_or(line, |(_, rest)| rest).chars().take(60).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_member_costs_fourteen_statements_and_a_claim() {
    let env = vec![("FLEET_LOG", "info,sqlx::query=debug".to_owned())];
    let world = World::start_with(Options { clusters: 3, env, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a"), ("m2", 2, "a")]).await;
    let body = json!({"properties": {"clusterResourceId": World::cluster(3)}});
    let ids = [("x-ms-correlation-request-id", TRACE)];
    let made = world.call_with("PUT", &format!("{fleet}/members/m3"), Some(body), &ids).await;
    assert_eq!(made.status, 201, "{}", made.body);
    world.settled(&format!("{fleet}/members/m3")).await;
    // Logged after the member is seen to be joined.
    eventually("the job's last statement is logged", async || {
        statements(&world).iter().filter(|statement| statement.starts_with("COMMIT")).count() == 2
    })
    .await;
    let statements = statements(&world);
    assert_eq!(statements.len(), 14, "{statements:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_takes_ten_thousand_members_and_no_more() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let member = |n: usize| json!({"properties": {"clusterResourceId": World::cluster(n)}});
    sqlx::query(
        "INSERT INTO resources (id, key, arm_id, type, name, parent_id, subscription, resource_group, properties,
             provisioning_state, etag, created_at, created_by, created_by_type, modified_at, modified_by, modified_by_type)
         SELECT gen_random_uuid(), key || '/members/x' || n, arm_id || '/members/x' || n, type || '/members', 'x' || n, id,
             subscription, resource_group, '{}', 'Succeeded', gen_random_uuid(), now(), '', '', now(), '', ''
         FROM resources, generate_series(1, 9999) n WHERE arm_id = $1",
    )
    .bind(&fleet)
    .execute(world.pool())
    .await
    .unwrap();
    assert_eq!(world.put(&format!("{fleet}/members/last"), member(1)).await.status, 201);
    let refused = world.put(&format!("{fleet}/members/more"), member(2)).await;
    assert_eq!((refused.status, refused.code()), (400, "MemberLimitExceeded"), "{}", refused.body);
    // What is there can still be changed.
    world.settled(&format!("{fleet}/members/last")).await;
    assert_eq!(world.put(&format!("{fleet}/members/last"), member(1)).await.status, 200);
}
