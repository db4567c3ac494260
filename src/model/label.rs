//! Kubernetes' labels: what their keys and values are made of.

use std::collections::BTreeMap;

use super::name;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// What a key is, for people.
pub const KEY_RULE: &str = "an optional DNS prefix and '/', then up to 63 letters, digits, '-', '_', '.'";
/// What a value is, for people.
pub const VALUE_RULE: &str = "up to 63 letters, digits, '-', '_', '.', beginning and ending with a letter or digit";

/// Whether this is a label's key.
#[must_use]
pub fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        None => !key.is_empty() && is_value(key),
        Some((prefix, name)) => {
            let label = |part: &str| name::is_valid(part, 63);
            prefix.len() <= 253 && prefix.split('.').all(label) && !name.is_empty() && is_value(name)
        }
    }
}

/// Whether this is a label's value; the empty one is.
#[must_use]
pub fn is_value(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let bytes = value.as_bytes();
    bytes.is_empty()
        || (bytes.len() <= 63
            && bytes.first().is_some_and(|b| plain(*b))
            && bytes.last().is_some_and(|b| plain(*b))
            && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_' | b'.')))
}
