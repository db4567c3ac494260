//! The client of AKS with the emulator, and with responses that the emulator never gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use azure_emulator::{Config, Emulator};
use fleet_manager::{
    arm::ResourceId,
    model::{
        managed_cluster::{NodeImage, UpgradeAction},
        update_run::{
            ManagedClusterUpgradeType::{self, ControlPlaneOnly, Full, NodeImageOnly},
            WhenImageUnavailable,
        },
    },
    rollout::upgrade::{Goal, ImageGoal, Next, Outcome, Upgrade, next},
    upstreams::azure::{
        ArmClient, CatalogueCache, CatalogueNeeds, Followed, Freshness, MaintenanceCache, ManagedClusters, Observation,
        Observer, Progress, Seen, Settings, StaticToken, UpstreamError, Verdict, budget::Class,
    },
};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::sync::{CancellationToken, DropGuard};

const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns a client with a time-out that is longer than any busy machine needs.
fn client(endpoint: &str) -> Arc<ArmClient> {
    client_with(endpoint, Duration::from_secs(30))
}

fn client_with(endpoint: &str, timeout: Duration) -> Arc<ArmClient> {
    static TLS: Once = Once::new();
    TLS.call_once(|| _ = rustls::crypto::ring::default_provider().install_default());
    let settings = Settings { timeout, ..Settings::new(endpoint) };
    Arc::new(ArmClient::new(&settings, Arc::new(StaticToken::new("token".to_owned().into()))).unwrap())
}

fn cluster(name: &str) -> ResourceId {
    ResourceId::in_group(SUBSCRIPTION, "rg1", "Microsoft.ContainerService", "managedClusters", name)
}

fn goal(upgrade_type: ManagedClusterUpgradeType, version: Option<&str>, images: ImageGoal) -> Goal {
    let version = version.map(|text| text.parse().unwrap());
    let when_image_unavailable = WhenImageUnavailable::Fail;
    Goal { upgrade_type, version, images, when_image_unavailable, skips_far_clusters: false }
}

/// An emulator, with the client and the caches of a worker.
struct World {
    base: String,
    http: reqwest::Client,
    client: Arc<ArmClient>,
    observer: Observer,
    catalogue: CatalogueCache,
    _stop: DropGuard,
}

impl World {
    async fn new(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(Emulator::new(config).serve(listener, stop.clone()));
        let client = client(&base);
        Self {
            http: reqwest::Client::new(),
            observer: Observer::new(client.clone()),
            catalogue: CatalogueCache::new(client.clone(), Duration::from_secs(60)),
            client,
            base,
            _stop: stop.drop_guard(),
        }
    }

