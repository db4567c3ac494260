//! What requests and answers of auto-upgrade profiles look like as a whole. These types describe; nobody makes them.

#![expect(dead_code, reason = "types that describe: see above")]

use utoipa::ToSchema;

use super::resources::{ProvisioningState, Resource};
use crate::model::{
    auto_upgrade_profile::{AutoUpgradeNodeImageSelection, AutoUpgradeProfileStatus, Reconcile},
    update_run::WhenImageUnavailable,
};

/// An auto-upgrade profile.
#[derive(ToSchema)]
pub(super) struct AutoUpgradeProfile {
    #[serde(flatten)]
    resource: Resource,
    properties: Option<AutoUpgradeProfileProperties>,
}

/// Properties of an auto-upgrade profile.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct AutoUpgradeProfileProperties {
    #[schema(read_only)]
    provisioning_state: Option<ProvisioningState>,
    /// The strategy of the runs that are made; it cannot be changed. Absent: all members, one by one.
    update_strategy_id: Option<String>,
    channel: UpgradeChannel,
    /// How the runs choose node images; it cannot be changed. Not for the channel NodeImage.
    node_image_selection: Option<AutoUpgradeNodeImageSelection>,
    /// Starts nothing by itself. Absent: false.
    disabled: Option<bool>,
    auto_upgrade_profile_status: Option<AutoUpgradeProfileStatus>,
    /// The minor version that TargetKubernetesVersion stays in, such as '1.33'.
    target_kubernetes_version: Option<String>,
    /// Follow the minor version into its long-term support. Absent: false.
    long_term_support: Option<bool>,
    /// When runs are made; not part of the official API. Absent: OnNewVersion.
    reconcile: Option<Reconcile>,
    /// What the runs do with an agent pool for which AKS no longer sets the chosen image when its turn comes; not part of the
    /// official API. Absent: Fail.
    when_image_unavailable: Option<WhenImageUnavailable>,
}

/// Which releases a profile follows.
#[derive(ToSchema)]
enum UpgradeChannel {
    /// Newest patch of the minor version before the newest.
    Stable,
    /// Newest patch of the newest minor version.
    Rapid,
    /// Newest node images.
    NodeImage,
    /// Newest patch of one minor version.
    TargetKubernetesVersion,
}

/// The run that there is for a profile's present target.
#[derive(ToSchema)]
pub(super) struct GenerateResponse {
    /// The update run.
    #[schema(read_only)]
    id: String,
}

/// A page of a list.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AutoUpgradeProfileListResult {
    value: Vec<AutoUpgradeProfile>,
    /// The next page; absent on the last.
    #[schema(format = "uri")]
    next_link: Option<String>,
}
