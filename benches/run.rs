//! An update run from its start to its end, over an emulated AKS: wall time against the ideal critical path, statements per
//! member, how soon the next member follows, memory. Service, workers and emulator are in this process; PostgreSQL is not.
//!
//! `FLEET_BENCH_STATEMENTS=1` shows the statements by text; `--small` leaves the big fleets out; `--throttled` adds a run of
//! 3,000 members against an AKS that enforces its limits on calls. That takes 50 minutes: one maintenance configuration is
//! read a member, and AKS allows one such call a second in a subscription ("all other operations": 60, then 1/s).

mod harness;

use std::{collections::HashMap, process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use azure_emulator::Emulator;
use clap::Parser;
use fleet_manager::{
    app::{self, ServeOptions},
    config::Settings,
    local::keys::{LocalKey, TokenClaims},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use harness::{Database, Verdict, peak_memory_mib, percentile, within};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const SUBSCRIPTIONS: [&str; 2] = ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"];
const FLEET: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService/fleets/bench";
const GROUPS: usize = 25;
/// Members in flight in a group, and so 50 in the stage: the most that the product allows.
const GROUP_CONCURRENCY: usize = 2;

/// One run.
struct Shape {
    name: &'static str,
    members: usize,
    upgrade_seconds: f64,
    /// How much longer or shorter than that a cluster may take: 0–1. As in life, members then end one after the other.
    spread: f64,
    upgrade: &'static str,
    /// All clusters are in one subscription, whose limits on calls they share.
    one_subscription: bool,
    /// AKS enforces those limits.
    throttled: bool,
}

impl Shape {
    /// How many clusters the emulator has: three of four are in its first subscription.
    fn clusters(&self) -> usize {
        if self.one_subscription { self.members * 4 / 3 + 8 } else { self.members }
    }

    /// Longest time of the run.
    fn deadline(&self) -> Duration {
        Duration::from_secs(if self.throttled { 300 + 2 * self.members as u64 } else { 600 })
    }
}

/// What came of it.
struct Measured {
    wall: f64,
    ideal: f64,
    statements_per_member: f64,
    /// Milliseconds from the end of an operation until the member was recorded as ended.
    noticed: Vec<f64>,
    /// Milliseconds from there until the next member of the group was told to upgrade.
    followed: Vec<f64>,
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// An entry of the emulator's log.
#[derive(Deserialize)]
struct Entry {
    time: Timestamp,
    cluster: Option<String>,
    applied: bool,
    operation: Option<Operation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    start_time: Timestamp,
    end_time: Option<Timestamp>,
    status: String,
}

fn main() -> anyhow::Result<ExitCode> {
    drop(rustls::crypto::ring::default_provider().install_default());
    drop(fleet_manager::telemetry::init("warn", fleet_manager::config::LogFormat::Text));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> anyhow::Result<ExitCode> {
    let mut database = Database::start().await?;
    let alike = Shape {
        name: "alike",
        members: 100,
        upgrade_seconds: 2.0,
        spread: 0.0,
        upgrade: "ControlPlaneOnly",
        one_subscription: false,
        throttled: false,
    };
    let small = Shape { name: "small", spread: 0.25, ..alike };
    let large = Shape { name: "large", members: 1000, ..small };
    let crowded = Shape { name: "crowded", members: 3000, upgrade_seconds: 1.0, one_subscription: true, ..small };
    let throttled = Shape { name: "throttled", throttled: true, ..crowded };
    println!("{GROUPS} groups in one stage, {GROUP_CONCURRENCY} members of a group at a time");
    let alike = measure(&mut database, &alike).await?;
    let mut verdict = Verdict::default();
    verdict.at_most("100 members: wall time ÷ ideal critical path", alike.wall / alike.ideal, 1.05, 1.02);
    if !std::env::args().any(|arg| arg == "--small") {
        let small = measure(&mut database, &small).await?;
        let large = measure(&mut database, &large).await?;
        verdict.at_most("1000 members: wall time ÷ ideal critical path", large.wall / large.ideal, 1.05, 1.02);
        let ratio = large.statements_per_member / small.statements_per_member;
        verdict.at_most("statements per member, 1000 members ÷ 100 members", ratio, 1.1, 1.0);
        let mut followed = large.followed;
        verdict.at_most("1000 members: next member told after, p99 (ms)", percentile(&mut followed, 99.0), 50.0, 1.5);
        let crowded = measure(&mut database, &crowded).await?;
        let statements = crowded.statements_per_member;
        verdict.at_most("3000 members of one subscription: statements per member", statements, 22.0, 1.0);
    }
    if std::env::args().any(|arg| arg == "--throttled") {
        let statements = measure(&mut database, &throttled).await?.statements_per_member;
        verdict.at_most("3000 members of one throttled subscription: statements per member", statements, 22.0, 1.0);
    }
    database.stop().await?;
    Ok(verdict.end())
}

async fn measure(database: &mut Database, shape: &Shape) -> anyhow::Result<Measured> {
    let options = database.create(shape.name).await?;
    let world = World::start(&options, shape).await?;
    let clusters = world.clusters(shape.members).await?;
    world.make_fleet(shape, &clusters).await?;
    let mut watcher = options.connect().await?;
    world.enforce_limits(shape.throttled).await?;
    // Statements of provisioning are not of interest, nor are those that come when nothing happens.
    database.reset_statements().await?;

    let began = Timestamp::now();
    world.send(Method::POST, &format!("{FLEET}/updateRuns/run/start"), None).await?;
    let ended = within(shape.deadline(), "the run", run_ended(&mut watcher)).await?;
    let statements = database.statements(shape.name).await?;
    let wall = seconds(began, ended);

    let entries = world.log().await?;
    let members = members(&mut watcher).await?;
    watcher.close().await?;
    world.stop().await?;
    let mut measured = evaluate(&entries, &members, shape)?;
    measured.wall = wall;
    let calls: i64 = statements.iter().map(|(_, calls, _)| calls).sum();
    measured.statements_per_member = calls as f64 / shape.members as f64;
    report(shape, &mut measured, entries.len());
    if std::env::var_os("FLEET_BENCH_STATEMENTS").is_some() {
        for (text, calls, spent) in statements.iter().take(40) {
            let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(100).collect();
            println!(
                "    {:>8.2} a member {:>9.3} ms each  {text}",
                *calls as f64 / shape.members as f64,
                spent / *calls as f64
            );
        }
    }
    Ok(measured)
}

fn report(shape: &Shape, measured: &mut Measured, requests: usize) {
    let Measured { wall, ideal, statements_per_member, noticed, followed } = measured;
    println!(
        "{} members, {} upgrades of {} s ± {:.0} %:",
        shape.members,
        shape.upgrade,
        shape.upgrade_seconds,
        shape.spread * 100.0
    );
    println!(
        "  wall time {wall:.3} s, ideal critical path {ideal:.3} s; per member {:.1} ms",
        *wall * 1e3 / shape.members as f64
    );
    println!("  statements per member {statements_per_member:.2}; requests that change AKS {requests}");
    for (what, spans) in [("end noticed after", noticed), ("next member told after", followed)] {
        println!("  {what}: p50 {:.1} ms, p99 {:.1} ms", percentile(spans, 50.0), percentile(spans, 99.0));
    }
    println!("  peak memory of service, workers, emulator and client together: {:.0} MiB", peak_memory_mib());
}

/// A service, its workers and an emulator.
struct World {
    arm: String,
    service: String,
    http: reqwest::Client,
    token: String,
    stop_service: CancellationToken,
    stop_emulator: CancellationToken,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
    emulating: tokio::task::JoinHandle<std::io::Result<()>>,
    _data: tempfile::TempDir,
}

impl World {
    async fn start(options: &PgConnectOptions, shape: &Shape) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let emulator_listener = TcpListener::bind("127.0.0.1:0").await?;
        let arm = format!("http://{}", emulator_listener.local_addr()?);
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let options = if std::env::var_os("ASYNC").is_some() {
            options.clone().options([("synchronous_commit", "off")])
        } else {
            options.clone()
        };
        let url = options.to_url_lossy().to_string();
        let flags = [
            ("--database-url", url),
            ("--arm-endpoint", arm.clone()),
            ("--listen", address.to_string()),
            ("--data-dir", data.path().display().to_string()),
        ];
        let arguments = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let settings = Flags::try_parse_from(std::iter::once("run".to_owned()).chain(arguments))?.settings;
        let claims = TokenClaims::local_user(settings.tenant_id, Duration::from_secs(3600));
        let token = LocalKey::load_or_create(data.path())?.mint(&claims, Timestamp::now())?;

        let config = azure_emulator::Config {
            clusters: shape.clusters(),
            upgrade_seconds: shape.upgrade_seconds,
            ..azure_emulator::Config::default()
        };
        let (stop_service, stop_emulator) = (CancellationToken::new(), CancellationToken::new());
        let emulating = tokio::spawn(Emulator::new(config).serve(emulator_listener, stop_emulator.clone()));
        let serving = tokio::spawn(app::serve(settings, ServeOptions { worker: true }, stop_service.clone()));
        let service = format!("http://{address}");
        let http = reqwest::Client::new();
        let world = Self { arm, service, http, token, stop_service, stop_emulator, serving, emulating, _data: data };
        within(Duration::from_secs(60), "the start of the service", async {
            while !world
                .http
                .get(format!("{}/readyz", world.service))
                .send()
                .await
                .is_ok_and(|a| a.status().is_success())
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await?;
        Ok(world)
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop_service.cancel();
        self.serving.await??;
        self.stop_emulator.cancel();
        self.emulating.await??;
        Ok(())
    }

    /// A request to the service.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("{}{path}?api-version=2026-06-01", self.service);
        let mut request = self.http.request(method, &url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{url}: {status} {text}");
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// A request to the emulator.
    async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self
            .http
            .get(format!("{}{path}", self.arm))
            .bearer_auth("bench")
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    /// The IDs of the first so many clusters.
    async fn clusters(&self, members: usize) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        for subscription in SUBSCRIPTIONS {
            let mut path = format!(
                "/subscriptions/{subscription}/providers/Microsoft.ContainerService/managedClusters?api-version=2026-08-01"
            );
            loop {
                let page = self.ask(&path).await?;
                let page_ids =
                    page["value"].as_array().into_iter().flatten().filter_map(|cluster| cluster["id"].as_str());
                ids.extend(page_ids.map(str::to_owned));
                match page["nextLink"].as_str() {
                    Some(next) => path = next.trim_start_matches(&self.arm).to_owned(),
                    None => break,
                }
            }
        }
        ids.truncate(members);
        ensure!(ids.len() == members, "the emulator has {} clusters only", ids.len());
        Ok(ids)
    }

    /// Fleet, members and run, and waits until they are provisioned.
    async fn make_fleet(&self, shape: &Shape, clusters: &[String]) -> anyhow::Result<()> {
        self.make(FLEET.split("/providers").next().unwrap_or_default(), &json!({"location": "eastus"})).await?;
        self.make(FLEET, &json!({"location": "eastus"})).await?;
        let making = stream::iter(clusters.iter().enumerate()).map(|(n, cluster)| async move {
            let properties = json!({"clusterResourceId": cluster, "group": format!("group-{}", n % GROUPS)});
            self.take(cluster, shape.upgrade_seconds * (1.0 + shape.spread * (2.0 * spread_evenly(n) - 1.0))).await?;
            self.make(&format!("{FLEET}/members/member-{n}"), &json!({"properties": properties})).await
        });
        making.buffer_unordered(16).try_collect::<()>().await?;
        let groups: Vec<Value> = (0..GROUPS)
            .map(|n| json!({"name": format!("group-{n}"), "maxConcurrency": GROUP_CONCURRENCY.to_string()}))
            .collect();
        let run = json!({"properties": {
            "strategy": {"stages": [{"name": "all", "maxConcurrency": "50", "groups": groups}]},
            "managedClusterUpdate": {"upgrade": {"type": shape.upgrade, "kubernetesVersion": "1.33.2"}},
        }});
        self.make(&format!("{FLEET}/updateRuns/run"), &run).await
    }

    /// Whether the emulator answers 429 beyond AKS's limits on calls.
    async fn enforce_limits(&self, enforced: bool) -> anyhow::Result<()> {
        let url = format!("{}/emulator/settings", self.arm);
        self.http.patch(url).json(&json!({"enforceThrottles": enforced})).send().await?.error_for_status()?;
        Ok(())
    }

    /// Makes upgrades of a cluster take so long.
    async fn take(&self, cluster: &str, seconds: f64) -> anyhow::Result<()> {
        let mut parts = cluster.split('/').skip(2).step_by(2);
        let (subscription, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let name = cluster.rsplit('/').next().unwrap_or_default();
        let url = format!("{}/emulator/clusters/{name}?subscription={subscription}&resourceGroup={group}", self.arm);
        self.http.patch(url).json(&json!({"upgradeSeconds": seconds})).send().await?.error_for_status()?;
        Ok(())
    }

    async fn make(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let (_, mut resource) = self.send(Method::PUT, path, Some(body)).await?;
        loop {
            match resource["properties"]["provisioningState"].as_str() {
                Some("Succeeded") => return Ok(()),
                Some("Failed" | "Canceled") => anyhow::bail!("{path} was not made: {resource}"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            resource = self.send(Method::GET, path, None).await?.1;
        }
    }

    /// The upgrades that the emulator has carried out.
    async fn log(&self) -> anyhow::Result<Vec<Entry>> {
        let log = self.ask("/emulator/log").await?;
        let entries: Vec<Entry> = serde_json::from_value(log["value"].clone()).context("the emulator's log")?;
        Ok(entries.into_iter().filter(|entry| entry.operation.is_some()).collect())
    }
}

/// When the run ended, and that it ended well.
async fn run_ended(watcher: &mut PgConnection) -> anyhow::Result<Timestamp> {
    loop {
        let (state, at): (String, Option<jiff_sqlx::Timestamp>) =
            sqlx::query_as("SELECT state::text, completed_time FROM update_runs /* benchmark */")
                .fetch_one(&mut *watcher)
                .await?;
        match (state.as_str(), at) {
            ("Completed", Some(at)) => return Ok(at.to_jiff()),
            ("NotStarted" | "Running", _) => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => anyhow::bail!("the run is {state}"),
        }
    }
}

/// Group and end of members by their clusters' names.
async fn members(watcher: &mut PgConnection) -> anyhow::Result<HashMap<String, (i32, Timestamp)>> {
    let rows: Vec<(String, i32, jiff_sqlx::Timestamp)> = sqlx::query_as(
        "SELECT regexp_replace(cluster_resource_id, '.*/', ''), group_index, completed_time FROM run_members WHERE state = 'Completed' /* benchmark */",
    )
    .fetch_all(watcher)
    .await?;
    Ok(rows.into_iter().map(|(cluster, group, at)| (cluster, (group, at.to_jiff()))).collect())
}

/// The ideal: every group's operations, in the order in which they began and as long as they took, one after the other in
/// each of the group's slots without a gap; the longest group.
fn evaluate(entries: &[Entry], members: &HashMap<String, (i32, Timestamp)>, shape: &Shape) -> anyhow::Result<Measured> {
    let mut groups: HashMap<i32, Vec<(Timestamp, Timestamp, Timestamp, Timestamp)>> = HashMap::new();
    for entry in entries {
        let (Some(cluster), Some(operation), true) = (&entry.cluster, &entry.operation, entry.applied) else {
            continue;
        };
        ensure!(operation.status == "Succeeded", "an operation is {}", operation.status);
        let end = operation.end_time.context("an operation that has not ended")?;
        let (group, known) = members.get(cluster).context("a cluster that is no member")?;
        groups.entry(*group).or_default().push((entry.time, operation.start_time, end, *known));
    }
    let told: usize = groups.values().map(Vec::len).sum();
    ensure!(told == shape.members, "{told} clusters were told to upgrade, of {} members", shape.members);
    let (mut ideal, mut noticed, mut followed) = (0.0_f64, Vec::new(), Vec::new());
    for operations in groups.values_mut() {
        operations.sort();
        let mut slots = [0.0_f64; GROUP_CONCURRENCY];
        let mut known: Vec<Timestamp> = Vec::new();
        for (_, start, end, ended) in operations.iter() {
            slots.sort_by(f64::total_cmp);
            slots[0] += seconds(*start, *end);
            noticed.push(seconds(*end, *ended) * 1e3);
            known.push(*ended);
        }
        known.sort();
        let next = operations.iter().skip(GROUP_CONCURRENCY);
        followed.extend(known.iter().zip(next).map(|(known, (told, ..))| seconds(*known, *told) * 1e3));
        ideal = slots.into_iter().fold(ideal, f64::max);
    }
    Ok(Measured { wall: 0.0, ideal, statements_per_member: 0.0, noticed, followed })
}

/// 0–1 for every n, never twice the same nearby: multiples of the golden ratio.
fn spread_evenly(n: usize) -> f64 {
    (n as f64 * 0.618_033_988_749_895).fract()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
