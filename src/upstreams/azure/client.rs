//! [`ManagedClusters`] over ARM's HTTP.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{Method, StatusCode, header};
use jiff::Timestamp;
use reqwest::{Certificate, Client, RequestBuilder, Response, Url};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Accepted, Freshness, ManagedClusters, PoolUpgradeProfile, Progress, Seen, TimeLeft, TokenSource, UpstreamError,
    budget::{Budgets, Class, Grant},
    error::{is_in_progress, is_policy},
    wire,
};
use crate::{
    arm::{ErrorDetail, ResourceId},
    model::{
        maintenance::MaintenanceConfiguration,
        managed_cluster::{ManagedCluster, NodePoolSnapshot, OfferedVersion, UpgradeAction},
    },
    transport,
};

/// API version of `Microsoft.ContainerService/managedClusters` that is spoken.
pub const API_VERSION: &str = "2026-08-01";

/// Names the snapshot whose image `upgradeNodeImageVersion` brings (Azure CLI, `az aks nodepool upgrade --node-image-only --snapshot-id`).
const SNAPSHOT_HEADER: &str = "AKSSnapshotId";

const CONTENT_LIMIT: usize = 4 << 20;
const LIST_LIMIT: usize = 64 << 20;
/// A call that has less time than this is not made.
const SHORTEST_CALL: Duration = Duration::from_millis(50);
/// Longest time that an answer of AKS keeps the service from calling again, whatever AKS says.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// When to call again after a 429 that does not say when.
const BUDGET_REFILL: Duration = Duration::from_secs(1);
/// More pages than any subscription has: an upstream that pages for ever is broken.
const MOST_PAGES: usize = 1000;

/// How AKS is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// ARM's base URL, such as `https://management.azure.com`.
    pub endpoint: String,
    /// Longest time for one request, its body included.
    pub timeout: Duration,
    /// Keep to AKS's documented limits by counting, instead of by 429s alone.
    pub paced: bool,
    /// Authorities to trust beside the system's.
    pub ca: Vec<Certificate>,
}

impl Settings {
    /// This endpoint, 30 seconds, paced.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), timeout: Duration::from_secs(30), paced: true, ca: Vec::new() }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is not an `http` or `https` URL.
    #[error("'{0}' is not the URL of an ARM endpoint")]
    Endpoint(String),
    /// The HTTP client could not be set up.
    #[error("the HTTP client for ARM could not be set up")]
    Http(#[from] reqwest::Error),
}

/// The client of AKS through ARM. Follows no redirects, and sends its token to the configured endpoint only.
pub struct ArmClient {
    http: Client,
    endpoint: Url,
    tokens: Arc<dyn TokenSource>,
    budgets: Mutex<Budgets>,
    paced: bool,
    timeout: Duration,
}

impl ArmClient {
    /// A client. A TLS provider must have been installed before.
    ///
    /// # Errors
    /// When the endpoint is no URL, or the HTTP client cannot be set up.
    pub fn new(settings: &Settings, tokens: Arc<dyn TokenSource>) -> Result<Self, ClientError> {
        let endpoint = Url::parse(&settings.endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| ClientError::Endpoint(settings.endpoint.clone()))?;
        let http = transport::client(&settings.ca).build()?;
        Ok(Self { http, endpoint, tokens, budgets: Mutex::default(), paced: settings.paced, timeout: settings.timeout })
    }

