//! Why a window or its schedule is invalid.

use jiff::civil::Date;

/// Why a window is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// The window would have no length, or overlap its next occurrence.
    #[error("a window lasts between 1 and 24 hours")]
    Duration,
    /// The interval is 0.
    #[error("an interval is at least 1")]
    Interval,
    /// No month has this day.
    #[error("a day of the month is between 1 and 31")]
    DayOfMonth,
    /// The span ends before it starts.
    #[error("a span of days that are not allowed ends on {end}, before it starts on {start}")]
    Span {
        /// Its first day.
        start: Date,
        /// Its last day.
        end: Date,
    },
}
