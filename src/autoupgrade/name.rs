//! How the run for a target is called: always the same, so that it is made once however many look.

use std::{collections::BTreeSet, fmt::Write};

use sha2::{Digest, Sha256};

use super::Target;
use crate::model::{
    auto_upgrade_profile::{AutoUpgradeNodeImageSelectionType, AutoUpgradeProfileProperties},
    name::MAX_PROXY,
};

const HASH_CHARS: u32 = 7;

/// `auto-{profile}-{channel}-{version}-{hash}`, of at most 50 characters: the profile's name is cut where needed, the hash
/// never. The hash covers the profile's name, channel and node image selection, the target, and, where a run is for some
/// members only, these. Not the strategy: generating again after an edit of the strategy gives the run that there is.
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
    // No version of AKS's is so long that nothing is left for the profile's name; one that were would be cut itself.
    let rest: String = format!("-{channel}{version}").chars().take(MAX_PROXY - "auto-x-".len() - hash.len()).collect();
    let room = MAX_PROXY - "auto-".len() - rest.len() - "-".len() - hash.len();
    let profile: String = profile_name.chars().take(room).collect();
    format!("auto-{}{rest}-{hash}", profile.trim_end_matches('-'))
}

/// Seven digits and letters.
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
