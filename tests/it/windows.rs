//! Maintenance windows of members' clusters: a member that waits says until when, and begins when the window opens.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::Row;

use crate::harness::{
    eventually,
    world::{Options, World, members, upgrade_to},
};

const LATE: Duration = Duration::from_secs(60);
const VERSIONS: &str = "aksManagedAutoUpgradeSchedule";
const IMAGES: &str = "aksManagedNodeOSUpgradeSchedule";
/// An interval that is longer than any test.
const NEVER: &str = "86400";

/// A world in which changed windows are noticed after this many seconds.
async fn world(recheck: &str) -> World {
    let env = vec![("FLEET_WINDOW_RECHECK_SECONDS", recheck.to_owned()), ("FLEET_LEASE_SECONDS", "1".to_owned())];
    World::start_with(Options { env, ..Options::default() }).await
}

fn member<'a>(status: &'a Value, name: &str) -> &'a Value {
    members(status).into_iter().find(|member| member["name"] == name).unwrap()
}

fn is(state: &'static str, name: &'static str) -> impl Fn(&Value) -> bool {
    move |status| member(status, name)["status"]["state"] == state
}

fn daily(start_date: &str, start_time: &str, hours: u32) -> Value {
    json!({"maintenanceWindow": {"schedule": {"daily": {"intervalDays": 1}}, "durationHours": hours,
        "utcOffset": "+00:00", "startDate": start_date, "startTime": start_time}})
}

fn open() -> Value {
    daily("2020-01-01", "00:00", 24)
}

fn closed() -> Value {
    daily("2123-01-01", "02:30", 4)
}

/// A window that opens every day at this time.
fn from(opens: Timestamp) -> Value {
    daily("2020-01-01", &opens.strftime("%H:%M").to_string(), 4)
}

async fn set(world: &World, cluster: &str, name: &str, properties: Value) {
    world.emulator("PUT", &format!("/emulator/clusters/{cluster}/maintenance/{name}"), Some(properties)).await;
}

/// A strategy of one group.
fn one_group(max: &str) -> Value {
    json!({"stages": [{"name": "s", "groups": [{"name": "g", "maxConcurrency": max}]}]})
}

fn control_plane(max: &str) -> Value {
    json!({"strategy": one_group(max), "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")})
}

/// Returns the names of the clusters that calls to AKS changed, in the order of the calls.
async fn upgraded(world: &World) -> Vec<String> {
    let log = world.emulator_log().await;
    assert!(log.iter().all(|entry| entry["status"] != 409), "{log:?}");
    log.iter().filter(|entry| entry["applied"] == true).map(|entry| entry["cluster"].as_str().unwrap().into()).collect()
}

