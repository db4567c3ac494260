//! Fleets. Creation, replacement and deletion are jobs; deletion takes all that is in the fleet, and leaves clusters alone.

use axum::response::Response;
use uuid::Uuid;

use super::{
    at::At,
    resource_type::{Change, Limit, Noun, Provisioning, ResourceAction, ResourceType, Scope, Verbs},
};
use crate::{
    api::{
        App,
        http::{body::RawBody, error::ApiResult, refusals::not_found, request::ArmRequest},
    },
    arm::{ArmError, Problems},
    database::Connection,
    engine::queue,
    model::{fleet::FleetProperties, name, provisioning_state::ProvisioningState, types, versions::Since},
    store::{
        resources::{self, Resource},
        runs,
    },
    work::NewJob,
};

/// Fleets.
pub(super) struct Fleet;

impl ResourceType for Fleet {
    const TYPE: &'static str = types::FLEETS;
    const SCOPE: Scope = Scope::Tracked;
    const SINCE: Since = Since::ALWAYS;
    const NOUN: Noun = Noun { article: "a", one: "fleet", many: "fleets" };
    const VERBS: Verbs = Verbs { put: true, patch: true, delete: true };
    const NAME_PARAMETER: &'static str = "fleetName";
    const MAX_NAME: usize = name::MAX_TRACKED;
    // As Azure: https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits
    const MOST: Limit = Limit::quota(800);
    const PROVISIONING: Option<Provisioning> = Some(Provisioning {
        creating: ProvisioningState::Creating,
        deleting: ProvisioningState::Deleting,
        provision,
        delete,
    });

    type Properties = FleetProperties;
    type Extras = ();

    async fn check(
        _: &mut Change<'_>,
        new: &Self::Properties,
        stored: Option<&Self::Properties>,
        problems: &mut Problems,
    ) -> ApiResult<()> {
        new.check(stored, problems);
        Ok(())
    }

    async fn before_delete(tx: &mut Connection, _: &ArmRequest, row: &Resource) -> ApiResult<()> {
        if runs::fleet_has_running_member(tx, row.id).await? {
            return Err(ArmError::conflict(
                "UpdateRunInProgress",
                "An update run of this fleet has members that are being upgraded. Stop the run, wait until it is Stopped or Failed, then delete the fleet.",
            )
            .into());
        }
        Ok(())
    }
}

fn provision(request: &ArmRequest, row: &Resource, operation: Uuid) -> NewJob {
    queue::provision_fleet(row.id, operation, request.correlation())
}

fn delete(request: &ArmRequest, row: &Resource, operation: Uuid) -> NewJob {
    queue::delete_fleet(row.id, operation, request.correlation())
}

/// Lists the credentials of a fleet's hub: a fleet without a hub has none, and hubs do not exist in this version.
pub(super) struct ListCredentials;

impl ResourceAction for ListCredentials {
    type On = Fleet;
    const NAME: &'static str = "listCredentials";
    const OPERATION: &'static str = "List fleet credentials";
    const DESCRIPTION: &'static str = "Lists the user credentials of a fleet's hub";

    async fn perform(app: App, at: At<Self>, _: RawBody) -> ApiResult<Response> {
        let mut conn = app.pool.acquire().await?;
        let fleet = resources::get(&mut conn, &at.allowed).await?.ok_or_else(|| not_found(&at.id))?;
        let message = match fleet.properties.get("hubProfile") {
            Some(_) => {
                "The fleet's hub cluster does not exist: hub clusters are not available in this version of the service."
            }
            None => "The fleet is hubless: it has no hub cluster whose credentials could be listed.",
        };
        Err(ArmError::bad_request("InvalidHubOperation", message).into())
    }
}
