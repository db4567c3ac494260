//! Managed clusters, except PUT: reading, lists, tags, power, deletion, credentials.

use std::ops::Bound;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Answer, check_cluster_free, check_is_get, check_running, following};
use crate::call::{Body, Call, Note, Reply};
use crate::cluster::Cluster;
use crate::errors::ArmError;
use crate::operations::{Begin, Effect, Status};
use crate::world::World;

const PAGE: usize = 200;
const LARGEST_PAGE: usize = 1000;

pub(super) fn get(world: &mut World, key: &str) -> Answer {
    let Some(cluster) = world.clusters.get_mut(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    Ok(Reply::new(StatusCode::OK, Body::Text(cluster.json())))
}

/// Lists the clusters of a subscription or resource group in pages, in the order of their IDs.
pub(super) fn list(world: &mut World, call: &Call, subscription: &str, group: Option<&str>) -> Answer {
    check_is_get(call)?;
    let prefix = match group {
        Some(group) => format!("/subscriptions/{subscription}/resourcegroups/{group}/"),
        None => format!("/subscriptions/{subscription}/"),
    };
    let size = call.query.get("$top").and_then(|top| top.parse().ok()).unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let after = match call.query.get("$skiptoken") {
        None => prefix.clone(),
        Some(token) => URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|key| key.starts_with(&prefix))
            .ok_or_else(|| ArmError::invalid("$skipToken", "The $skipToken is not one that this service has given."))?,
    };
    let range = (Bound::Excluded(after), Bound::Unbounded);
    let mut found = world.clusters.range_mut(range).take_while(|(key, _)| key.starts_with(&prefix));
    let mut body = String::from("{\"value\":[");
    let mut last = None;
    for (at, (key, cluster)) in found.by_ref().take(size).enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(&cluster.json());
        last = Some(key.clone());
    }
    body.push(']');
    if let (Some(last), Some(_)) = (last, found.next()) {
        let version = call.query.get("api-version").map(String::as_str).unwrap_or_default();
        let next = format!(
            "{}{}?api-version={version}&%24top={size}&%24skiptoken={}",
            call.base,
            call.path,
            URL_SAFE_NO_PAD.encode(last)
        );
        body.push_str(&format!(",\"nextLink\":{}", Value::String(next)));
    }
    body.push('}');
    Ok(Reply::new(StatusCode::OK, Body::Text(body.into())))
}

/// PATCH: changes tags only, synchronously.
pub(super) fn patch_tags(world: &mut World, call: &Call, key: &str, note: &mut Note) -> Answer {
    note.step("Tags", None);
    let etag = world.fresh_etag();
    let Some(cluster) = world.clusters.get_mut(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    call.check_etag("managed cluster", Some(&cluster.etag))?;
    check_cluster_free(cluster)?;
    let tags = call.object()?.get("tags").filter(|tags| tags.is_object());
    if let Some(tags) = tags {
        cluster.tags = Some(tags.clone());
        cluster.changed(etag);
        note.applied = true;
    }
    Ok(Reply::new(StatusCode::OK, Body::Text(cluster.json())))
}

pub(super) fn delete(world: &mut World, call: &Call, key: &str, note: &mut Note, now: Timestamp) -> Answer {
    note.step("Delete", None);
    let Some(cluster) = world.clusters.get(key) else { return Ok(Reply::new(StatusCode::NO_CONTENT, Body::Empty)) };
    note.cluster = Some(cluster.name.clone());
    call.check_etag("managed cluster", Some(&cluster.etag))?;
    check_cluster_free(cluster)?;
    let id = world.begin(Begin::on_cluster(key, "Deleting").with(Effect::RemoveCluster), now);
    note.applied = true;
    note.operation = Some(id);
    Ok(following(world, call, Reply::new(StatusCode::ACCEPTED, Body::Empty), id, true))
}

/// POST stop and start. Returns 204 if the cluster has that state already.
pub(super) fn power(world: &mut World, call: &Call, key: &str, stop: bool, note: &mut Note, now: Timestamp) -> Answer {
    note.step(if stop { "Stop" } else { "Start" }, None);
    let Some(cluster) = world.clusters.get(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    check_cluster_free(cluster)?;
    if cluster.stopped == stop {
        return Ok(Reply::new(StatusCode::NO_CONTENT, Body::Empty));
    }
    let state = if stop { "Stopping" } else { "Starting" };
    let mut begin = Begin::on_cluster(key, state).with(Effect::Power { stopped: stop });
    begin.pools = cluster.pools.iter().map(|pool| pool.name.clone()).collect();
    begin.not_latest = true;
    let id = world.begin(begin, now);
    note.applied = true;
    note.operation = Some(id);
    Ok(following(world, call, Reply::new(StatusCode::ACCEPTED, Body::Empty), id, true))
}

/// POST abort of a cluster or agent pool: its operation ends Canceled.
pub(super) fn abort(
    world: &mut World,
    call: &Call,
    key: &str,
    pool: Option<&str>,
    note: &mut Note,
    now: Timestamp,
) -> Answer {
    note.step(pool.map_or("Abort".into(), |pool| format!("Abort:{pool}")), None);
    let running = world.running_on(key).into_iter().filter(|id| {
        let of = world.operations.get(id).and_then(|operation| operation.pool.as_deref());
        of.map(str::to_ascii_lowercase).as_deref() == pool
    });
    let running: Vec<_> = running.collect();
    if running.is_empty() {
        return Ok(Reply::new(StatusCode::NO_CONTENT, Body::Empty));
    }
    for id in running {
        world.finish(id, Status::Canceled, now);
    }
    let id = world.begin_finished(key, now);
    note.applied = true;
    note.operation = Some(id);
    Ok(following(world, call, Reply::new(StatusCode::ACCEPTED, Body::Empty), id, true))
}

/// Returns a kubeconfig in the format of AKS. Its API server does not exist.
pub(super) fn credentials(cluster: &Cluster, admin: bool, note: &mut Note) -> Answer {
    note.step("Credentials", None);
    check_running(cluster)?;
    if admin && cluster.settings.get("disableLocalAccounts").and_then(Value::as_bool) == Some(true) {
        return Err(ArmError::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "Getting static credential is not allowed because this cluster is set to disable local accounts.",
        ));
    }
    let role = if admin { "clusterAdmin" } else { "clusterUser" };
    let user = format!("{role}_{}_{}", cluster.group, cluster.name);
    let server = crate::cluster::guid(&cluster.key(), 5);
    let name = &cluster.name;
    let config = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: https://{name}-{}.hcp.{}.azmk8s.io:443\n\
         contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {user}\ncurrent-context: {name}\nusers:\n- name: {user}\n  \
         user:\n    token: {server}\npreferences: {{}}\n",
        server.get(..8).unwrap_or_default(),
        cluster.location
    );
    Ok(Reply::ok(json!({"kubeconfigs": [{"name": role, "value": STANDARD.encode(config)}]})))
}
