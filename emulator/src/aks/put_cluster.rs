//! PUT of a managed cluster: creation, upgrade of the control plane alone or with its agent pools, any other change.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Answer, check_cluster_free, check_running, following, region};
use crate::call::{Body, Call, Note, Reply};
use crate::catalogue::{self, Region};
use crate::cluster::{Cluster, cluster_settings, image_family, is_broken};
use crate::errors::ArmError;
use crate::operations::{Begin, Effect};
use crate::rules;
use crate::seed;
use crate::version::Version;
use crate::world::World;

pub(super) fn put(world: &mut World, call: &Call, key: &str, note: &mut Note, now: Timestamp) -> Answer {
    match world.clusters.get(key) {
        Some(_) => update(world, call, key, note, now),
        None => create(world, call, key, note, now),
    }
}

/// The change of one agent pool.
struct PoolPlan {
    name: String,
    profile: Map<String, Value>,
    requested: String,
    version: Version,
    change: PoolChange,
}

#[derive(PartialEq)]
enum PoolChange {
    /// A new pool.
    New,
    /// A newer version, or a retry of a failed upgrade, with the newest image.
    Upgrade,
    /// The same version.
    Keep,
}

/// Lower-cased name, and the profile as sent.
type Profile = (String, Map<String, Value>);

fn profiles(properties: &Map<String, Value>) -> Result<Option<Vec<Profile>>, ArmError> {
    const TARGET: &str = "properties.agentPoolProfiles";
    let list = match properties.get("agentPoolProfiles") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(ArmError::invalid(TARGET, "agentPoolProfiles is not a list.")),
    };
    let named = list.iter().map(|profile| {
        let profile =
            profile.as_object().ok_or_else(|| ArmError::invalid(TARGET, "An agent pool profile is not an object."))?;
        let name =
            text(profile, "name").ok_or_else(|| ArmError::invalid(TARGET, "An agent pool profile has no name."))?;
        Ok((name.to_ascii_lowercase(), profile.clone()))
    });
    named.collect::<Result<_, _>>().map(Some)
}

/// Refuses values of other types where strings are expected.
pub(super) fn check_texts(map: &Map<String, Value>, names: &[&str]) -> Result<(), ArmError> {
    match names.iter().find(|name| map.get(**name).is_some_and(|value| !value.is_string() && !value.is_null())) {
        None => Ok(()),
        Some(name) => {
            let message =
                format!("The request content was invalid and could not be deserialized: '{name} is not a string'.");
            Err(ArmError::new(StatusCode::BAD_REQUEST, "InvalidRequestContent", message))
        }
    }
}

/// Returns a non-empty string. AKS treats an empty one as absent.
pub(super) fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Returns the intended step and target, from the values of the body alone, so that refused requests are logged with them too.
fn intent(cluster: &Cluster, wanted: &str, profiles: Option<&[Profile]>) -> &'static str {
    let differs =
        |wanted: &str, requested: &str, version: Version| wanted != requested && wanted != version.to_string();
    let pools = profiles.unwrap_or_default().iter().any(|(name, profile)| {
        let (Some(pool), Some(wanted)) = (cluster.pool(name), text(profile, "orchestratorVersion")) else {
            return false;
        };
        differs(wanted, &pool.orchestrator_version, pool.version)
    });
    match (differs(wanted, &cluster.kubernetes_version, cluster.version), pools) {
        (true, false) => "ControlPlane",
        (_, true) => "Cluster",
        (false, false) => "Update",
    }
}