    async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/emulator/{path}", self.base);
        let answer = self.http.request(method.parse().unwrap(), url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    async fn fault(&self, matches: Value, action: Value) {
        self.control("POST", "faults", json!({"match": matches, "action": action})).await;
    }

    /// A cluster of this name at 1.32.7, with two pools on the oldest image.
    async fn add(&self, name: &str, location: &str) -> ResourceId {
        let pools = json!([{"name": "nodepool1", "mode": "System"}, {"name": "azlinux", "osSKU": "AzureLinux"}]);
        self.control("POST", "clusters", json!({"name": name, "location": location, "agentPools": pools})).await;
        cluster(name)
    }

    /// Returns the steps that changed a cluster, in order.
    async fn steps(&self, name: &str) -> Vec<String> {
        let log = self.control("GET", "log", json!(null)).await;
        let entries = log.as_array().or_else(|| log["value"].as_array()).expect("a list").clone();
        entries
            .iter()
            .filter(|entry| entry["cluster"] == name && entry["applied"] == true)
            .map(|entry| entry["step"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Upgrades a cluster as the job of a member does. `retried` counts the transient errors.
    async fn upgrade(&self, id: &ResourceId, goal: &Goal, retried: &mut u32) -> Outcome {
        let (mut upgrade, started) = (Upgrade::default(), Instant::now());
        loop {
            assert!(started.elapsed() < DEADLINE, "{id}: {upgrade:#?}");
            match self.step(id, goal, &mut upgrade).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => match error.verdict() {
                    Verdict::WaitForBudget { after } => tokio::time::sleep(after).await,
                    Verdict::Fail(error) => return Outcome::Failed { error },
                    _ => *retried += 1,
                },
            }
        }
    }

    /// Reads a cluster, and waits for AKS's limit on calls as a member's job does.
    async fn read(&self, id: &ResourceId) -> Seen {
        loop {
            match self.client.get(id).await {
                Ok(seen) => return seen,
                Err(UpstreamError::Throttled { after, .. }) => tokio::time::sleep(after).await,
                Err(error) => panic!("{id}: {error}"),
            }
        }
    }

    async fn step(
        &self,
        id: &ResourceId,
        goal: &Goal,
        upgrade: &mut Upgrade,
    ) -> Result<Option<Outcome>, UpstreamError> {
        let seen = self.client.get(id).await?;
        let needs = CatalogueNeeds {
            versions: goal.moves_version(),
            images: goal.moves_pools(),
            chosen_images: goal.chosen_images(),
        };
        let catalogue = self.catalogue.of(id, &seen.cluster, needs).await?;
        match next(upgrade, &seen.cluster, goal, &catalogue, Timestamp::now()) {
            Next::Done(outcome) => Ok(Some(outcome)),
            Next::Blocked { error, .. } => panic!("{error:?}"),
            Next::Begin(begin) => {
                let steps = upgrade.intend(&begin, &seen.cluster, Timestamp::now());
                for (step, action) in steps.into_iter().zip(&begin.actions) {
                    let accepted = self.client.begin(id, &seen, action, &|| DEADLINE).await?;
                    upgrade.started(step, accepted.operation_url, accepted.operation_id, Timestamp::now());
                }
                Ok(None)
            }
            Next::Follow(watches) => {
                let begun = Instant::now();
                'watching: for watch in watches {
                    let step = watch.step.and_then(|step| upgrade.steps.get(step)).cloned();
                    loop {
                        let followed = Followed {
                            cluster: id,
                            action: step.as_ref().map(|step| &step.action),
                            operation_url: watch.operation_url.as_deref(),
                            elapsed: begun.elapsed(),
                        };
                        let result = match self.observer.observe(&followed).await? {
                            Observation::Running { again_after } => {
                                tokio::time::sleep(again_after).await;
                                continue;
                            }
                            Observation::ReadCluster => {
                                watch.step.into_iter().for_each(|step| upgrade.lost(step));
                                tokio::time::sleep(self.observer.wait(&followed, None)).await;
                                continue 'watching;
                            }
                            Observation::Succeeded => Ok(()),
                            Observation::Failed(error) => Err(error),
                        };
                        if let Some(step) = watch.step {
                            upgrade.ended(step, result);
                        }
                        continue 'watching;
                    }
                }
                Ok(None)
            }
        }
    }
}

fn config(upgrade_seconds: f64) -> Config {
    Config { upgrade_seconds, clusters: 0, ..Config::default() }
}

#[tokio::test]
async fn full_upgrade_control_plane_then_pools_each_once() {
    let world = World::new(config(0.3)).await;
    let id = world.add("c", "westeurope").await;
    let mut retried = 0;
    let outcome = world.upgrade(&id, &goal(Full, Some("1.33"), ImageGoal::Latest), &mut retried).await;
    assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
    let steps = world.steps("c").await;
    assert_eq!(steps.first().map(String::as_str), Some("ControlPlane"));
    assert_eq!(steps.len(), 3, "{steps:?}");
    let seen = world.read(&id).await.cluster;
    assert!(seen.pools.iter().all(|pool| pool.version() == "1.33.5".parse().ok()), "{seen:?}");
    assert!(seen.pools.iter().all(|pool| pool.image.as_ref().unwrap().as_str().ends_with("202510.03.0")), "{seen:?}");
    let again = world.upgrade(&id, &goal(Full, Some("1.33"), ImageGoal::Latest), &mut retried).await;
    assert!(matches!(again, Outcome::Skipped { .. }), "{again:?}");
    assert_eq!((world.steps("c").await.len(), retried), (3, 0));
}

#[tokio::test]
async fn with_auto_upgrade_control_plane_and_pools_upgrade_together() {
    let world = World::new(config(0.2)).await;
    let id = world.add("c", "westeurope").await;
    let mut body = world.read(&id).await.raw;
    body["properties"]["autoUpgradeProfile"] = json!({"upgradeChannel": "stable"});
    let url = format!("{}{id}?api-version=2026-08-01", world.base);
    assert!(world.http.put(url).json(&body).send().await.unwrap().status().is_success());
    let deadline = Instant::now() + DEADLINE;
    while world.read(&id).await.cluster.is_busy() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let outcome = world.upgrade(&id, &goal(Full, Some("1.33.2"), ImageGoal::Latest), &mut 0).await;
    assert_eq!(outcome, Outcome::Completed { message: None });
    assert_eq!(world.steps("c").await, ["Update", "Cluster"]);
    let seen = world.read(&id).await.cluster;
    assert!(seen.pools.iter().all(|pool| pool.version() == "1.33.2".parse().ok()), "{seen:?}");
}

#[tokio::test]
async fn newest_and_chosen_images() {
    let world = World::new(config(0.2)).await;
    let (a, b) = (world.add("a", "eastus").await, world.add("b", "eastus").await);
    let outcome = world.upgrade(&a, &goal(NodeImageOnly, None, ImageGoal::Latest), &mut 0).await;
    assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
    let chosen = NodeImage::new("AKSUbuntu-2204gen2containerd-202509.11.0");
    // The chosen image is no longer the newest: a snapshot that the service took holds it.
    let pools = json!([{"name": "p", "mode": "System", "orchestratorVersion": "1.33.2", "nodeImageVersion": chosen}]);
    let source = json!({"name": "source", "resourceGroup": "rg1", "location": "westeurope", "kubernetesVersion": "1.33.2", "agentPools": pools});
    world.control("POST", "clusters", source).await;
    let snapshot =
        ResourceId::in_group(SUBSCRIPTION, "rg1", "Microsoft.ContainerService", "snapshots", "fleet-manager-x");
    let pool = cluster("source").child("agentPools", "p");
    world.client.take_snapshot(&snapshot, "westeurope", &pool).await.unwrap();
    assert_eq!(world.client.snapshots(SUBSCRIPTION).await.unwrap()[0].image, chosen);
    let custom = goal(Full, Some("1.33.2"), ImageGoal::Custom(vec![chosen.clone()]));
    let outcome = world.upgrade(&b, &custom, &mut 0).await;
    let Outcome::Completed { message: Some(message) } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("'azlinux'") && message.contains("not listed"), "{message}");
    let images = async |id| {
        let pools = world.read(id).await.cluster.pools;
        pools
            .into_iter()
            .map(|pool| (pool.image.unwrap(), pool.current_orchestrator_version.unwrap()))
            .collect::<Vec<_>>()
    };
    assert!(images(&a).await.iter().all(|(image, _)| image.as_str().ends_with("202510.29.0")));
    let after = images(&b).await;
    assert_eq!(after[0], (chosen, "1.33.2".to_owned()));
    assert_eq!(after[1].1, "1.32.7");
}

#[tokio::test]
async fn a_lost_response_does_not_repeat_the_call() {
    let world = World::new(config(0.3)).await;
    let id = world.add("c", "eastus").await;
    world.fault(json!({"method": "PUT", "cluster": "c"}), json!({"cut": "after"})).await;
    world.fault(json!({"method": "PUT", "path": "nodepool1"}), json!({"cut": "before"})).await;
    world.fault(json!({"method": "PUT", "path": "azlinux"}), json!({"garbage": true})).await;
    world.fault(json!({"method": "GET", "path": "/operations/"}), json!({"status": 503})).await;
    let mut retried = 0;
    let outcome = world.upgrade(&id, &goal(Full, Some("1.33.2"), ImageGoal::Latest), &mut retried).await;
    assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
    let mut steps = world.steps("c").await;
    steps.sort();
    assert_eq!(steps, ["AgentPool:azlinux", "AgentPool:nodepool1", "ControlPlane"]);
    assert!(retried >= 3, "{retried}");
}

#[tokio::test]
async fn an_upgrade_is_not_begun_when_the_lease_has_ended() {
    let world = World::new(config(0.1)).await;
    let id = world.add("late", "eastus").await;
    let seen = world.read(&id).await;
    let action = UpgradeAction::ControlPlane { kubernetes_version: "1.33.2".parse().unwrap() };
    for left in [Duration::ZERO, Duration::from_millis(49)] {
        match world.client.begin(&id, &seen, &action, &move || left).await {
            Err(UpstreamError::Unavailable { detail, .. }) => assert_eq!(detail.code, "LeaseEnds"),
            other => panic!("{other:?}"),
        }
    }
    let log = world.control("GET", "log", json!(null)).await;
    assert!(!log.to_string().contains("\"PUT\""), "{log}");
    assert!(world.client.begin(&id, &seen, &action, &|| DEADLINE).await.is_ok());
    let log = world.control("GET", "log", json!(null)).await;
    assert!(log.to_string().contains("\"PUT\""), "{log}");
}

#[tokio::test]
async fn a_failed_operation_has_its_cause() {
    let world = World::new(config(0.2)).await;
    let id = world.add("c", "eastus").await;
    let failure = json!({"failOperation": {"code": "PodDrainFailure", "message": "pdb default/web"}});
    world.fault(json!({"method": "PUT", "cluster": "c"}), failure).await;
    let outcome = world.upgrade(&id, &goal(ControlPlaneOnly, Some("1.33.2"), ImageGoal::Latest), &mut 0).await;
    let Outcome::Failed { error } = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.code.as_ref(), error.details[0].code.as_ref()), ("UpgradeFailed", "PodDrainFailure"));
    assert!(error.message.contains("pdb default/web"), "{error:?}");
    // Another attempt repairs the cluster, although AKS already shows the target version.
    let outcome = world.upgrade(&id, &goal(ControlPlaneOnly, Some("1.33.2"), ImageGoal::Latest), &mut 0).await;
    assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
    assert!(!world.read(&id).await.cluster.is_busy());
}