    fn with_budgets<T>(&self, work: impl FnOnce(&mut Budgets) -> T) -> T {
        work(&mut self.budgets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `{endpoint}{id}/{more}?api-version=…`, every segment encoded.
    fn url(&self, id: &ResourceId, more: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        let text = id.to_string();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(text.split('/').filter(|part| !part.is_empty())).extend(more);
        }
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        url
    }

    /// A URL from an answer, if it leads back to where the answer came from.
    fn own(&self, url: &str) -> Option<Url> {
        Url::parse(url).ok().filter(|url| url.origin() == self.endpoint.origin())
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        budget: Budget<'_>,
        change: impl FnOnce(RequestBuilder) -> RequestBuilder + Send,
        time_left: TimeLeft<'_>,
    ) -> Result<Response, UpstreamError> {
        let call = budget.queues.then(|| call_name(&method, &url));
        let mut spent = self.spend(budget, call.as_deref())?;
        let token = self.tokens.token().await.map_err(UpstreamError::before_sending)?;
        let request = self
            .http
            .request(method, url)
            .bearer_auth(token.expose_secret())
            .header("x-ms-client-request-id", uuid::Uuid::new_v4().to_string());
        let request = change(request);
        // Nothing may be awaited between this check and the sending.
        let time_left = time_left();
        if time_left < SHORTEST_CALL {
            return Err(lease_ends());
        }
        let answer = request.timeout(time_left.min(self.timeout)).send().await;
        let response = answer.map_err(|error| broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            self.tokens.refused(&token);
        }
        let mut after = retry_after(&response);
        if status == StatusCode::TOO_MANY_REQUESTS {
            after = Some(spent.refused(call.as_deref(), after.unwrap_or(BUDGET_REFILL)));
        }
        drop(spent);
        let body = read(response, CONTENT_LIMIT).await.unwrap_or_default();
        Err(refusal(status, after, &body))
    }

    /// Consumes one call from a budget. The call is in flight until the answer is dropped.
    fn spend<'a>(&'a self, budget: Budget<'a>, call: Option<&str>) -> Result<Spent<'a>, UpstreamError> {
        let Budget { class, key, .. } = budget;
        let grant = if self.paced {
            let taken = self.with_budgets(|budgets| budgets.take(class, key, call, Instant::now()));
            Some(taken.map_err(limit_reached)?)
        } else {
            None
        };
        Ok(Spent { client: self, class, key, grant })
    }

    async fn get_json<T: DeserializeOwned>(
        &self,
        url: Url,
        budget: Budget<'_>,
        limit: usize,
    ) -> Result<T, UpstreamError> {
        let response = self.send(Method::GET, url, budget, |request| request, &unlimited).await?;
        parse(&read(response, limit).await?)
    }

    /// All pages of a list.
    async fn pages<T: DeserializeOwned>(
        &self,
        mut url: Url,
        budget: Budget<'_>,
        limit: usize,
    ) -> Result<Vec<T>, UpstreamError> {
        let mut all = Vec::new();
        for _ in 0..MOST_PAGES {
            let page: wire::Page<T> = self.get_json(url, budget, limit).await?;
            all.extend(page.value);
            match page.next_link.filter(|link| !link.is_empty()) {
                None => return Ok(all),
                Some(link) => {
                    url = self
                        .own(&link)
                        .ok_or_else(|| UpstreamError::Garbage("a nextLink leads to another host".to_owned()))?;
                }
            }
        }
        Err(UpstreamError::Garbage("a list does not end".to_owned()))
    }

    async fn put(
        &self,
        id: &ResourceId,
        class: Class,
        etag: Option<&str>,
        body: &Value,
        time_left: TimeLeft<'_>,
    ) -> Result<Accepted, UpstreamError> {
        let change = |request: RequestBuilder| match etag {
            Some(etag) => request.header(header::IF_MATCH, etag).json(body),
            None => request.json(body),
        };
        let budget = Budget::queued(class, id.key());
        let response = self.send(Method::PUT, self.url(id, &[]), budget, change, time_left).await?;
        self.accepted(response).await
    }

    /// The budget and the request of the call that begins an action.
    fn call<'a>(&self, cluster: &'a ResourceId, action: &UpgradeAction) -> (Class, Cow<'a, str>, Method, Url) {
        match action {
            UpgradeAction::ControlPlane { .. } | UpgradeAction::Cluster { .. } => {
                (Class::PutCluster, Cow::Borrowed(cluster.key()), Method::PUT, self.url(cluster, &[]))
            }
            UpgradeAction::PoolVersion { pool, .. } | UpgradeAction::ChosenImage { pool, snapshot: None, .. } => {
                let id = cluster.child("agentPools", pool);
                (Class::PutPool, Cow::Owned(id.key().to_owned()), Method::PUT, self.url(&id, &[]))
            }
            UpgradeAction::NewestImage { pool, .. } | UpgradeAction::ChosenImage { pool, snapshot: Some(_), .. } => {
                let url = self.url(&cluster.child("agentPools", pool), &["upgradeNodeImageVersion"]);
                (Class::Other, Cow::Borrowed(cluster.subscription()), Method::POST, url)
            }
        }
    }

