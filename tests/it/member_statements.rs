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
