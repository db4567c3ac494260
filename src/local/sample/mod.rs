//! The sample fleet of a local world: an ordinary client of the service's REST API, and of the emulator's where it has
//! to know which clusters there are.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub use self::plan::{Plan, PlannedMember};
use crate::model::{
    update_run::{UpdateRunStatus, UpdateState},
    version::KubernetesVersion,
};

/// API version of everything about fleets.
pub const API_VERSION: &str = "2026-06-01";
/// API version of everything about managed clusters.
const AKS_API_VERSION: &str = "2026-08-01";
/// The subscription and resource group of a local world.
const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
const RESOURCE_GROUP: &str = "rg1";
const FLEET: &str = "fleet1";
const STRATEGY: &str = "canary-staging-production";
const RUN_PREFIX: &str = "run-";
/// Longest a single resource may take to be made, or the service to come up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest a run that is started again may still show how it ended before.
const RESTART: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(250);

/// Why the sample could not be made or shown.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Nobody answered.
    #[error("{method} {url} got no answer")]
    Unreachable {
        /// What was asked.
        method: Method,
        /// Whom.
        url: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// The answer was an error.
    #[error("{method} {url} was answered {status}: {message}")]
    Refused {
        /// What was asked.
        method: Method,
        /// Whom.
        url: String,
        /// The answer's status.
        status: StatusCode,
        /// The answer's code and message, or its text.
        message: String,
    },
    /// The answer made no sense.
    #[error("{url} was answered with something else than {expected}: {source}")]
    Unexpected {
        /// Whom.
        url: String,
        /// What it should have been.
        expected: &'static str,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// Provisioning ended badly.
    #[error("{url} was not made: {state} {detail}")]
    NotMade {
        /// What.
        url: String,
        /// Its provisioning state.
        state: String,
        /// What the service says about it.
        detail: String,
    },
    /// It took too long.
    #[error("{0} took longer than {patience} s", patience = PATIENCE.as_secs())]
    TooLate(String),
    /// The authority to trust cannot be read.
    #[error("cannot trust the certificate authority {path}: {reason}")]
    NoCa {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no HTTP client.
    #[error("cannot make an HTTP client")]
    NoClient(#[source] reqwest::Error),
    /// There is nothing to upgrade, or nothing to upgrade to.
    #[error("no sample fleet: {0}")]
    NoPlan(&'static str),
}

/// A client with a base URL and a token.
#[derive(Debug, Clone)]
struct Client {
    http: reqwest::Client,
    base: String,
    token: SecretString,
    api_version: &'static str,
}

impl Client {
    fn url(&self, path: &str) -> String {
        format!("{}{path}?api-version={}", self.base, self.api_version)
    }

    /// One request; an answer other than 2xx is an error. No body is `null`.
    async fn send(&self, method: Method, url: String, body: Option<&Value>) -> Result<Value, SampleError> {
        let mut request = self.http.request(method.clone(), &url).bearer_auth(self.token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |source| SampleError::Unreachable { method: method.clone(), url: url.clone(), source };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        if !status.is_success() {
            let message = serde_json::from_str::<Value>(&text).ok().and_then(|body| {
                Some(format!("{} {}", body["error"]["code"].as_str()?, body["error"]["message"].as_str()?))
            });
            return Err(SampleError::Refused { method, url, status, message: message.unwrap_or(text) });
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|source| SampleError::Unexpected { url, expected: "JSON", source })
    }

    async fn get(&self, path: &str) -> Result<Value, SampleError> {
        self.send(Method::GET, self.url(path), None).await
    }

    /// A resource, or `None` where there is none.
    async fn find(&self, path: &str) -> Result<Option<Value>, SampleError> {
        match self.get(path).await {
            Ok(value) => Ok(Some(value)),
            Err(SampleError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list.
    async fn list<T: DeserializeOwned>(&self, path: &str, expected: &'static str) -> Result<Vec<T>, SampleError> {
        let (mut all, mut url) = (Vec::new(), self.url(path));
        loop {
            let page = self.send(Method::GET, url.clone(), None).await?;
            let next = page["nextLink"].as_str().filter(|link| !link.is_empty()).map(str::to_owned);
            all.extend(read::<Vec<T>>(&url, expected, page["value"].clone())?);
            match next {
                Some(next) => url = next,
                None => return Ok(all),
            }
        }
    }

    /// Makes a resource, and waits until it is made.
    async fn put(&self, path: &str, body: &Value) -> Result<(), SampleError> {
        let started = Instant::now();
        let mut resource = self.send(Method::PUT, self.url(path), Some(body)).await?;
        loop {
            match resource["properties"]["provisioningState"].as_str().unwrap_or("Succeeded") {
                "Succeeded" => return Ok(()),
                state @ ("Failed" | "Canceled") => {
                    let detail = resource["properties"]["status"].to_string();
                    return Err(SampleError::NotMade { url: self.url(path), state: state.to_owned(), detail });
                }
                _ if started.elapsed() > PATIENCE => return Err(SampleError::TooLate(self.url(path))),
                _ => sleep(POLL).await,
            }
            resource = self.get(path).await?;
        }
    }
}

/// A managed cluster, as far as the sample cares.
#[derive(Debug, Clone, Deserialize)]
struct Cluster {
    id: String,
    name: String,
    location: String,
    properties: ClusterProperties,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterProperties {
    kubernetes_version: String,
    current_kubernetes_version: Option<String>,
}

impl Cluster {
    fn version(&self) -> Option<KubernetesVersion> {
        let properties = &self.properties;
        properties.current_kubernetes_version.as_deref().unwrap_or(&properties.kubernetes_version).parse().ok()
    }
}

/// Kubernetes versions of a region.
#[derive(Debug, Deserialize)]
struct Published {
    values: Vec<PublishedMinor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublishedMinor {
    #[serde(default)]
    is_preview: Option<bool>,
    #[serde(default)]
    patch_versions: BTreeMap<String, Value>,
}

/// The sample fleet, seen from outside.
#[derive(Debug, Clone)]
pub struct SampleFleet {
    service: Client,
    arm: Client,
}

impl SampleFleet {
    /// A client of the service at `service` and of the emulator at `arm` (URLs without a path), with a token for both, that
    /// trusts the authority in the file `ca`.
    ///
    /// # Errors
    /// When there is no certificate in the file.
    pub fn new(service: &str, arm: &str, token: SecretString, ca: Option<&Path>) -> Result<Self, SampleError> {
        let mut http = reqwest::Client::builder();
        if let Some(path) = ca {
            let unusable = |reason: String| SampleError::NoCa { path: path.to_owned(), reason };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let certificate = reqwest::Certificate::from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
            http = http.tls_certs_only([certificate]);
        }
        let http = http.build().map_err(SampleError::NoClient)?;
        let client = |base: &str, api_version| Client {
            http: http.clone(),
            base: base.trim_end_matches('/').to_owned(),
            token: token.clone(),
            api_version,
        };
        Ok(Self { service: client(service, API_VERSION), arm: client(arm, AKS_API_VERSION) })
    }

    /// The fleet's URL, without a query.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.service.base, fleet_path(""))
    }

    /// Waits until the service answers.
    ///
    /// # Errors
    /// When it does not come up, or answers with a refusal.
    pub async fn ready(&self) -> Result<(), SampleError> {
        let (started, groups) = (Instant::now(), format!("{SUBSCRIPTION}/resourceGroups"));
        loop {
            let not_yet = match self.service.get(&groups).await {
                Ok(_) => return Ok(()),
                Err(error @ SampleError::Unreachable { .. }) => error,
                Err(error @ SampleError::Refused { status, .. }) if status.is_server_error() => error,
                Err(error) => return Err(error),
            };
            if started.elapsed() > PATIENCE {
                return Err(not_yet);
            }
            sleep(POLL).await;
        }
    }

    /// What the sample fleet is made of, given the emulator's clusters and versions.
    ///
    /// # Errors
    /// When the emulator has no clusters, or nothing newer for them.
    pub async fn plan(&self) -> Result<Plan, SampleError> {
        let clusters: Vec<Cluster> = self.arm.list(&group_path("managedClusters"), "managed clusters").await?;
        let regions: BTreeSet<&str> = clusters.iter().map(|cluster| cluster.location.as_str()).collect();
        let mut published = Vec::new();
        for region in regions {
            let path =
                format!("{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/{region}/kubernetesVersions");
            let url = self.arm.url(&path);
            let list: Published = read(&url, "Kubernetes versions", self.arm.get(&path).await?)?;
            let stable = list.values.into_iter().filter(|minor| minor.is_preview != Some(true));
            published.push(stable.flat_map(|minor| minor.patch_versions.into_keys()).collect());
        }
        Plan::of(clusters, &published)
    }

    /// Makes fleet, members and strategy, or leaves them as they are.
    ///
    /// # Errors
    /// When the service refuses one of them.
    pub async fn make(&self, plan: &Plan) -> Result<(), SampleError> {
        let group = format!("{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}");
        self.service.put(&group, &json!({"location": "eastus"})).await?;
        self.service.put(&fleet_path(""), &json!({"location": "eastus", "tags": {"sample": "true"}})).await?;
        for member in &plan.members {
            let body = json!({"properties": {"clusterResourceId": member.cluster_id, "group": member.group}});
            self.service.put(&fleet_path(&format!("/members/{}", member.name)), &body).await?;
        }
        let body = json!({"properties": {"strategy": plan.strategy}});
        self.service.put(&fleet_path(&format!("/updateStrategies/{STRATEGY}")), &body).await
    }

    /// Gives a member's cluster a maintenance window that is closed now, and opens in one to two minutes. Answers when.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn close_window(&self, member: &PlannedMember, now: Timestamp) -> Result<Timestamp, SampleError> {
        // Windows begin with a minute.
        let next_minute = now.as_second().div_euclid(60).saturating_add(2).saturating_mul(60);
        let opens = Timestamp::from_second(next_minute).unwrap_or(now);
        let at = opens.to_zoned(TimeZone::UTC);
        let window = json!({
            "schedule": {"daily": {"intervalDays": 1}},
            "durationHours": 4,
            "utcOffset": "+00:00",
            "startDate": at.date().to_string(),
            "startTime": at.strftime("%H:%M").to_string(),
        });
        let path = format!("{}/maintenanceConfigurations/aksManagedAutoUpgradeSchedule", member.cluster_id);
        self.arm.put(&path, &json!({"properties": {"maintenanceWindow": window}})).await?;
        Ok(opens)
    }

    /// The newest run of the sample, if there is one.
    ///
    /// # Errors
    /// When the service refuses the question.
    pub async fn newest_run(&self) -> Result<Option<String>, SampleError> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        if self.service.find(&fleet_path("")).await?.is_none() {
            return Ok(None);
        }
        let runs: Vec<Named> = self.service.list(&fleet_path("/updateRuns"), "update runs").await?;
        let newest = runs.iter().filter_map(|run| run.name.strip_prefix(RUN_PREFIX)?.parse::<u32>().ok()).max();
        Ok(newest.map(|number| format!("{RUN_PREFIX}{number}")))
    }

    /// Makes a run and starts it.
    ///
    /// # Errors
    /// When the service refuses.
    pub async fn make_run(&self, run: &str, update: &Value) -> Result<(), SampleError> {
        self.service.put(&run_path(run), &run_body(update)).await?;
        self.start_run(run).await
    }

    /// Starts a run, or lets a stopped or failed one go on. One that was started already is left alone.
    ///
    /// # Errors
    /// When the service refuses.
    pub async fn start_run(&self, run: &str) -> Result<(), SampleError> {
        let url = self.service.url(&format!("{}/start", run_path(run)));
        match self.service.send(Method::POST, url, None).await {
            // A start that was asked for by a process that is gone now is carried out nevertheless.
            Err(SampleError::Refused { status: StatusCode::CONFLICT, message, .. })
                if message.starts_with("UpdateRunAlreadyStarted ") => {}
            other => drop(other?),
        }
        // The answer comes before the effect: a stopped or failed run shows its old end for a moment.
        let started = Instant::now();
        while started.elapsed() < RESTART
            && matches!(self.status(run).await?.status.state, UpdateState::Stopped | UpdateState::Failed)
        {
            sleep(POLL).await;
        }
        Ok(())
    }

    /// How far a run is.
    ///
    /// # Errors
    /// When the service does not know it.
    pub async fn status(&self, run: &str) -> Result<UpdateRunStatus, SampleError> {
        let path = run_path(run);
        let resource = self.service.get(&path).await?;
        read(&self.service.url(&path), "an update run", resource["properties"]["status"].clone())
    }

    /// Shows a run's status again and again until it has ended, and returns its last state; `None` when somebody deleted the run.
    ///
    /// # Errors
    /// The service does not answer, or not with a run.
    pub async fn watch(
        &self,
        run: &str,
        mut show: impl FnMut(&UpdateRunStatus),
    ) -> Result<Option<UpdateState>, SampleError> {
        loop {
            let status = match self.status(run).await {
                Ok(status) => status,
                Err(SampleError::Refused { status: StatusCode::NOT_FOUND, .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            show(&status);
            match status.status.state {
                ended
                @ (UpdateState::Completed | UpdateState::Failed | UpdateState::Stopped | UpdateState::Skipped) => {
                    return Ok(Some(ended));
                }
                UpdateState::NotStarted | UpdateState::Running | UpdateState::Stopping | UpdateState::Pending => {
                    sleep(POLL).await;
                }
            }
        }
    }
}

/// The name of the run after `run`.
#[must_use]
pub fn next_run(run: Option<&str>) -> String {
    let last = run.and_then(|run| run.strip_prefix(RUN_PREFIX)?.parse::<u32>().ok()).unwrap_or(0);
    format!("{RUN_PREFIX}{}", last.saturating_add(1))
}

/// The body of a run over the sample's strategy.
#[must_use]
pub fn run_body(update: &Value) -> Value {
    let strategy = fleet_path(&format!("/updateStrategies/{STRATEGY}"));
    json!({"properties": {"updateStrategyId": strategy, "managedClusterUpdate": update}})
}

fn group_path(rest: &str) -> String {
    format!("{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.ContainerService/{rest}")
}

fn fleet_path(rest: &str) -> String {
    group_path(&format!("fleets/{FLEET}{rest}"))
}

fn run_path(run: &str) -> String {
    fleet_path(&format!("/updateRuns/{run}"))
}

fn read<T: DeserializeOwned>(url: &str, expected: &'static str, value: Value) -> Result<T, SampleError> {
    serde_json::from_value(value).map_err(|source| SampleError::Unexpected { url: url.to_owned(), expected, source })
}

#[cfg(test)]
mod tests;
