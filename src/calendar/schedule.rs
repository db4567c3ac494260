//! On which days a window opens.

use jiff::{
    SignedDuration,
    civil::{Date, Weekday},
};

use super::InvalidWindow;

/// From which day intervals count when a window has no start date (AKS always gives it one).
const ORIGIN: Date = Date::constant(1970, 1, 1);

/// After so many months the calendar repeats itself: 400 years.
const CYCLE: usize = 4800;

/// The days on which a window opens.
///
/// Intervals count from the start date: from that day, from its calendar week, or from its month; a day before the start date
/// is none, even if its week or month counts. Weeks start on Sunday, as AKS has it: with a start date on Tuesday, 14 April
/// 2026, every second Sunday begins with 26 April (Azure/AKS issue 5720).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Every so many days.
    Daily {
        /// At least 1.
        interval_days: u16,
    },
    /// A day of the week, every so many weeks.
    Weekly {
        /// At least 1.
        interval_weeks: u16,
        /// Which day.
        day_of_week: Weekday,
    },
    /// A day of the month, every so many months. Months without that day have none: a window is a permission, and nobody
    /// gave one for another day.
    AbsoluteMonthly {
        /// At least 1.
        interval_months: u16,
        /// 1 to 31.
        day_of_month: i8,
    },
    /// A day of a week of the month, every so many months.
    RelativeMonthly {
        /// At least 1.
        interval_months: u16,
        /// Which week.
        week_index: WeekIndex,
        /// Which day.
        day_of_week: Weekday,
    },
}

/// Which of a month's days of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as AKS calls them")]
pub enum WeekIndex {
    First,
    Second,
    Third,
    Fourth,
    /// The fifth, where there is one.
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

    /// The first of its days at or after this one, both counted from 1970-01-01. `None`: there is none.
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

/// The first number at or after `from` that is a whole number of steps away from `origin`.
fn next(from: i64, origin: i64, step: i64) -> i64 {
    from + (origin - from).rem_euclid(step)
}

/// The first day at or after `from` that `of` finds in the months that count.
fn by_month(from: i64, origin: Date, interval: u16, of: impl Fn(i16, i8) -> Option<Date>) -> Option<i64> {
    let number = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
    let interval = i64::from(interval);
    let mut month = next(number(date_of(from)?), number(origin), interval);
    for _ in 0..=CYCLE {
        let year = i16::try_from(month.div_euclid(12)).ok()?;
        let in_year = i8::try_from(month.rem_euclid(12) + 1).ok()?;
        // Beyond the last year there are no months.
        Date::new(year, in_year, 1).ok()?;
        if let Some(day) = of(year, in_year).map(day_of).filter(|day| *day >= from) {
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