/// Returns when the only waiting job is due, unless it is being executed.
async fn next_look(world: &World) -> Option<Timestamp> {
    let query = "SELECT extract(epoch FROM run_at)::float8 AS at FROM jobs WHERE kind = 'member.upgrade' AND lease_until IS NULL";
    let row = sqlx::query(query).fetch_optional(world.pool()).await.unwrap()?;
    Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(row.get("at")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_delays_no_other_member_and_changes_are_noticed() {
    let world = world("1").await;
    set(&world, "aks-1", VERSIONS, closed()).await;
    set(&world, "aks-2", IMAGES, closed()).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    // Without a strategy members are upgraded one by one. m1 waits for its window; the window of m2 is for other upgrades only.
    world.until(&run, LATE, "m2 done", is("Completed", "m2")).await;
    let status = world.reaches(&run, "Pending", LATE).await;
    let m1 = member(&status, "m1");
    assert_eq!(
        (&m1["status"]["state"], &m1["status"]["error"]["code"]),
        (&json!("Pending"), &json!("MaintenanceWindowClosed"))
    );
    let message = m1["message"].as_str().unwrap();
    assert!(message.contains(VERSIONS) && message.contains("opens next at 2123-01-01T02:30:00Z"), "{message}");
    assert_eq!(upgraded(&world).await, ["aks-2"]);

    // The window gets another opening, which is not now.
    set(&world, "aks-1", VERSIONS, daily("2124-02-29", "00:00", 4)).await;
    let moved = |s: &Value| member(s, "m1")["message"].as_str().is_some_and(|m| m.contains("2124-02-29T00:00:00Z"));
    world.until(&run, LATE, "showing the new time", moved).await;
    set(&world, "aks-1", VERSIONS, open()).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!(upgraded(&world).await, ["aks-2", "aks-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_images_have_a_window_of_their_own() {
    let world = world("1").await;
    set(&world, "aks-1", VERSIONS, open()).await;
    set(&world, "aks-1", IMAGES, closed()).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let images = json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Latest"}});
    let run = world.start_run(&fleet, "r", json!({"managedClusterUpdate": images})).await;
    let status = world.until(&run, LATE, "m1 pending", is("Pending", "m1")).await;
    assert!(member(&status, "m1")["message"].as_str().unwrap().contains(IMAGES));
    // A cluster without a window may be upgraded at any time.
    world.emulator("DELETE", &format!("/emulator/clusters/aks-1/maintenance/{IMAGES}"), None).await;
    world.reaches(&run, "Completed", LATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_waits_until_the_opening() {
    let world = world(NEVER).await;
    let opens = Timestamp::now().round(jiff::Unit::Minute).unwrap() + SignedDuration::from_mins(90);
    set(&world, "aks-1", VERSIONS, from(opens)).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    let status = world.until(&run, LATE, "m1 pending", is("Pending", "m1")).await;
    assert!(member(&status, "m1")["message"].as_str().unwrap().contains(&opens.to_string()), "{status:#}");
    let at_opening =
        |at: Option<Timestamp>| at.is_some_and(|at| (opens..opens + SignedDuration::from_secs(1)).contains(&at));
    eventually("it waits until then", async || at_opening(next_look(&world).await)).await;

    // A job that is executed early does not begin the upgrade early.
    let early = "UPDATE jobs SET run_at = now() WHERE kind = 'member.upgrade'";
    assert_eq!(sqlx::query(early).execute(world.pool()).await.unwrap().rows_affected(), 1);
    sqlx::query("NOTIFY jobs").execute(world.pool()).await.unwrap();
    eventually("it waits again", async || at_opening(next_look(&world).await)).await;
    assert_eq!(world.get(&run).await.body["properties"]["status"]["status"]["state"], "Pending");
    assert!(upgraded(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_begins_when_its_window_opens() {
    let world = world(NEVER).await;
    // A window opens at a full minute. The test must have time to see it closed.
    let opens = (Timestamp::now() + SignedDuration::from_secs(65)).strftime("%Y-%m-%dT%H:%M:00Z").to_string();
    let opens: Timestamp = opens.parse().unwrap();
    set(&world, "aks-1", VERSIONS, from(opens)).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    world.until(&run, LATE, "m1 pending", is("Pending", "m1")).await;
    assert!(Timestamp::now() < opens);
    world.reaches(&run, "Completed", 2 * LATE).await;
    let log = world.emulator_log().await;
    let begun: Timestamp = log[0]["time"].as_str().unwrap().parse().unwrap();
    assert!((opens..opens + SignedDuration::from_secs(5)).contains(&begun), "began at {begun}, opened at {opens}");
    // The window is read before the start, for the order of members. At the opening that answer is still cached.
    let reads = world.emulator("GET", "/emulator/state", None).await.body["maintenanceReads"].as_u64().unwrap();
    assert!((1..=3).contains(&reads), "{reads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_waiting_for_its_window_survives_a_kill() {
    let mut world = world("1").await;
    for cluster in ["aks-1", "aks-2"] {
        set(&world, cluster, VERSIONS, closed()).await;
    }
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("2")).await;
    let both = |s: &Value| is("Pending", "m1")(s) && is("Pending", "m2")(s);
    world.until(&run, LATE, "both pending", both).await;
    world.kill();
    world.restart().await;
    let status = world.get(&run).await.body["properties"]["status"].clone();
    assert!(both(&status), "{status:#}");
    world.kill();
    set(&world, "aks-1", VERSIONS, open()).await;
    world.restart().await;
    world.until(&run, LATE, "m1 done", is("Completed", "m1")).await;
    set(&world, "aks-2", VERSIONS, open()).await;
    world.until(&run, LATE, "m2 begun", |s| !is("Pending", "m2")(s)).await;
    world.kill();
    world.restart().await;
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!(upgraded(&world).await, ["aks-1", "aks-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_never_opens_says_what_to_do() {
    let world = world("1").await;
    let mut never = open();
    never["maintenanceWindow"]["notAllowedDates"] = json!([{"start": "2000-01-01", "end": "9999-12-31"}]);
    set(&world, "aks-1", VERSIONS, never).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    let status = world.until(&run, LATE, "m1 pending", is("Pending", "m1")).await;
    let m1 = member(&status, "m1");
    assert_eq!(m1["status"]["error"]["code"], "MaintenanceWindowNeverOpens");
    let message = m1["message"].as_str().unwrap();
    assert!(message.contains("notAllowedDates") && message.contains("skip the member"), "{message}");
    let skip = json!({"targets": [{"type": "Member", "name": "m1"}]});
    assert_eq!(world.post(&format!("{run}/skip"), Some(skip)).await.status, 200);
    world.reaches(&run, "Skipped", LATE).await;
    assert!(upgraded(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_window_permits_no_upgrade() {
    let world = world("1").await;
    let garbage = json!({"maintenanceWindow": {"schedule": {"hourly": {"intervalHours": 2}}, "startTime": 7}});
    set(&world, "aks-1", VERSIONS, garbage.clone()).await;
    // Configurations that do not apply to this upgrade may be unreadable.
    for name in ["default", IMAGES, "somethingElse"] {
        set(&world, "aks-2", name, garbage.clone()).await;
    }
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    world.until(&run, LATE, "m2 done", is("Completed", "m2")).await;
    let status = world.until(&run, LATE, "m1 pending", is("Pending", "m1")).await;
    let m1 = member(&status, "m1");
    assert_eq!(m1["status"]["error"]["code"], "MaintenanceConfigurationUnreadable");
    let message = m1["message"].as_str().unwrap();
    assert!(message.contains("schedule is not exactly one of daily, weekly"), "{message}");
    set(&world, "aks-1", VERSIONS, open()).await;
    world.reaches(&run, "Completed", LATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_in_progress_continues_when_its_window_closes() {
    let world = world("1").await;
    set(&world, "aks-1", VERSIONS, open()).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"hangOperation": true}})).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let full = json!({"managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let run = world.start_run(&fleet, "r", full).await;
    eventually("the control plane moves", async || upgraded(&world).await.len() == 1).await;
    set(&world, "aks-1", VERSIONS, closed()).await;
    world.emulator("POST", "/emulator/operations/release?cluster=aks-1", None).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert_eq!(member(&status, "m1")["status"]["state"], "Completed");
    assert!(upgraded(&world).await.len() > 1, "the pools followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_begin_in_the_order_of_their_windows() {
    let world = world(NEVER).await;
    let soon = Timestamp::now() + SignedDuration::from_hours(2);
    set(&world, "aks-1", VERSIONS, closed()).await;
    set(&world, "aks-3", VERSIONS, from(soon)).await;
    set(&world, "aks-4", VERSIONS, open()).await;
    let names = [("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g"), ("m4", 4, "g"), ("m5", 5, "g")];
    let fleet = world.fleet_of("f", &names).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    let status = world.reaches(&run, "Pending", LATE).await;
    let order: Vec<&str> = members(&status).into_iter().map(|member| member["name"].as_str().unwrap()).collect();
    assert_eq!(order, ["m4", "m3", "m2", "m5", "m1"]);
    assert_eq!(upgraded(&world).await, ["aks-4", "aks-2", "aks-5"]);
}

/// A window that opens while its member queues gives it the next free slot, whatever the order was at the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_window_opens_while_it_queues_goes_first() {
    let world = world(NEVER).await;
    set(&world, "aks-4", VERSIONS, closed()).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"hangOperation": true}})).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "g"), ("m3", 3, "g"), ("m4", 4, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    eventually("m1 is upgraded", async || upgraded(&world).await == ["aks-1"]).await;
    let rank = async |expected: i16| {
        let rank = "SELECT window_rank FROM run_members WHERE name = 'm4'";
        sqlx::query_scalar::<_, i16>(rank).fetch_one(world.pool()).await.unwrap() == expected
    };
    assert!(rank(3).await, "closed at the start");
    set(&world, "aks-4", VERSIONS, open()).await;
    eventually("its rank is looked at again", async || {
        // One row only: this statement and the service could lock several rows in different orders.
        let due = "UPDATE run_members SET window_ranked_until = '-infinity' WHERE name = 'm4'";
        sqlx::query(due).execute(world.pool()).await.unwrap();
        sqlx::query("UPDATE jobs SET run_at = now() WHERE kind = 'run.windows'").execute(world.pool()).await.unwrap();
        sqlx::query("NOTIFY jobs").execute(world.pool()).await.unwrap();
        rank(0).await
    })
    .await;
    world.emulator("POST", "/emulator/operations/release?cluster=aks-1", None).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!(upgraded(&world).await, ["aks-1", "aks-4", "aks-2", "aks-3"]);
    let over = "SELECT count(*) FROM jobs WHERE kind = 'run.windows' AND run_at <= now()";
    eventually("nobody watches windows of a run that is over", async || {
        sqlx::query("UPDATE jobs SET run_at = now() WHERE kind = 'run.windows'").execute(world.pool()).await.unwrap();
        sqlx::query("NOTIFY jobs").execute(world.pool()).await.unwrap();
        sqlx::query_scalar::<_, i64>(over).fetch_one(world.pool()).await.unwrap() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_aks_fails_no_member_that_waits_for_a_window() {
    let world = world("1").await;
    set(&world, "aks-1", VERSIONS, closed()).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    world.until(&run, LATE, "m1 pending", is("Pending", "m1")).await;
    let reads = json!({"method": "GET", "path": "maintenanceConfigurations"});
    // An answer is cached for a second, in which the job tries ten times.
    let broken = json!({"status": 503, "code": "ServiceUnavailable", "message": "bad day", "retryAfter": 0});
    world.fault(json!({"match": reads, "times": 5, "action": broken})).await;
    let says = |part: &'static str| {
        move |s: &Value| member(s, "m1")["message"].as_str().is_some_and(|message| message.contains(part))
    };
    world.until(&run, LATE, "telling the reason", says("bad day")).await;
    eventually("the bad day is over", async || {
        world.emulator("GET", "/emulator/faults", None).await.body["value"] == json!([])
    })
    .await;
    world.until(&run, LATE, "telling what it waits for", says("opens next at")).await;
    // A 429 fails no member, neither one that waits nor one that begins.
    let throttled = json!({"status": 429, "code": "Throttled", "message": "slow down", "retryAfter": 1});
    world.fault(json!({"match": reads, "times": 2, "action": throttled})).await;
    set(&world, "aks-1", VERSIONS, open()).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!(upgraded(&world).await, ["aks-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_throttled_a_waiting_member_uses_the_stored_opening() {
    let world = world("1").await;
    set(&world, "aks-1", VERSIONS, closed()).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let run = world.start_run(&fleet, "r", control_plane("1")).await;
    world.until(&run, LATE, "m1 pending", is("Pending", "m1")).await;
    let reads = json!({"method": "GET", "path": "maintenanceConfigurations"});
    let throttled = json!({"status": 429, "code": "Throttled", "message": "slow down", "retryAfter": 0});
    world.fault(json!({"match": reads, "times": 2, "action": throttled})).await;
    // A 503 counts as an outage and not as a throttle, also when the budget is empty after a 429.
    let broken = json!({"status": 503, "code": "ServiceUnavailable", "message": "bad day", "retryAfter": 0});
    world.fault(json!({"match": reads, "times": 5, "action": broken})).await;
    world
        .until(&run, LATE, "telling the reason", |status| {
            let message = member(status, "m1")["message"].as_str();
            message.is_some_and(|message| message.contains("bad day"))
        })
        .await;
    set(&world, "aks-1", VERSIONS, open()).await;
    world.reaches(&run, "Completed", LATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_reads_the_windows_of_its_members_only() {
    let world = world(NEVER).await;
    let names: Vec<String> = (1..=6).map(|n| format!("m{n}")).collect();
    let members: Vec<_> = names.iter().enumerate().map(|(n, name)| (name.as_str(), n + 1, "g")).collect();
    let fleet = world.fleet_of("f", &members).await;
    let run = format!("{fleet}/updateRuns/r");
    assert_eq!(world.put(&run, json!({"properties": control_plane("1")})).await.status, 201);
    sqlx::query("UPDATE update_runs SET only_members = ARRAY['m2']").execute(world.pool()).await.unwrap();
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!(upgraded(&world).await, ["aks-2"]);
    let reads = world.emulator("GET", "/emulator/state", None).await.body["maintenanceReads"].as_u64().unwrap();
    assert!((1..=2).contains(&reads), "{reads}");
}
