//! The emulator over real connections: what a client sees on the wire, and the control API.

// The helpers below are test code as well, which clippy's allowance for tests does not see.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use azure_emulator::{Config, Emulator};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const FIRST: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
const RG1: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService/managedClusters";
const VERSION: &str = "api-version=2026-08-01";
const DEADLINE: Duration = Duration::from_secs(20);

struct Served {
    address: String,
    client: Client,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start(config: Config) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Emulator::new(config).serve(listener, stop.clone()));
        Self { address, client: Client::new(), stop, task }
    }

    async fn request(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<reqwest::Response> {
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        match body {
            Some(body) => request.json(&body).send().await,
            None => request.send().await,
        }
    }

    async fn json(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let response = self.request(method, path, body).await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.json(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn cluster(&self, name: &str) -> Value {
        self.get(&format!("{RG1}/{name}?{VERSION}")).await
    }

    async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.json(method, &format!("/emulator/{path}"), Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    async fn fault(&self, fault: Value) {
        self.control(Method::POST, "faults", fault).await;
    }

    async fn raise(&self, name: &str) -> reqwest::Result<reqwest::Response> {
        let mut body = self.cluster(name).await;
        body["properties"]["kubernetesVersion"] = "1.33.2".into();
        self.request(Method::PUT, &format!("{RG1}/{name}?{VERSION}"), Some(body)).await
    }

    async fn log(&self) -> Vec<Value> {
        self.get("/emulator/log").await["value"].as_array().unwrap().clone()
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_upgrade_can_be_followed_by_its_url() {
    let served = Served::start(Config { upgrade_seconds: 0.2, ..Config::default() }).await;
    let put = served.raise("aks-1").await.unwrap();
    assert_eq!(put.status(), 200);
    let headers = put.headers().clone();
    let follow = headers["azure-asyncoperation"].to_str().unwrap().to_owned();
    assert!(follow.starts_with(&format!(
        "http://{}{FIRST}/providers/Microsoft.ContainerService/locations/eastus/operations/",
        served.address
    )));
    assert!(!headers.contains_key("retry-after"));
    assert!(
        headers.contains_key("x-ms-request-id") && headers.contains_key("x-ms-ratelimit-remaining-subscription-writes")
    );
    until("the operation succeeds", || async {
        let body: Value = served.client.get(&follow).send().await.unwrap().json().await.unwrap();
        body["status"] == "Succeeded" && body["endTime"].is_string()
    })
    .await;
    assert_eq!(served.cluster("aks-1").await["properties"]["provisioningState"], "Succeeded");
    let log = served.log().await;
    assert_eq!((&log[0]["sequence"], &log[0]["operation"]["status"]), (&json!(1), &json!("Succeeded")));
    assert!(follow.contains(log[0]["operation"]["id"].as_str().unwrap()));
    assert!(served.get("/emulator/log?after=1").await["value"].as_array().unwrap().is_empty());
}

/// Returns what the server sends over a bare connection until it closes the connection.
async fn raw(served: &Served, method: &str, path: &str, body: &str) -> Vec<u8> {
    let mut connection = TcpStream::connect(&served.address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: emulator\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset counts as closed, too.
    let _ =
        tokio::time::timeout(DEADLINE, connection.read_to_end(&mut answer)).await.expect("the connection stays open");
    answer
}

#[tokio::test]
async fn a_cut_connection_sends_no_byte() {
    let served = Served::start(Config { upgrade_seconds: 3600.0, ..Config::default() }).await;
    let url = |name: &str| format!("{RG1}/{name}?{VERSION}");
    for (name, cut) in [("aks-1", "before"), ("aks-2", "after")] {
        served.fault(json!({"match": {"cluster": name, "method": "put"}, "action": {"cut": cut}})).await;
        let mut body = served.cluster(name).await;
        body["properties"]["kubernetesVersion"] = "1.33.2".into();
        assert_eq!(raw(&served, "PUT", &url(name), &body.to_string()).await, b"", "{cut}");
    }
    assert_eq!(served.cluster("aks-1").await["properties"]["provisioningState"], "Succeeded");
    assert_eq!(served.cluster("aks-2").await["properties"]["provisioningState"], "Upgrading");
    let log = served.log().await;
    let told: Vec<_> = log
        .iter()
        .map(|entry| (entry["cluster"].as_str().unwrap(), &entry["status"], entry["applied"].as_bool()))
        .collect();
    assert_eq!(told, [("aks-1", &Value::Null, Some(false)), ("aks-2", &Value::Null, Some(true))]);
    assert_eq!(log[1]["step"], "ControlPlane");

    served.fault(json!({"match": {"path": "/AKS-3"}, "action": {"timeout": 0.05}})).await;
    assert_eq!(raw(&served, "GET", &url("aks-3"), "").await, b"");
    assert_eq!(served.get("/emulator/faults").await["value"], json!([]), "each is used up");
    served.fault(json!({"match": {"cluster": "aks-3"}, "action": {"cut": "before"}})).await;
    assert!(served.request(Method::GET, &url("aks-3"), None).await.is_err());
    served.cluster("aks-3").await;
}

#[tokio::test]
async fn an_injected_response_is_sent_the_requested_number_of_times() {
    let served = Served::start(Config { upgrade_seconds: 0.05, ..Config::default() }).await;
    served.fault(json!({"match": {"cluster": "aks-1"}, "times": 2, "action": {"status": 429, "retryAfter": 7}})).await;
    for _ in 0..2 {
        let refused = served.request(Method::GET, &format!("{RG1}/aks-1?{VERSION}"), None).await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "7"));
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["error"]["code"], "Throttled");
    }
    served.cluster("aks-1").await;
    served.fault(json!({"match": {"method": "PUT"}, "action": {"status": 409, "code": "QuotaExceeded", "message": "no cores"}})).await;
    let refused = served.raise("aks-1").await.unwrap();
    assert_eq!(
        refused.json::<Value>().await.unwrap()["error"],
        json!({"code": "QuotaExceeded", "message": "no cores"})
    );
    served.fault(json!({"action": {"garbage": true}})).await;
    let garbage = served.request(Method::GET, &format!("{RG1}/aks-1?{VERSION}"), None).await.unwrap();
    assert_eq!(garbage.status(), 200);
    assert!(garbage.json::<Value>().await.is_err());
    served.fault(json!({"match": {"cluster": "aks-2"}, "action": {"delay": 0.2}})).await;
    let start = Instant::now();
    served.cluster("aks-2").await;
    assert!(start.elapsed() >= Duration::from_millis(200));
    served.fault(json!({"match": {"cluster": "aks-3"}, "action": {"failOperation": {"code": "UpgradeFailed", "message": "no"}}})).await;
    assert_eq!(served.raise("aks-3").await.unwrap().status(), 200, "reading does not use it up");
    until("aks-3 fails", || async { served.cluster("aks-3").await["properties"]["provisioningState"] == "Failed" })
        .await;
    let log = served.log().await;
    assert_eq!(log.last().unwrap()["operation"]["status"], "Failed");
    for wrong in [
        json!({"action": {"cut": "sideways"}}),
        json!({"action": {}}),
        json!({"match": {"verb": "PUT"}, "action": {"cut": "after"}}),
    ] {
        let (status, body) = served.json(Method::POST, "/emulator/faults", Some(wrong.clone())).await;
        assert!(status.is_client_error(), "{wrong}: {body}");
    }
    served.fault(json!({"times": 5, "action": {"garbage": true}})).await;
    assert_eq!(served.json(Method::DELETE, "/emulator/faults", None).await.0, StatusCode::OK);
    served.cluster("aks-1").await;
}

#[tokio::test]
async fn a_hanging_operation_is_released_and_faults_match_polls_by_cluster() {
    let served = Served::start(Config { upgrade_seconds: 0.0, ..Config::default() }).await;
    served.fault(json!({"match": {"cluster": "aks-4"}, "action": {"hangOperation": true}})).await;
    let put = served.raise("aks-4").await.unwrap();
    let follow = put.headers()["azure-asyncoperation"].to_str().unwrap().to_owned();
    assert_eq!(served.get("/emulator/state").await["operationsHanging"], 1);
    served.fault(json!({"match": {"cluster": "aks-4", "path": "/operations/"}, "action": {"status": 500}})).await;
    assert_eq!(served.client.get(&follow).send().await.unwrap().status(), 500);
    let body: Value = served.client.get(&follow).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["status"], "InProgress");
    let released = served.json(Method::POST, "/emulator/operations/release?cluster=aks-4", None).await.1;
    assert_eq!(released, json!({"released": 1}));
    let body: Value = served.client.get(&follow).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["status"], "Succeeded");
}

#[tokio::test]
async fn lists_are_paged() {
    let served = Served::start(Config { clusters: 1000, ..Config::default() }).await;
    let mut next =
        format!("http://{}{FIRST}/providers/Microsoft.ContainerService/managedClusters?{VERSION}", served.address);
    let mut names = Vec::new();
    let mut pages = 0;
    loop {
        let page: Value = served.client.get(&next).send().await.unwrap().json().await.unwrap();
        names
            .extend(page["value"].as_array().unwrap().iter().map(|cluster| cluster["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page.get("nextLink") {
            Some(link) => next = link.as_str().unwrap().to_owned(),
            None => break,
        }
    }
    let in_first = (1..=1000).filter(|n| *n <= 12 || n % 4 != 3).count();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), pages), (in_first, in_first.div_ceil(200)));
    let page = served.get(&format!("{RG1}?{VERSION}&%24top=2")).await;
    assert_eq!(page["value"].as_array().unwrap().len(), 2);
    assert!(page["nextLink"].is_string());
    let second = "/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/RG2/providers/Microsoft.ContainerService/managedClusters";
    let page = served.get(&format!("{second}?api%2Dversion=2026-08-01")).await;
    let names: Vec<_> =
        page["value"].as_array().unwrap().iter().map(|cluster| cluster["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["aks-sub2-1", "aks-sub2-2"]);
    assert!(page.get("nextLink").is_none());
    let (status, _) = served.json(Method::GET, &format!("{RG1}?{VERSION}&$skiptoken=bogus"), None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_control_api_changes_the_world() {
    let served = Served::start(Config { upgrade_seconds: 3600.0, ..Config::default() }).await;
    let added = served
        .control(
            Method::POST,
            "clusters",
            json!({
                "name": "odd", "resourceGroup": "Elsewhere", "location": "UK South", "tenantId": "22222222-2222-2222-2222-222222222222",
                "kubernetesVersion": "1.31.9", "provisioningState": "Failed", "powerState": "Stopped", "nodeProvisioningMode": "Auto",
                "agentPools": [{"name": "sys", "mode": "System", "nodeImageVersion": "AKSUbuntu-2204gen2containerd-202401.01.0"}],
            }),
        )
        .await;
    let url = format!("{FIRST}/resourcegroups/elsewhere/providers/microsoft.containerservice/managedclusters/ODD");
    let odd = served.get(&format!("{url}?{VERSION}")).await;
    assert_eq!(odd, added);
    assert_eq!(odd["identity"]["tenantId"], "22222222-2222-2222-2222-222222222222");
    assert_eq!((&odd["location"], &odd["properties"]["powerState"]["code"]), (&json!("uksouth"), &json!("Stopped")));
    assert_eq!(odd["properties"]["nodeProvisioningProfile"]["mode"], "Auto");
    let (status, _) = served
        .json(Method::POST, "/emulator/clusters", Some(json!({"name": "ODD", "resourceGroup": "elsewhere"})))
        .await;
    assert_eq!(status, StatusCode::CONFLICT);

    let changed = served
        .control(
            Method::PATCH,
            "clusters/odd",
            json!({"powerState": "Running", "provisioningState": "Succeeded", "upgradeSeconds": 0.01}),
        )
        .await;
    assert_eq!(changed["properties"]["provisioningState"], "Succeeded");
    let stop = served.request(Method::POST, &format!("{url}/stop?{VERSION}"), None).await.unwrap();
    assert_eq!(stop.status(), 202);
    until("odd stops at its own pace", || async {
        served.get(&format!("{url}?{VERSION}")).await["properties"]["powerState"]["code"] == "Stopped"
    })
    .await;

    served.control(Method::PATCH, "clusters/aks-5", json!({"outsideOperation": {"seconds": 600}})).await;
    assert_eq!(served.raise("aks-5").await.unwrap().status(), 409);

    let newest =
        || async { served.get(&format!("{RG1}/aks-3/agentPools/nodepool1/upgradeProfiles/default?{VERSION}")).await };
    assert_eq!(newest().await["properties"]["latestNodeImageVersion"], "AKSUbuntu-2204gen2containerd-202509.11.0");
    let image = json!({"region": "Sweden Central", "family": "AKSUbuntu-2204gen2containerd", "version": "202511.1.0"});
    served.control(Method::POST, "images", image.clone()).await;
    assert_eq!(newest().await["properties"]["latestNodeImageVersion"], "AKSUbuntu-2204gen2containerd-202511.1.0");
    served.control(Method::DELETE, "images", image).await;
    assert_eq!(newest().await["properties"]["latestNodeImageVersion"], "AKSUbuntu-2204gen2containerd-202509.11.0");
    let versions =
        format!("{FIRST}/providers/Microsoft.ContainerService/locations/swedencentral/kubernetesVersions?{VERSION}");
    served.control(Method::POST, "versions", json!({"region": "swedencentral", "version": "1.34.1"})).await;
    assert!(served.get(&versions).await.to_string().contains("1.34.1"));
    served.control(Method::DELETE, "versions", json!({"region": "swedencentral", "version": "1.34.1"})).await;
    assert!(!served.get(&versions).await.to_string().contains("1.34.1"));

    // A window that AKS would refuse.
    let windows = format!("{RG1}/aks-3/maintenanceConfigurations?{VERSION}");
    let garbage = json!({"maintenanceWindow": {"schedule": {"hourly": 7}}});
    served.control(Method::PUT, "clusters/aks-3/maintenance/aksManagedAutoUpgradeSchedule", garbage.clone()).await;
    let list = served.get(&windows).await;
    assert_eq!(
        (&list["value"][0]["name"], &list["value"][0]["properties"]),
        (&json!("aksManagedAutoUpgradeSchedule"), &garbage)
    );
    let path = "/emulator/clusters/aks-3/maintenance/AKSManagedAutoUpgradeSchedule";
    assert_eq!(served.json(Method::DELETE, path, None).await.0, StatusCode::OK);
    assert_eq!(served.json(Method::DELETE, path, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(served.get(&windows).await, json!({"value": []}));
    assert_eq!(served.get("/emulator/state").await["maintenanceReads"], 2);

    let (status, body) = served.json(Method::GET, "/emulator/unheard-of", None).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &json!("NotFound")));
    assert_eq!(served.json(Method::DELETE, "/emulator/clusters/odd", None).await.0, StatusCode::OK);
    assert_eq!(served.json(Method::DELETE, "/emulator/clusters/odd", None).await.0, StatusCode::NOT_FOUND);
    served.control(Method::PATCH, "settings", json!({"retryAfterSeconds": 1})).await;
    assert_eq!(served.raise("aks-1").await.unwrap().headers()["retry-after"], "1");
    assert_eq!(served.json(Method::POST, "/emulator/reset", None).await.0, StatusCode::OK);
    assert_eq!(served.get("/emulator/state").await["clusterStates"], json!({"Succeeded": 14}));
    assert!(served.log().await.is_empty());
}

#[tokio::test]
async fn tokens_are_required_when_configured_and_name_the_caller() {
    let served = Served::start(Config { require_token: true, ..Config::default() }).await;
    let refused = served.request(Method::GET, &format!("{RG1}/aks-1?{VERSION}"), None).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer authorization_uri="));
    let stop = served
        .client
        .post(format!("http://{}{RG1}/aks-1/stop?{VERSION}", served.address))
        .bearer_auth("0123456789")
        .send()
        .await
        .unwrap();
    assert_eq!(stop.status(), 202);
    assert_eq!(served.log().await[0]["caller"], "01234567");
}

#[tokio::test]
async fn serving_ends_on_stop_even_with_a_request_in_progress() {
    let served = Served::start(Config::default()).await;
    served.fault(json!({"match": {"cluster": "aks-1"}, "action": {"timeout": 3600}})).await;
    let url = format!("http://{}{RG1}/aks-1?{VERSION}", served.address);
    let hanging = tokio::spawn(served.client.get(url).send());
    until("the fault is met", || async { served.get("/emulator/faults").await["value"] == json!([]) }).await;
    served.stop.cancel();
    tokio::time::timeout(DEADLINE, served.task).await.expect("serve goes on").unwrap().unwrap();
    hanging.abort();
}
