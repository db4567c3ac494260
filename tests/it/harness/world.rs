//! A separate world for each test: an emulator of AKS in this process, a database, and the real binary.

use std::{
    collections::HashMap,
    fs::File,
    net::TcpListener as StdListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use azure_emulator::{Config, Emulator, Identity};
use fleet_manager::local::ca;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    BUSY,
    postgres::{TestDatabase, database},
};

pub const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
/// The URL of the emulator.
pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const BINARY: &str = env!("CARGO_BIN_EXE_fleet-manager");

/// Settings of a world.
pub struct Options {
    pub clusters: usize,
    pub upgrade_seconds: f64,
    pub env: Vec<(&'static str, String)>,
    /// The certificate authority to trust, if the service has a certificate.
    pub tls: Option<std::path::PathBuf>,
    /// The bearer token, if the service's own key does not sign tokens. There is no resource group then.
    pub token: Option<String>,
    /// If set, the emulator accepts only tokens that it issued, valid for this many seconds. It also serves https, and the service
    /// authenticates with a client secret.
    pub issued_tokens: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { clusters: 12, upgrade_seconds: 0.3, env: Vec::new(), tls: None, token: None, issued_tokens: None }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

pub struct World {
    pub url: String,
    pub emulator_url: String,
    /// The URL that the service uses as ARM.
    pub arm_url: String,
    pub token: String,
    database: TestDatabase,
    http: reqwest::Client,
    listen: String,
    env: Vec<(&'static str, String)>,
    home: TempDir,
    replicas: Vec<Child>,
    _emulator: tokio_util::sync::DropGuard,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config {
            clusters: options.clusters,
            upgrade_seconds: options.upgrade_seconds,
            require_issued_tokens: options.issued_tokens.is_some(),
            token_seconds: options.issued_tokens.unwrap_or(3600),
            ..Config::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let emulator_url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let emulator = Emulator::new(config);
        tokio::spawn(emulator.clone().serve(listener, stop.clone()));
        let database = database().await;
        let home = TempDir::new().unwrap();
        // The port was free a moment ago. Another process could take it until the service listens, which is unlikely.
        let listen = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        // A test may set a database of its own.
        let mut env = vec![
            ("DATABASE_URL", database.options.to_url_lossy().to_string()),
            ("FLEET_ARM_ENDPOINT", emulator_url.clone()),
            ("FLEET_DATA_DIR", home.path().join("data").display().to_string()),
        ];
        let mut arm_url = emulator_url.clone();
        if options.issued_tokens.is_some() {
            let files = ca::certificates(&home.path().join("azure"), [127, 0, 0, 1].into(), Timestamp::now()).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            arm_url = format!("https://{}", listener.local_addr().unwrap());
            env.extend([
                ("FLEET_ARM_ENDPOINT", arm_url.clone()),
                ("FLEET_ARM_CA", files.ca.display().to_string()),
                ("FLEET_ARM_CREDENTIAL", "client-secret".to_owned()),
                // The credential is one of Azure, as far as the service knows.
                ("FLEET_INSECURE_LOCAL_AUTH", "true".to_owned()),
                ("AZURE_AUTHORITY_HOST", arm_url.clone()),
                ("AZURE_TENANT_ID", TENANT.to_owned()),
                ("AZURE_CLIENT_ID", Identity::default().client_id),
                ("AZURE_CLIENT_SECRET", Identity::default().client_secret),
            ]);
            let stop = stop.clone();
            tokio::spawn(async move { emulator.serve_tls(listener, &files.certificate, &files.key, stop).await });
        }
        env.extend(options.env);
        let mut http = reqwest::Client::builder().timeout(Duration::from_secs(30));
        if let Some(ca) = &options.tls {
            http = http.tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap()]);
        }
        let http = http.build().unwrap();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let mut world = Self {
            url: format!("{scheme}://{listen}"),
            emulator_url,
            arm_url,
            token: String::new(),
            database,
            http,
            listen,
            env,
            home,
            replicas: Vec::new(),
            _emulator: stop.drop_guard(),
        };
        world.restart().await;
        if let Some(token) = options.token {
            world.token = token;
            return world;
        }
        let token = world.command().arg("token").output().unwrap();
        assert!(token.status.success(), "{token:?}");
        world.token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
        let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1");
        let made = world.put(&group, json!({"location": "eastus"})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        world
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        let ours = |name: &str| ["FLEET_", "AZURE_", "IDENTITY_", "MSI_"].iter().any(|prefix| name.starts_with(prefix));
        for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    fn log(&self) -> std::path::PathBuf {
        self.home.path().join("service.log")
    }

    fn spawn(&mut self, listen: &str, env: &[(&'static str, &str)]) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command();
        command.envs(env.iter().copied());
        command.arg("serve").env("FLEET_LISTEN", listen).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.replicas.push(command.spawn().unwrap());
    }

    /// Starts the service (again), and waits until it is ready.
    pub async fn restart(&mut self) {
        self.spawn(&self.listen.clone(), &[]);
        self.ready().await;
    }

    /// Returns the value of a variable of the service.
    pub fn variable(&self, name: &str) -> String {
        let last = self.env.iter().rev().find(|(known, _)| *known == name);
        last.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Restarts the service with other variables.
    pub async fn restart_with(&mut self, env: &[(&'static str, &str)]) {
        self.kill();
        // The last value of a variable counts.
        self.env.extend(env.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.restart().await;
    }

    /// Starts another replica with the same database, and returns its address.
    pub fn add_replica(&mut self) -> String {
        self.add_replica_with(&[])
    }

    /// Starts another replica, for which these variables have other values, and returns its address.
    pub fn add_replica_with(&mut self, env: &[(&'static str, &str)]) -> String {
        let listen = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        self.spawn(&listen, env);
        listen
    }

    /// The process ID of a replica, by the order in which the replicas were started.
    pub fn process(&self, replica: usize) -> u32 {
        self.replicas[replica].id()
    }

    /// The IDs of all clusters of the emulator's two subscriptions.
    pub async fn cluster_ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for n in [1, 2] {
            let path = format!(
                "/subscriptions/00000000-0000-0000-0000-{n:012}/providers/Microsoft.ContainerService/managedClusters?api-version=2026-08-01"
            );
            let list = self.emulator("GET", &path, None).await;
            ids.extend(list.body["value"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()));
        }
        ids
    }

    /// Connections to the service's database.
    pub fn pool(&self) -> &fleet_manager::database::Pool {
        &self.database.pool
    }

    pub async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30) * BUSY;
        loop {
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < deadline, "the service is not ready\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9` of all replicas.
    pub fn kill(&mut self) {
        for mut replica in self.replicas.drain(..) {
            let _ = replica.kill();
            let _ = replica.wait();
        }
    }

    /// SIGTERM of all replicas, without waiting for their end.
    pub fn terminate(&self) {
        for replica in &self.replicas {
            assert!(Command::new("kill").args(["-TERM", &replica.id().to_string()]).status().unwrap().success());
        }
    }

    /// Sends SIGTERM to all replicas, which must exit with success.
    pub fn stop(&mut self) {
        for mut replica in self.replicas.drain(..) {
            let signalled = Command::new("kill").args(["-TERM", &replica.id().to_string()]).status().unwrap();
            assert!(signalled.success());
            assert!(replica.wait().unwrap().success());
        }
    }

    /// Most memory that the first replica has had, in bytes.
    pub fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.replicas[0].id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns the log of the service.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    pub fn fleet(&self, name: &str) -> String {
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.ContainerService/fleets/{name}")
    }

    pub fn cluster(n: usize) -> String {
        format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.ContainerService/managedClusters/aks-{n}"
        )
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    pub async fn call_with(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        self.try_call(method, path, body, headers).await.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        let mut url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        if !url.contains('?') {
            url.push_str("?api-version=2026-06-01");
        }
        let mut request = self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            request = request.bearer_auth(&self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await?;
        if status == 500 {
            // No test expects a 500, and only the log says its cause.
            eprintln!("{method} {path}: 500\n{}", self.log_tail());
        }
        Ok(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path, Some(body)).await
    }

    pub async fn post(&self, path: &str, body: Option<Value>) -> Answer {
        self.call("POST", path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    /// Waits until no operation on the resource is in progress, and returns the resource.
    pub async fn settled(&self, path: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30) * BUSY;
        loop {
            let answer = self.get(path).await;
            let state = answer.body["properties"]["provisioningState"].as_str().unwrap_or_default().to_owned();
            if matches!(state.as_str(), "Succeeded" | "Failed" | "Canceled") {
                return answer.body;
            }
            assert!(Instant::now() < deadline, "{path} is {state}: {}\n{}", answer.body, self.log_tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Creates a fleet with these members (name, cluster number, group), waits until all joined, and returns its path.
    pub async fn fleet_of(&self, name: &str, members: &[(&str, usize, &str)]) -> String {
        let fleet = self.fleet(name);
        assert_eq!(self.put(&fleet, json!({"location": "eastus"})).await.status, 201);
        self.settled(&fleet).await;
        for (member, cluster, group) in members {
            let properties = json!({"clusterResourceId": Self::cluster(*cluster), "group": group});
            let answer = self.put(&format!("{fleet}/members/{member}"), json!({"properties": properties})).await;
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
        for (member, ..) in members {
            let joined = self.settled(&format!("{fleet}/members/{member}")).await;
            assert_eq!(joined["properties"]["provisioningState"], "Succeeded", "{joined}");
        }
        fleet
    }

    /// Creates a run, starts it, and returns its path.
    pub async fn start_run(&self, fleet: &str, run: &str, properties: Value) -> String {
        let run = format!("{fleet}/updateRuns/{run}");
        let made = self.put(&run, json!({"properties": properties})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let started = self.post(&format!("{run}/start"), None).await;
        assert_eq!(started.status, 200, "{}", started.body);
        run
    }

    /// Waits until the run is in this state, and returns its status.
    pub async fn reaches(&self, run: &str, state: &str, within: Duration) -> Value {
        self.until(run, within, state, |status| status["status"]["state"] == state).await
    }

    /// Waits until a condition holds, and returns the run's status.
    pub async fn until(&self, run: &str, within: Duration, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + within * BUSY;
        loop {
            let answer = self.get(run).await;
            let status = &answer.body["properties"]["status"];
            if answer.status == 200 && holds(status) {
                return status.clone();
            }
            assert!(Instant::now() < deadline, "{run} is not {what}: {:#}\n{}", answer.body, self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn emulator(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let answer = self.call(method, &format!("{}{path}", self.emulator_url), body).await;
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.body);
        answer
    }

    pub async fn fault(&self, fault: Value) {
        self.emulator("POST", "/emulator/faults", Some(fault)).await;
    }

    pub async fn emulator_log(&self) -> Vec<Value> {
        let log = self.emulator("GET", "/emulator/log", None).await.body;
        let list = if log.is_array() { &log } else { &log["value"] };
        list.as_array().unwrap_or_else(|| panic!("{log}")).clone()
    }

    /// Returns how often each step was executed, by (cluster, step) in lower case.
    pub async fn applied(&self) -> HashMap<(String, String), usize> {
        let mut applied = HashMap::new();
        for entry in self.emulator_log().await.iter().filter(|entry| entry["applied"] == true) {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_lowercase();
            *applied.entry((text("cluster"), text("step"))).or_default() += 1;
        }
        applied
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns all members in a run's status.
pub fn members(status: &Value) -> Vec<&Value> {
    fn inner(value: &Value) -> Vec<&Value> {
        value.as_array().into_iter().flatten().collect()
    }
    inner(&status["stages"])
        .into_iter()
        .flat_map(|stage| inner(&stage["groups"]))
        .flat_map(|group| inner(&group["members"]))
        .collect()
}

/// Returns the `managedClusterUpdate` of an upgrade to a Kubernetes version.
pub fn upgrade_to(kind: &str, version: &str) -> Value {
    json!({"upgrade": {"type": kind, "kubernetesVersion": version}, "nodeImageSelection": {"type": "Latest"}})
}
