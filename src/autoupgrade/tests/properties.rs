//! Properties that hold for any sequence of releases and withdrawals.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::name;

/// One answer of one region: the versions that it offers, those of them that are previews (one bit a version), and its image.
#[derive(Debug, Clone)]
struct Answer {
    region: usize,
    offered: u16,
    previews: u16,
    image: u32,
}

const VERSIONS: [&str; 9] = ["1.30.1", "1.30.4", "1.31.0", "1.31.2", "1.32.0", "1.32.1", "1.32.9", "1.33.0", "1.33.10"];

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let answer = (0..2_usize, any::<u16>(), any::<u16>(), 1..6_u32)
        .prop_map(|(region, offered, previews, image)| Answer { region, offered, previews, image });
    proptest::collection::vec(answer, 1..30)
}

fn versions(answer: &Answer) -> String {
    let bit = |bits: u16, n: usize| bits >> n & 1 == 1;
    let words = VERSIONS
        .iter()
        .enumerate()
        .filter(|(n, _)| bit(answer.offered, *n))
        .map(|(n, version)| format!("{version}{}", if bit(answer.previews, n) { "!" } else { "" }));
    words.collect::<Vec<_>>().join(" ")
}

fn profiles() -> Vec<AutoUpgradeProfileProperties> {
    let mut all = ["Rapid", "Stable", "NodeImage", "SecurityPatch"].map(profile).to_vec();
    all.push(following_minor("1.32", false));
    all
}

proptest! {
    /// Each target triggers once, is later than the one before, is no preview, is offered in a region at that time, and was not
    /// offered when its region was first read.
    #[test]
    fn targets_only_increase(answers in answers()) {
        for profile in profiles() {
            let mut offers = FleetOffers::default();
            offers.families.insert("U".to_owned(), true);
            let mut history = TriggerHistory { armed_at: day(0), last_target: None };
            let mut triggered: Vec<Target> = Vec::new();
            let mut initial = BTreeSet::new();
            for (n, answer) in answers.iter().enumerate() {
                let at = day(1 + i64::try_from(n).unwrap());
                let (found, newest) = (offered(&versions(answer)), images(&format!("U-2025{:02}.1.0", answer.image)));
                let key = ("s".to_owned(), format!("r{}", answer.region));
                match offers.regions.get_mut(&key) {
                    Some(region) => _ = region.update(&found, &newest, at),
                    None => {
                        initial.extend(found.iter().filter(|offer| !offer.preview).map(|offer| offer.version));
                        offers.regions.insert(key, RegionOffers::initial(&found, &newest));
                    }
                }
                let Some(target) = new_release(&profile, &offers, &history) else { continue };
                if let Target::Kubernetes(version) = &target {
                    let released = offers.regions.values().flat_map(RegionOffers::released);
                    prop_assert!(released.into_iter().any(|offer| offer.version == *version));
                    if profile.channel.as_str() != "Stable" {
                        prop_assert!(!initial.contains(version), "{version} was offered from the beginning");
                    }
                }
                prop_assert!(!triggered.contains(&target));
                let after = TriggerHistory { last_target: Some(target.clone()), ..history.clone() };
                prop_assert!(new_release(&profile, &offers, &after).is_none());
                if let (Some(Target::Kubernetes(last)), Target::Kubernetes(version)) = (&history.last_target, &target) {
                    prop_assert!(version > last);
                }
                history.last_target = Some(target.clone());
                triggered.push(target);
            }
        }
    }

    /// Reading the same answer again changes nothing.
    #[test]
    fn updates_are_idempotent(answers in answers()) {
        let mut region = RegionOffers::default();
        for (n, answer) in answers.iter().enumerate() {
            let at = day(i64::try_from(n).unwrap());
            let (found, newest) = (offered(&versions(answer)), images(&format!("U-2025{:02}.1.0", answer.image)));
            region.update(&found, &newest, at);
            prop_assert!(!region.update(&found, &newest, at + SignedDuration::from_hours(1)));
            let text = serde_json::to_string(&region).unwrap();
            prop_assert_eq!(&serde_json::from_str::<RegionOffers>(&text).unwrap(), &region);
        }
    }

    /// Each name is valid for a run, and differs for another profile and another target.
    #[test]
    fn run_names_are_valid_and_distinct(
        a in "[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?", b in "[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?",
        minor in any::<u32>(), patch in any::<u32>(),
    ) {
        let target = |patch| Target::Kubernetes(KubernetesVersion { major: 1, minor, patch });
        for profile in profiles() {
            let named = |name: &str, patch| run_name(name, &profile, &target(patch), None);
            let name = named(&a, patch);
            prop_assert!(name::is_valid(&name, name::MAX_PROXY), "{}", name);
            prop_assert_ne!(&name, &named(&a, patch.wrapping_add(1)));
            if a != b {
                prop_assert_ne!(&name, &named(&b, patch));
            }
        }
    }
}
