//! The name of the run for a target. The same target gives the same name, so that concurrent triggers create one run.

use std::{collections::BTreeSet, fmt::Write};

use sha2::{Digest, Sha256};

use super::Target;
use crate::model::{
    auto_upgrade_profile::{AutoUpgradeNodeImageSelectionType, AutoUpgradeProfileProperties},
    name::MAX_PROXY,
};

const HASH_CHARS: u32 = 7;

/// Returns `auto-{profile}-{channel}-{version}-{hash}`, at most 50 characters. The profile's name is cut where needed, the hash
/// never is. The hash covers the profile's name, channel and node image selection, the target, and the members in `only`. It
/// does not cover the strategy: generating a run again after the strategy was edited returns the existing run.
#[must_use]
pub fn run_name(
    profile_name: &str,
    profile: &AutoUpgradeProfileProperties,
    target: &Target,
    only: Option<&BTreeSet<String>>,
) -> String {
    let channel = profile.channel.as_str().to_lowercase();
    let selection = profile.node_image_selection.as_ref().map(|selection| selection.selection_type);
    let consistent = selection == Some(AutoUpgradeNodeImageSelectionType::Consistent);
    let mut text = format!("{profile_name}\n{channel}\n{consistent}\n");
    for version in target.versions() {
        let _ = writeln!(text, "{version}");
    }
    for member in only.into_iter().flatten() {
        let _ = writeln!(text, "member {member}");
    }
    let version = match target {
        Target::Kubernetes(version) => format!("-{}-{}-{}", version.major, version.minor, version.patch),
        Target::Images(_) => String::new(),
    };
    let hash = hash(&text);
    // Versions of AKS are short enough to leave characters for the profile's name. A longer one is cut.
    let rest: String = format!("-{channel}{version}").chars().take(MAX_PROXY - "auto-x-".len() - hash.len()).collect();
    let room = MAX_PROXY - "auto-".len() - rest.len() - "-".len() - hash.len();
    let profile: String = profile_name.chars().take(room).collect();
    format!("auto-{}{rest}-{hash}", profile.trim_end_matches('-'))
}

/// Returns seven characters of 0-9 and a-z.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut number = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let digit = |_| {
        let digit = u32::try_from(number % 36).unwrap_or_default();
        number /= 36;
        char::from_digit(digit, 36).unwrap_or('0')
    };
    (0..HASH_CHARS).map(digit).collect()
}
