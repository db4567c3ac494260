//! Kubernetes versions and node images that each region offers. Releases reach regions one by one, so that the newest of a region
//! and the newest that all regions have differ.

use std::collections::BTreeMap;

use crate::version::{RequestedVersion, Version};

/// Node image families of the three kinds of agent pools.
pub(crate) const UBUNTU: &str = "AKSUbuntu-2204gen2containerd";
pub(crate) const AZURE_LINUX: &str = "AKSAzureLinux-V3gen2";
pub(crate) const WINDOWS: &str = "AKSWindows-2022-containerd";

/// Regions of the generated clusters, in turn.
pub(crate) const REGIONS: [&str; 3] = ["eastus", "westeurope", "swedencentral"];

const EVERYWHERE: &[Version] = &[
    Version::new(1, 31, 9),
    Version::new(1, 31, 11),
    Version::new(1, 32, 5),
    Version::new(1, 32, 7),
    Version::new(1, 33, 2),
    Version::new(1, 33, 5),
];
/// Published in some regions only; `true` marks a preview.
const LAGGING: &[(&str, Version, bool)] = &[
    ("eastus", Version::new(1, 32, 9), false),
    ("eastus", Version::new(1, 34, 0), false),
    ("eastus", Version::new(1, 34, 1), false),
    ("eastus", Version::new(1, 35, 0), true),
    ("westeurope", Version::new(1, 32, 9), false),
    ("westeurope", Version::new(1, 34, 0), false),
];
/// Family and versions, oldest first. All regions have the first two, swedencentral lacks the third, only eastus has the fourth.
const IMAGES: [(&str, [&str; 4]); 3] = [
    (UBUNTU, ["202508.20.1", "202509.11.0", "202510.03.0", "202510.29.0"]),
    (AZURE_LINUX, ["202508.20.1", "202509.11.0", "202510.03.0", "202510.29.0"]),
    (WINDOWS, ["20348.4052.250805", "20348.4171.250910", "20348.4294.251014", "20348.4405.251112"]),
];
/// How many versions of [`IMAGES`] each of [`REGIONS`] has.
const IMAGES_ARRIVED: [usize; 3] = [4, 3, 2];

/// Returns the oldest image of a family. Generated agent pools run it.
pub(crate) fn oldest_image(family: &str) -> String {
    let version = IMAGES.iter().find(|(name, _)| *name == family).and_then(|(_, versions)| versions.first());
    format!("{family}-{}", version.copied().unwrap_or("202508.20.1"))
}

/// Returns the family, such as `AKSUbuntu-2204gen2containerd` of `AKSUbuntu-2204gen2containerd-202508.20.1`.
pub(crate) fn family(image: &str) -> &str {
    image.rsplit_once('-').map_or(image, |(family, _)| family)
}

/// Sorts image versions by their numbers.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// Whether an image has a lower version than another of its family.
pub(crate) fn is_older(image: &str, than: &str) -> bool {
    let version = |image: &str| numbers(image.rsplit_once('-').map_or("", |(_, version)| version));
    version(image) < version(than)
}

/// What one region offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Region {
    /// Version, and whether it is a preview.
    pub(crate) versions: BTreeMap<Version, bool>,
    /// Family to image versions, oldest first.
    pub(crate) images: BTreeMap<String, Vec<String>>,
}

impl Region {
    /// Returns the version of a cluster that is created without one: the newest patch of the minor version before the newest one that is
    /// not a preview.
    pub(crate) fn default_minor(&self) -> Option<(u32, u32)> {
        let stable = self.versions.iter().filter(|(_, preview)| !**preview).map(|(version, _)| *version);
        let mut minors: Vec<(u32, u32)> = stable.map(|version| (version.major, version.minor)).collect();
        minors.dedup();
        minors.iter().nth_back(1).or(minors.last()).copied()
    }

    /// Returns the full name of the newest image of a family.
    pub(crate) fn newest_image(&self, family: &str) -> Option<String> {
        self.images.get(family)?.last().map(|version| format!("{family}-{version}"))
    }

    /// Resolves a requested version: the version itself if offered, else the newest patch of the minor version that is not a preview.
    pub(crate) fn resolve(&self, requested: RequestedVersion) -> Option<Version> {
        match requested {
            RequestedVersion::Exact(version) => self.versions.contains_key(&version).then_some(version),
            RequestedVersion::Minor { major, minor } => {
                let of_minor = self.versions.iter().filter(|(v, _)| v.major == major && v.minor == minor);
                of_minor.filter(|(_, preview)| !**preview).map(|(version, _)| *version).next_back()
            }
        }
    }

    pub(crate) fn publish_image(&mut self, family: &str, version: &str) {
        let versions = self.images.entry(family.to_owned()).or_default();
        if !versions.iter().any(|known| known == version) {
            versions.push(version.to_owned());
            versions.sort_by_key(|version| numbers(version));
        }
    }

    pub(crate) fn withdraw_image(&mut self, family: &str, version: &str) -> bool {
        let Some(versions) = self.images.get_mut(family) else { return false };
        let before = versions.len();
        versions.retain(|known| known != version);
        versions.len() < before
    }
}

/// Regions by name, lower case without spaces.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    regions: BTreeMap<String, Region>,
}

impl Catalogue {
    pub(crate) fn new() -> Self {
        let mut regions = BTreeMap::new();
        for (name, arrived) in REGIONS.into_iter().zip(IMAGES_ARRIVED) {
            regions.insert(name.to_owned(), published(name, arrived));
        }
        Self { regions }
    }

    pub(crate) fn region(&self, name: &str) -> Option<&Region> {
        self.regions.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.regions.keys().map(String::as_str)
    }

    /// Returns the region to publish in. A new region starts with the versions and images that all regions have.
    pub(crate) fn region_or_new(&mut self, name: &str) -> &mut Region {
        self.regions.entry(name.to_owned()).or_insert_with(|| published(name, 2))
    }
}

fn published(name: &str, arrived: usize) -> Region {
    let mut region = Region::default();
    region.versions.extend(EVERYWHERE.iter().map(|version| (*version, false)));
    let own = LAGGING.iter().filter(|(place, ..)| *place == name);
    region.versions.extend(own.map(|(_, version, preview)| (*version, *preview)));
    for (family, versions) in IMAGES {
        region.images.insert(family.into(), versions.into_iter().take(arrived).map(Into::into).collect());
    }
    region
}

/// Returns the normalised name: `East US` and `eastus` are one location.
pub(crate) fn location(text: &str) -> String {
    text.chars().filter(|c| *c != ' ').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_differs_by_region_and_images_sort_by_number() {
        let mut catalogue = Catalogue::new();
        let newest: Vec<_> = REGIONS.iter().map(|name| catalogue.region(name).unwrap().newest_image(UBUNTU)).collect();
        assert!(newest[0] > newest[1] && newest[1] > newest[2], "{newest:?}");
        let region = catalogue.region_or_new("swedencentral");
        region.publish_image(UBUNTU, "202509.9.0");
        assert_eq!(region.newest_image(UBUNTU).unwrap(), format!("{UBUNTU}-202509.11.0"));
        assert!(is_older("AKSUbuntu-2204gen2containerd-202509.9.0", "AKSUbuntu-2204gen2containerd-202509.11.0"));
        assert_eq!(region.resolve(RequestedVersion::Minor { major: 1, minor: 33 }), Some(Version::new(1, 33, 5)));
        assert_eq!(region.resolve(RequestedVersion::Minor { major: 1, minor: 34 }), None);
    }
}
