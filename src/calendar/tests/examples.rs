//! Single windows, checked by hand against a calendar.

use jiff::{Timestamp, civil::Weekday, tz::Offset};

use crate::calendar::{InvalidWindow, Schedule, State, WeekIndex, Window};

fn offset(text: &str) -> Offset {
    let (hours, minutes) = text[1..].split_once(':').unwrap();
    let seconds = hours.parse::<i32>().unwrap() * 3600 + minutes.parse::<i32>().unwrap() * 60;
    Offset::from_seconds(if text.starts_with('-') { -seconds } else { seconds }).unwrap()
}

/// A window from a day on, at a time, for a number of hours.
fn window(schedule: Schedule, from: &str, at: &str, hours: u8, utc: &str, closed: &[(&str, &str)]) -> Window {
    let closed: Vec<_> = closed.iter().map(|(start, end)| (start.parse().unwrap(), end.parse().unwrap())).collect();
    let from = (!from.is_empty()).then(|| from.parse().unwrap());
    Window::new(schedule, from, at.parse().unwrap(), hours, offset(utc), &closed).unwrap()
}

fn t(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| at.to_string())
}

/// The next openings after a time.
fn openings(window: &Window, after: &str, count: usize) -> Vec<String> {
    let mut at = t(after);
    let mut found = Vec::new();
    while let Some(next) = window.next_opening(at).filter(|_| found.len() < count) {
        found.push(next.to_string());
        at = next;
    }
    found
}

/// `open until …`, `closed until …`.
fn state(window: &Window, at: &str) -> String {
    match window.at(t(at)) {
        State::Open { until } => format!("open until {}", shown(until)),
        State::Closed { opens } => format!("closed until {}", shown(opens)),
    }
}

const DAILY: Schedule = Schedule::Daily { interval_days: 1 };

fn weekly(interval_weeks: u16, day_of_week: Weekday) -> Schedule {
    Schedule::Weekly { interval_weeks, day_of_week }
}

fn monthly(interval_months: u16, day_of_month: i8) -> Schedule {
    Schedule::AbsoluteMonthly { interval_months, day_of_month }
}

fn nth(interval_months: u16, week_index: WeekIndex, day_of_week: Weekday) -> Schedule {
    Schedule::RelativeMonthly { interval_months, week_index, day_of_week }
}

#[test]
fn every_third_day() {
    // The example of AKS's specification.
    let w = window(
        Schedule::Daily { interval_days: 3 },
        "2023-01-01",
        "09:30",
        4,
        "-07:00",
        &[("2023-02-18", "2023-02-25"), ("2023-12-23", "2024-01-05")],
    );
    assert_eq!(state(&w, "2022-12-31T00:00:00Z"), "closed until 2023-01-01T16:30:00Z");
    assert_eq!(state(&w, "2023-01-01T16:30:00Z"), "open until 2023-01-01T20:30:00Z");
    assert_eq!(state(&w, "2023-01-01T20:29:59.999Z"), "open until 2023-01-01T20:30:00Z");
    assert_eq!(state(&w, "2023-01-01T20:30:00Z"), "closed until 2023-01-04T16:30:00Z");
    assert_eq!(
        openings(&w, "2023-02-14T00:00:00Z", 3),
        ["2023-02-15T16:30:00Z", "2023-02-27T16:30:00Z", "2023-03-02T16:30:00Z"],
        "18, 21 and 24 February are not allowed"
    );
}

#[test]
fn days_that_are_not_allowed_are_those_of_the_offset() {
    // The example of AKS's specification: blocked from 2022-12-22 22:00 to 2023-01-03 22:00 in UTC.
    let w = window(DAILY, "2022-01-01", "00:00", 24, "+02:00", &[("2022-12-23", "2023-01-03")]);
    assert_eq!(state(&w, "2022-12-22T21:59:00Z"), "open until 2022-12-22T22:00:00Z");
    assert_eq!(state(&w, "2022-12-22T22:00:00Z"), "closed until 2023-01-03T22:00:00Z");
    assert_eq!(state(&w, "2023-01-03T22:00:00Z"), "open until never");
    assert_eq!(w.next_opening(t("2023-01-03T22:00:00Z")), None, "it never closes");
}

#[test]
fn weeks_count_from_the_calendar_week_of_the_start_date() {
    let w = window(weekly(2, Weekday::Sunday), "2026-04-14", "00:00", 4, "+00:00", &[]);
    assert_eq!(openings(&w, "2026-04-01T00:00:00Z", 2), ["2026-04-26T00:00:00Z", "2026-05-10T00:00:00Z"]);
    let w = window(weekly(3, Weekday::Friday), "2123-01-01", "00:00", 8, "+05:30", &[]);
    assert_eq!(openings(&w, "2026-01-01T00:00:00Z", 2), ["2122-12-31T18:30:00Z", "2123-01-21T18:30:00Z"]);
}