    /// The operation is what counts: the body repeats the resource, and is read only to tell an answer of AKS's that
    /// names no operation from one that is none.
    async fn accepted(&self, response: Response) -> Result<Accepted, UpstreamError> {
        let retry_after = retry_after(&response);
        let Some(named) = response.headers().get("azure-asyncoperation").and_then(|value| value.to_str().ok()) else {
            let body: Value = parse(&read(response, CONTENT_LIMIT).await?)?;
            return match body.get("id") {
                Some(_) => Ok(Accepted { operation_url: None, operation_id: None, retry_after }),
                None => Err(UpstreamError::Garbage("neither an operation nor a resource".to_owned())),
            };
        };
        let url = self.own(named);
        if url.is_none() {
            tracing::warn!("AKS named an operation on another host; its state is read off the cluster");
        }
        let operation_id = url.as_ref().and_then(|url| url.path_segments()?.next_back().map(str::to_owned));
        Ok(Accepted {
            operation_url: url.map(String::from),
            operation_id: operation_id.filter(|id| !id.is_empty()),
            retry_after,
        })
    }
}

/// A call in flight, as its budget counts it.
struct Spent<'a> {
    client: &'a ArmClient,
    class: Class,
    key: &'a str,
    grant: Option<Grant>,
}

impl Spent<'_> {
    /// AKS answered 429. Returns how long to wait before calling again.
    fn refused(&mut self, call: Option<&str>, retry_after: Duration) -> Duration {
        let Some(grant) = self.grant.take() else { return retry_after };
        let (class, key) = (self.class, self.key);
        self.client.with_budgets(|budgets| budgets.exhausted(class, key, call, (grant, retry_after), Instant::now()))
    }
}

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        if let Some(grant) = self.grant {
            self.client.with_budgets(|budgets| budgets.answered(self.class, self.key, grant, Instant::now()));
        }
    }
}

/// What a call is counted by, and whether it queues for its token. A call does not queue if its caller has another way to
/// learn the same: it would not come back, and its token would be kept for nothing.
#[derive(Debug, Clone, Copy)]
struct Budget<'a> {
    class: Class,
    key: &'a str,
    queues: bool,
}

impl<'a> Budget<'a> {
    fn queued(class: Class, key: &'a str) -> Self {
        Self { class, key, queues: true }
    }

    fn unqueued(class: Class, key: &'a str) -> Self {
        Self { class, key, queues: false }
    }
}

/// Names a call, so that its place in a queue is found again.
fn call_name(method: &Method, url: &Url) -> String {
    format!("{method} {}", url.path())
}

fn limit_reached(after: Duration) -> UpstreamError {
    let detail = ErrorDetail::new("TooManyRequests", "AKS's documented limit for such calls is used up.");
    UpstreamError::Throttled { after, detail }
}

fn lease_ends() -> UpstreamError {
    let message = "The lease of the job ends, and another worker may have taken it over: AKS was not called.";
    UpstreamError::Unavailable { after: None, detail: ErrorDetail::new("LeaseEnds", message) }
}

/// For calls that change nothing.
fn unlimited() -> Duration {
    Duration::MAX
}

#[async_trait]
impl ManagedClusters for ArmClient {
    async fn get(&self, cluster: &ResourceId) -> Result<Seen, UpstreamError> {
        let raw: Value = self
            .get_json(self.url(cluster, &[]), Budget::queued(Class::GetCluster, cluster.key()), CONTENT_LIMIT)
            .await?;
        let view: ManagedCluster = serde::Deserialize::deserialize(&raw).map_err(|error| garbage(&error))?;
        if view.location.is_empty() {
            return Err(UpstreamError::Garbage("the answer is not a managed cluster".to_owned()));
        }
        Ok(Seen { cluster: view, raw })
    }

