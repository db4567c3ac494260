//! `maxConcurrency` and `maxAllowedFailures`: a count, or a percentage of the members in scope.

/// A count or a percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// A number of members.
    Count(u32),
    /// A percentage of the members in scope, 0–100.
    Percent(u8),
}

/// Concurrency of a stage that sets none, and the largest that a stage may set (product documentation: at most 50 concurrent
/// upgrades in a stage).
pub const STAGE_CONCURRENCY: u32 = 50;
/// Concurrency of a group that sets none.
pub const GROUP_CONCURRENCY: u32 = 1;

impl Limit {
    /// Reads a `maxConcurrency`: `1`, `2`, … or `1%` … `100%`.
    #[must_use]
    pub fn concurrency(text: &str) -> Option<Self> {
        Self::parse(text).filter(|limit| !matches!(limit, Self::Count(0) | Self::Percent(0)))
    }

    /// Reads a `maxAllowedFailures`: `0`, `1`, … or `0%` … `100%`.
    #[must_use]
    pub fn failures(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn parse(text: &str) -> Option<Self> {
        let (digits, percent) = text.strip_suffix('%').map_or((text, false), |digits| (digits, true));
        let plain = digits == "0" || !digits.starts_with('0');
        if digits.is_empty() || !plain || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if percent {
            digits.parse().ok().filter(|p| *p <= 100).map(Self::Percent)
        } else {
            // A number above u32 is larger than any fleet.
            Some(Self::Count(digits.parse().unwrap_or(u32::MAX)))
        }
    }

    /// Returns the largest number of concurrent upgrades among `members`. Percentages are rounded down, to 1 at least.
    #[must_use]
    pub fn ceiling(self, members: u32) -> u32 {
        match self {
            Self::Count(n) => n.max(1),
            Self::Percent(p) => scale(p, members, false).max(1),
        }
    }

    /// Returns the number of failures allowed among `members`. Percentages are rounded up.
    #[must_use]
    pub fn tolerance(self, members: u32) -> u32 {
        match self {
            Self::Count(n) => n,
            Self::Percent(p) => scale(p, members, true),
        }
    }
}

fn scale(percent: u8, members: u32, up: bool) -> u32 {
    let product = u64::from(percent) * u64::from(members) + if up { 99 } else { 0 };
    u32::try_from(product / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_examples() {
        let ceiling = |text: &str, of| Limit::concurrency(text).unwrap().ceiling(of);
        assert_eq!((ceiling("25%", 20), ceiling("50%", 8), ceiling("25%", 12), ceiling("1%", 5)), (5, 4, 3, 1));
        let tolerance = |text: &str, of| Limit::failures(text).unwrap().tolerance(of);
        assert_eq!([5, 7, 19, 12].map(|of| tolerance("25%", of)), [2, 2, 5, 3]);
        assert_eq!((tolerance("3", 100), tolerance("0", 9), tolerance("0%", 9)), (3, 0, 0));
    }

    #[test]
    fn values_outside_the_pattern_are_refused() {
        for text in ["", "0", "0%", "101%", "-1", "1.5", "01", "%", "5 %", "١"] {
            assert_eq!(Limit::concurrency(text), None, "{text}");
        }
        for text in ["", "101%", "-1", "00", "x"] {
            assert_eq!(Limit::failures(text), None, "{text}");
        }
    }
}
