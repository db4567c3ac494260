//! The target of a profile: the version or node images that its channel leads to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{FleetOffers, offers::minor_of};
use crate::{
    arm::ErrorDetail,
    model::{
        auto_upgrade_profile::{AutoUpgradeProfileProperties, MinorVersion, UpgradeChannel},
        managed_cluster::NodeImage,
        update_run::{
            ManagedClusterUpdate, ManagedClusterUpgradeSpec, ManagedClusterUpgradeType, NodeImageSelection,
            NodeImageSelectionType, NodeImageVersion,
        },
        version::KubernetesVersion,
    },
};

/// Community support covers the newest minor version and this many before it.
const SUPPORTED_BEFORE_NEWEST: usize = 2;

/// What a profile upgrades members to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A Kubernetes version of the control plane and the agent pools.
    Kubernetes(KubernetesVersion),
    /// Node images by family.
    Images(BTreeMap<String, NodeImage>),
}

impl Target {
    /// Returns the version or the images as a profile's status lists them.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        match self {
            Self::Kubernetes(version) => vec![version.to_string()],
            Self::Images(images) => images.values().map(ToString::to_string).collect(),
        }
    }
}

/// Why a profile has no target now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTarget {
    /// It is not known yet what AKS offers in the regions of the fleet's members, or the fleet has no members.
    Unknown,
    /// AKS has not released this minor version; the second value is the newest that it has released.
    NotReleased(MinorVersion, Option<MinorVersion>),
    /// AKS offers this minor version as a preview only.
    PreviewOnly(MinorVersion),
    /// AKS no longer offers this minor version.
    Retired(MinorVersion),
    /// No member has an agent pool whose node images the channel upgrades.
    NoImages,
}

impl NoTarget {
    /// Returns the error that the profile shows.
    #[must_use]
    pub fn detail(&self) -> ErrorDetail {
        match self {
            Self::Unknown => ErrorDetail::new(
                "CatalogueNotAvailable",
                "What AKS offers in the regions of the fleet's members is not known yet. Try again in a moment.",
            ),
            Self::NotReleased(minor, newest) => {
                let newest = newest.map(|newest| format!("; the newest is {newest}")).unwrap_or_default();
                ErrorDetail::new(
                    "KubernetesVersionNotReleased",
                    format!(
                        "AKS has not released Kubernetes {minor}{newest}. Set targetKubernetesVersion to a released minor version."
                    ),
                )
            }
            Self::PreviewOnly(minor) => ErrorDetail::new(
                "KubernetesVersionNotReleased",
                format!("Kubernetes {minor} is a preview. Runs begin when it is generally available."),
            ),
            Self::Retired(minor) => ErrorDetail::new(
                "KubernetesVersionNotSupported",
                format!(
                    "AKS does not offer Kubernetes {minor} any more in the regions of the fleet's members. Set targetKubernetesVersion to a later minor version."
                ),
            ),
            Self::NoImages => ErrorDetail::new(
                "NodeImageVersionNotAvailable",
                "No member of the fleet has an agent pool whose node images this channel upgrades.",
            ),
        }
    }
}

/// Returns the newest generally available minor version: N in the product's documentation.
#[must_use]
pub fn newest_minor(offers: &FleetOffers) -> Option<MinorVersion> {
    offers.released().filter(|offer| !offer.long_term_only).map(|offer| minor_of(offer.version)).max()
}

/// Returns the target of a profile: for Rapid the newest patch of N, for Stable the newest patch of the minor version before N, for
/// TargetKubernetesVersion the newest patch of its minor version, for NodeImage the newest images, for SecurityPatch the newest
/// Linux images. Never a preview.
///
/// # Errors
/// [`NoTarget`].
pub fn target(profile: &AutoUpgradeProfileProperties, offers: &FleetOffers) -> Result<Target, NoTarget> {
    if offers.is_empty() {
        return Err(NoTarget::Unknown);
    }
    let newest = newest_minor(offers);
    let before = |n: MinorVersion| {
        let supported = offers.released().filter(|offer| !offer.long_term_only);
        supported.map(|offer| minor_of(offer.version)).filter(|minor| *minor < n).max()
    };
    match profile.channel {
        UpgradeChannel::Rapid => patch(offers, newest.ok_or(NoTarget::Unknown)?),
        UpgradeChannel::Stable => patch(offers, newest.and_then(before).ok_or(NoTarget::Unknown)?),
        UpgradeChannel::TargetKubernetesVersion => patch(offers, profile.target_minor().ok_or(NoTarget::Unknown)?),
        UpgradeChannel::NodeImage => images(offers, |_| true),
        UpgradeChannel::SecurityPatch => images(offers, |linux| linux),
    }
}

