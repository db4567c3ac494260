//! The days on which a window opens.

use jiff::{
    SignedDuration,
    civil::{Date, Weekday},
};

use super::InvalidWindow;

/// The day from which intervals count when a window has no start date. AKS always sets one.
const ORIGIN: Date = Date::constant(1970, 1, 1);

/// The number of months after which the calendar repeats: 400 years.
const CYCLE: usize = 4800;

/// The days on which a window opens.
///
/// Intervals count from the day, the calendar week, or the month of the start date. Days before the start date do not count, even
/// if they are in its week or month. Weeks start on Sunday, as in AKS: with a start date on Tuesday, 14 April 2026, every second
/// Sunday begins on 26 April (Azure/AKS issue 5720).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Every `interval_days` days.
    Daily {
        /// At least 1.
        interval_days: u16,
    },
    /// A day of the week, every `interval_weeks` weeks.
    Weekly {
        /// At least 1.
        interval_weeks: u16,
        /// Which day.
        day_of_week: Weekday,
    },
    /// A day of the month, every `interval_months` months. A month without that day has no window: a window is a permission, and
    /// no other day was permitted.
    AbsoluteMonthly {
        /// At least 1.
        interval_months: u16,
        /// 1 to 31.
        day_of_month: i8,
    },
    /// A weekday of a week of the month, every `interval_months` months.
    RelativeMonthly {
        /// At least 1.
        interval_months: u16,
        /// Which week.
        week_index: WeekIndex,
        /// Which day.
        day_of_week: Weekday,
    },
}

/// Which occurrence of a weekday in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as AKS calls them")]
pub enum WeekIndex {
    First,
    Second,
    Third,
    Fourth,
    /// The last: the fourth or the fifth.
    Last,
}

impl WeekIndex {
    const fn nth(self) -> i8 {
        match self {
            Self::First => 1,
            Self::Second => 2,
            Self::Third => 3,
            Self::Fourth => 4,
            Self::Last => -1,
        }
    }
}

impl Schedule {
    pub(super) fn check(self) -> Result<(), InvalidWindow> {
        let (Self::Daily { interval_days: interval }
        | Self::Weekly { interval_weeks: interval, .. }
        | Self::AbsoluteMonthly { interval_months: interval, .. }
        | Self::RelativeMonthly { interval_months: interval, .. }) = self;
        if interval == 0 {
            return Err(InvalidWindow::Interval);
        }
        match self {
            Self::AbsoluteMonthly { day_of_month, .. } if !(1..=31).contains(&day_of_month) => {
                Err(InvalidWindow::DayOfMonth)
            }
            _ => Ok(()),
        }
    }

    /// Returns the first day of the schedule at or after `day`, both as days since 1970-01-01. `None`: there is none.
    pub(super) fn day_from(self, day: i64, start: Option<Date>) -> Option<i64> {
        let day = start.map_or(day, |start| day.max(day_of(start)));
        let origin = start.unwrap_or(ORIGIN);
        match self {
            Self::Daily { interval_days } => Some(next(day, day_of(origin), interval_days.into())),
            Self::Weekly { interval_weeks, day_of_week } => {
                let sunday = day_of(origin) - i64::from(origin.weekday().to_sunday_zero_offset());
                let first = sunday + i64::from(day_of_week.to_sunday_zero_offset());
                Some(next(day, first, 7 * i64::from(interval_weeks)))
            }
            Self::AbsoluteMonthly { interval_months, day_of_month } => {
                by_month(day, origin, interval_months, |year, month| Date::new(year, month, day_of_month).ok())
            }
            Self::RelativeMonthly { interval_months, week_index, day_of_week } => {
                by_month(day, origin, interval_months, |year, month| {
                    Date::new(year, month, 1).ok()?.nth_weekday_of_month(week_index.nth(), day_of_week).ok()
                })
            }
        }
    }
}

/// Returns the first number at or after `from` whose distance from `origin` is a multiple of `step`.
fn next(from: i64, origin: i64, step: i64) -> i64 {
    from + (origin - from).rem_euclid(step)
}

/// Returns the first day at or after `from` that `day_in` returns for every `interval`-th month, counted from `origin`.
fn by_month(from: i64, origin: Date, interval: u16, day_in: impl Fn(i16, i8) -> Option<Date>) -> Option<i64> {
    let number = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
    let interval = i64::from(interval);
    let mut month = next(number(date_of(from)?), number(origin), interval);
    for _ in 0..=CYCLE {
        let year = i16::try_from(month.div_euclid(12)).ok()?;
        let in_year = i8::try_from(month.rem_euclid(12) + 1).ok()?;
        // The calendar ends with year 9999.
        Date::new(year, in_year, 1).ok()?;
        if let Some(day) = day_in(year, in_year).map(day_of).filter(|day| *day >= from) {
            return Some(day);
        }
        month += interval;
    }
    None
}

/// Days since 1970-01-01.
pub(super) fn day_of(date: Date) -> i64 {
    date.duration_since(ORIGIN).as_hours() / 24
}

pub(super) fn date_of(day: i64) -> Option<Date> {
    ORIGIN.checked_add(SignedDuration::from_hours(day.checked_mul(24)?)).ok()
}
