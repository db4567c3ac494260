//! The resource provider: routes, and what all resources share.

mod clusters;
mod maintenance;
mod operations;
mod permissions;
mod pools;
mod profiles;
mod put_cluster;
mod snapshots;
mod subscriptions;

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use uuid::Uuid;

use crate::call::{Call, Note, Reply};
use crate::catalogue::Region;
use crate::cluster::Cluster;
use crate::errors::ArmError;
use crate::operations::is_busy;
use crate::world::World;

/// First accepted API version; AKS has retired those before 2020.
const OLDEST_API_VERSION: &str = "2020-01-01";

pub(crate) type Answer = Result<Reply, ArmError>;

/// Handles a request.
pub(crate) fn route(world: &mut World, call: &Call, note: &mut Note, now: Timestamp) -> Answer {
    let lower = call.lower();
    let at: Vec<&str> = lower.iter().map(String::as_str).collect();
    let method = &call.method;
    check_api_version(call, &at)?;
    permissions::check(world, call)?;
    match at.as_slice() {
        ["subscriptions", subscription, .., "providers", "microsoft.authorization", "permissions"] => {
            subscriptions::check(subscription)?;
            permissions::list(world, call)
        }
        ["subscriptions"] => subscriptions::list(call),
        ["subscriptions", subscription, rest @ ..] => {
            subscriptions::check(subscription)?;
            match rest {
                [] => subscriptions::get(call, subscription),
                ["resourcegroups", rest @ ..] if !rest.contains(&"providers") => {
                    subscriptions::groups(world, call, subscription, rest)
                }
                ["providers", "microsoft.containerservice", "managedclusters"] => {
                    clusters::list(world, call, subscription, None)
                }
                ["providers", "microsoft.containerservice", "locations", location, "kubernetesversions"] => {
                    check_is_get(call)?;
                    profiles::kubernetes_versions(world, location)
                }
                [
                    "providers",
                    "microsoft.containerservice",
                    "locations",
                    _,
                    kind @ ("operations" | "operationresults"),
                    id,
                ] => {
                    check_is_get(call)?;
                    operations::get(world, call, subscription, kind, id)
                }
                ["providers", "microsoft.containerservice", "snapshots"] => {
                    check_is_get(call)?;
                    snapshots::list(world, call, subscription, None)
                }
                ["resourcegroups", group, "providers", "microsoft.containerservice", "snapshots", rest @ ..] => {
                    let Some(given) = call.segments.get(3) else { return Err(ArmError::group_not_found(group)) };
                    if !world.groups.contains_key(&((*subscription).to_owned(), (*group).to_owned())) {
                        return Err(ArmError::group_not_found(given));
                    }
                    snapshots::serve(world, call, (subscription, group), rest, note)
                }
                ["resourcegroups", group, "providers", "microsoft.containerservice", "managedclusters", rest @ ..] => {
                    let Some(given) = call.segments.get(3) else { return Err(ArmError::group_not_found(group)) };
                    if !world.groups.contains_key(&((*subscription).to_owned(), (*group).to_owned())) {
                        return Err(ArmError::group_not_found(given));
                    }
                    match rest {
                        [] => clusters::list(world, call, subscription, Some(group)),
                        [_, rest @ ..] => cluster(world, call, note, now, rest),
                    }
                }
                ["providers" | "resourcegroups", ..] => {
                    Err(ArmError::unknown_type(at.last().copied().unwrap_or_default()))
                }
                _ => Err(ArmError::not_found(format!("No resource at '{}' of method '{method}'.", call.path))),
            }
        }
        _ => Err(ArmError::not_found(format!("No resource at '{}'.", call.path))),
    }
}

/// Handles requests below `managedClusters/{name}`.
fn cluster(world: &mut World, call: &Call, note: &mut Note, now: Timestamp, rest: &[&str]) -> Answer {
    let key = format!("/{}", call.lower().into_iter().take(8).collect::<Vec<_>>().join("/"));
    let key = key.as_str();
    match (&call.method, rest) {
        (&Method::PUT, []) => return put_cluster::put(world, call, key, note, now),
        (&Method::DELETE, []) => return clusters::delete(world, call, key, note, now),
        _ => {}
    }
    let Some(cluster) = world.clusters.get(key) else {
        let segment = |at: usize| call.segments.get(at).map(String::as_str).unwrap_or_default();
        return Err(ArmError::cluster_not_found(segment(3), segment(7)));
    };
    note.cluster = Some(cluster.name.clone());
    match (&call.method, rest) {
        (&Method::GET, []) => clusters::get(world, key),
        (&Method::PATCH, []) => clusters::patch_tags(world, call, key, note),
        (&Method::POST, [action @ ("stop" | "start")]) => {
            clusters::power(world, call, key, *action == "stop", note, now)
        }
        (&Method::POST, ["abort"]) => clusters::abort(world, call, key, None, note, now),
        (&Method::POST, [action @ ("listclusteradmincredential" | "listclusterusercredential")]) => {
            clusters::credentials(cluster, *action == "listclusteradmincredential", note)
        }
        (&Method::GET, ["upgradeprofiles", "default"]) => profiles::cluster_upgrades(world, cluster),
        (&Method::GET, ["availableagentpoolversions"]) => profiles::available_pool_versions(world, cluster),
        (&Method::GET, ["agentpools"]) => pools::list(cluster),
        (&Method::GET, ["agentpools", pool]) => pools::get(cluster, pool),
        (&Method::PUT, ["agentpools", pool]) => pools::put(world, call, key, pool, note, now),
        (&Method::DELETE, ["agentpools", pool]) => pools::delete(world, call, key, pool, note, now),
        (&Method::POST, ["agentpools", pool, "upgradenodeimageversion"]) => {
            pools::upgrade_image(world, call, key, pool, note, now)
        }
        (&Method::POST, ["agentpools", pool, "abort"]) => clusters::abort(world, call, key, Some(pool), note, now),
        (&Method::GET, ["agentpools", pool, "upgradeprofiles", "default"]) => {
            profiles::pool_upgrades(world, cluster, pool)
        }
        (_, ["maintenanceconfigurations", rest @ ..]) => maintenance::serve(world, call, key, rest, note, now),
        (_, []) => Err(not_allowed(call, "GET, PUT, PATCH, DELETE")),
        (_, ["agentpools", _]) => Err(not_allowed(call, "GET, PUT, DELETE")),
        (_, ["agentpools" | "availableagentpoolversions"] | ["upgradeprofiles", "default"]) => {
            Err(not_allowed(call, "GET"))
        }
        (_, ["stop" | "start" | "abort" | "listclusteradmincredential" | "listclusterusercredential"])
        | (_, ["agentpools", _, "upgradenodeimageversion" | "abort"]) => Err(not_allowed(call, "POST")),
        _ => Err(ArmError::unknown_type(&format!("managedClusters/{}", rest.join("/")))),
    }
}