/// Returns the newest patch of a minor version in any region.
fn patch(offers: &FleetOffers, minor: MinorVersion) -> Result<Target, NoTarget> {
    let newest = offers.released().map(|offer| offer.version).filter(|version| minor_of(*version) == minor).max();
    if let Some(version) = newest {
        return Ok(Target::Kubernetes(version));
    }
    let known = newest_minor(offers);
    let preview = offers.versions().any(|offer| offer.preview && !offer.withdrawn && minor_of(offer.version) == minor);
    Err(match known {
        _ if preview => NoTarget::PreviewOnly(minor),
        Some(newest) if minor < newest => NoTarget::Retired(minor),
        known => NoTarget::NotReleased(minor, known),
    })
}

fn images(offers: &FleetOffers, of: impl Fn(bool) -> bool) -> Result<Target, NoTarget> {
    let families = offers.families.iter().filter(|(_, linux)| of(**linux));
    let newest = families.filter_map(|(family, _)| Some((family.clone(), offers.newest_image(family)?.clone())));
    let images: BTreeMap<_, _> = newest.collect();
    if images.is_empty() { Err(NoTarget::NoImages) } else { Ok(Target::Images(images)) }
}

/// Checks that the profile's settings permit its target. A minor version out of community support needs the profile's
/// `longTermSupport`, and long-term support of AKS for that version.
///
/// # Errors
/// The error that the profile shows: why the target is not permitted, and what to change.
pub fn check(profile: &AutoUpgradeProfileProperties, target: &Target, offers: &FleetOffers) -> Result<(), ErrorDetail> {
    let Target::Kubernetes(version) = target else { return Ok(()) };
    let of_target = || offers.released().filter(|offer| offer.version == *version);
    let later: BTreeSet<MinorVersion> = offers
        .released()
        .filter(|offer| !offer.long_term_only)
        .map(|offer| minor_of(offer.version))
        .filter(|minor| *minor > minor_of(*version))
        .collect();
    let in_support = later.len() <= SUPPORTED_BEFORE_NEWEST && of_target().any(|offer| !offer.long_term_only);
    if in_support {
        return Ok(());
    }
    let minor = minor_of(*version);
    if !of_target().any(|offer| offer.long_term) {
        return Err(ErrorDetail::new(
            "KubernetesVersionNotSupported",
            format!(
                "Kubernetes {minor} is out of support, and AKS has no long-term support for it. Set targetKubernetesVersion to a later minor version."
            ),
        ));
    }
    if !profile.long_term_support {
        return Err(ErrorDetail::new(
            "LongTermSupportRequired",
            format!(
                "Kubernetes {minor} is out of community support. Set longTermSupport, where the members' clusters have it, or set targetKubernetesVersion to a later minor version."
            ),
        ));
    }
    Ok(())
}

/// Returns the `managedClusterUpdate` of a run of the profile.
#[must_use]
pub fn update(profile: &AutoUpgradeProfileProperties, target: &Target) -> ManagedClusterUpdate {
    match target {
        Target::Kubernetes(version) => ManagedClusterUpdate {
            upgrade: ManagedClusterUpgradeSpec {
                upgrade_type: ManagedClusterUpgradeType::Full,
                kubernetes_version: Some(version.to_string()),
            },
            node_image_selection: Some(NodeImageSelection {
                selection_type: profile
                    .node_image_selection
                    .as_ref()
                    .map_or(NodeImageSelectionType::Latest, |selection| selection.selection_type.into()),
                custom_node_image_versions: Vec::new(),
            }),
            when_image_unavailable: profile.when_image_unavailable,
        },
        Target::Images(images) => ManagedClusterUpdate {
            upgrade: ManagedClusterUpgradeSpec {
                upgrade_type: ManagedClusterUpgradeType::NodeImageOnly,
                kubernetes_version: None,
            },
            node_image_selection: Some(NodeImageSelection {
                selection_type: NodeImageSelectionType::Custom,
                custom_node_image_versions: images
                    .values()
                    .map(|image| NodeImageVersion { version: image.to_string() })
                    .collect(),
            }),
            when_image_unavailable: None,
        },
    }
}