    async fn prepare(&self, cluster: &ResourceId, actions: &[UpgradeAction]) -> Result<(), UpstreamError> {
        if self.paced {
            let calls: Vec<_> = actions.iter().map(|action| self.call(cluster, action)).collect();
            let now = Instant::now();
            let wait = self.with_budgets(|budgets| {
                let names: Vec<_> = calls.iter().map(|(.., method, url)| call_name(method, url)).collect();
                let places = || calls.iter().zip(&names).map(|((class, key, ..), name)| (*class, key, name));
                let waits = places().map(|(class, key, name)| budgets.reserve(class, key, name, now));
                let wait = waits.max().unwrap_or_default();
                places().for_each(|(class, key, name)| budgets.keep(class, key, name, wait, now));
                wait
            });
            if !wait.is_zero() {
                return Err(limit_reached(wait));
            }
        }
        self.tokens.token().await.map(drop).map_err(UpstreamError::before_sending)
    }

    async fn begin(
        &self,
        cluster: &ResourceId,
        seen: &Seen,
        action: &UpgradeAction,
        time_left: TimeLeft<'_>,
    ) -> Result<Accepted, UpstreamError> {
        let etag = |pool: &str| seen.cluster.pool(pool).and_then(|pool| pool.etag.as_deref());
        match action {
            UpgradeAction::ControlPlane { kubernetes_version } => {
                let mut body = seen.raw.clone();
                set(&mut body, "/properties", "kubernetesVersion", json!(kubernetes_version));
                self.put(cluster, Class::PutCluster, seen.cluster.etag.as_deref(), &body, time_left).await
            }
            UpgradeAction::Cluster { kubernetes_version, pools } => {
                let mut body = seen.raw.clone();
                set(&mut body, "/properties", "kubernetesVersion", json!(kubernetes_version));
                let profiles = body.pointer_mut("/properties/agentPoolProfiles").and_then(Value::as_array_mut);
                for profile in profiles.into_iter().flatten().filter_map(Value::as_object_mut) {
                    let moves =
                        profile.get("name").and_then(Value::as_str).is_some_and(|name| pools.iter().any(|p| p == name));
                    if moves {
                        profile.remove("nodeImageVersion");
                        profile.remove("creationData");
                        profile.insert("orchestratorVersion".to_owned(), json!(kubernetes_version));
                    }
                }
                self.put(cluster, Class::PutCluster, seen.cluster.etag.as_deref(), &body, time_left).await
            }
            UpgradeAction::PoolVersion { pool, kubernetes_version, image, snapshot } => {
                let mut body = pool_body(seen, pool)?;
                set(&mut body, "/properties", "orchestratorVersion", json!(kubernetes_version));
                match (image, snapshot) {
                    (_, Some(id)) => set(&mut body, "/properties", "creationData", json!({"sourceResourceId": id})),
                    (Some(image), None) => set(&mut body, "/properties", "nodeImageVersion", json!(image)),
                    (None, None) => {}
                }
                let id = cluster.child("agentPools", pool);
                self.put(&id, Class::PutPool, etag(pool), &body, time_left).await
            }
            // A PUT moves a pool to a snapshot only along with its Kubernetes version; for the image alone, Azure's CLI sends this.
            UpgradeAction::ChosenImage { pool, snapshot: Some(id), .. } => {
                let url = self.url(&cluster.child("agentPools", pool), &["upgradeNodeImageVersion"]);
                let budget = Budget::queued(Class::Other, cluster.subscription());
                let with_snapshot =
                    |request: RequestBuilder| request.header(header::CONTENT_LENGTH, 0).header(SNAPSHOT_HEADER, id);
                self.accepted(self.send(Method::POST, url, budget, with_snapshot, time_left).await?).await
            }
            UpgradeAction::ChosenImage { pool, image, snapshot: None } => {
                let mut body = pool_body(seen, pool)?;
                set(&mut body, "/properties", "nodeImageVersion", json!(image));
                let id = cluster.child("agentPools", pool);
                self.put(&id, Class::PutPool, etag(pool), &body, time_left).await
            }
            UpgradeAction::NewestImage { pool, .. } => {
                let url = self.url(&cluster.child("agentPools", pool), &["upgradeNodeImageVersion"]);
                let budget = Budget::queued(Class::Other, cluster.subscription());
                let empty = |request: RequestBuilder| request.header(header::CONTENT_LENGTH, 0);
                self.accepted(self.send(Method::POST, url, budget, empty, time_left).await?).await
            }
        }
    }