#[tokio::test]
async fn every_fault_has_its_error() {
    let world = World::new(config(0.2)).await;
    let id = world.add("c", "eastus").await;
    let cases = [
        (json!({"status": 429, "code": "Throttled", "retryAfter": 1}), "throttled 1s"),
        (json!({"status": 429, "retryAfter": u64::MAX}), "throttled 300s"),
        (json!({"status": 503, "retryAfter": u64::MAX}), "transient 300s"),
        (json!({"status": 500, "code": "InternalServerError"}), "transient"),
        (json!({"status": 503, "retryAfter": 9}), "transient 9s"),
        (json!({"status": 401}), "unavailable"),
        (json!({"timeout": 60}), "transient"),
        (json!({"cut": "before"}), "transient"),
        (json!({"cut": "after"}), "transient"),
        (json!({"garbage": true}), "garbage"),
        (json!({"status": 403, "code": "AuthorizationFailed"}), "forbidden"),
        (json!({"status": 404, "code": "ResourceNotFound"}), "not found"),
        (json!({"status": 409, "code": "OperationNotAllowed"}), "busy"),
        (json!({"status": 409, "code": "Conflict"}), "busy"),
        (json!({"status": 409, "code": "OperationNotAllowed", "message": "The cluster is stopped."}), "refused"),
        (json!({"status": 409, "code": "ScopeLocked"}), "refused"),
        (json!({"status": 409, "code": "ReadOnlyDisabledSubscription"}), "refused"),
        (json!({"status": 409, "code": "QuotaExceeded"}), "refused"),
        (json!({"status": 403, "code": "RequestDisallowedByPolicy"}), "refused"),
        (json!({"status": 412, "code": "EtagMismatch"}), "changed"),
        (json!({"status": 400, "code": "BadRequest"}), "refused"),
    ];
    for (action, expected) in cases {
        world.fault(json!({"method": "GET", "cluster": "c"}), action.clone()).await;
        // Each case has its own client, since a 429 closes the client's budget.
        let timeout = Duration::from_secs(if action["timeout"].is_null() { 30 } else { 1 });
        let error = client_with(&world.base, timeout).get(&id).await.expect_err(expected);
        let shown = match &error {
            UpstreamError::Throttled { after, .. } => format!("throttled {}s", after.as_secs_f64().ceil()),
            UpstreamError::Unavailable { .. } => "unavailable".to_owned(),
            UpstreamError::Transient { after: Some(after), .. } => format!("transient {}s", after.as_secs()),
            UpstreamError::Transient { after: None, .. } => "transient".to_owned(),
            UpstreamError::Busy(_) => "busy".to_owned(),
            UpstreamError::Changed(_) => "changed".to_owned(),
            UpstreamError::Refused(_) => "refused".to_owned(),
            UpstreamError::NotFound(_) => "not found".to_owned(),
            UpstreamError::Forbidden(_) => "forbidden".to_owned(),
            UpstreamError::Garbage(_) => "garbage".to_owned(),
        };
        assert_eq!(shown, expected, "{action}: {error:?}");
    }
    assert!(matches!(world.client.get(&cluster("nobody")).await, Err(UpstreamError::NotFound(_))));
    // After a 429 the client sends no call until the Retry-After has passed. The next call is sent.
    world.fault(json!({"method": "GET", "cluster": "c"}), json!({"status": 429, "retryAfter": 1})).await;
    assert!(matches!(world.client.get(&id).await, Err(UpstreamError::Throttled { .. })));
    let Err(UpstreamError::Throttled { after: wait, .. }) = world.client.get(&id).await else { panic!() };
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    tokio::time::sleep(wait).await;
    assert!(world.client.get(&id).await.is_ok());
}

