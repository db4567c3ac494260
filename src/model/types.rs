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

/// An operation of the provider, as role definitions name it and `GET …/operations` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderOperation {
    /// The action: `Microsoft.ContainerService/fleets/read`.
    pub action: String,
    /// What it is on, for people.
    pub resource: String,
    /// What it does, for people.
    pub operation: String,
    /// A sentence, for people.
    pub description: String,
}
