//! Whether a target is news to a profile.

use jiff::Timestamp;

use super::{FleetOffers, Target, newest_minor, offers::minor_of};
use crate::model::{
    auto_upgrade_profile::{AutoUpgradeProfileProperties, UpgradeChannel},
    managed_cluster::NodeImage,
    version::KubernetesVersion,
};

/// What a profile has behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// From when on releases concern it: it was made, enabled, or told to follow something else.
    pub armed_at: Timestamp,
    /// What was triggered last.
    pub target: Option<Target>,
}

/// Whether a release since the profile was armed led to this target, and to a later one than was triggered last. A member
/// that joins or leaves, a cluster that is behind and a version that is withdrawn are no news.
#[must_use]
pub fn is_news(profile: &AutoUpgradeProfileProperties, target: &Target, offers: &FleetOffers, past: &Past) -> bool {
    match target {
        Target::Kubernetes(version) => {
            let later = match &past.target {
                Some(Target::Kubernetes(last)) => version > last,
                _ => true,
            };
            later && became(profile, *version, offers) > Some(past.armed_at)
        }
        Target::Images(images) => images.iter().any(|(family, image)| {
            let later = match &past.target {
                Some(Target::Images(last)) => last.get(family).is_none_or(|last| image.version() > last.version()),
                _ => true,
            };
            later && appeared(image, offers) > Some(past.armed_at)
        }),
    }
}

/// When the version became the target: when it was released, and for Stable not before the minor version after it was.
/// `None`: of old.
fn became(
    profile: &AutoUpgradeProfileProperties,
    version: KubernetesVersion,
    offers: &FleetOffers,
) -> Option<Timestamp> {
    // Withdrawn ones count: what was released once is of old when it comes back, or comes elsewhere.
    let releases = || offers.versions().filter(|offer| offer.was_released);
    let released = releases().filter(|offer| offer.version == version).map(|offer| offer.since).min().flatten();
    if profile.channel != UpgradeChannel::Stable {
        return released;
    }
    let newest = newest_minor(offers);
    let of_newest = releases().filter(|offer| Some(minor_of(offer.version)) == newest);
    released.max(of_newest.map(|offer| offer.since).min().flatten())
}

/// When an image came into the first of the fleet's regions. `None`: of old.
fn appeared(image: &NodeImage, offers: &FleetOffers) -> Option<Timestamp> {
    let known = offers.regions.values().flat_map(|region| &region.images).filter(|known| known.image == *image);
    known.map(|known| known.since).min().flatten()
}
