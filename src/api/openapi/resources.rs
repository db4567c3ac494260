//! What requests and answers look like as a whole: the envelope and the read-only parts around the types of
//! [`crate::model`]. These types describe; nobody makes them.

#![expect(dead_code, reason = "types that describe: see above")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::{
    arm::ErrorDetail,
    model::{
        fleet::HubProfile,
        gate::GateProperties,
        identity::IdentityType,
        member::MemberProperties,
        strategy::FleetUpdateStrategyProperties,
        update_run::{UpdateRunProperties, UpdateRunStatus},
    },
};

/// What every resource has.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource {
    /// Resource ID.
    #[schema(read_only)]
    id: Option<String>,
    /// Name.
    #[schema(read_only)]
    name: Option<String>,
    /// Resource type.
    #[serde(rename = "type")]
    #[schema(read_only)]
    resource_type: Option<String>,
    #[schema(read_only)]
    system_data: Option<SystemData>,
    /// The resource's version, in quotes.
    #[schema(read_only)]
    e_tag: Option<String>,
}

/// Who made and who last changed a resource, and when.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct SystemData {
    created_by: Option<String>,
    created_by_type: Option<CreatedByType>,
    #[schema(format = DateTime)]
    created_at: Option<String>,
    last_modified_by: Option<String>,
    last_modified_by_type: Option<CreatedByType>,
    #[schema(format = DateTime)]
    last_modified_at: Option<String>,
}

/// Kind of an identity.
#[derive(ToSchema)]
enum CreatedByType {
    User,
    Application,
    ManagedIdentity,
    Key,
}

/// The last asynchronous operation on a resource.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct LastOperation {
    #[schema(read_only)]
    last_operation_id: Option<String>,
    #[schema(read_only)]
    last_operation_error: Option<ErrorDetail>,
}

/// What Azure may add to an error, in terms of its own.
#[derive(ToSchema)]
pub(super) struct ErrorAdditionalInfo {
    #[serde(rename = "type")]
    #[schema(read_only)]
    kind: Option<String>,
    #[schema(read_only, value_type = Object)]
    info: Option<serde_json::Value>,
}

/// A fleet.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fleet {
    #[serde(flatten)]
    resource: Resource,
    /// The region; it cannot be changed.
    location: String,
    tags: Option<BTreeMap<String, String>>,
    identity: Option<ManagedServiceIdentity>,
    properties: Option<FleetProperties>,
}

/// Properties of a fleet.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct FleetProperties {
    #[schema(read_only)]
    provisioning_state: Option<FleetProvisioningState>,
    hub_profile: Option<FleetHubProfile>,
    #[schema(read_only)]
    status: Option<LastOperation>,
}

#[derive(ToSchema)]
enum FleetProvisioningState {
    Succeeded,
    Failed,
    Canceled,
    Creating,
    Updating,
    Deleting,
}

/// The hub cluster.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct FleetHubProfile {
    #[serde(flatten)]
    settings: HubProfile,
    #[schema(read_only)]
    fqdn: Option<String>,
    #[schema(read_only)]
    kubernetes_version: Option<String>,
    #[schema(read_only)]
    portal_fqdn: Option<String>,
}

/// The managed identity of a fleet.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct ManagedServiceIdentity {
    #[serde(rename = "type")]
    identity_type: IdentityType,
    /// By ARM ID.
    user_assigned_identities: Option<BTreeMap<String, UserAssignedIdentity>>,
    #[schema(read_only, format = Uuid)]
    principal_id: Option<String>,
    #[schema(read_only, format = Uuid)]
    tenant_id: Option<String>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserAssignedIdentity {
    #[schema(read_only, format = Uuid)]
    principal_id: Option<String>,
    #[schema(read_only, format = Uuid)]
    client_id: Option<String>,
}

/// A change of a fleet.
#[derive(ToSchema)]
pub(super) struct FleetPatch {
    tags: Option<BTreeMap<String, String>>,
    identity: Option<ManagedServiceIdentity>,
}

/// Credentials of a hub cluster.
#[derive(ToSchema)]
pub(super) struct FleetCredentialResults {
    #[schema(read_only)]
    kubeconfigs: Option<Vec<FleetCredentialResult>>,
}

