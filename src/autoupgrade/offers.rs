//! What AKS offers in each region, and since when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    auto_upgrade_profile::MinorVersion,
    managed_cluster::{NodeImage, OfferedVersion},
    version::KubernetesVersion,
};

/// How many images of a family are kept, so that an image that returns is recognised.
const MAX_IMAGES_PER_FAMILY: usize = 12;

/// What one region offers now and offered before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionOffers {
    /// Kubernetes versions.
    pub versions: Vec<VersionOffer>,
    /// Node images that are or were the newest of their family.
    pub images: Vec<ImageOffer>,
}

/// A Kubernetes version in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionOffer {
    /// The version.
    pub version: KubernetesVersion,
    /// Whether it is a preview, not generally available.
    pub preview: bool,
    /// Whether it is available under long-term support only.
    pub long_term_only: bool,
    /// Whether long-term support covers it, alone or besides community support.
    pub long_term: bool,
    /// Whether it is, or ever was, generally available.
    pub was_released: bool,
    /// When it became generally available; for a preview: when it appeared. `None`: before the region was first read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether AKS no longer offers it.
    pub withdrawn: bool,
}

/// A node image in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageOffer {
    /// The image.
    pub image: NodeImage,
    /// When it became the newest of its family. `None`: before the region was first read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether it is the newest of its family.
    pub current: bool,
}

impl RegionOffers {
    /// Returns what a region offers when it is first read. None of it counts as a new release.
    #[must_use]
    pub fn initial(versions: &[OfferedVersion], images: &[NodeImage]) -> Self {
        let mut offers = Self::default();
        offers.record_versions(versions, None);
        offers.record_images(images, None);
        offers
    }

    /// Updates the region with what AKS offers at `at`, and returns whether anything changed. Image families that are not in `images`
    /// stay as they are. A version that was withdrawn and returns is not a release.
    pub fn update(&mut self, versions: &[OfferedVersion], images: &[NodeImage], at: Timestamp) -> bool {
        let before = self.clone();
        self.record_versions(versions, Some(at));
        self.record_images(images, Some(at));
        *self != before
    }

    /// [`Self::update`] for node images alone, when the Kubernetes versions could not be read.
    pub fn update_images(&mut self, images: &[NodeImage], at: Timestamp) -> bool {
        let before = self.clone();
        self.record_images(images, Some(at));
        *self != before
    }

    fn record_versions(&mut self, seen: &[OfferedVersion], at: Option<Timestamp>) {
        for known in &mut self.versions {
            known.withdrawn = !seen.iter().any(|offer| offer.version == known.version);
        }
        for offer in seen {
            match self.versions.iter_mut().find(|known| known.version == offer.version) {
                Some(known) => {
                    // A preview is released when it becomes generally available.
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

    fn record_images(&mut self, seen: &[NodeImage], at: Option<Timestamp>) {
        for image in seen {
            // The first image of a family is known because a pool of that family joined, not because of a release.
            let since = at.filter(|_| self.images.iter().any(|known| known.image.family() == image.family()));
            let mut found = false;
            for known in self.images.iter_mut().filter(|known| known.image.family() == image.family()) {
                known.current = known.image == *image;
                found |= known.current;
            }
            if !found {
                self.images.push(ImageOffer { image: image.clone(), since, current: true });
            }
            self.trim_images(image.family());
        }
    }

    fn trim_images(&mut self, family: &str) {
        let mut count = self.images.iter().filter(|known| known.image.family() == family).count();
        self.images.retain(|known| {
            let is_removed = count > MAX_IMAGES_PER_FAMILY && !known.current && known.image.family() == family;
            count -= usize::from(is_removed);
            !is_removed
        });
    }

    /// Returns the versions that are generally available.
    pub fn released(&self) -> impl Iterator<Item = &VersionOffer> {
        self.versions.iter().filter(|offer| !offer.preview && !offer.withdrawn)
    }

    /// Returns the newest image of a family.
    #[must_use]
    pub fn newest_image(&self, family: &str) -> Option<&NodeImage> {
        self.images.iter().find(|known| known.current && known.image.family() == family).map(|known| &known.image)
    }
}

/// What AKS offers to a fleet: the offers of its members' regions, and the image families that its members run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetOffers {
    /// Offers by subscription and location.
    pub regions: BTreeMap<(String, String), RegionOffers>,
    /// Image families, and whether each is a Linux family.
    pub families: BTreeMap<String, bool>,
}

impl FleetOffers {
    /// Whether no Kubernetes version of any region is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regions.values().all(|region| region.versions.is_empty())
    }

    /// Returns the versions that are generally available in any region.
    pub(super) fn released(&self) -> impl Iterator<Item = &VersionOffer> {
        self.regions.values().flat_map(RegionOffers::released)
    }

    /// Returns every version that a region offers or offered.
    pub(super) fn versions(&self) -> impl Iterator<Item = &VersionOffer> {
        self.regions.values().flat_map(|region| &region.versions)
    }

    /// Returns the newest image of a family in any region.
    pub(super) fn newest_image(&self, family: &str) -> Option<&NodeImage> {
        let newest = self.regions.values().filter_map(|region| region.newest_image(family));
        newest.max_by(|a, b| a.version().cmp(&b.version()))
    }
}

/// Returns the minor version of a version.
pub(super) fn minor_of(version: KubernetesVersion) -> MinorVersion {
    MinorVersion { major: version.major, minor: version.minor }
}
