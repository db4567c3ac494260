//! The control API under `/emulator/`, with which a test or a demonstration changes the emulated Azure.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Emulator;
use crate::catalogue;
use crate::cluster::Cluster;
use crate::errors::ArmError;
use crate::faults::Fault;
use crate::operations::{Begin, Operation, Status, stamp};
use crate::seed::{self, SUBSCRIPTIONS};
use crate::version::Version;
use crate::world::World;

pub(crate) fn router() -> Router<Emulator> {
    Router::new()
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/versions", post(publish_version).delete(withdraw_version))
        .route("/images", post(publish_image).delete(withdraw_image))
        .route("/clusters", post(add_cluster))
        .route("/clusters/{name}", patch(change_cluster).delete(remove_cluster))
        .route("/clusters/{name}/maintenance/{configuration}", put(set_maintenance).delete(remove_maintenance))
        .route("/operations/release", post(release))
        .route("/settings", get(settings).patch(change_settings))
        .route("/tokens", get(tokens).delete(revoke_tokens))
        .route("/log", get(log))
        .route("/state", get(state))
        .route("/reset", post(reset))
        .fallback(unknown)
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal(ArmError::not_found(format!("The control API has nothing at '{}'.", uri.path())))
}

/// An error response in the ARM format.
struct Refusal(ArmError);

impl From<ArmError> for Refusal {
    fn from(error: ArmError) -> Self {
        Self(error)
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self(ArmError::new(rejection.status(), "InvalidRequestContent", rejection.body_text()))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0.status, Json(self.0.body())).into_response()
    }
}

type Answer = Result<Json<Value>, Refusal>;
type Given<T> = Result<Json<T>, JsonRejection>;

fn done() -> Answer {
    Ok(Json(json!({})))
}

impl Emulator {
    /// Returns the world, advanced to the current time.
    fn settled<T>(&self, act: impl FnOnce(&mut World, Timestamp) -> T) -> T {
        let now = Timestamp::now();
        let mut world = self.world();
        world.settle(now);
        act(&mut world, now)
    }
}

async fn faults(State(emulator): State<Emulator>) -> Answer {
    Ok(Json(json!({"value": emulator.world().faults.all()})))
}

async fn add_fault(State(emulator): State<Emulator>, fault: Given<Fault>) -> Answer {
    emulator.world().faults.add(fault?.0);
    done()
}

