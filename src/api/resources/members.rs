//! Members of a fleet. Joining and leaving are jobs; the cluster itself is left alone by both.

use http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use super::{
    at::{At, Write},
    handlers::stored,
    linked_access,
    resource_type::{Change, Limit, Noun, Provisioning, ResourceType, Scope, Verbs},
};
use crate::{
    api::{
        App,
        http::{error::ApiResult, request::ArmRequest},
    },
    arm::{ArmError, Problems, page::Page},
    database::Connection,
    engine::queue,
    model::{
        member::{MAX_MEMBERS, MemberProperties},
        provisioning_state::ProvisioningState,
        types,
        versions::Since,
    },
    store::{
        memberships,
        resources::{self, Resource},
    },
    work::NewJob,
};

/// Members.
pub(super) struct Member;

impl ResourceType for Member {
    const TYPE: &'static str = types::MEMBERS;
    const SCOPE: Scope = Scope::Fleet;
    const SINCE: Since = Since::ALWAYS;
    const NOUN: Noun = Noun { article: "a", one: "fleet member", many: "fleet members" };
    const VERBS: Verbs = Verbs { put: true, patch: true, delete: true };
    const NAME_PARAMETER: &'static str = "fleetMemberName";
    const PATCHABLE: &'static [&'static str] = &["group", "labels", "clusterResourceId"];
    const MOST: Limit = Limit { most: MAX_MEMBERS, status: StatusCode::BAD_REQUEST, code: "MemberLimitExceeded" };
    const PROVISIONING: Option<Provisioning> = Some(Provisioning {
        creating: ProvisioningState::Joining,
        deleting: ProvisioningState::Leaving,
        provision: join,
        delete: leave,
    });

    type Properties = MemberProperties;
    type Extras = ();

    async fn check_linked_access(app: &App, at: &At<Write<Self>>, properties: &Value) -> ApiResult<()> {
        // A text that is not a cluster's ID is refused by `check`.
        let named = properties.get("clusterResourceId").and_then(Value::as_str);
        match named.and_then(MemberProperties::cluster_named) {
            Some(cluster) => linked_access::may_join(app, at, &cluster).await,
            None => Ok(()),
        }
    }

    async fn check(
        change: &mut Change<'_>,
        new: &Self::Properties,
        stored: Option<&Self::Properties>,
        problems: &mut Problems,
    ) -> ApiResult<()> {
        new.check(change.request.id.name(), change.existing.and_then(cluster_location), stored, problems);
        Ok(())
    }

    async fn complete(
        _: &mut Change<'_>,
        given: Self::Properties,
        _: Option<&Self::Properties>,
    ) -> ApiResult<Self::Properties> {
        Ok(given.to_stored())
    }

    async fn after_put(change: &mut Change<'_>, row: &Resource, new: &Self::Properties) -> ApiResult<()> {
        let (Some(fleet), Some(cluster)) = (change.parent, new.cluster()) else {
            return Err(ArmError::internal().into());
        };
        let Some(holder) = memberships::take(change.tx, &cluster, fleet.id, row.id).await? else { return Ok(()) };
        let code = if holder.fleet == fleet.id { "ClusterAlreadyJoined" } else { "ClusterAlreadyJoinedAnotherFleet" };
        Err(ArmError::conflict(
            code,
            format!("The cluster '{cluster}' is a member already: '{}'. A cluster belongs to one fleet, once; delete that member first.", holder.member_arm_id),
        )
        .at("properties.clusterResourceId")
        .into())
    }

    async fn page(
        conn: &mut Connection,
        request: &ArmRequest,
        parent: &Resource,
        page: &Page,
    ) -> ApiResult<(Vec<Resource>, bool)> {
        if request.parameter("$filter").is_some_and(|filter| !filter.trim().is_empty()) {
            return Err(ArmError::bad_request(
                "InvalidParameter",
                "$filter is not supported on members: leave it out.",
            )
            .at("$filter")
            .into());
        }
        Ok(resources::list_children(conn, parent, Self::TYPE, page).await?)
    }

    fn show(row: &Resource, (): &mut ()) -> ApiResult<Value> {
        let mut properties = stored::<Self>(row)?;
        properties.labels = Some(properties.all_labels(&row.name, cluster_location(row)));
        Ok(serde_json::to_value(properties)?)
    }
}

fn join(request: &ArmRequest, row: &Resource, operation: Uuid) -> NewJob {
    queue::join(row.id, operation, request.principal.caller.tenant, request.correlation())
}

fn leave(request: &ArmRequest, row: &Resource, operation: Uuid) -> NewJob {
    queue::leave(row.id, operation, request.correlation())
}

/// The region of the member's cluster, once it is known.
fn cluster_location(row: &Resource) -> Option<&str> {
    row.observed.get("location").and_then(Value::as_str)
}
