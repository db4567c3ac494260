//! Linked access: what a resource names, its creator must have a right on, too.

use http::HeaderMap;

use crate::{
    api::{
        App,
        http::{error::ApiResult, request::ArmRequest},
    },
    arm::ResourceId,
    identity::{authorize::denied_linked, roles::permits},
    model::types::{self, action},
};

/// What joining a fleet does to a cluster.
const CLUSTER_WRITE: &str = "Microsoft.ContainerService/managedClusters/write";

/// Checks that the caller may change a cluster that it makes a member. Asked from the upstream with the caller's own token
/// where clusters are passed through, as its roles on clusters are there; else decided by the assignments here.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed`; 502 or 504 when the upstream does not say.
pub(crate) async fn may_join(
    app: &App,
    request: &ArmRequest,
    action: &str,
    cluster: &ResourceId,
    headers: &HeaderMap,
) -> ApiResult<()> {
    let here = request.principal.access.allows(CLUSTER_WRITE, cluster);
    let allowed = match app.pass_through.as_ref().filter(|pass| pass.takes(types::MANAGED_CLUSTERS)) {
        Some(pass) if here || app.upstream_decides => {
            let granted = pass.permissions(cluster, headers).await?;
            granted.iter().any(|set| permits(&set.actions, &set.not_actions, CLUSTER_WRITE))
        }
        _ => here,
    };
    decide(app, request, allowed, action, CLUSTER_WRITE, cluster).await
}

/// Checks that the caller may read a strategy that it makes a run or an auto-upgrade profile of: runs get a copy.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed`.
pub(crate) async fn may_follow(app: &App, request: &ArmRequest, action: &str, strategy: &ResourceId) -> ApiResult<()> {
    let allowed = request.principal.access.allows(action::STRATEGIES_READ, strategy);
    decide(app, request, allowed, action, action::STRATEGIES_READ, strategy).await
}

async fn decide(
    app: &App,
    request: &ArmRequest,
    allowed: bool,
    action: &str,
    linked_action: &str,
    linked: &ResourceId,
) -> ApiResult<()> {
    if allowed {
        return Ok(());
    }
    let linked = linked.to_string();
    request.principal.record(app, linked_action, &linked, false).await?;
    let (caller, scope) = (&request.principal.caller, request.id.to_string());
    Err(denied_linked(caller, action, &scope, linked_action, &linked).into())
}