    async fn poll(&self, subscription: &str, operation_url: &str) -> Result<Progress, UpstreamError> {
        let Some(url) = self.own(operation_url) else { return Ok(Progress::Gone) };
        let budget = Budget::unqueued(Class::OperationStatus, subscription);
        let response = match self.send(Method::GET, url, budget, |request| request, &unlimited).await {
            Err(UpstreamError::NotFound(_)) => return Ok(Progress::Gone),
            other => other?,
        };
        let again_after = retry_after(&response);
        let status: wire::OperationStatus = parse(&read(response, CONTENT_LIMIT).await?)?;
        Ok(status.progress(again_after))
    }

    async fn list(&self, subscription: &str) -> Result<Vec<ManagedCluster>, UpstreamError> {
        let scope = ResourceId::subscription_scope(subscription);
        let url = self.url(&scope, &["providers", "Microsoft.ContainerService", "managedClusters"]);
        self.pages(url, Budget::unqueued(Class::List, subscription), LIST_LIMIT).await
    }

    async fn pool_upgrade_profile(
        &self,
        cluster: &ResourceId,
        pool: &str,
    ) -> Result<PoolUpgradeProfile, UpstreamError> {
        let url = self.url(&cluster.child("agentPools", pool), &["upgradeProfiles", "default"]);
        let profile: wire::UpgradeProfile =
            self.get_json(url, Budget::queued(Class::Other, cluster.subscription()), CONTENT_LIMIT).await?;
        Ok(profile.into())
    }

    async fn snapshots(&self, subscription: &str) -> Result<Vec<NodePoolSnapshot>, UpstreamError> {
        let scope = ResourceId::subscription_scope(subscription);
        let url = self.url(&scope, &["providers", "Microsoft.ContainerService", "snapshots"]);
        let all: Vec<wire::Snapshot> = self.pages(url, Budget::queued(Class::Other, subscription), LIST_LIMIT).await?;
        Ok(all.into_iter().filter_map(wire::Snapshot::read).collect())
    }

    async fn take_snapshot(
        &self,
        snapshot: &ResourceId,
        location: &str,
        pool: &ResourceId,
    ) -> Result<(), UpstreamError> {
        let body = json!({
            "location": location, "tags": {"created-by": "fleet-manager"},
            "properties": {"snapshotType": "NodePool", "creationData": {"sourceResourceId": pool.to_string()}},
        });
        let budget = Budget::queued(Class::Other, snapshot.subscription());
        self.send(Method::PUT, self.url(snapshot, &[]), budget, |request| request.json(&body), &unlimited)
            .await
            .map(drop)
    }

