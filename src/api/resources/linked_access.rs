//! Linked access: the caller of a PUT needs a right on the resources that its body names, too.

use serde_json::Value;

use super::{
    at::{At, Read, Write},
    resource_type::ResourceType,
    strategies::UpdateStrategy,
};
use crate::{
    api::{
        App,
        http::{error::ApiResult, request::ArmRequest},
    },
    arm::ResourceId,
    identity::{Action, authorize::denied_linked, roles::permits},
    model::types,
};

/// What joining a fleet does to a cluster.
const CLUSTER_WRITE: &str = "Microsoft.ContainerService/managedClusters/write";

/// Checks that the caller may change the cluster of a new member. Where requests for clusters are passed through, the upstream is asked
/// with the caller's token, since the roles on clusters are there. Otherwise the role assignments of this service decide.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed`; 502 or 504 when the upstream does not answer.
pub(super) async fn may_join<T: ResourceType>(app: &App, at: &At<Write<T>>, cluster: &ResourceId) -> ApiResult<()> {
    let here = at.principal.access.allows(CLUSTER_WRITE, cluster);
    let allowed = match app.pass_through.as_ref().filter(|pass| pass.takes(types::MANAGED_CLUSTERS)) {
        Some(pass) if here || app.upstream_decides => {
            let granted = pass.permissions(cluster, at.headers()).await?;
            granted.iter().any(|set| permits(&set.actions, &set.not_actions, CLUSTER_WRITE))
        }
        _ => here,
    };
    decide(app, at, allowed, &Write::<T>::name(), CLUSTER_WRITE, cluster).await
}

/// Checks that the caller may read the strategy in `updateStrategyId`, if `properties` have one: runs get a copy of the strategy. A
/// text that is not an ID is left to validation.
///
/// # Errors
/// 403 `LinkedAuthorizationFailed`.
pub(super) async fn may_follow<T: ResourceType>(app: &App, at: &At<Write<T>>, properties: &Value) -> ApiResult<()> {
    let named = properties.get("updateStrategyId").and_then(Value::as_str);
    let Some(strategy) = named.and_then(|id| id.parse().ok()) else { return Ok(()) };
    let read = Read::<UpdateStrategy>::name();
    let allowed = at.principal.access.allows(&read, &strategy);
    decide(app, at, allowed, &Write::<T>::name(), &read, &strategy).await
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
