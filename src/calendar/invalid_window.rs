//! Why a window or its schedule is invalid.

use jiff::civil::Date;

/// Why there is no such window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Occurrences would overlap, or have no length.
    #[error("a window lasts between 1 and 24 hours")]
    Duration,
    /// Nothing recurs every 0 days.
    #[error("an interval is at least 1")]
    Interval,
    /// No month has such a day.
    #[error("a day of the month is between 1 and 31")]
    DayOfMonth,
    /// The span has no days.
    #[error("a span of days that are not allowed ends on {end}, before it starts on {start}")]
    Span {
        /// Its first day.
        start: Date,
        /// Its last day.
        end: Date,
    },
}