#[tokio::test]
async fn refused_upgrades_have_the_error_of_aks() {
    let world = World::new(config(0.2)).await;
    let id = world.add("c", "eastus").await;
    let to = |version: &str| UpgradeAction::ControlPlane { kubernetes_version: version.to_owned() };
    let seen = world.read(&id).await;
    let two = world.client.begin(&id, &seen, &to("1.34.0"), &|| DEADLINE).await;
    assert!(matches!(two, Err(UpstreamError::Refused(_))), "{two:?}");
    world.control("PATCH", "clusters/c", json!({"tags": {"a": "b"}})).await;
    let stale = world.client.begin(&id, &seen, &to("1.33.2"), &|| DEADLINE).await;
    assert!(matches!(stale, Err(UpstreamError::Changed(_))), "{stale:?}");
    world.control("PATCH", "clusters/c", json!({"outsideOperation": {"seconds": 600}})).await;
    let seen = world.read(&id).await;
    let busy = world.client.begin(&id, &seen, &to("1.33.2"), &|| DEADLINE).await;
    assert!(matches!(busy, Err(UpstreamError::Busy(_))), "{busy:?}");
    let stopped = world.add("stopped", "eastus").await;
    world.control("PATCH", "clusters/stopped", json!({"powerState": "Stopped"})).await;
    let seen = world.read(&stopped).await;
    assert!(seen.cluster.stopped);
    let refused = world.client.begin(&stopped, &seen, &to("1.33.2"), &|| DEADLINE).await;
    assert!(matches!(refused, Err(UpstreamError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn hundreds_in_flight_in_one_subscription_stay_within_the_limits() {
    const MANY: usize = 300;
    let world = World::new(Config { clusters: MANY, enforce_throttles: true, ..config(1.0) }).await;
    let all = world.client.list(SUBSCRIPTION).await.unwrap();
    assert!(all.len() > 200, "{}", all.len());
    let wanted = goal(ControlPlaneOnly, Some("1.33.2"), ImageGoal::Latest);
    let outcomes = join_all(all.iter().map(|cluster| {
        let (id, wanted, world) = (cluster.id.parse().unwrap(), &wanted, &world);
        async move { world.upgrade(&id, wanted, &mut 0).await }
    }))
    .await;
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
    }
    assert_eq!(world.control("GET", "state", json!(null)).await["throttled"], 0);
    assert!(world.client.left(Class::List, SUBSCRIPTION) > 0.8, "lists are shared");
}

/// Forwards connections. The first bytes of each of the first connections are delayed.
async fn late(upstream: &str, first: usize, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let upstream = upstream.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        let mut accepted = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            accepted += 1;
            let (upstream, delay) = (upstream.clone(), if accepted <= first { delay } else { Duration::ZERO });
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let mut server = tokio::net::TcpStream::connect(upstream).await.unwrap();
                _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    base
}

#[tokio::test]
async fn delayed_calls_stay_within_the_limits() {
    let world = World::new(Config { clusters: 1, enforce_throttles: true, ..config(1.0) }).await;
    let client = client(&late(&world.base, 60, Duration::from_millis(800)).await);
    // As many calls as AKS accepts at once, and some more that must wait.
    let calls = join_all((0..62).map(|n| {
        let client = &client;
        async move {
            loop {
                match client.pool_upgrade_profile(&cluster("aks-1"), &format!("p{n}")).await {
                    Err(UpstreamError::Throttled { after, .. }) => tokio::time::sleep(after).await,
                    other => return other,
                }
            }
        }
    }));
    let refused = |answer: &Result<_, _>| !matches!(answer, Err(UpstreamError::NotFound(_)));
    assert!(!calls.await.iter().any(refused), "there are no such pools");
    assert_eq!(world.control("GET", "state", json!(null)).await["throttled"], 0);
}

/// Responds to every request with these bytes, and counts the requests.
async fn canned(answer: String) -> (String, Arc<std::sync::atomic::AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let served = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            served.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut request = [0; 16 << 10];
            _ = stream.read(&mut request).await;
            _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (base, count)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn the_token_is_sent_to_no_other_host() {
    let (elsewhere, visits) = canned(http("200 OK", "", "{}")).await;
    let (base, _) = canned(http("307 Temporary Redirect", &format!("location: {elsewhere}/x\r\n"), "")).await;
    assert!(matches!(client(&base).get(&cluster("c")).await, Err(UpstreamError::Garbage(_))));
    assert_eq!(client(&base).poll(SUBSCRIPTION, &format!("{elsewhere}/operations/1")).await, Ok(Progress::Gone));
    let page = json!({"value": [], "nextLink": format!("{elsewhere}/page2")}).to_string();
    let (base, _) = canned(http("200 OK", "", &page)).await;
    assert!(matches!(client(&base).list(SUBSCRIPTION).await, Err(UpstreamError::Garbage(_))));
    assert_eq!(visits.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn any_maintenance_configuration_can_be_read() {
    let world = World::new(Config { clusters: 1, ..config(0.1) }).await;
    let list = async || world.client.maintenance_configurations(&cluster("aks-1"), Freshness::Required).await;
    assert_eq!(list().await.unwrap(), []);
    let window = json!({"schedule": {"weekly": {"intervalWeeks": 3, "dayOfWeek": "Friday"}}, "durationHours": 8,
        "utcOffset": "+05:30", "startDate": "2123-01-01", "startTime": "00:00"});
    for (name, properties) in
        [("aksManagedAutoUpgradeSchedule", json!({"maintenanceWindow": window})), ("odd", json!(["x"]))]
    {
        world.control("PUT", &format!("clusters/aks-1/maintenance/{name}"), properties).await;
    }
    let read: Vec<_> = list().await.unwrap().into_iter().map(|one| (one.name, one.window.is_ok())).collect();
    assert_eq!(read, [("aksManagedAutoUpgradeSchedule".to_owned(), true), ("odd".to_owned(), false)]);
    let missing = world.client.maintenance_configurations(&cluster("none"), Freshness::Required).await;
    assert!(matches!(missing, Err(UpstreamError::NotFound(_))), "{missing:?}");
    // A body that is not a list is an error. Read as an empty list, it would permit every upgrade.
    for body in ["", "{}", "null", r#"{"value": null}"#, r#"{"value": {}}"#, "<html>"] {
        let client = client(&canned(http("200 OK", "", body)).await.0);
        let answer = client.maintenance_configurations(&cluster("c"), Freshness::Required).await;
        assert!(matches!(answer, Err(UpstreamError::Garbage(_))), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn members_waiting_for_a_window_leave_budget_for_members_that_begin() {
    let world = World::new(Config { clusters: 2, ..config(0.1) }).await;
    let windows = MaintenanceCache::new(world.client.clone(), Duration::from_secs(60));
    let reads = async || world.control("GET", "state", json!(null)).await["maintenanceReads"].as_u64().unwrap();
    let (one, two) = (cluster("aks-1"), cluster("aks-2"));
    assert_eq!((windows.known(&one), windows.to_spare(SUBSCRIPTION)), (None, 30));
    // Concurrent reads of one cluster are one call.
    let together = join_all((0..20).map(|_| windows.of(&one, Freshness::Relaxed))).await;
    assert!(together.iter().all(Result::is_ok) && windows.known(&one).is_some());
    assert_eq!(reads().await, 1);
    // After a second the cached answer is no longer fresh.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    windows.of(&one, Freshness::Relaxed).await.unwrap();
    assert_eq!(reads().await, 2);

    let throttled = json!({"status": 429, "code": "Throttled", "retryAfter": 600});
    world.fault(json!({"path": "maintenanceConfigurations"}), throttled).await;
    let refused = windows.of(&two, Freshness::Required).await.unwrap_err();
    assert!(refused.is_throttled() && windows.to_spare(SUBSCRIPTION) == 0, "{refused}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(windows.of(&one, Freshness::Relaxed).await.is_ok(), "what was known will do");
    let refused = windows.of(&two, Freshness::Required).await.unwrap_err();
    let Verdict::WaitForBudget { after } = refused.verdict() else { panic!("{refused}") };
    assert!(after > Duration::from_secs(200), "{after:?}");
    assert_eq!(reads().await, 2, "AKS was not asked again");
}

#[tokio::test]
async fn unusual_responses_are_handled() {
    let get = async |answer| client(&canned(answer).await.0).get(&cluster("c")).await;
    for body in ["", "{}", "[]", "null", r#"{"location": 5}"#, "<html>"] {
        assert!(matches!(get(http("200 OK", "", body)).await, Err(UpstreamError::Garbage(_))), "{body}");
    }
    let huge = format!(r#"{{"location":"x","padding":"{}"}}"#, "x".repeat(5 << 20));
    let answer = get(http("200 OK", "", &huge)).await;
    assert!(matches!(answer, Err(UpstreamError::Garbage(_))), "{:?}", answer.map(|seen| seen.cluster));
    // The error page of a gateway counts by its status.
    let Err(UpstreamError::Transient { after, detail }) =
        get(http("502 Bad Gateway", "retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n", "<html>")).await
    else {
        panic!()
    };
    assert_eq!((after, detail.code.as_ref()), (Some(Duration::ZERO), "Http502"));
    assert!(matches!(client("http://127.0.0.1:1").get(&cluster("c")).await, Err(UpstreamError::Unavailable { .. })));
    assert!(ArmClient::new(&Settings::new("ftp://x"), Arc::new(StaticToken::new("t".to_owned().into()))).is_err());
}
