//! Names of the resource types and the actions on them.

/// The provider's namespace.
pub const NAMESPACE: &str = "Microsoft.ContainerService";
/// Fleets.
pub const FLEETS: &str = "Microsoft.ContainerService/fleets";
/// Members of a fleet.
pub const MEMBERS: &str = "Microsoft.ContainerService/fleets/members";
/// Update strategies of a fleet.
pub const UPDATE_STRATEGIES: &str = "Microsoft.ContainerService/fleets/updateStrategies";
/// Update runs of a fleet.
pub const UPDATE_RUNS: &str = "Microsoft.ContainerService/fleets/updateRuns";
/// Auto-upgrade profiles of a fleet.
pub const AUTO_UPGRADE_PROFILES: &str = "Microsoft.ContainerService/fleets/autoUpgradeProfiles";
/// Gates of a fleet's update runs.
pub const GATES: &str = "Microsoft.ContainerService/fleets/gates";
/// Resource groups.
pub const RESOURCE_GROUPS: &str = "Microsoft.Resources/resourceGroups";
/// AKS clusters.
pub const MANAGED_CLUSTERS: &str = "Microsoft.ContainerService/managedClusters";

/// The provider's resource types.
pub const ALL: &[&str] = &[FLEETS, MEMBERS, UPDATE_STRATEGIES, UPDATE_RUNS, AUTO_UPGRADE_PROFILES, GATES];

/// Actions on ARM's own types.
pub mod arm_action {
    /// Reads and lists subscriptions, their regions and their providers.
    pub const SUBSCRIPTIONS_READ: &str = "Microsoft.Resources/subscriptions/read";
    /// Lists resources of all types.
    pub const RESOURCES_READ: &str = "Microsoft.Resources/subscriptions/resources/read";
    /// Reads and lists resource groups.
    pub const GROUPS_READ: &str = "Microsoft.Resources/subscriptions/resourceGroups/read";
    /// Creates and changes resource groups.
    pub const GROUPS_WRITE: &str = "Microsoft.Resources/subscriptions/resourceGroups/write";
    /// Deletes resource groups.
    pub const GROUPS_DELETE: &str = "Microsoft.Resources/subscriptions/resourceGroups/delete";
    /// Reads tags.
    pub const TAGS_READ: &str = "Microsoft.Resources/tags/read";
    /// Changes tags.
    pub const TAGS_WRITE: &str = "Microsoft.Resources/tags/write";
    /// Registers the provider in a subscription.
    pub const REGISTER: &str = "Microsoft.ContainerService/register/action";
}

/// An operation of the provider, as role definitions name it and `GET …/operations` lists it.
#[derive(Debug, Clone, Copy)]
pub struct ProviderOperation {
    /// The action.
    pub action: &'static str,
    /// Display name of the resource type.
    pub resource: &'static str,
    /// Display name of the operation.
    pub operation: &'static str,
    /// Description, one sentence.
    pub description: &'static str,
}

macro_rules! operations {
    ($($name:ident = $action:literal, $resource:literal, $operation:literal, $description:literal;)*) => {
        /// Actions. Requests are authorised with the same names that the provider lists.
        pub mod action {
            $(#[doc = $description] pub const $name: &str = concat!("Microsoft.ContainerService/", $action);)*
        }
        /// Every operation of the provider.
        pub const OPERATIONS: &[ProviderOperation] = &[
            $(ProviderOperation { action: action::$name, resource: $resource, operation: $operation, description: $description },)*
        ];
    };
}

operations! {
    FLEETS_READ = "fleets/read", "Fleet", "Get fleet", "Gets a fleet or lists fleets";
    FLEETS_WRITE = "fleets/write", "Fleet", "Create or update fleet", "Creates or updates a fleet";
    FLEETS_DELETE = "fleets/delete", "Fleet", "Delete fleet", "Deletes a fleet";
    FLEETS_LIST_CREDENTIALS = "fleets/listCredentials/action", "Fleet", "List fleet credentials", "Lists the user credentials of a fleet's hub";
    MEMBERS_READ = "fleets/members/read", "Fleet member", "Get fleet member", "Gets a fleet member or lists fleet members";
    MEMBERS_WRITE = "fleets/members/write", "Fleet member", "Create or update fleet member", "Creates or updates a fleet member";
    MEMBERS_DELETE = "fleets/members/delete", "Fleet member", "Delete fleet member", "Deletes a fleet member";
    STRATEGIES_READ = "fleets/updateStrategies/read", "Update strategy", "Get update strategy", "Gets an update strategy or lists update strategies";
    STRATEGIES_WRITE = "fleets/updateStrategies/write", "Update strategy", "Create or update update strategy", "Creates or updates an update strategy";
    STRATEGIES_DELETE = "fleets/updateStrategies/delete", "Update strategy", "Delete update strategy", "Deletes an update strategy";
    RUNS_READ = "fleets/updateRuns/read", "Update run", "Get update run", "Gets an update run or lists update runs";
    RUNS_WRITE = "fleets/updateRuns/write", "Update run", "Create or update update run", "Creates or updates an update run";
    RUNS_DELETE = "fleets/updateRuns/delete", "Update run", "Delete update run", "Deletes an update run";
    RUNS_START = "fleets/updateRuns/start/action", "Update run", "Start update run", "Starts an update run";
    RUNS_STOP = "fleets/updateRuns/stop/action", "Update run", "Stop update run", "Stops an update run";
    RUNS_SKIP = "fleets/updateRuns/skip/action", "Update run", "Skip in update run", "Skips members, groups, stages or waits of an update run";
    PROFILES_READ = "fleets/autoUpgradeProfiles/read", "Auto upgrade profile", "Get auto upgrade profile", "Gets an auto upgrade profile or lists auto upgrade profiles";
    PROFILES_WRITE = "fleets/autoUpgradeProfiles/write", "Auto upgrade profile", "Create or update auto upgrade profile", "Creates or updates an auto upgrade profile";
    PROFILES_DELETE = "fleets/autoUpgradeProfiles/delete", "Auto upgrade profile", "Delete auto upgrade profile", "Deletes an auto upgrade profile";
    PROFILES_GENERATE = "fleets/autoUpgradeProfiles/generateUpdateRun/action", "Auto upgrade profile", "Generate update run", "Generates an update run from an auto upgrade profile";
    GATES_READ = "fleets/gates/read", "Gate", "Get gate", "Gets a gate or lists gates";
    GATES_WRITE = "fleets/gates/write", "Gate", "Update gate", "Completes a gate";
    OPERATIONS_READ = "locations/operations/read", "Operation", "Get operation", "Gets the status of an asynchronous operation";
}
