//! The properties that every ARM resource has besides its own (common-types v5).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Problems;

/// Tags of a tracked resource.
pub type Tags = BTreeMap<String, String>;

/// Who created and who last changed a resource, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemData {
    /// Name of the creator: a user's UPN or an application's ID.
    pub created_by: String,
    /// User, Application, ManagedIdentity or Key.
    pub created_by_type: String,
    /// When.
    pub created_at: Timestamp,
    /// Name of whoever changed the resource last.
    pub last_modified_by: String,
    /// Kind of that identity.
    pub last_modified_by_type: String,
    /// When.
    pub last_modified_at: Timestamp,
}

/// A region's name as ARM normalises it: lower case, without spaces.
#[must_use]
pub fn normalize_location(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

/// Checks tags against ARM's limits: at most 50, names up to 512 characters without `<>%&\?/`, values up to 256.
pub fn check_tags(tags: &Tags, problems: &mut Problems) {
    if tags.len() > 50 {
        problems.add("tags", format!("A resource has at most 50 tags; {} were given.", tags.len()));
    }
    for (name, value) in tags {
        if name.is_empty() || name.chars().count() > 512 || name.contains(['<', '>', '%', '&', '\\', '?', '/']) {
            problems.add("tags", format!("The tag name '{name}' must have 1 to 512 characters, none of <>%&\\?/."));
        }
        if value.chars().count() > 256 {
            problems.add(&format!("tags.{name}"), "A tag's value has at most 256 characters.");
        }
    }
}
