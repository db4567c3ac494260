//! Whether a target is a new release for a profile.

use jiff::Timestamp;

use super::{FleetOffers, Target, newest_minor, offers::minor_of};
use crate::model::{
    auto_upgrade_profile::{AutoUpgradeProfileProperties, UpgradeChannel},
    managed_cluster::NodeImage,
    version::KubernetesVersion,
};

/// Which releases a profile has handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerHistory {
    /// Releases after this time concern the profile: when it was created, enabled, or its channel or version changed.
    pub armed_at: Timestamp,
    /// The target of the last trigger.
    pub last_target: Option<Target>,
}

/// Whether the target was released after the profile was armed and is later than the target of the last trigger. A member
/// that joins or leaves, a cluster that is behind, and a version that is withdrawn are not releases.
#[must_use]
pub fn is_new_release(
    profile: &AutoUpgradeProfileProperties,
    target: &Target,
    offers: &FleetOffers,
    history: &TriggerHistory,
) -> bool {
    match target {
        Target::Kubernetes(version) => {
            let later = match &history.last_target {
                Some(Target::Kubernetes(last)) => version > last,
                _ => true,
            };
            later && released_at(profile, *version, offers) > Some(history.armed_at)
        }
        Target::Images(images) => images.iter().any(|(family, image)| {
            let later = match &history.last_target {
                Some(Target::Images(last)) => last.get(family).is_none_or(|last| image.version() > last.version()),
                _ => true,
            };
            later && image_released_at(image, offers) > Some(history.armed_at)
        }),
    }
}

/// Returns when the version became the channel's target: its own release, and for Stable the release of the next minor version
/// if that is later. `None`: before the region was first read.
fn released_at(
    profile: &AutoUpgradeProfileProperties,
    version: KubernetesVersion,
    offers: &FleetOffers,
) -> Option<Timestamp> {
    // Withdrawn versions count: a version that returns, or appears in another region, was released before.
    let releases = || offers.versions().filter(|offer| offer.was_released);
    let released = releases().filter(|offer| offer.version == version).map(|offer| offer.since).min().flatten();
    if profile.channel != UpgradeChannel::Stable {
        return released;
    }
    let newest = newest_minor(offers);
    let of_newest = releases().filter(|offer| Some(minor_of(offer.version)) == newest);
    released.max(of_newest.map(|offer| offer.since).min().flatten())
}

/// Returns when an image was first offered in any of the fleet's regions. `None`: before the region was first read.
fn image_released_at(image: &NodeImage, offers: &FleetOffers) -> Option<Timestamp> {
    let known = offers.regions.values().flat_map(|region| &region.images).filter(|known| known.image == *image);
    known.map(|known| known.since).min().flatten()
}
