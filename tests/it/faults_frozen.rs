//! A worker that freezes in the middle of a member's upgrade, loses its lease, and goes on after another worker has finished.

use std::{
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::harness::{
    eventually,
    proxy::Proxy,
    world::{Options, World, upgrade_to},
};

/// How many exchanges the test freezes a worker at, unless `FROZEN_POINTS` says otherwise.
const POINTS: usize = 12;
/// Generous: the machine may be busy.
const BUSY: Duration = Duration::from_secs(60);
/// Part of the first statement of an attempt to upgrade a member.
const FIRST_STATEMENT: &str = "AS holder_run";
/// Parts of the statements that claim jobs and renew leases: they belong to no attempt.
const OF_THE_POOL: [&str; 2] = ["SET lease_owner = $3, lease_until = now()", "SET lease_until = now()"];

/// Freezes a process at one of its exchanges with PostgreSQL or AKS: after it has sent the request, before it sees the answer.
#[derive(Default)]
struct Freezer {
    watch: Mutex<Option<Watch>>,
    /// Calls that change something in AKS, of all processes.
    changing_calls: AtomicUsize,
}

/// What the freezer has seen of the upgrade of one member.
#[derive(Default)]
struct Watch {
    process: u32,
    /// The exchange to freeze at, from 1. `None`: only count.
    freeze_at: Option<usize>,
    exchanges: usize,
    frozen_at: Option<String>,
}

impl Freezer {
    fn watch(&self, process: u32, freeze_at: Option<usize>) {
        *self.watch.lock().unwrap() = Some(Watch { process, freeze_at, ..Watch::default() });
    }

    fn has_frozen(&self) -> bool {
        self.watch.lock().unwrap().as_ref().is_some_and(|watch| watch.frozen_at.is_some())
    }

    fn end_watch(&self) -> Watch {
        self.watch.lock().unwrap().take().unwrap()
    }

    fn statement(&self, sql: &str) {
        if !OF_THE_POOL.iter().any(|part| sql.contains(part)) {
            self.exchange(sql);
        }
    }

    fn call(&self, request_line: &str) {
        if !request_line.starts_with("GET ") {
            self.changing_calls.fetch_add(1, SeqCst);
        }
        self.exchange(request_line);
    }

    fn exchange(&self, request: &str) {
        let mut watch = self.watch.lock().unwrap();
        let Some(watch) = watch.as_mut().filter(|watch| watch.frozen_at.is_none()) else { return };
        if watch.exchanges == 0 && !request.contains(FIRST_STATEMENT) {
            return;
        }
        watch.exchanges += 1;
        if watch.freeze_at == Some(watch.exchanges) {
            freeze(watch.process);
            watch.frozen_at = Some(request.split_whitespace().take(8).collect::<Vec<_>>().join(" "));
        }
    }
}

/// Stops all threads of a process.
fn freeze(process: u32) {
    assert!(Command::new("kill").args(["-STOP", &process.to_string()]).status().unwrap().success());
    let stopped = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    };
    while !stopped() {
        std::thread::yield_now();
    }
}

fn thaw(process: u32) {
    assert!(Command::new("kill").args(["-CONT", &process.to_string()]).status().unwrap().success());
}

/// Forwards HTTP/1.1 to the server of this URL, shows the freezer each request line, and returns the URL of the proxy.
async fn http_proxy(server: &str, freezer: &Arc<Freezer>, connections: &mut JoinSet<()>) -> String {
    let server = server.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let freezer = Arc::clone(freezer);
    connections.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&server).await else { continue };
            open.spawn(forward(client, server, Arc::clone(&freezer)));
        }
    });
    url
}

