//! Scheduled starts: a weekday and a local time at which a gate opens automatically.

use jiff::{
    SignedDuration, Timestamp, ToSpan as _,
    civil::{Time, Weekday},
    tz::Offset,
};
use serde::{Deserialize, Serialize};

use crate::arm::Problems;

/// When a gate of the type `ScheduledStart` opens. The offset is fixed, without daylight saving time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledStartConfiguration {
    /// The weekday, in local time.
    pub start_day: DayOfWeek,
    /// Local time of day, `HH:mm`, 00:00 to 23:59.
    pub start_time: String,
    /// Offset of local time from UTC, `±HH:mm`, -14:00 to +14:00.
    pub utc_offset: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "days")]
pub enum DayOfWeek {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl ScheduledStartConfiguration {
    /// Checks the formats. `at` is the path of the schedule in the body.
    pub(super) fn check(&self, at: &str, problems: &mut Problems) {
        if read_time(&self.start_time).is_none() {
            let problem = format!("'{}' is not a time of day, '00:00' to '23:59'.", self.start_time);
            problems.add(&format!("{at}.startTime"), problem);
        }
        if read_offset(&self.utc_offset).is_none() {
            let problem = format!("'{}' is not an offset from UTC, '-14:00' to '+14:00'.", self.utc_offset);
            problems.add(&format!("{at}.utcOffset"), problem);
        }
    }

