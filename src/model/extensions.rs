//! What this service has and the official API does not, in one place. All of it is additive and off unless asked for:
//! official clients neither send nor need it, and what they do not send stays as it was. `docs/extensions.md` explains each.

use super::types;

/// A property that the official API does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// The resource type.
    pub resource_type: &'static str,
    /// The property.
    pub path: &'static str,
    /// Its values; the first is how the product behaves, and what an absent property means.
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
];
