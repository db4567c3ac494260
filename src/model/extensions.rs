//! All properties that the official API does not have. They are optional and off by default: official clients do not need them,
//! and a property that a client does not send keeps its value. `docs/extensions.md` explains each.

use super::types;

/// A property that the official API does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// The resource type.
    pub resource_type: &'static str,
    /// The property.
    pub path: &'static str,
    /// Its values. The first is the behaviour of Azure and the meaning of an absent property.
    pub values: &'static [&'static str],
}

/// All of them, served in every API version that has the resource type.
pub const EXTENSIONS: &[Extension] = &[
    Extension {
        resource_type: types::AUTO_UPGRADE_PROFILES,
        path: "properties.reconcile",
        values: &["OnNewVersion", "Continuous"],
    },
    Extension {
        resource_type: types::AUTO_UPGRADE_PROFILES,
        path: "properties.whenImageUnavailable",
        values: &["Fail", "Newest"],
    },
    Extension {
        resource_type: types::UPDATE_RUNS,
        path: "properties.managedClusterUpdate.whenImageUnavailable",
        values: &["Fail", "Newest"],
    },
    Extension { resource_type: types::UPDATE_RUNS, path: "skip.targets.type", values: &["Member", "RunningMember"] },
];
