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

/// The day `n` of the story.
fn day(n: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * n)
}

/// Versions as AKS offers them: `!` marks a preview, `*` long-term support besides, `**` only.
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

fn staying_in(minor: &str, long_term: bool) -> AutoUpgradeProfileProperties {
    let body = serde_json::json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": minor, "longTermSupport": long_term});
    serde_json::from_value(body).unwrap()
}

/// A fleet whose regions are as told; its members run families `U` (Linux) and `W` (Windows).
fn fleet(regions: &[(&str, &str)]) -> FleetOffers {
    let mut offers = FleetOffers::default();
    for (n, (versions, newest)) in regions.iter().enumerate() {
        let region = RegionOffers::first(&offered(versions), &images(newest));
        offers.regions.insert(("s".to_owned(), format!("r{n}")), region);
    }
    offers.families.extend([("U".to_owned(), true), ("W".to_owned(), false)]);
    offers
}

fn look(offers: &mut FleetOffers, region: &str, versions: &str, newest: &str, at: Timestamp) {
    let region = offers.regions.get_mut(&("s".to_owned(), region.to_owned())).unwrap();
    region.look(&offered(versions), &images(newest), at);
}

/// What the profile would be told of on this look.
fn news(profile: &AutoUpgradeProfileProperties, offers: &FleetOffers, past: &Past) -> Option<Target> {
    let target = target(profile, offers).ok()?;
    is_news(profile, &target, offers, past).then_some(target)
}

fn leads_to(profile: &AutoUpgradeProfileProperties, offers: &FleetOffers) -> Vec<String> {
    target(profile, offers).map(|target| target.versions()).unwrap_or_default()
}