    /// Returns the first occurrence at or after `from`. An occurrence lasts its whole minute, so that it may begin up to a minute
    /// before `from`. `None`: the schedule is invalid, or the calendar ends.
    #[must_use]
    pub fn next(&self, from: Timestamp) -> Option<Timestamp> {
        let (time, offset) = (read_time(&self.start_time)?, read_offset(&self.utc_offset)?);
        let local = offset.to_datetime(from);
        let minute = Time::new(local.hour(), local.minute(), 0, 0).ok()?;
        let days = local.date().weekday().until(self.start_day.into());
        let days = if days == 0 && time < minute { 7 } else { days };
        offset.to_timestamp(local.date().checked_add(i64::from(days).days()).ok()?.to_datetime(time)).ok()
    }
}

impl From<DayOfWeek> for Weekday {
    fn from(day: DayOfWeek) -> Self {
        match day {
            DayOfWeek::Monday => Self::Monday,
            DayOfWeek::Tuesday => Self::Tuesday,
            DayOfWeek::Wednesday => Self::Wednesday,
            DayOfWeek::Thursday => Self::Thursday,
            DayOfWeek::Friday => Self::Friday,
            DayOfWeek::Saturday => Self::Saturday,
            DayOfWeek::Sunday => Self::Sunday,
        }
    }
}

fn read_time(text: &str) -> Option<Time> {
    let (hour, minute) = read_pair(text)?;
    Time::new(hour, minute, 0, 0).ok()
}

fn read_offset(text: &str) -> Option<Offset> {
    let (east, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (true, rest),
        ("-", rest) => (false, rest),
        _ => return None,
    };
    let (hours, minutes) = read_pair(rest).filter(|(hours, minutes)| *minutes < 60 && (*hours, *minutes) <= (14, 0))?;
    let length = SignedDuration::from_mins(i64::from(hours) * 60 + i64::from(minutes));
    Offset::try_from(if east { length } else { -length }).ok()
}

/// `HH:mm`.
fn read_pair(text: &str) -> Option<(i8, i8)> {
    let two = |digits: &str| {
        let sound = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        sound.then(|| digits.parse().ok()).flatten()
    };
    let (left, right) = text.split_once(':')?;
    Some((two(left)?, two(right)?))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn schedule(start_day: DayOfWeek, start_time: &str, utc_offset: &str) -> ScheduledStartConfiguration {
        ScheduledStartConfiguration { start_day, start_time: start_time.to_owned(), utc_offset: utc_offset.to_owned() }
    }

    fn next(schedule: &ScheduledStartConfiguration, from: &str) -> String {
        schedule.next(from.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn documented_examples() {
        // 2026-08-17 is a Monday.
        let wednesday = schedule(DayOfWeek::Wednesday, "02:00", "+00:00");
        assert_eq!(next(&wednesday, "2026-08-17T10:00:00Z"), "2026-08-19T02:00:00Z", "this Wednesday");
        assert_eq!(next(&wednesday, "2026-08-19T03:00:00Z"), "2026-08-26T02:00:00Z", "next week");
        let friday = schedule(DayOfWeek::Friday, "18:00", "-05:00");
        assert_eq!(next(&friday, "2026-08-17T10:00:00Z"), "2026-08-21T23:00:00Z");
    }

    #[test]
    fn an_occurrence_lasts_its_whole_minute() {
        let wednesday = schedule(DayOfWeek::Wednesday, "02:00", "+00:00");
        for from in ["2026-08-19T02:00:00Z", "2026-08-19T02:00:00.5Z", "2026-08-19T02:00:59.999Z"] {
            assert_eq!(next(&wednesday, from), "2026-08-19T02:00:00Z", "{from}");
        }
        assert_eq!(next(&wednesday, "2026-08-19T01:59:59.999Z"), "2026-08-19T02:00:00Z");
        assert_eq!(next(&wednesday, "2026-08-19T02:01:00Z"), "2026-08-26T02:00:00Z");
    }

    #[test]
    fn offsets_of_14_and_12_hours() {
        // Wednesday in Kiritimati begins on Tuesday in UTC, on Baker Island it ends on Thursday.
        let east = schedule(DayOfWeek::Wednesday, "00:30", "+14:00");
        assert_eq!(next(&east, "2026-08-17T00:00:00Z"), "2026-08-18T10:30:00Z");
        assert_eq!(next(&east, "2026-08-18T10:31:00Z"), "2026-08-25T10:30:00Z");
        let west = schedule(DayOfWeek::Wednesday, "23:30", "-12:00");
        assert_eq!(next(&west, "2026-08-20T11:29:00Z"), "2026-08-20T11:30:00Z");
        assert_eq!(next(&west, "2026-08-20T11:31:00Z"), "2026-08-27T11:30:00Z");
        // Over the end of a year, and over the night in which clocks in Europe are changed: the offset stays.
        assert_eq!(
            next(&schedule(DayOfWeek::Friday, "00:00", "+01:00"), "2026-12-26T00:00:00Z"),
            "2026-12-31T23:00:00Z"
        );
        assert_eq!(
            next(&schedule(DayOfWeek::Sunday, "02:30", "+01:00"), "2026-03-27T00:00:00Z"),
            "2026-03-29T01:30:00Z"
        );
        assert_eq!(schedule(DayOfWeek::Friday, "18:00", "+00:00").next(Timestamp::MAX), None);
    }

    #[test]
    fn values_outside_the_patterns_are_refused() {
        for time in ["", "24:00", "2:00", "02:60", "02:00:00", "02.00", "+2:00", "０2:00"] {
            assert!(read_time(time).is_none(), "{time}");
        }
        for offset in ["", "00:00", "+14:01", "-15:00", "+1:00", "+01:60", "Z", "+0100", "−01:00"] {
            assert!(read_offset(offset).is_none(), "{offset}");
        }
        for offset in ["+00:00", "-00:00", "+14:00", "-14:00", "+13:59", "+05:45"] {
            assert!(read_offset(offset).is_some(), "{offset}");
        }
    }

    const DAYS: &[DayOfWeek] = &[
        DayOfWeek::Monday,
        DayOfWeek::Tuesday,
        DayOfWeek::Wednesday,
        DayOfWeek::Thursday,
        DayOfWeek::Friday,
        DayOfWeek::Saturday,
        DayOfWeek::Sunday,
    ];

    proptest! {
        #[test]
        fn as_if_every_minute_were_looked_at(
            day in select(DAYS), minute in 0..1440_i64, offset in -840..=840_i64, from in 0..4_102_444_800_i64,
        ) {
            let time = format!("{:02}:{:02}", minute / 60, minute % 60);
            let sign = if offset < 0 { '-' } else { '+' };
            let schedule = schedule(day, &time, &format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60));
            // Minutes since a Monday's midnight in local time: 1970-01-01 was a Thursday.
            let wanted = DAYS.iter().position(|d| *d == day).unwrap() as i64 * 1440 + minute;
            let found = (from / 60..).find(|utc| (utc + offset + 3 * 1440).rem_euclid(7 * 1440) == wanted).unwrap();
            let next = schedule.next(Timestamp::from_second(from).unwrap()).unwrap();
            prop_assert_eq!(next, Timestamp::from_second(found * 60).unwrap());
        }
    }
}
