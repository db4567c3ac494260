mod examples;
mod properties;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::model::{
    auto_upgrade_profile::AutoUpgradeProfileProperties,
    managed_cluster::{NodeImage, OfferedVersion},
    version::KubernetesVersion,
};

fn v(text: &str) -> KubernetesVersion {
    text.parse().unwrap()
}

/// Day `n` of the test.
fn day(n: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * n)
}

/// Versions that AKS offers: `!` marks a preview, `*` also long-term support, `**` long-term support only.
fn offered(text: &str) -> Vec<OfferedVersion> {
    let version = |word: &str| OfferedVersion {
        version: v(word.trim_end_matches(['!', '*'])),
        preview: word.ends_with('!'),
        long_term_only: word.ends_with("**"),
        long_term: word.ends_with('*'),
        upgrades: Vec::new(),
    };
    text.split_whitespace().map(version).collect()
}

fn images(text: &str) -> Vec<NodeImage> {
    text.split_whitespace().map(NodeImage::new).collect()
}

fn profile(channel: &str) -> AutoUpgradeProfileProperties {
    serde_json::from_value(serde_json::json!({"channel": channel})).unwrap()
}

fn following_minor(minor: &str, long_term: bool) -> AutoUpgradeProfileProperties {
    let body = serde_json::json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": minor, "longTermSupport": long_term});
    serde_json::from_value(body).unwrap()
}

/// A fleet whose regions are as triggered; its members run families `U` (Linux) and `W` (Windows).
fn fleet(regions: &[(&str, &str)]) -> FleetOffers {
    let mut offers = FleetOffers::default();
    for (n, (versions, newest)) in regions.iter().enumerate() {
        let region = RegionOffers::initial(&offered(versions), &images(newest));
        offers.regions.insert(("s".to_owned(), format!("r{n}")), region);
    }
    offers.families.extend([("U".to_owned(), true), ("W".to_owned(), false)]);
    offers
}

fn read_region(offers: &mut FleetOffers, region: &str, versions: &str, newest: &str, at: Timestamp) {
    let region = offers.regions.get_mut(&("s".to_owned(), region.to_owned())).unwrap();
    region.update(&offered(versions), &images(newest), at);
}

/// The profile's target, if it is a new release.
fn new_release(
    profile: &AutoUpgradeProfileProperties,
    offers: &FleetOffers,
    history: &TriggerHistory,
) -> Option<Target> {
    let target = target(profile, offers).ok()?;
    is_new_release(profile, &target, offers, history).then_some(target)
}

fn target_versions(profile: &AutoUpgradeProfileProperties, offers: &FleetOffers) -> Vec<String> {
    target(profile, offers).map(|target| target.versions()).unwrap_or_default()
}
