//! What holds whatever AKS publishes, withdraws and publishes again.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::name;

/// One look at one region: which of a few versions and which image it finds. Bits: offered; preview.
#[derive(Debug, Clone)]
struct Look {
    region: usize,
    offered: u16,
    previews: u16,
    image: u32,
}

const VERSIONS: [&str; 9] = ["1.30.1", "1.30.4", "1.31.0", "1.31.2", "1.32.0", "1.32.1", "1.32.9", "1.33.0", "1.33.10"];

fn looks() -> impl Strategy<Value = Vec<Look>> {
    let look = (0..2_usize, any::<u16>(), any::<u16>(), 1..6_u32).prop_map(|(region, offered, previews, image)| Look {
        region,
        offered,
        previews,
        image,
    });
    proptest::collection::vec(look, 1..30)
}

fn versions(look: &Look) -> String {
    let bit = |bits: u16, n: usize| bits >> n & 1 == 1;
    let words = VERSIONS
        .iter()
        .enumerate()
        .filter(|(n, _)| bit(look.offered, *n))
        .map(|(n, version)| format!("{version}{}", if bit(look.previews, n) { "!" } else { "" }));
    words.collect::<Vec<_>>().join(" ")
}

fn profiles() -> Vec<AutoUpgradeProfileProperties> {
    let mut all = ["Rapid", "Stable", "NodeImage", "SecurityPatch"].map(profile).to_vec();
    all.push(staying_in("1.32", false));
    all
}

proptest! {
    /// A target is triggered once, targets only go up, none is a preview, each is offered somewhere at that moment, and what
    /// was there at the first look is never one.
    #[test]
    fn targets_only_go_up(looks in looks()) {
        for profile in profiles() {
            let mut offers = FleetOffers::default();
            offers.families.insert("U".to_owned(), true);
            let mut past = Past { armed_at: day(0), target: None };
            let mut triggered: Vec<Target> = Vec::new();
            let mut of_old = BTreeSet::new();
            for (n, seen) in looks.iter().enumerate() {
                let at = day(1 + i64::try_from(n).unwrap());
                let (found, newest) = (offered(&versions(seen)), images(&format!("U-2025{:02}.1.0", seen.image)));
                let key = ("s".to_owned(), format!("r{}", seen.region));
                match offers.regions.get_mut(&key) {
                    Some(region) => _ = region.look(&found, &newest, at),
                    None => {
                        of_old.extend(found.iter().filter(|offer| !offer.preview).map(|offer| offer.version));
                        offers.regions.insert(key, RegionOffers::first(&found, &newest));
                    }
                }
                let Some(target) = news(&profile, &offers, &past) else { continue };
                if let Target::Kubernetes(version) = &target {
                    let released = offers.regions.values().flat_map(RegionOffers::released);
                    prop_assert!(released.into_iter().any(|offer| offer.version == *version));
                    if profile.channel.as_str() != "Stable" {
                        prop_assert!(!of_old.contains(version), "{version} was there before");
                    }
                }
                prop_assert!(!triggered.contains(&target));
                let told = Past { target: Some(target.clone()), ..past.clone() };
                prop_assert!(news(&profile, &offers, &told).is_none());
                if let (Some(Target::Kubernetes(last)), Target::Kubernetes(version)) = (&past.target, &target) {
                    prop_assert!(version > last);
                }
                past.target = Some(target.clone());
                triggered.push(target);
            }
        }
    }

    /// Looking again at the same changes nothing.
    #[test]
    fn looks_are_idempotent(looks in looks()) {
        let mut region = RegionOffers::default();
        for (n, seen) in looks.iter().enumerate() {
            let at = day(i64::try_from(n).unwrap());
            let (found, newest) = (offered(&versions(seen)), images(&format!("U-2025{:02}.1.0", seen.image)));
            region.look(&found, &newest, at);
            prop_assert!(!region.look(&found, &newest, at + SignedDuration::from_hours(1)));
            let text = serde_json::to_string(&region).unwrap();
            prop_assert_eq!(&serde_json::from_str::<RegionOffers>(&text).unwrap(), &region);
        }
    }

    /// Every name is one that a run may have, and other profiles and targets have others.
    #[test]
    fn names_are_valid_and_apart(
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