async fn clear_faults(State(emulator): State<Emulator>) -> Answer {
    emulator.world().faults.clear();
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedVersion {
    region: String,
    version: String,
    #[serde(default)]
    preview: bool,
}

fn version(text: &str) -> Result<Version, Refusal> {
    text.parse()
        .map_err(|()| Refusal(ArmError::invalid("version", format!("'{text}' is not a version of the form 1.2.3."))))
}

async fn publish_version(State(emulator): State<Emulator>, given: Given<PublishedVersion>) -> Answer {
    let Json(given) = given?;
    let version = version(&given.version)?;
    emulator
        .world()
        .catalogue
        .region_or_new(&catalogue::location(&given.region))
        .versions
        .insert(version, given.preview);
    done()
}

async fn withdraw_version(State(emulator): State<Emulator>, given: Given<PublishedVersion>) -> Answer {
    let Json(given) = given?;
    let version = version(&given.version)?;
    match emulator.world().catalogue.region_or_new(&catalogue::location(&given.region)).versions.remove(&version) {
        Some(_) => done(),
        None => Err(ArmError::not_found(format!("Version {version} is not published in {}.", given.region)).into()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedImage {
    region: String,
    family: String,
    version: String,
}

async fn publish_image(State(emulator): State<Emulator>, given: Given<PublishedImage>) -> Answer {
    let Json(given) = given?;
    emulator
        .world()
        .catalogue
        .region_or_new(&catalogue::location(&given.region))
        .publish_image(&given.family, &given.version);
    done()
}

async fn withdraw_image(State(emulator): State<Emulator>, given: Given<PublishedImage>) -> Answer {
    let Json(given) = given?;
    let mut world = emulator.world();
    if world.catalogue.region_or_new(&catalogue::location(&given.region)).withdraw_image(&given.family, &given.version)
    {
        return done();
    }
    Err(ArmError::not_found(format!("Image {}-{} is not published in {}.", given.family, given.version, given.region))
        .into())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct NewCluster {
    name: String,
    subscription: Option<String>,
    resource_group: Option<String>,
    location: Option<String>,
    tenant_id: Option<String>,
    kubernetes_version: Option<String>,
    provisioning_state: Option<String>,
    power_state: Option<PowerState>,
    /// `Auto`: node auto-provisioning.
    node_provisioning_mode: Option<String>,
    upgrade_seconds: Option<f64>,
    tags: Option<Map<String, Value>>,
    /// Properties of each as in ARM, plus `name`; absent: one system pool `nodepool1`.
    agent_pools: Option<Vec<Map<String, Value>>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
enum PowerState {
    Running,
    Stopped,
}

async fn add_cluster(State(emulator): State<Emulator>, given: Given<NewCluster>) -> Answer {
    let mut cluster = new_cluster(given?.0)?;
    emulator.settled(|world, _| {
        if world.clusters.contains_key(&cluster.key()) {
            return Err(
                ArmError::new(StatusCode::CONFLICT, "Conflict", format!("Cluster '{}' exists.", cluster.name)).into()
            );
        }
        world.catalogue.region_or_new(&cluster.location);
        let body = cluster.json();
        world.add(cluster);
        Ok(Json(serde_json::from_str(&body).unwrap_or_default()))
    })
}

fn new_cluster(given: NewCluster) -> Result<Cluster, Refusal> {
    let required = |what: &'static str| Refusal(ArmError::invalid(what, format!("{what} is required.")));
    if given.name.is_empty() {
        return Err(required("name"));
    }
    let subscription =
        given.subscription.unwrap_or_else(|| SUBSCRIPTIONS.first().copied().unwrap_or_default().to_owned());
    let group = given.resource_group.unwrap_or_else(|| "rg1".into());
    let location = catalogue::location(given.location.as_deref().unwrap_or("eastus"));
    let start = version(given.kubernetes_version.as_deref().unwrap_or("1.32.7"))?;
    let mut cluster = seed::cluster(&subscription.to_lowercase(), &group, given.name, &location, start);
    if let Some(tenant) = given.tenant_id {
        cluster.identity = seed::identity(&cluster.key(), &tenant);
    }
    if let Some(mode) = given.node_provisioning_mode {
        cluster.settings.insert("nodeProvisioningProfile".into(), json!({"mode": mode}));
    }
    cluster.tags = given.tags.map(Value::Object);
    cluster.upgrade_seconds = given.upgrade_seconds;
    cluster.state = given.provisioning_state.unwrap_or_else(|| "Succeeded".into());
    cluster.stopped = given.power_state == Some(PowerState::Stopped);
    let pools = given.agent_pools.unwrap_or_else(|| {
        vec![Map::from_iter([("name".into(), "nodepool1".into()), ("mode".into(), "System".into())])]
    });
    for profile in pools {
        let text = |name: &str| profile.get(name).and_then(Value::as_str).map(str::to_owned);
        let name = text("name").ok_or_else(|| required("agentPools[].name"))?;
        let own = text("orchestratorVersion").map_or(Ok(start), |own| version(&own))?;
        let (image, state) = (text("nodeImageVersion"), text("provisioningState"));
        let mut pool = seed::pool(&name, profile, own);
        pool.stopped = cluster.stopped;
        pool.image = image.unwrap_or(pool.image);
        pool.state = state.unwrap_or(pool.state);
        cluster.pools.push(pool);
    }
    Ok(cluster)
}

/// Selects among clusters with the same name in several subscriptions or resource groups.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Which {
    subscription: Option<String>,
    resource_group: Option<String>,
}

fn find(world: &World, name: &str, which: &Which) -> Result<String, Refusal> {
    let fits =
        |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(value));
    let found = world.clusters.iter().find(|(_, cluster)| {
        cluster.name.eq_ignore_ascii_case(name)
            && fits(&which.subscription, &cluster.subscription)
            && fits(&which.resource_group, &cluster.group)
    });
    found
        .map(|(key, _)| key.clone())
        .ok_or_else(|| Refusal(ArmError::not_found(format!("There is no cluster '{name}'."))))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct ClusterChange {
    power_state: Option<PowerState>,
    kubernetes_version: Option<String>,
    provisioning_state: Option<String>,
    upgrade_seconds: Option<f64>,
    tags: Option<Map<String, Value>>,
    /// An operation of another caller on the cluster, or on one of its agent pools.
    outside_operation: Option<OutsideOperation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OutsideOperation {
    seconds: f64,
    #[serde(default)]
    provisioning_state: Option<String>,
    #[serde(default)]
    agent_pool: Option<String>,
}

async fn change_cluster(
    State(emulator): State<Emulator>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
    given: Given<ClusterChange>,
) -> Answer {
    let Json(given) = given?;
    let version = given.kubernetes_version.as_deref().map(version).transpose()?;
    emulator.settled(|world, now| {
        let key = find(world, &name, &which)?;
        let etag = world.fresh_etag();
        let Some(cluster) = world.clusters.get_mut(&key) else { return done() };
        if let Some(version) = version {
            cluster.kubernetes_version = version.to_string();
            cluster.version = version;
        }
        if let Some(power) = given.power_state {
            cluster.stopped = power == PowerState::Stopped;
            cluster.pools.iter_mut().for_each(|pool| pool.stopped = power == PowerState::Stopped);
        }
        cluster.state = given.provisioning_state.unwrap_or_else(|| cluster.state.clone());
        cluster.upgrade_seconds = given.upgrade_seconds.or(cluster.upgrade_seconds);
        cluster.tags = given.tags.map(Value::Object).or_else(|| cluster.tags.clone());
        cluster.changed(etag);
        if let Some(outside) = given.outside_operation {
            if !world.running_on(&key).is_empty() {
                return Err(ArmError::conflict("Another operation is in progress.").into());
            }
            let state = outside.provisioning_state.as_deref().unwrap_or("Updating");
            let mut begin = match &outside.agent_pool {
                Some(pool) => Begin::on_pool(&key, pool, state),
                None => Begin::on_cluster(&key, state),
            };
            begin.seconds = Some(outside.seconds);
            world.begin(begin, now);
        }
        let body = world.clusters.get_mut(&key).map(Cluster::json);
        Ok(Json(body.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()))
    })
}

async fn remove_cluster(
    State(emulator): State<Emulator>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Answer {
    emulator.settled(|world, now| {
        let key = find(world, &name, &which)?;
        // Operations in progress on the cluster end with it, as in AKS.
        for operation in world.running_on(&key) {
            world.finish(operation, Status::Canceled, now);
        }
        world.clusters.remove(&key);
        done()
    })
}

/// Sets the `properties` of a maintenance configuration without validation, so that tests can use windows that AKS refuses.
async fn set_maintenance(
    State(emulator): State<Emulator>,
    Path((name, configuration)): Path<(String, String)>,
    Query(which): Query<Which>,
    given: Given<Value>,
) -> Answer {
    let Json(properties) = given?;
    emulator.settled(|world, _| {
        let key = find(world, &name, &which)?;
        if let Some(cluster) = world.clusters.get_mut(&key) {
            cluster.maintenance.insert(configuration.to_lowercase(), (configuration, properties));
        }
        done()
    })
}

async fn remove_maintenance(
    State(emulator): State<Emulator>,
    Path((name, configuration)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Answer {
    emulator.settled(|world, _| {
        let key = find(world, &name, &which)?;
        let removed =
            world.clusters.get_mut(&key).and_then(|cluster| cluster.maintenance.remove(&configuration.to_lowercase()));
        match removed {
            Some(_) => done(),
            None => {
                Err(ArmError::not_found(format!("'{name}' has no maintenance configuration '{configuration}'.")).into())
            }
        }
    })
}

#[derive(Deserialize)]
struct Released {
    cluster: Option<String>,
}

async fn release(State(emulator): State<Emulator>, Query(which): Query<Released>) -> Answer {
    let released = emulator.settled(|world, now| world.release(which.cluster.as_deref(), now));
    Ok(Json(json!({ "released": released })))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct SettingsChange {
    upgrade_seconds: Option<f64>,
    enforce_throttles: Option<bool>,
    require_token: Option<bool>,
    require_issued_tokens: Option<bool>,
    token_seconds: Option<u64>,
    /// 0 switches the header off.
    retry_after_seconds: Option<u64>,
    /// Object IDs of callers that may read only.
    readers: Option<Vec<String>>,
}

async fn settings(State(emulator): State<Emulator>) -> Answer {
    let now = &emulator.world().settings;
    Ok(Json(json!({
        "upgradeSeconds": now.upgrade_seconds, "enforceThrottles": now.enforce_throttles, "requireToken": now.require_token,
        "requireIssuedTokens": now.require_issued_tokens, "tokenSeconds": now.token_seconds,
        "retryAfterSeconds": now.retry_after_seconds, "readers": now.readers,
    })))
}

async fn change_settings(State(emulator): State<Emulator>, given: Given<SettingsChange>) -> Answer {
    let Json(mut given) = given?;
    {
        let now = &mut emulator.world().settings;
        if let Some(readers) = given.readers.take() {
            now.readers = readers;
        }
        now.upgrade_seconds = given.upgrade_seconds.unwrap_or(now.upgrade_seconds);
        now.enforce_throttles = given.enforce_throttles.unwrap_or(now.enforce_throttles);
        now.require_token = given.require_token.unwrap_or(now.require_token);
        now.require_issued_tokens = given.require_issued_tokens.unwrap_or(now.require_issued_tokens);
        now.token_seconds = given.token_seconds.unwrap_or(now.token_seconds);
        if let Some(seconds) = given.retry_after_seconds {
            now.retry_after_seconds = Some(seconds).filter(|seconds| *seconds > 0);
        }
    }
    settings(State(emulator)).await
}

async fn tokens(State(emulator): State<Emulator>) -> Answer {
    Ok(Json(emulator.world().tokens.counts(Timestamp::now())))
}

async fn revoke_tokens(State(emulator): State<Emulator>) -> Answer {
    Ok(Json(json!({"revoked": emulator.world().tokens.revoke()})))
}

#[derive(Deserialize)]
struct LogQuery {
    #[serde(default)]
    after: u64,
    method: Option<String>,
}

async fn log(State(emulator): State<Emulator>, Query(query): Query<LogQuery>) -> Answer {
    let shown = |operation: &Operation| (operation.started, operation.ended, operation.status.name());
    Ok(Json(emulator.settled(|world, _| {
        world.log.read(query.after, query.method.as_deref(), |id| {
            let Some((started, ended, status)) = world.operations.get(&id).map(shown) else { return Value::Null };
            json!({"id": id, "startTime": stamp(started), "endTime": ended.map(stamp), "status": status})
        })
    })))
}

async fn state(State(emulator): State<Emulator>) -> Answer {
    Ok(Json(emulator.settled(|world, _| world.counts())))
}

async fn reset(State(emulator): State<Emulator>) -> Answer {
    emulator.reset(Timestamp::now());
    done()
}
