//! Syntax of Kubernetes label keys and values.

use std::collections::BTreeMap;

use super::name;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// Description of a valid key, for messages.
pub const KEY_RULE: &str = "an optional DNS prefix and '/', then up to 63 letters, digits, '-', '_', '.'";
/// Description of a valid value, for messages.
pub const VALUE_RULE: &str = "up to 63 letters, digits, '-', '_', '.', beginning and ending with a letter or digit";

/// Whether the text is a valid label key.
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

/// Whether the text is a valid label value. The empty text is valid.
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
