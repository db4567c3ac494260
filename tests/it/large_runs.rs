//! Lists of runs with as many members as a fleet may have.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::world::{World, upgrade_to};

const RUNS: usize = 6;
const MEMBERS: i32 = 10_000;
/// Clients that read at the same time.
const READERS: usize = 6;
/// Twice the memory that the service needs for these clients. Without pages and slots it needed several times as much.
const MOST_BYTES: u64 = 500 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_lists_of_large_runs_see_all_and_cost_little() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m", 1, "g")]).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let wanted: BTreeSet<String> = (0..RUNS).map(|n| format!("r{n}")).collect();
    for run in &wanted {
        let made = world.put(&format!("{fleet}/updateRuns/{run}"), json!({"properties": properties.clone()})).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }
    sqlx::query(
        "INSERT INTO run_members (run_id, member_index, group_index, name, cluster_resource_id, state)
         SELECT run_id, n, 0, 'm' || n, m.cluster_resource_id || n, 'NotStarted'
         FROM run_members m, generate_series(1, $1 - 1) n WHERE m.member_index = 0",
    )
    .bind(MEMBERS)
    .execute(world.pool())
    .await
    .unwrap();
    sqlx::query("UPDATE run_groups SET not_started = $1").bind(MEMBERS).execute(world.pool()).await.unwrap();
    let before = world.memory_peak();
    let readers = join_all((0..READERS).map(|_| async {
        let mut seen = BTreeSet::new();
        let mut next = Some(format!("{fleet}/updateRuns"));
        while let Some(page) = next {
            let answer = world.get(&page).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let runs = answer.body["value"].as_array().unwrap();
            assert_eq!(runs.len(), 1, "a page has as many runs as have 10,000 members");
            seen.extend(runs.iter().map(|run| run["name"].as_str().unwrap().to_owned()));
            next = answer.body["nextLink"].as_str().map(str::to_owned);
        }
        assert_eq!(seen, wanted);
    }));
    readers.await;
    let peak = world.memory_peak();
    eprintln!("peak {} MB, before the lists {} MB", peak >> 20, before >> 20);
    assert!(peak < MOST_BYTES, "peak {} MB, before the lists {} MB", peak >> 20, before >> 20);
}