#[test]
fn leap_days_and_ends_of_months() {
    let w = window(monthly(1, 29), "2023-01-01", "12:00", 4, "+00:00", &[]);
    assert_eq!(openings(&w, "2023-01-30T00:00:00Z", 2), ["2023-03-29T12:00:00Z", "2023-04-29T12:00:00Z"]);
    assert_eq!(openings(&w, "2024-01-30T00:00:00Z", 2), ["2024-02-29T12:00:00Z", "2024-03-29T12:00:00Z"]);
    let w = window(monthly(1, 31), "2025-01-01", "22:00", 4, "+00:00", &[]);
    assert_eq!(
        openings(&w, "2025-02-01T00:00:00Z", 3),
        ["2025-03-31T22:00:00Z", "2025-05-31T22:00:00Z", "2025-07-31T22:00:00Z"]
    );
    assert_eq!(state(&w, "2025-04-01T01:00:00Z"), "open until 2025-04-01T02:00:00Z", "across the month's end");
    assert_eq!(state(&w, "2026-01-01T01:00:00Z"), "open until 2026-01-01T02:00:00Z", "across the year's end");
    // 1900 and 2100 have no leap day, 2000 has.
    let leap = window(monthly(12, 29), "2096-02-01", "00:00", 4, "+00:00", &[]);
    assert_eq!(openings(&leap, "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
    let after_half_a_year = window(monthly(6, 31), "2025-02-01", "00:00", 4, "+00:00", &[]);
    assert_eq!(openings(&after_half_a_year, "2025-02-01T00:00:00Z", 1), ["2025-08-31T00:00:00Z"]);
}

#[test]
fn months_count_from_the_month_of_the_start_date() {
    let w = window(monthly(3, 10), "2025-01-15", "00:00", 4, "+00:00", &[]);
    assert_eq!(openings(&w, "2025-01-01T00:00:00Z", 2), ["2025-04-10T00:00:00Z", "2025-07-10T00:00:00Z"]);
    let w = window(nth(2, WeekIndex::First, Weekday::Monday), "2025-12-01", "00:00", 4, "+00:00", &[]);
    assert_eq!(openings(&w, "2025-11-01T00:00:00Z", 2), ["2025-12-01T00:00:00Z", "2026-02-02T00:00:00Z"]);
}

#[test]
fn fifth_weekdays() {
    let last = window(nth(1, WeekIndex::Last, Weekday::Friday), "2025-01-01", "00:00", 4, "+00:00", &[]);
    assert_eq!(
        openings(&last, "2025-01-01T00:00:00Z", 4),
        ["2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z", "2025-03-28T00:00:00Z", "2025-04-25T00:00:00Z"]
    );
    let fourth = window(nth(1, WeekIndex::Fourth, Weekday::Friday), "2025-01-01", "00:00", 4, "+00:00", &[]);
    assert_eq!(openings(&fourth, "2025-01-01T00:00:00Z", 1), ["2025-01-24T00:00:00Z"]);
    let leap = window(nth(1, WeekIndex::Last, Weekday::Thursday), "2024-02-01", "00:00", 4, "+00:00", &[]);
    assert_eq!(openings(&leap, "2024-02-01T00:00:00Z", 1), ["2024-02-29T00:00:00Z"]);
}

#[test]
fn offsets_of_14_hours() {
    let east = window(DAILY, "2026-01-02", "00:00", 4, "+14:00", &[]);
    assert_eq!(state(&east, "2025-12-31T00:00:00Z"), "closed until 2026-01-01T10:00:00Z");
    let west = window(DAILY, "2026-01-02", "23:59", 4, "-14:00", &[]);
    assert_eq!(state(&west, "2026-01-03T00:00:00Z"), "closed until 2026-01-03T13:59:00Z");
    assert_eq!(state(&west, "2026-01-03T17:58:59Z"), "open until 2026-01-03T17:59:00Z");
    let west = window(monthly(1, 1), "2025-01-01", "20:00", 24, "-14:00", &[("2025-03-02", "2025-03-02")]);
    assert_eq!(state(&west, "2025-03-02T10:00:00Z"), "open until 2025-03-02T14:00:00Z");
}

#[test]
fn days_that_are_not_allowed_cut_a_window() {
    // 22:00 to 06:00.
    let night = |closed: &[(&str, &str)]| window(DAILY, "2025-01-01", "22:00", 8, "+00:00", closed);
    let early = night(&[("2025-06-10", "2025-06-10")]);
    assert_eq!(state(&early, "2025-06-09T22:00:00Z"), "open until 2025-06-10T00:00:00Z");
    assert_eq!(state(&early, "2025-06-10T00:00:00Z"), "closed until 2025-06-11T00:00:00Z");
    assert_eq!(
        state(&early, "2025-06-11T00:00:00Z"),
        "open until 2025-06-11T06:00:00Z",
        "the rest of the occurrence of the 10th"
    );
    let year = night(&[("2025-12-25", "2025-12-31"), ("2026-01-01", "2026-01-06"), ("2025-12-20", "2025-12-26")]);
    assert_eq!(state(&year, "2025-12-20T00:00:00Z"), "closed until 2026-01-07T00:00:00Z", "adjacent spans are joined");
}

#[test]
fn windows_that_never_open() {
    let barred = window(DAILY, "2025-01-01", "00:00", 4, "+00:00", &[("0001-01-01", "9999-12-31")]);
    assert_eq!(state(&barred, "2025-06-10T00:00:00Z"), "closed until never");
    let late = window(DAILY, "9999-12-31", "00:00", 4, "+00:00", &[("9999-12-31", "9999-12-31")]);
    assert_eq!(state(&late, "2025-06-10T00:00:00Z"), "closed until never");
    // 29 February every fourth year, in years that are no leap years.
    let leap = window(monthly(48, 29), "2025-02-01", "00:00", 4, "+00:00", &[]);
    assert_eq!(state(&leap, "2025-06-10T00:00:00Z"), "closed until never");
    let long = window(monthly(1, 1), "2025-01-01", "00:00", 4, "+00:00", &[("2025-02-01", "9000-01-01")]);
    assert_eq!(state(&long, "2025-06-10T00:00:00Z"), "closed until 9000-02-01T00:00:00Z");
}

#[test]
fn the_first_and_last_days_of_the_calendar_do_not_panic() {
    for schedule in [DAILY, weekly(4, Weekday::Monday), monthly(6, 31), nth(6, WeekIndex::Last, Weekday::Sunday)] {
        for utc in ["-14:00", "+00:00", "+14:00"] {
            for from in ["", "-009999-01-01", "9999-12-31"] {
                let w = window(schedule, from, "23:59", 24, utc, &[]);
                for at in [Timestamp::MIN, t("-000001-12-31T23:59:59.5Z"), Timestamp::UNIX_EPOCH, Timestamp::MAX] {
                    let opens = w.next_opening(at);
                    assert!(opens.is_none_or(|opens| opens > at), "{w:?} {at} {opens:?}");
                }
            }
        }
    }
}

#[test]
fn many_spans_are_fast() {
    // Every second day for 200 years is not allowed, and the window opens on exactly these days.
    let start: jiff::civil::Date = "1900-01-01".parse().unwrap();
    let spans: Vec<_> = (0..36_500)
        .map(|n| {
            let day = start.checked_add(jiff::SignedDuration::from_hours(48 * n)).unwrap();
            (day, day)
        })
        .collect();
    let every_other = Schedule::Daily { interval_days: 2 };
    let w = Window::new(every_other, Some(start), "00:00".parse().unwrap(), 24, Offset::UTC, &spans).unwrap();
    assert_eq!(w.next_opening(t("1900-01-01T00:00:00Z")), Some(t("2099-11-13T00:00:00Z")));
}

#[test]
fn invalid_windows_are_refused() {
    let new = |schedule, hours, closed: &[(&str, &str)]| {
        let closed: Vec<_> = closed.iter().map(|(start, end)| (start.parse().unwrap(), end.parse().unwrap())).collect();
        Window::new(schedule, None, "00:00".parse().unwrap(), hours, Offset::UTC, &closed).unwrap_err()
    };
    assert_eq!(new(DAILY, 0, &[]), InvalidWindow::Duration);
    assert_eq!(new(DAILY, 25, &[]), InvalidWindow::Duration);
    assert_eq!(new(weekly(0, Weekday::Monday), 4, &[]), InvalidWindow::Interval);
    assert_eq!(new(monthly(1, 32), 4, &[]), InvalidWindow::DayOfMonth);
    assert!(new(DAILY, 4, &[("2025-01-02", "2025-01-01")]).to_string().contains("before it starts on 2025-01-02"));
}
