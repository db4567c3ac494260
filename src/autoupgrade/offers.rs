//! What regions offer, and since when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    auto_upgrade_profile::MinorVersion,
    managed_cluster::{NodeImage, OfferedVersion},
    version::KubernetesVersion,
};

/// Images of a family that are remembered: enough to know one that comes back.
const REMEMBERED_IMAGES: usize = 12;

/// What one region offers, and has offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionOffers {
    /// Kubernetes versions.
    pub versions: Vec<VersionOffer>,
    /// Node images that were the newest of their family.
    pub images: Vec<ImageOffer>,
}

/// A Kubernetes version in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionOffer {
    /// The version.
    pub version: KubernetesVersion,
    /// Not generally available.
    pub preview: bool,
    /// Under long-term support only.
    pub long_term_only: bool,
    /// Under long-term support, alone or besides.
    pub long_term: bool,
    /// It is, or was once, generally available.
    pub was_released: bool,
    /// When it was released (until then: when it appeared). `None`: it was there at the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Not offered any more.
    pub withdrawn: bool,
}

/// A node image in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageOffer {
    /// The image.
    pub image: NodeImage,
    /// When it became the newest. `None`: it was at the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The newest of its family.
    pub current: bool,
}

impl RegionOffers {
    /// What the first look finds: all of it is of old.
    #[must_use]
    pub fn first(versions: &[OfferedVersion], images: &[NodeImage]) -> Self {
        let mut offers = Self::default();
        offers.see_versions(versions, None);
        offers.see_images(images, None);
        offers
    }

    /// What a later look finds, that began at `at`; whether anything has changed. Families of images that `images` does not
    /// name stay as they are. What was withdrawn and comes back is no release.
    pub fn look(&mut self, versions: &[OfferedVersion], images: &[NodeImage], at: Timestamp) -> bool {
        let before = self.clone();
        self.see_versions(versions, Some(at));
        self.see_images(images, Some(at));
        *self != before
    }

    /// [`Self::look`] where the Kubernetes versions could not be read: they stay as they are.
    pub fn look_at_images(&mut self, images: &[NodeImage], at: Timestamp) -> bool {
        let before = self.clone();
        self.see_images(images, Some(at));
        *self != before
    }

    fn see_versions(&mut self, seen: &[OfferedVersion], at: Option<Timestamp>) {
        for known in &mut self.versions {
            known.withdrawn = !seen.iter().any(|offer| offer.version == known.version);
        }
        for offer in seen {
            match self.versions.iter_mut().find(|known| known.version == offer.version) {
                Some(known) => {
                    // A preview becomes available to all: that is its release.
                    if !known.was_released && !offer.preview {
                        known.was_released = true;
                        known.since = at;
                    }
                    known.preview = offer.preview;
                    known.long_term_only = offer.long_term_only;
                    known.long_term = offer.long_term;
                }
                None => self.versions.push(VersionOffer {
                    version: offer.version,
                    preview: offer.preview,
                    long_term_only: offer.long_term_only,
                    long_term: offer.long_term,
                    was_released: !offer.preview,
                    since: at,
                    withdrawn: false,
                }),
            }
        }
        self.versions.sort_by_key(|offer| offer.version);
    }

    fn see_images(&mut self, seen: &[NodeImage], at: Option<Timestamp>) {
        for image in seen {
            // The first image of a family came with a pool that joined, not with a release.
            let since = at.filter(|_| self.images.iter().any(|known| known.image.family() == image.family()));
            let mut found = false;
            for known in self.images.iter_mut().filter(|known| known.image.family() == image.family()) {
                known.current = known.image == *image;
                found |= known.current;
            }
            if !found {
                self.images.push(ImageOffer { image: image.clone(), since, current: true });
            }
            self.forget_images(image.family());
        }
    }

    fn forget_images(&mut self, family: &str) {
        let mut many = self.images.iter().filter(|known| known.image.family() == family).count();
        self.images.retain(|known| {
            let goes = many > REMEMBERED_IMAGES && !known.current && known.image.family() == family;
            many -= usize::from(goes);
            !goes
        });
    }

    /// Versions that are generally available.
    pub fn released(&self) -> impl Iterator<Item = &VersionOffer> {
        self.versions.iter().filter(|offer| !offer.preview && !offer.withdrawn)
    }

    /// The newest image of a family.
    #[must_use]
    pub fn newest_image(&self, family: &str) -> Option<&NodeImage> {
        self.images.iter().find(|known| known.current && known.image.family() == family).map(|known| &known.image)
    }
}

/// What concerns a fleet: the regions that its members are in, and the families of images that they run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetOffers {
    /// By subscription and location.
    pub regions: BTreeMap<(String, String), RegionOffers>,
    /// Families, and whether they are of Linux.
    pub families: BTreeMap<String, bool>,
}

impl FleetOffers {
    /// Whether nothing is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regions.values().all(|region| region.versions.is_empty())
    }

    /// What is generally available in any region: released anywhere is released.
    pub(super) fn released(&self) -> impl Iterator<Item = &VersionOffer> {
        self.regions.values().flat_map(RegionOffers::released)
    }

    /// All that regions offer or have offered.
    pub(super) fn versions(&self) -> impl Iterator<Item = &VersionOffer> {
        self.regions.values().flat_map(|region| &region.versions)
    }

    /// The newest image of a family in any region.
    pub(super) fn newest_image(&self, family: &str) -> Option<&NodeImage> {
        let newest = self.regions.values().filter_map(|region| region.newest_image(family));
        newest.max_by(|a, b| a.version().cmp(&b.version()))
    }
}

/// The minor version that a version is a patch of.
pub(super) fn minor_of(version: KubernetesVersion) -> MinorVersion {
    MinorVersion { major: version.major, minor: version.minor }
}
