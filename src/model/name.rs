//! Names of fleets, their children, resource groups and clusters.

/// Longest name of a fleet or a managed namespace.
pub const MAX_TRACKED: usize = 63;
/// Longest name of a member, strategy, run, profile, stage or group.
pub const MAX_PROXY: usize = 50;

/// Whether a name has 1 to `max` characters and matches `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`.
#[must_use]
pub fn is_valid(name: &str, max: usize) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= max
        && bytes.first().is_some_and(|b| plain(*b))
        && bytes.last().is_some_and(|b| plain(*b))
        && bytes.iter().all(|b| plain(*b) || *b == b'-')
}

/// Whether the text is a valid resource group name: 1–90 letters, digits, `.`, `_`, `-`, `(`, `)`, not ending with `.`.
#[must_use]
pub fn is_resource_group(name: &str) -> bool {
    (1..=90).contains(&name.chars().count())
        && !name.ends_with('.')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '(' | ')'))
}

/// Whether the text is a valid AKS cluster name: 1–63 letters, digits, `_`, `-`, beginning and ending with a letter or digit.
#[must_use]
pub fn is_managed_cluster(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|b| plain(*b))
        && bytes.last().is_some_and(|b| plain(*b))
        && bytes.iter().all(|b| plain(*b) || matches!(b, b'_' | b'-'))
}

/// Returns a description of a valid name, for messages.
#[must_use]
pub fn rule(max: usize) -> String {
    format!("1 to {max} characters: lower-case letters, digits and '-', beginning and ending with a letter or digit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_pattern() {
        for good in ["a", "0", "a-b", "a--b", &"x".repeat(50)] {
            assert!(is_valid(good, 50), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"x".repeat(51)] {
            assert!(!is_valid(bad, 50), "{bad}");
        }
    }
}
