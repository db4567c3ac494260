//! Agent pools: reading, PUT (creation, version, image, any other change), newest node image, deletion.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::put_cluster::{check_texts, text};
use super::{Answer, check_pool_free, check_running, following, region, snapshots};
use crate::call::{Body, Call, Note, Reply};
use crate::catalogue;
use crate::cluster::{Cluster, Pool, image_family, pool_settings};
use crate::errors::ArmError;
use crate::operations::{Begin, Effect};
use crate::rules;
use crate::seed;
use crate::snapshot;
use crate::version::Version;
use crate::world::World;

/// Properties that a pool keeps when a PUT omits them, since they are fixed at creation.
const CREATE_ONLY: [&str; 8] = ["vmSize", "osType", "osSKU", "type", "mode", "osDiskSizeGB", "osDiskType", "maxPods"];

/// Properties that must be strings.
const TEXTS: [&str; 6] = ["orchestratorVersion", "nodeImageVersion", "vmSize", "osType", "osSKU", "mode"];

pub(super) fn not_found(cluster: &Cluster, name: &str) -> ArmError {
    ArmError::resource_not_found(
        &cluster.group,
        &format!("Microsoft.ContainerService/managedClusters/{}/agentPools/{name}", cluster.name),
    )
}

pub(super) fn list(cluster: &Cluster) -> Answer {
    let pools: Vec<Value> = cluster.pools.iter().map(|pool| cluster.pool_body(pool)).collect();
    Ok(Reply::ok(json!({ "value": pools })))
}

pub(super) fn get(cluster: &Cluster, name: &str) -> Answer {
    cluster.pool(name).map(|pool| Reply::ok(cluster.pool_body(pool))).ok_or_else(|| not_found(cluster, name))
}

/// Returns the settings after a PUT: its values, defaults for omitted ones, and the properties that are fixed at creation.
pub(super) fn replaced(before: &Map<String, Value>, body: &Map<String, Value>) -> Map<String, Value> {
    let mut all = body.clone();
    for name in CREATE_ONLY {
        let absent = match all.get(name) {
            None | Some(Value::Null) => true,
            Some(given) => name == "osDiskSizeGB" && given.as_u64() == Some(0),
        };
        if let (true, Some(kept)) = (absent, before.get(name)) {
            all.insert(name.to_owned(), kept.clone());
        }
    }
    pool_settings(&all)
}

pub(super) fn check_name(name: &str) -> Result<(), ArmError> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if starts_well && name.len() <= 12 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Ok(());
    }
    Err(ArmError::invalid("agentPoolName", format!("The agent pool name '{name}' must match ^[a-z][a-z0-9]{{0,11}}$.")))
}

