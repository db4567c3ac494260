//! Two starts, a stop and a deletion of the same run at the same moment, again and again: whatever comes first, no upgrade is left
//! that no run follows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{Options, World, upgrade_to},
};

const ROUNDS: usize = 1000;
const LANES: usize = 8;
/// Rounds that do not begin within this time are left out, so that a slow machine only tries less often.
const LONGEST: Duration = Duration::from_secs(20);

/// Whether an upgrade of the cluster is under way at AKS.
async fn is_upgrading(world: &World, cluster: usize) -> bool {
    let path = format!("{}{}?api-version=2026-08-01", world.emulator_url, World::cluster(cluster));
    let seen = world.call("GET", &path, None).await;
    seen.body["properties"]["provisioningState"] != "Succeeded"
}

async fn begun(world: &World, cluster: usize) -> usize {
    let name = format!("aks-{cluster}");
    world.emulator_log().await.iter().filter(|entry| entry["cluster"] == name.as_str()).count()
}

/// Starts twice, stops and deletes a run at once, and deletes it for good. Returns whether an upgrade had begun before.
async fn round(world: &World, fleet: &str, name: &str, cluster: usize, order: usize) -> bool {
    let older = json!({"kubernetesVersion": "1.32.7"});
    world.emulator("PATCH", &format!("/emulator/clusters/aks-{cluster}"), Some(older)).await;
    let run = format!("{fleet}/updateRuns/{name}");
    let wanted = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let made = world.put(&run, json!({"properties": wanted})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let (start, stop) = (format!("{run}/start"), format!("{run}/stop"));
    let later =
        async |step: usize, answer: std::pin::Pin<Box<dyn Future<Output = crate::harness::world::Answer> + '_>>| {
            // The order changes with each round. In some rounds, requests are sent at the same moment.
            tokio::time::sleep(Duration::from_millis(((order / 4_usize.pow(step as u32)) % 4) as u64)).await;
            answer.await
        };
    let (first, second, stopped, deleted) = tokio::join!(
        later(0, Box::pin(world.post(&start, None))),
        later(1, Box::pin(world.post(&start, None))),
        later(2, Box::pin(world.post(&stop, None))),
        later(3, Box::pin(world.delete(&run))),
    );
    for answer in [&first, &second, &stopped, &deleted] {
        assert!(
            [200, 204, 404, 409, 503].contains(&answer.status),
            "{} {}\n{}",
            answer.status,
            answer.body,
            world.log_tail()
        );
    }
    let mut gone = deleted.status == 200;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !gone {
        assert!(Instant::now() < deadline, "{run} cannot be deleted: {}", world.get(&run).await.body);
        world.post(&stop, None).await;
        gone = world.delete(&run).await.status == 200;
    }
    assert!(!is_upgrading(world, cluster).await, "{run} was deleted during an upgrade");
    first.status == 200 || second.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_stops_and_deletions_at_once_leave_no_upgrade_that_no_run_follows() {
    let world = World::start_with(Options { clusters: LANES, upgrade_seconds: 0.02, ..Options::default() }).await;
    let mut fleets = Vec::new();
    for lane in 1..=LANES {
        fleets.push(world.fleet_of(&format!("f{lane}"), &[("m", lane, "g")]).await);
    }
    let began = Instant::now();
    let lanes = fleets.iter().enumerate().map(async |(lane, fleet)| {
        let (mut rounds, mut starts) = (0, 0);
        for n in 0..ROUNDS / LANES {
            if began.elapsed() > LONGEST {
                break;
            }
            rounds += 1;
            starts += usize::from(round(&world, fleet, &format!("r{n}"), lane + 1, n * LANES + lane).await);
        }
        (rounds, starts, begun(&world, lane + 1).await)
    });
    let ended: Vec<(usize, usize, usize)> = futures_util::future::join_all(lanes).await;
    let rounds: usize = ended.iter().map(|(rounds, ..)| rounds).sum();
    eprintln!("{rounds} rounds, {} of them started", ended.iter().map(|(_, starts, _)| starts).sum::<usize>());
    assert!(rounds >= LANES);
    // No upgrade of a deleted run is still in progress.
    let jobs = "SELECT coalesce(jsonb_agg(subject), '[]') FROM jobs WHERE kind LIKE 'run.%' OR kind = 'member.upgrade'";
    eventually("no job of a run is left", async || {
        sqlx::query_scalar::<_, Value>(jobs).fetch_one(world.pool()).await.unwrap() == json!([])
    })
    .await;
    for (lane, (.., upgrades)) in ended.iter().enumerate() {
        assert_eq!(begun(&world, lane + 1).await, *upgrades, "lane {lane} has begun another upgrade");
    }
    let log = world.log_text();
    assert!(!log.contains("deadlock"), "{}", log.lines().find(|line| line.contains("deadlock")).unwrap_or_default());
}
