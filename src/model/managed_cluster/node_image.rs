//! Node images: `{family}-{version}`.

use std::{cmp::Ordering, fmt};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// A node image, such as `AKSUbuntu-2204gen2containerd-202508.20.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeImage(String);

/// The version of a node image, ordered by its numbers: `202508.9.1` before `202508.20.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageVersion<'a>(&'a str);

impl NodeImage {
    /// Returns the image with this full name.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the family: the part before the last `-` (in names from before 2020, before the last `:`).
    #[must_use]
    pub fn family(&self) -> &str {
        self.split().0
    }

    /// Returns the version in the family.
    #[must_use]
    pub fn version(&self) -> ImageVersion<'_> {
        ImageVersion(self.split().1)
    }

    /// Whether the image has the other's family and is not older.
    #[must_use]
    pub fn is_at_least(&self, other: &Self) -> bool {
        self.family() == other.family() && self.version() >= other.version()
    }

    /// Returns the date in its version: `202508.20.1`, `2022.10.24`, or last in Windows' `20348.4052.250805`.
    #[must_use]
    pub fn published(&self) -> Option<Timestamp> {
        let parts: Vec<&str> = self.version().0.split('.').collect();
        let number = |text: &str| text.parse::<i16>().ok();
        let small = |text: &str| text.parse::<i8>().ok();
        let date = match parts.as_slice() {
            [month, day, ..] if month.len() == 6 => {
                Date::new(number(month.get(..4)?)?, small(month.get(4..)?)?, small(day)?)
            }
            [year, month, day] if year.len() == 4 => Date::new(number(year)?, small(month)?, small(day)?),
            [.., day] if day.len() == 6 => {
                Date::new(2000 + number(day.get(..2)?)?, small(day.get(2..4)?)?, small(day.get(4..)?)?)
            }
            _ => return None,
        };
        date.ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    }

    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once(['-', ':']).unwrap_or((&self.0, ""))
    }
}

impl fmt::Display for NodeImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for ImageVersion<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Compares numbers of any length as text: without leading zeros, the longer number is larger.
        let number = |part: &'_ str| part.trim_start_matches('0').len();
        let (mut ours, mut theirs) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return self.0.cmp(other.0),
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(a), Some(b)) => {
                    let order = number(a)
                        .cmp(&number(b))
                        .then_with(|| a.trim_start_matches('0').cmp(b.trim_start_matches('0')));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
            }
        }
    }
}

impl PartialOrd for ImageVersion<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let ascending = [
            ["AKSUbuntu-2204gen2containerd-202508.9.1", "AKSUbuntu-2204gen2containerd-202508.20.0"],
            ["AKSUbuntu-2204gen2containerd-202508.20.1", "AKSUbuntu-2204gen2containerd-202508.20.10"],
            ["AKSUbuntu-1804gen2containerd-2022.10.24", "AKSUbuntu-1804gen2containerd-202211.01.0"],
            ["AKSWindows-2022-containerd-20348.3207.250214", "AKSWindows-2022-containerd-20348.4052.250805"],
        ];
        for [older, newer] in ascending.map(|pair| pair.map(NodeImage::new)) {
            assert!(newer.is_at_least(&older) && !older.is_at_least(&newer), "{older} {newer}");
            assert!(older.is_at_least(&older));
        }
        let (a, b) = (NodeImage::new("A-1-9.0"), NodeImage::new("A-2-1.0"));
        assert!(!a.is_at_least(&b) && !b.is_at_least(&a), "families do not compare");
    }

    #[test]
    fn family_and_date_are_read_from_the_name() {
        let day = |text: &str| NodeImage::new(text).published().map(|t| t.to_string());
        assert_eq!(day("AKSUbuntu-2204gen2containerd-202508.20.1").as_deref(), Some("2025-08-20T00:00:00Z"));
        assert_eq!(day("AKSUbuntu-1804gen2containerd-2022.10.24").as_deref(), Some("2022-10-24T00:00:00Z"));
        assert_eq!(day("AKSWindows-2022-containerd-20348.4052.250805").as_deref(), Some("2025-08-05T00:00:00Z"));
        assert_eq!(day("AKSUbuntu:1604:2020.03.11").as_deref(), Some("2020-03-11T00:00:00Z"));
        for odd in ["", "-", "x", "a-1.2.3", "a-202513.40.1", "a-é2025.1", "a-20250é.1"] {
            assert_eq!(day(odd), None, "{odd}");
        }
        assert_eq!(NodeImage::new("AKSUbuntu:1604:2020.03.11").family(), "AKSUbuntu:1604");
    }
}