pub(super) fn put(world: &mut World, call: &Call, key: &str, name: &str, note: &mut Note, now: Timestamp) -> Answer {
    let Some(cluster) = world.clusters.get(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    match cluster.pool(name) {
        Some(_) => update(world, call, key, name, note, now),
        None => create(world, call, key, name, note, now),
    }
}

fn update(world: &mut World, call: &Call, key: &str, name: &str, note: &mut Note, now: Timestamp) -> Answer {
    let found = world.clusters.get(key).and_then(|cluster| Some((cluster, cluster.pool(name)?)));
    let Some((cluster, pool)) = found else { return Err(ArmError::not_found("The agent pool is gone.")) };
    let properties = call.properties()?;
    check_texts(&properties, &TEXTS)?;
    let wanted = text(&properties, "orchestratorVersion").unwrap_or(&pool.orchestrator_version).to_owned();
    let source = snapshot::source(&properties);
    let snapshot = source.map(|id| world.snapshots.get(&id.to_lowercase()).ok_or_else(|| snapshots::missing(id)));
    // A body that a client read and sends back has the present image, which chooses no image.
    let chosen = text(&properties, "nodeImageVersion").filter(|image| *image != pool.image).map(str::to_owned);
    let image = match &snapshot {
        Some(Ok(snapshot)) => Some(snapshot.image.clone()).filter(|image| *image != pool.image),
        _ => chosen,
    };
    let same_version = wanted == pool.orchestrator_version || wanted == pool.version.to_string();
    match &image {
        Some(image) if same_version => note.step(format!("NodeImage:{}", pool.name), Some(image.clone())),
        _ => {
            note.step(format!("AgentPool:{}", pool.name), Some(wanted.clone()));
            note.node_image = image.clone();
        }
    }

    call.check_etag("agent pool", Some(&pool.etag))?;
    check_pool_free(cluster, name)?;
    check_running(cluster)?;
    for create_only in ["vmSize", "osType"] {
        if let (Some(wanted), Some(kept)) =
            (text(&properties, create_only), pool.settings.get(create_only).and_then(Value::as_str))
            && !wanted.eq_ignore_ascii_case(kept)
        {
            let message = format!("Changing property 'properties.{create_only}' is not allowed.");
            return Err(ArmError::new(StatusCode::BAD_REQUEST, "PropertyChangeNotAllowed", message));
        }
    }
    let region = region(world, &cluster.location)?;
    let version = rules::pool(Some(pool.version), &wanted, cluster.version, region)?;
    let upgrading = version != pool.version || pool.is_broken();
    let image = match (snapshot, image) {
        (Some(snapshot), _) => {
            let snapshot = snapshot?;
            // A pool that stays bound to its snapshot may be scaled or changed in other ways.
            if upgrading || snapshot.image != pool.image {
                snapshot.check_fits(pool, version)?;
            }
            Some(snapshot.image.clone())
        }
        (None, Some(image)) => Some(check_image(pool, image, version)?),
        (None, None) if upgrading => region.newest_image(catalogue::family(&pool.image)),
        (None, None) => None,
    };
    let image = image.filter(|image| *image != pool.image);
    let state = match (upgrading, &image) {
        (true, _) => "Upgrading",
        (false, Some(_)) => "UpgradingNodeImageVersion",
        (false, None) => "Updating",
    };
    let mut begin = Begin::on_pool(key, name, state);
    let moves = upgrading || image.is_some();
    begin.effects.extend(image.map(|image| Effect::Image { pool: name.to_owned(), image }));
    if let Some(pool) = world.clusters.get_mut(key).and_then(|cluster| cluster.pool_mut(name)) {
        if moves {
            pool.remember(pool.version, pool.image.clone(), now);
        }
        pool.settings = replaced(&pool.settings, &properties);
        pool.orchestrator_version = wanted;
        pool.version = version;
    }
    let id = world.begin(begin, now);
    note.applied = true;
    note.operation = Some(id);
    answer(world, call, key, name, StatusCode::OK, id, false)
}

/// A written image is a rollback: the pool must have run it lately, at the Kubernetes version that it is to have.
fn check_image(pool: &Pool, image: String, version: Version) -> Result<String, ArmError> {
    if image == pool.image || pool.recent.iter().any(|used| used.image == image && used.version == version) {
        return Ok(image);
    }
    let allowed: Vec<String> =
        pool.recent.iter().map(|used| format!("{} with Kubernetes {}", used.image, used.version)).collect();
    Err(ArmError::invalid(
        "properties.nodeImageVersion",
        format!(
            "Node image version '{image}' is not allowed for agent pool '{}' at Kubernetes {version}. Only recently used versions can be rolled back to: [{}].",
            pool.name,
            allowed.join(", ")
        ),
    ))
}

fn create(world: &mut World, call: &Call, key: &str, name: &str, note: &mut Note, now: Timestamp) -> Answer {
    let Some(cluster) = world.clusters.get(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    let properties = call.properties()?;
    check_texts(&properties, &TEXTS)?;
    let wanted = text(&properties, "orchestratorVersion").map_or_else(|| cluster.version.to_string(), str::to_owned);
    note.step(format!("AgentPool:{name}"), Some(wanted.clone()));
    call.check_etag("agent pool", None)?;
    check_name(name)?;
    check_pool_free(cluster, name)?;
    check_running(cluster)?;
    let region = region(world, &cluster.location)?;
    let version = rules::pool(None, &wanted, cluster.version, region)?;
    let mut pool = seed::pool(name, properties, version);
    pool.orchestrator_version = wanted;
    let newest = region.newest_image(image_family(&pool.settings));
    let image = match snapshot::source(&pool.settings) {
        Some(id) => {
            let snapshot = world.snapshots.get(&id.to_lowercase()).ok_or_else(|| snapshots::missing(id))?;
            snapshot.check_kind(&pool)?;
            Some(snapshot.image.clone())
        }
        None => newest,
    };
    if let Some(image) = image {
        pool.image = image;
    }
    if let Some(cluster) = world.clusters.get_mut(key) {
        cluster.pools.push(pool);
    }
    let id = world.begin(Begin::on_pool(key, name, "Creating"), now);
    note.applied = true;
    note.operation = Some(id);
    answer(world, call, key, name, StatusCode::CREATED, id, false)
}

/// POST upgradeNodeImageVersion: moves the pool to the newest image of the region, or with the header `AKSSnapshotId` to the image of
/// that node pool snapshot, which the pool is bound to then. If the pool has the image already, the operation ends at once.
pub(super) fn upgrade_image(
    world: &mut World,
    call: &Call,
    key: &str,
    name: &str,
    note: &mut Note,
    now: Timestamp,
) -> Answer {
    let Some(cluster) = world.clusters.get(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    let Some(pool) = cluster.pool(name) else { return Err(not_found(cluster, name)) };
    let source = call.snapshot_id.clone();
    let snapshot =
        source.as_deref().map(|id| world.snapshots.get(&id.to_lowercase()).ok_or_else(|| snapshots::missing(id)));
    let image = match &snapshot {
        Some(Ok(snapshot)) => Some(snapshot.image.clone()),
        _ => region(world, &cluster.location)?.newest_image(catalogue::family(&pool.image)),
    };
    let image = image.unwrap_or_else(|| pool.image.clone());
    note.step(format!("NodeImage:{}", pool.name), Some(image.clone()));
    check_pool_free(cluster, name)?;
    check_running(cluster)?;
    if let Some(snapshot) = snapshot {
        snapshot?.check_fits(pool, pool.version)?;
    }
    let id = if image == pool.image {
        world.begin_finished(key, now)
    } else {
        if let Some(pool) = world.clusters.get_mut(key).and_then(|cluster| cluster.pool_mut(name)) {
            pool.remember(pool.version, pool.image.clone(), now);
            if let Some(source) = source {
                pool.settings.insert("creationData".into(), json!({"sourceResourceId": source}));
            }
        }
        let image = Effect::Image { pool: name.to_owned(), image };
        note.applied = true;
        world.begin(Begin::on_pool(key, name, "UpgradingNodeImageVersion").with(image), now)
    };
    note.operation = Some(id);
    answer(world, call, key, name, StatusCode::ACCEPTED, id, true)
}

pub(super) fn delete(world: &mut World, call: &Call, key: &str, name: &str, note: &mut Note, now: Timestamp) -> Answer {
    note.step(format!("DeleteAgentPool:{name}"), None);
    let Some(cluster) = world.clusters.get(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    let Some(pool) = cluster.pool(name) else { return Ok(Reply::new(StatusCode::NO_CONTENT, Body::Empty)) };
    call.check_etag("agent pool", Some(&pool.etag))?;
    check_pool_free(cluster, name)?;
    if pool.is_system() && cluster.pools.iter().filter(|pool| pool.is_system()).count() == 1 {
        let message = "There has to be at least one agent pool of mode System in a managed cluster.";
        return Err(ArmError::new(StatusCode::BAD_REQUEST, "OperationNotAllowed", message));
    }
    let begin = Begin::on_pool(key, name, "Deleting").with(Effect::RemovePool(pool.name.clone()));
    let id = world.begin(begin, now);
    note.applied = true;
    note.operation = Some(id);
    Ok(following(world, call, Reply::new(StatusCode::ACCEPTED, Body::Empty), id, true))
}

fn answer(
    world: &World,
    call: &Call,
    key: &str,
    name: &str,
    status: StatusCode,
    id: uuid::Uuid,
    is_action: bool,
) -> Answer {
    let found = world.clusters.get(key).and_then(|cluster| Some(cluster.pool_body(cluster.pool(name)?)));
    let Some(body) = found else { return Err(ArmError::not_found("The agent pool is gone.")) };
    Ok(following(world, call, Reply::new(status, Body::Json(body)), id, is_action))
}