fn update(world: &mut World, call: &Call, key: &str, note: &mut Note, now: Timestamp) -> Answer {
    let Some(cluster) = world.clusters.get(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    note.cluster = Some(cluster.name.clone());
    let body = call.object()?;
    let properties = call.properties()?;
    check_texts(&properties, &["kubernetesVersion", "dnsPrefix"])?;
    let profiles = profiles(&properties)?;
    let wanted = text(&properties, "kubernetesVersion").unwrap_or(&cluster.kubernetes_version).to_owned();
    note.step(intent(cluster, &wanted, profiles.as_deref()), Some(wanted.clone()));

    call.check_etag("managed cluster", Some(&cluster.etag))?;
    check_cluster_free(cluster)?;
    check_running(cluster)?;
    check_unchangeable(cluster, body, &properties)?;
    let region = region(world, &cluster.location)?;
    let version = rules::control_plane(&cluster.name, Some(cluster.version), &wanted, region)?;
    let plans = match &profiles {
        Some(profiles) => plan_pools(cluster, profiles, version, region)?,
        None => Vec::new(),
    };
    for pool in &cluster.pools {
        let planned = plans.iter().find(|plan| plan.name == pool.name).map_or(pool.version, |plan| plan.version);
        rules::skew(planned, version)?;
    }
    let pools_move = plans.iter().any(|plan| plan.change == PoolChange::Upgrade);
    if version != cluster.version && !pools_move {
        check_auto_upgrade_off(cluster)?;
    }
    let upgrading = version != cluster.version || pools_move;
    let mut begin = Begin::on_cluster(key, if upgrading { "Upgrading" } else { "Updating" });
    begin_pools(&mut begin, &plans, region);

    let etag = world.fresh_etag();
    let Some(cluster) = world.clusters.get_mut(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    cluster.settings = cluster_settings(&cluster.name, &properties, Some(&cluster.settings));
    cluster.tags = body.get("tags").filter(|tags| tags.is_object()).cloned();
    if let Some(sku) = body.get("sku").filter(|sku| sku.is_object()) {
        cluster.sku = sku.clone();
    }
    cluster.kubernetes_version = wanted;
    cluster.version = version;
    for plan in plans {
        apply_pool(cluster, plan, &etag, now);
    }
    let id = world.begin(begin, now);
    note.applied = true;
    note.operation = Some(id);
    answer(world, call, key, StatusCode::OK, id)
}

fn create(world: &mut World, call: &Call, key: &str, note: &mut Note, now: Timestamp) -> Answer {
    let segment = |at: usize| call.segments.get(at).cloned().unwrap_or_default();
    let (subscription, name) = (segment(1).to_lowercase(), segment(7));
    let group =
        world.groups.get(&(subscription.clone(), segment(3).to_lowercase())).cloned().unwrap_or_else(|| segment(3));
    note.step("Create", None);
    call.check_etag("managed cluster", None)?;
    check_name(&name)?;
    let body = call.object()?;
    let properties = call.properties()?;
    check_texts(&properties, &["kubernetesVersion", "dnsPrefix"])?;
    let Some(location) = text(body, "location").map(catalogue::location) else {
        let message = "The location property is required for this definition.";
        return Err(ArmError::new(StatusCode::BAD_REQUEST, "LocationRequired", message));
    };
    let region = region(world, &location)?;
    let wanted = match text(&properties, "kubernetesVersion") {
        Some(wanted) => wanted.to_owned(),
        None => region.default_minor().map(|(major, minor)| format!("{major}.{minor}")).unwrap_or_default(),
    };
    note.target = Some(wanted.clone());
    let version = rules::control_plane(&name, None, &wanted, region)?;
    let profiles = profiles(&properties)?.unwrap_or_default();
    if !profiles.iter().any(|(_, profile)| text(profile, "mode") == Some("System")) {
        let message = "A managed cluster needs at least one agent pool of mode System.";
        return Err(ArmError::invalid("properties.agentPoolProfiles", message));
    }
    let mut cluster = seed::cluster(&subscription, &group, name, &location, version);
    let plans = plan_pools(&cluster, &profiles, version, region)?;
    let mut begin = Begin::on_cluster(key, "Creating");
    begin_pools(&mut begin, &plans, region);
    let images: Vec<_> = plans
        .iter()
        .map(|plan| region.newest_image(image_family(&crate::cluster::pool_settings(&plan.profile))))
        .collect();
    cluster.settings = cluster_settings(&cluster.name, &properties, None);
    cluster.kubernetes_version = wanted;
    cluster.tags = body.get("tags").filter(|tags| tags.is_object()).cloned();
    if let Some(sku) = body.get("sku").filter(|sku| sku.is_object()) {
        cluster.sku = sku.clone();
    }
    let etag = world.fresh_etag();
    for (plan, image) in plans.into_iter().zip(images) {
        let name = plan.name.clone();
        apply_pool(&mut cluster, plan, &etag, now);
        if let (Some(pool), Some(image)) = (cluster.pool_mut(&name), image) {
            pool.image = image;
        }
    }
    note.cluster = Some(cluster.name.clone());
    world.add(cluster);
    let id = world.begin(begin, now);
    note.applied = true;
    note.operation = Some(id);
    answer(world, call, key, StatusCode::CREATED, id)
}

fn answer(world: &mut World, call: &Call, key: &str, status: StatusCode, id: uuid::Uuid) -> Answer {
    let Some(cluster) = world.clusters.get_mut(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    let reply = Reply::new(status, Body::Text(cluster.json()));
    Ok(following(world, call, reply, id, false))
}

fn plan_pools(
    cluster: &Cluster,
    profiles: &[Profile],
    control_plane: Version,
    region: &Region,
) -> Result<Vec<PoolPlan>, ArmError> {
    const TARGET: &str = "properties.agentPoolProfiles";
    if let Some(missing) = cluster.pools.iter().find(|pool| !profiles.iter().any(|(name, _)| *name == pool.name)) {
        let message = format!("Agent pool '{}' is missing. Delete agent pools with the agent pool API.", missing.name);
        return Err(ArmError::invalid(TARGET, message));
    }
    let plans = profiles.iter().enumerate().map(|(at, (name, profile))| {
        super::pools::check_name(name)?;
        if profiles.iter().take(at).any(|(earlier, _)| earlier == name) {
            return Err(ArmError::invalid(TARGET, format!("Agent pool '{name}' is given twice.")));
        }
        let before = cluster.pool(name);
        let current = before.map(|pool| pool.version);
        let requested = match (text(profile, "orchestratorVersion"), before) {
            (Some(wanted), _) => wanted.to_owned(),
            (None, Some(pool)) => pool.orchestrator_version.clone(),
            (None, None) => control_plane.to_string(),
        };
        let version = rules::pool(current, &requested, control_plane, region)?;
        let change = match before {
            None => PoolChange::New,
            Some(pool) if pool.version != version || (pool.is_broken() && is_broken(&cluster.state)) => {
                PoolChange::Upgrade
            }
            Some(_) => PoolChange::Keep,
        };
        Ok(PoolPlan { name: name.clone(), profile: profile.clone(), requested, version, change })
    });
    plans.collect()
}

/// Adds new and upgraded pools to the operation.
fn begin_pools(begin: &mut Begin<'_>, plans: &[PoolPlan], region: &Region) {
    for plan in plans.iter().filter(|plan| plan.change != PoolChange::Keep) {
        begin.pools.push(plan.name.clone());
        let newest = region.newest_image(image_family(&crate::cluster::pool_settings(&plan.profile)));
        if let Some(image) = newest {
            begin.effects.push(Effect::Image { pool: plan.name.clone(), image });
        }
    }
}

fn apply_pool(cluster: &mut Cluster, plan: PoolPlan, etag: &str, now: Timestamp) {
    match cluster.pool_mut(&plan.name) {
        Some(pool) => {
            if plan.change == PoolChange::Upgrade {
                pool.remember(pool.version, pool.image.clone(), now);
            }
            pool.settings = super::pools::replaced(&pool.settings, &plan.profile);
            pool.orchestrator_version = plan.requested;
            pool.version = plan.version;
        }
        None => {
            let mut pool = seed::pool(&plan.name, plan.profile, plan.version);
            pool.orchestrator_version = plan.requested;
            pool.etag = etag.to_owned();
            cluster.pools.push(pool);
        }
    }
}

fn check_name(name: &str) -> Result<(), ArmError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if name.len() <= 63 && name.chars().all(inner) && outer(name.chars().next()) && outer(name.chars().next_back()) {
        return Ok(());
    }
    Err(ArmError::invalid(
        "name",
        format!(
            "The managed cluster name '{name}' must match ^[a-zA-Z0-9]$|^[a-zA-Z0-9][-_a-zA-Z0-9]{{0,61}}[a-zA-Z0-9]$."
        ),
    ))
}

fn check_unchangeable(
    cluster: &Cluster,
    body: &Map<String, Value>,
    properties: &Map<String, Value>,
) -> Result<(), ArmError> {
    if let Some(location) = text(body, "location").map(catalogue::location)
        && location != cluster.location
    {
        return Err(ArmError::new(
            StatusCode::CONFLICT,
            "InvalidResourceLocation",
            format!(
                "The resource '{}' already exists in location '{}' in resource group '{}'. A resource with the same name cannot be created \
                 in location '{location}'. Please select a new resource name.",
                cluster.name, cluster.location, cluster.group
            ),
        ));
    }
    match (text(properties, "dnsPrefix"), cluster.settings.get("dnsPrefix").and_then(Value::as_str)) {
        (Some(wanted), Some(kept)) if wanted != kept => Err(ArmError::new(
            StatusCode::BAD_REQUEST,
            "PropertyChangeNotAllowed",
            "Changing property 'properties.dnsPrefix' is not allowed.",
        )
        .at("properties.dnsPrefix")),
        _ => Ok(()),
    }
}

/// Refuses an upgrade of the control plane alone while auto-upgrade is enabled.
fn check_auto_upgrade_off(cluster: &Cluster) -> Result<(), ArmError> {
    let channel = cluster
        .settings
        .get("autoUpgradeProfile")
        .and_then(|profile| profile.get("upgradeChannel"))
        .and_then(Value::as_str);
    match channel {
        Some(channel) if !matches!(channel, "none" | "node-image") => Err(ArmError::new(
            StatusCode::BAD_REQUEST,
            "OperationNotAllowed",
            format!("Upgrading only the control plane is not allowed while the auto-upgrade channel is '{channel}'."),
        )),
        _ => Ok(()),
    }
}