#[derive(ToSchema)]
struct FleetCredentialResult {
    #[schema(read_only)]
    name: Option<String>,
    /// A kubeconfig, Base64.
    #[schema(read_only, format = Byte)]
    value: Option<String>,
}

/// A member of a fleet.
#[derive(ToSchema)]
pub(super) struct FleetMember {
    #[serde(flatten)]
    resource: Resource,
    properties: Option<FleetMemberProperties>,
}

/// Properties of a member.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct FleetMemberProperties {
    #[serde(flatten)]
    written: MemberProperties,
    #[schema(read_only)]
    provisioning_state: Option<FleetMemberProvisioningState>,
    #[schema(read_only)]
    status: Option<LastOperation>,
}

#[derive(ToSchema)]
enum FleetMemberProvisioningState {
    Succeeded,
    Failed,
    Canceled,
    Joining,
    Leaving,
    Updating,
}

/// A change of a member.
#[derive(ToSchema)]
pub(super) struct FleetMemberUpdate {
    properties: Option<FleetMemberUpdateProperties>,
}

#[derive(ToSchema)]
struct FleetMemberUpdateProperties {
    #[schema(min_length = 1, max_length = 50, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    group: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// State of what is made at once.
#[derive(ToSchema)]
pub(super) enum ProvisioningState {
    Succeeded,
    Failed,
    Canceled,
}

/// An update strategy.
#[derive(ToSchema)]
pub(super) struct FleetUpdateStrategy {
    #[serde(flatten)]
    resource: Resource,
    properties: Option<ShownStrategyProperties>,
}

/// Properties of an update strategy.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownStrategyProperties {
    #[serde(flatten)]
    written: FleetUpdateStrategyProperties,
    #[schema(read_only)]
    provisioning_state: Option<ProvisioningState>,
}

/// An update run.
#[derive(ToSchema)]
pub(super) struct UpdateRun {
    #[serde(flatten)]
    resource: Resource,
    properties: Option<ShownRunProperties>,
}

/// Properties of an update run.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownRunProperties {
    #[serde(flatten)]
    written: UpdateRunProperties,
    #[schema(read_only)]
    provisioning_state: Option<ProvisioningState>,
    #[schema(read_only)]
    status: Option<UpdateRunStatus>,
    /// The profile that generated the run.
    #[schema(read_only)]
    auto_upgrade_profile_id: Option<String>,
}

/// A point of an update run that waits for a person.
#[derive(ToSchema)]
pub(super) struct Gate {
    #[serde(flatten)]
    resource: Resource,
    properties: Option<ShownGateProperties>,
}

/// Properties of a gate.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownGateProperties {
    #[serde(flatten)]
    written: GateProperties,
    #[schema(read_only)]
    provisioning_state: Option<ProvisioningState>,
}

/// A page of a list.
macro_rules! list {
    ($($name:ident of $item:ident),* $(,)?) => {$(
        /// A page of a list.
        #[derive(ToSchema)]
        #[serde(rename_all = "camelCase")]
        pub(super) struct $name {
            value: Vec<$item>,
            /// The next page; absent on the last.
            #[schema(format = "uri")]
            next_link: Option<String>,
        }
    )*};
}

list! {
    FleetListResult of Fleet,
    FleetMemberListResult of FleetMember,
    FleetUpdateStrategyListResult of FleetUpdateStrategy,
    UpdateRunListResult of UpdateRun,
    GateListResult of Gate,
    OperationListResult of Operation,
}

/// An operation of the provider, as roles name it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct Operation {
    #[schema(read_only)]
    name: Option<String>,
    #[schema(read_only)]
    is_data_action: Option<bool>,
    display: Option<OperationDisplay>,
    #[schema(read_only)]
    origin: Option<Origin>,
    #[schema(read_only)]
    action_type: Option<ActionType>,
}

#[derive(ToSchema)]
struct OperationDisplay {
    #[schema(read_only)]
    provider: Option<String>,
    #[schema(read_only)]
    resource: Option<String>,
    #[schema(read_only)]
    operation: Option<String>,
    #[schema(read_only)]
    description: Option<String>,
}

#[derive(ToSchema)]
enum Origin {
    #[serde(rename = "user")]
    User,
    #[serde(rename = "system")]
    System,
    #[serde(rename = "user,system")]
    Both,
}

#[derive(ToSchema)]
enum ActionType {
    Internal,
}