    async fn delete_snapshot(&self, snapshot: &ResourceId) -> Result<(), UpstreamError> {
        let budget = Budget::queued(Class::Other, snapshot.subscription());
        match self.send(Method::DELETE, self.url(snapshot, &[]), budget, |request| request, &unlimited).await {
            Ok(_) | Err(UpstreamError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn kubernetes_versions(
        &self,
        subscription: &str,
        location: &str,
    ) -> Result<Vec<OfferedVersion>, UpstreamError> {
        let scope = ResourceId::subscription_scope(subscription);
        let path = ["providers", "Microsoft.ContainerService", "locations", location, "kubernetesVersions"];
        let versions: wire::KubernetesVersions =
            self.get_json(self.url(&scope, &path), Budget::queued(Class::Other, subscription), CONTENT_LIMIT).await?;
        Ok(versions.into())
    }

    async fn maintenance_configurations(
        &self,
        cluster: &ResourceId,
        freshness: Freshness,
    ) -> Result<Vec<MaintenanceConfiguration>, UpstreamError> {
        let queues = freshness == Freshness::Required;
        let budget = Budget { class: Class::Maintenance, key: cluster.subscription(), queues };
        self.pages(self.url(cluster, &["maintenanceConfigurations"]), budget, CONTENT_LIMIT).await
    }

    fn left(&self, class: Class, key: &str) -> f64 {
        if self.paced { self.with_budgets(|budgets| budgets.left(class, key, Instant::now())) } else { 1.0 }
    }
}

/// The pool as the cluster shows it, as a body for its own PUT: without its image, which would be a wish to stay at it,
/// and released from its snapshot, as only pools that leave theirs are ever moved.
fn pool_body(seen: &Seen, pool: &str) -> Result<Value, UpstreamError> {
    let mut profile = seen
        .raw
        .pointer("/properties/agentPoolProfiles")
        .and_then(Value::as_array)
        .and_then(|pools| {
            pools
                .iter()
                .find(|p| p.get("name").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case(pool)))
        })
        .and_then(Value::as_object)
        .cloned()
        .ok_or_else(|| UpstreamError::Changed(ErrorDetail::new("NotFound", format!("no agent pool '{pool}'"))))?;
    for member in ["name", "nodeImageVersion", "creationData"] {
        profile.remove(member);
    }
    Ok(json!({ "properties": profile }))
}

fn set(body: &mut Value, object: &str, member: &str, value: Value) {
    if let Some(object) = body.pointer_mut(object).and_then(Value::as_object_mut) {
        object.insert(member.to_owned(), value);
    }
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, UpstreamError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(UpstreamError::Garbage(format!("an answer of more than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(body).map_err(|error| garbage(&error))
}

fn garbage(error: &serde_json::Error) -> UpstreamError {
    UpstreamError::Garbage(format!("the answer cannot be read: {error}"))
}

fn broken(error: &reqwest::Error) -> UpstreamError {
    let code = if error.is_timeout() { "UpstreamTimeout" } else { "UpstreamUnreachable" };
    // The innermost cause says what happened; the outer ones repeat the URL.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let failed = UpstreamError::transient(code, cause.to_string());
    // Without a connection nothing was sent.
    if error.is_connect() { failed.before_sending() } else { failed }
}

/// `Retry-After`, at most [`LONGEST_RETRY_AFTER`].
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(LONGEST_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
    };
    Some(after.min(LONGEST_RETRY_AFTER))
}

fn refusal(status: StatusCode, after: Option<Duration>, body: &[u8]) -> UpstreamError {
    let detail = serde_json::from_slice::<wire::ErrorBody>(body).map_or_else(
        |_| {
            ErrorDetail::new(
                format!("Http{}", status.as_u16()),
                format!("AKS answered {status} without an error body."),
            )
        },
        |body| body.error.into(),
    );
    match status {
        StatusCode::TOO_MANY_REQUESTS => UpstreamError::Throttled { after: after.unwrap_or(BUDGET_REFILL), detail },
        StatusCode::REQUEST_TIMEOUT => UpstreamError::Transient { after, detail },
        StatusCode::UNAUTHORIZED => {
            let message = format!(
                "Azure Resource Manager refused the service's token: {} Check FLEET_ARM_CREDENTIAL and its settings.",
                detail.message
            );
            UpstreamError::Unavailable { after, detail: ErrorDetail::new("CredentialRefused", message).with(detail) }
        }
        _ if status.is_server_error() => UpstreamError::Transient { after, detail },
        StatusCode::NOT_FOUND | StatusCode::GONE => UpstreamError::NotFound(detail),
        StatusCode::FORBIDDEN if !is_policy(&detail) => UpstreamError::Forbidden(detail),
        StatusCode::PRECONDITION_FAILED => UpstreamError::Changed(detail),
        StatusCode::CONFLICT if is_in_progress(&detail) => UpstreamError::Busy(detail),
        _ if status.is_client_error() => UpstreamError::Refused(detail),
        _ => UpstreamError::Garbage(format!("AKS answered {status}")),
    }
}
