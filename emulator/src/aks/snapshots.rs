//! Node pool snapshots: list, GET, PUT, DELETE. All synchronous.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, not_allowed, put_cluster::text};
use crate::call::{Body, Call, Note, Reply};
use crate::catalogue;
use crate::errors::ArmError;
use crate::operations::is_busy;
use crate::snapshot::{Snapshot, source};
use crate::world::World;

const TYPE: &str = "Microsoft.ContainerService/snapshots";

/// The refusal of a request that names a snapshot which does not exist.
pub(super) fn missing(id: &str) -> ArmError {
    let message = format!("The snapshot '{id}' was not found.");
    ArmError::new(StatusCode::NOT_FOUND, "ResourceNotFound", message).at("properties.creationData.sourceResourceId")
}

pub(super) fn list(world: &World, _call: &Call, subscription: &str, group: Option<&str>) -> Answer {
    let of = |snapshot: &&Snapshot| {
        snapshot.subscription.eq_ignore_ascii_case(subscription)
            && group.is_none_or(|group| snapshot.group.eq_ignore_ascii_case(group))
    };
    let value: Vec<Value> = world.snapshots.values().filter(of).map(Snapshot::body).collect();
    Ok(Reply::ok(json!({ "value": value })))
}

/// Handles requests at and below `snapshots` of a resource group.
pub(super) fn serve(
    world: &mut World,
    call: &Call,
    (subscription, group): (&str, &str),
    rest: &[&str],
    note: &mut Note,
) -> Answer {
    let key = format!("/{}", call.lower().join("/"));
    match (&call.method, rest) {
        (&Method::GET, []) => list(world, call, subscription, Some(group)),
        (&Method::GET, [name]) => match world.snapshots.get(&key) {
            Some(snapshot) => Ok(Reply::ok(snapshot.body())),
            None => Err(ArmError::resource_not_found(group, &format!("{TYPE}/{name}"))),
        },
        (&Method::PUT, [_]) => put(world, call, &key, note),
        (&Method::DELETE, [name]) => {
            note.step(format!("DeleteSnapshot:{name}"), None);
            note.applied = world.snapshots.remove(&key).is_some();
            let status = if note.applied { StatusCode::OK } else { StatusCode::NO_CONTENT };
            Ok(Reply::new(status, Body::Empty))
        }
        (_, []) => Err(not_allowed(call, "GET")),
        (_, [_]) => Err(not_allowed(call, "GET, PUT, DELETE")),
        _ => Err(ArmError::unknown_type(&format!("snapshots/{}", rest.join("/")))),
    }
}

fn put(world: &mut World, call: &Call, key: &str, note: &mut Note) -> Answer {
    const SOURCE: &str = "properties.creationData.sourceResourceId";
    let segment = |at: usize| call.segments.get(at).cloned().unwrap_or_default();
    let name = segment(7);
    note.step(format!("Snapshot:{name}"), None);
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if name.len() > 63 || !name.chars().all(inner) || !ends(name.chars().next()) || !ends(name.chars().next_back()) {
        let message = format!(
            "The snapshot name '{name}' must match ^[a-zA-Z0-9]$|^[a-zA-Z0-9][-_a-zA-Z0-9]{{0,61}}[a-zA-Z0-9]$."
        );
        return Err(ArmError::invalid("name", message));
    }
    let body = call.object()?;
    let properties = call.properties()?;
    let Some(location) = text(body, "location").map(catalogue::location) else {
        let message = "The location property is required for this definition.";
        return Err(ArmError::new(StatusCode::BAD_REQUEST, "LocationRequired", message));
    };
    let Some(pool_id) = source(&properties) else {
        return Err(ArmError::invalid(SOURCE, "A node pool snapshot needs the agent pool that it is taken of."));
    };
    let lower = pool_id.to_lowercase();
    let found = lower.split_once("/agentpools/").and_then(|(cluster, pool)| {
        let cluster = world.clusters.get(cluster)?;
        Some((cluster, cluster.pool(pool)?))
    });
    let Some((cluster, pool)) = found else { return Err(missing(pool_id)) };
    if cluster.location != location {
        let message = format!("The snapshot must be in the location of its agent pool, '{}'.", cluster.location);
        return Err(ArmError::invalid("location", message));
    }
    if is_busy(&cluster.state) || is_busy(&pool.state) {
        return Err(ArmError::operation_in_progress(&format!("{} - ", pool.name), &pool.state));
    }
    let existed = world.snapshots.contains_key(key);
    let snapshot = Snapshot {
        subscription: segment(1).to_lowercase(),
        group: segment(3),
        name,
        location,
        tags: body.get("tags").filter(|tags| tags.is_object()).cloned(),
        source: pool_id.to_owned(),
        version: pool.version,
        image: pool.image.clone(),
        os_type: pool.os_type().to_owned(),
        os_sku: pool.settings.get("osSKU").cloned().unwrap_or_default(),
        vm_size: pool.settings.get("vmSize").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    note.target = Some(snapshot.image.clone());
    note.applied = true;
    let reply = snapshot.body();
    world.snapshots.insert(key.to_owned(), snapshot);
    let status = if existed { StatusCode::OK } else { StatusCode::CREATED };
    Ok(Reply::new(status, Body::Json(reply)))
}