async fn forward(client: TcpStream, server: TcpStream, freezer: Arc<Freezer>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..read]);
            // A body is JSON, and does not begin like a request line.
            if let Some(line) = text.lines().next().filter(|line| line.ends_with("HTTP/1.1")) {
                freezer.call(line);
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// The world, and the two processes that take turns.
struct Scene {
    world: World,
    freezer: Arc<Freezer>,
    fleet: String,
    clusters: Vec<String>,
    /// The process that upgrades a member until it is frozen.
    first: u32,
    first_url: String,
    /// The process that finishes the upgrade. It is frozen until then.
    second: u32,
    /// The runs so far, as they were when they had ended.
    ended: Vec<(String, Value)>,
    _connections: JoinSet<()>,
    _database: Proxy,
}

impl Scene {
    async fn new() -> Self {
        let env = vec![("FLEET_LEASE_SECONDS", "1".to_owned()), ("FLEET_DATABASE_TIMEOUT_SECONDS", "2".to_owned())];
        let mut world =
            World::start_with(Options { clusters: 80, upgrade_seconds: 0.2, env, ..Options::default() }).await;
        let (freezer, mut connections) = (Arc::<Freezer>::default(), JoinSet::new());
        let options: PgConnectOptions = world.variable("DATABASE_URL").parse().unwrap();
        let observer = Arc::clone(&freezer);
        let database = Proxy::start_observed(&options, Arc::new(move |sql| observer.statement(sql))).await;
        let arm = http_proxy(&world.emulator_url, &freezer, &mut connections).await;
        // Both processes reach AKS by the same URL, so that the second one follows the operations of the first one.
        world.restart_with(&[("FLEET_ARM_ENDPOINT", &arm)]).await;
        let through = database.options().to_url_lossy().to_string();
        let first_url = format!("http://{}", world.add_replica_with(&[("DATABASE_URL", &through)]));
        let fleet = world.fleet_of("f", &[]).await;
        let (clusters, first, second) = (world.cluster_ids().await, world.process(1), world.process(0));
        let (ended, _connections, _database) = (Vec::new(), connections, database);
        let scene = Self { world, freezer, fleet, clusters, first, first_url, second, ended, _connections, _database };
        scene.first_is_ready().await;
        scene
    }

    async fn first_is_ready(&self) {
        let ready = format!("{}/readyz", self.first_url);
        eventually("the first process is ready", async || {
            self.world.try_call("GET", &ready, None, &[]).await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Upgrades one more cluster by a run of its own, and freezes the first process at this exchange of the upgrade.
    async fn upgrade(&mut self, freeze_at: Option<usize>) -> Watch {
        let world = &self.world;
        let n = self.ended.len();
        let (member, group) = (format!("{}/members/m{n}", self.fleet), format!("g{n}"));
        let properties = json!({"clusterResourceId": self.clusters[n], "group": group});
        assert_eq!(world.put(&member, json!({"properties": properties})).await.status, 201);
        assert_eq!(world.settled(&member).await["properties"]["provisioningState"], "Succeeded");
        let run = format!("{}/updateRuns/r{n}", self.fleet);
        let strategy = json!({"stages": [{"name": "s", "groups": [{"name": group}]}]});
        let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
        let created = world.put(&run, json!({"properties": properties})).await;
        assert_eq!(created.status, 201, "{}", created.body);

        freeze(self.second);
        self.freezer.watch(self.first, freeze_at);
        let started = world.post(&format!("{}{run}/start", self.first_url), None).await;
        assert_eq!(started.status, 200, "{}", started.body);
        let name = format!("r{n}");
        eventually("the first process is frozen or has upgraded the member", async || {
            let sql =
                "SELECT u.state = 'Completed' FROM update_runs u JOIN resources r ON r.id = u.run_id WHERE r.name = $1";
            let completed = sqlx::query_scalar::<_, bool>(sql).bind(&name).fetch_one(world.pool());
            self.freezer.has_frozen() || completed.await.unwrap()
        })
        .await;
        let watch = self.freezer.end_watch();
        thaw(self.second);
        let status = world.reaches(&run, "Completed", BUSY).await;
        let (after, calls) = (world.get(&run).await.body, self.freezer.changing_calls.load(SeqCst));
        thaw(self.first);
        self.first_is_ready().await;
        let point = watch.frozen_at.as_deref().unwrap_or("nowhere");
        assert_eq!(world.get(&run).await.body, after, "changed by the process that was frozen at: {point}");
        assert_eq!(self.freezer.changing_calls.load(SeqCst), calls, "called AKS after it was frozen at: {point}");
        assert_eq!(status["stages"][0]["groups"][0]["members"][0]["status"]["state"], "Completed", "{point}: {status}");
        self.ended.push((run, after));
        watch
    }
}

/// Numbers from 1 to `most`, in an order that the seed decides.
fn shuffled(most: usize, seed: u64) -> Vec<usize> {
    let mut numbers: Vec<usize> = (1..=most).collect();
    numbers.sort_by_key(|number| {
        let mut hasher = DefaultHasher::new();
        (seed, number).hash(&mut hasher);
        hasher.finish()
    });
    numbers
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_freezes_anywhere_in_an_upgrade_changes_nothing_after_its_lease() {
    let mut scene = Scene::new().await;
    // The first upgrade of a process has more exchanges than others: statements are prepared, and nothing is cached.
    scene.upgrade(None).await;
    let exchanges = scene.upgrade(None).await.exchanges;
    assert!(exchanges > 10, "{exchanges}");
    let seed = number_in("FROZEN_SEED").unwrap_or_else(rand::random);
    let points = number_in("FROZEN_POINTS").map_or(POINTS, |points| usize::try_from(points).unwrap());
    eprintln!("{exchanges} exchanges an upgrade; FROZEN_SEED={seed} FROZEN_POINTS={points}");
    let mut points_so_far = String::new();
    let mut reached = 0;
    for point in shuffled(exchanges, seed).into_iter().take(points) {
        let watch = scene.upgrade(Some(point)).await;
        reached += usize::from(watch.frozen_at.is_some());
        let at = watch.frozen_at.unwrap_or_else(|| "not reached".to_owned());
        eprintln!("{point}: {at}");
        writeln!(points_so_far, "{point}: {at}").unwrap();
    }
    assert!(reached > 0, "{points_so_far}");
    // The first process still works after all this.
    scene.upgrade(None).await;
    for (run, after) in &scene.ended {
        assert_eq!(scene.world.get(run).await.body, *after, "{points_so_far}");
    }
    let applied = scene.world.applied().await;
    assert!(applied.len() >= 2 * scene.ended.len(), "{applied:?}");
    assert!(applied.values().all(|times| *times == 1), "{points_so_far}\n{applied:?}");
    let log = scene.world.emulator_log().await;
    let refused: Vec<_> = log.iter().filter(|entry| entry["status"] == 409 || entry["status"] == 412).collect();
    assert!(refused.is_empty(), "{points_so_far}\n{refused:?}");
}