fn check_api_version(call: &Call, at: &[&str]) -> Result<(), ArmError> {
    let bad = |code: &str, message: String| Err(ArmError::new(StatusCode::BAD_REQUEST, code, message));
    let Some(version) = call.query.get("api-version").filter(|version| !version.is_empty()) else {
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        return bad("MissingApiVersionParameter", message.into());
    };
    let date = version.strip_suffix("-preview").unwrap_or(version);
    if date.len() != 10 || date.parse::<jiff::civil::Date>().is_err() {
        let message = format!(
            "The api-version '{version}' is invalid. The supported versions are '2026-08-01,2026-06-01,2025-07-02-preview'."
        );
        return bad("InvalidApiVersionParameter", message);
    }
    let of_aks = ["managedclusters", "kubernetesversions", "snapshots"].iter().any(|kind| at.contains(kind));
    if of_aks && date < OLDEST_API_VERSION {
        return bad(
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for API version '{version}' for type 'managedClusters'. The supported api-versions \
                 are '2026-08-01, 2026-06-01, 2025-07-02-preview' and those before them since {OLDEST_API_VERSION}."
            ),
        );
    }
    Ok(())
}

/// Refuses methods other than GET.
fn check_is_get(call: &Call) -> Result<(), ArmError> {
    if call.method == Method::GET { Ok(()) } else { Err(not_allowed(call, "GET")) }
}

fn not_allowed(call: &Call, allow: &'static str) -> ArmError {
    ArmError::method_not_allowed(call.method.as_str(), allow)
}

/// Checks that no operation is in progress on the cluster or its pools, and that the cluster is not stopped.
fn check_cluster_free(cluster: &Cluster) -> Result<(), ArmError> {
    if is_busy(&cluster.state) {
        return Err(ArmError::operation_in_progress("", &cluster.state));
    }
    match cluster.pools.iter().find(|pool| is_busy(&pool.state)) {
        Some(pool) => Err(ArmError::operation_in_progress(&format!("{} - ", pool.name), &pool.state)),
        None => Ok(()),
    }
}

/// Checks that no operation is in progress on the cluster or this pool. Operations on other pools may be.
fn check_pool_free(cluster: &Cluster, name: &str) -> Result<(), ArmError> {
    if is_busy(&cluster.state) {
        return Err(ArmError::operation_in_progress("", &cluster.state));
    }
    match cluster.pool(name).filter(|pool| is_busy(&pool.state)) {
        Some(pool) => Err(ArmError::operation_in_progress(&format!("{} - ", pool.name), &pool.state)),
        None => Ok(()),
    }
}

fn check_running(cluster: &Cluster) -> Result<(), ArmError> {
    if cluster.stopped { Err(ArmError::stopped(&cluster.name)) } else { Ok(()) }
}

fn region<'a>(world: &'a World, name: &str) -> Result<&'a Region, ArmError> {
    world.catalogue.region(name).ok_or_else(|| {
        let known: Vec<&str> = world.catalogue.names().collect();
        ArmError::new(
            StatusCode::BAD_REQUEST,
            "LocationNotAvailableForResourceType",
            format!(
                "The provided location '{name}' is not available for resource type 'Microsoft.ContainerService/managedClusters'. List of \
                 available regions for the resource type is '{}'.",
                known.join(",")
            ),
        )
    })
}

/// Adds the headers for polling an operation: `Azure-AsyncOperation`, for actions also `Location`.
fn following(world: &World, call: &Call, reply: Reply, id: Uuid, is_action: bool) -> Reply {
    let Some(operation) = world.operations.get(&id) else { return reply };
    let url = |kind: &str| {
        format!(
            "{}/subscriptions/{}/providers/Microsoft.ContainerService/locations/{}/{kind}/{id}?api-version=2016-03-30",
            call.base, operation.subscription, operation.location
        )
    };
    let mut reply = reply.with("azure-asyncoperation", url("operations"));
    if is_action {
        reply = reply.with("location", url("operationresults"));
    }
    match world.settings.retry_after_seconds {
        Some(seconds) => reply.with("retry-after", seconds.to_string()),
        None => reply,
    }
}
