//! Random windows, compared with a scan of every minute.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time, Weekday},
    tz::Offset,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::calendar::{Schedule, State, WeekIndex, Window};

/// Days that the scan covers: more than twice the longest interval of AKS, six months.
const DAYS: usize = 460;
const MINUTES: i64 = 24 * 60;

#[derive(Debug, Clone)]
struct Case {
    schedule: Schedule,
    start: Option<Date>,
    time: Time,
    hours: u8,
    offset: Offset,
    closed: Vec<(Date, Date)>,
    at: Timestamp,
}

fn weekday() -> impl Strategy<Value = Weekday> {
    (0..7_i8).prop_map(|n| Weekday::from_sunday_zero_offset(n).unwrap())
}

fn schedule() -> impl Strategy<Value = Schedule> {
    use WeekIndex::{First, Fourth, Last, Second, Third};
    // Days at the ends of months are more frequent.
    let day = prop_oneof![1..=31_i8, 28..=31_i8];
    let week = select(vec![First, Second, Third, Fourth, Last]);
    prop_oneof![
        (1..=7_u16).prop_map(|interval_days| Schedule::Daily { interval_days }),
        (1..=4_u16, weekday())
            .prop_map(|(interval_weeks, day_of_week)| Schedule::Weekly { interval_weeks, day_of_week }),
        (1..=6_u16, day)
            .prop_map(|(interval_months, day_of_month)| Schedule::AbsoluteMonthly { interval_months, day_of_month }),
        (1..=6_u16, week, weekday()).prop_map(|(interval_months, week_index, day_of_week)| {
            Schedule::RelativeMonthly { interval_months, week_index, day_of_week }
        }),
    ]
}

fn later(date: Date, days: i64) -> Date {
    date.checked_add(SignedDuration::from_hours(24 * days)).unwrap()
}

prop_compose! {
    fn case()(
        schedule in schedule(),
        // The start date is near the tested time; the years begin with 2023 and include a leap year.
        start in option::weighted(0.99, -500..100_i64),
        minute in 0..MINUTES,
        hours in 1..=24_u8,
        offset in prop_oneof![Just(-840), Just(840), -840..=840_i32],
        spans in vec((-30..200_i64, prop_oneof![4 => 0..4_i64, 1 => 0..90_i64]), 0..5),
        day in 0..1200_i64,
        seconds in prop_oneof![0..86_400_i64, (0..MINUTES).prop_map(|minute| minute * 60)],
    ) -> Case {
        let today = later("2023-01-01".parse().unwrap(), day);
        let time = Time::midnight().saturating_add(SignedDuration::from_mins(minute));
        let at = today.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp() + SignedDuration::from_secs(seconds);
        Case {
            schedule, time, hours, at,
            start: start.map(|days| later(today, days)),
            offset: Offset::from_seconds(offset * 60).unwrap(),
            closed: spans.into_iter().map(|(from, days)| (later(today, from), later(today, from + days))).collect(),
        }
    }
}

/// Returns for each day from `from` on whether the window opens, found by walking the calendar day by day.
fn days_of(case: &Case, from: Date) -> Vec<bool> {
    let origin = case.start.unwrap_or_else(|| "1970-01-01".parse().unwrap());
    let first = origin.min(from);
    // Starts before the week and the month of the origin.
    let mut day = later(first, -40);
    let (mut counting, mut days, mut weeks, mut months) = (false, 0_u16, 0_u16, 0_u16);
    let mut opens = Vec::with_capacity(DAYS);
    // Without a start date the origin is before every tested time.
    while opens.len() < DAYS {
        let weekday = day.weekday();
        let in_week_of_origin = weekday == Weekday::Sunday && later(day, 6) >= origin && day <= origin;
        let in_month_of_origin = day.day() == 1 && day.year() == origin.year() && day.month() == origin.month();
        match case.schedule {
            Schedule::Daily { interval_days } if day == origin => (counting, days) = (true, interval_days),
            Schedule::Weekly { interval_weeks, .. } if in_week_of_origin => (counting, weeks) = (true, interval_weeks),
            Schedule::AbsoluteMonthly { interval_months, .. } | Schedule::RelativeMonthly { interval_months, .. }
                if in_month_of_origin =>
            {
                (counting, months) = (true, interval_months);
            }
            _ => {}
        }
        let fits = counting
            && match case.schedule {
                Schedule::Daily { interval_days } => {
                    let fits = days == interval_days;
                    days = if fits { 1 } else { days + 1 };
                    fits
                }
                Schedule::Weekly { interval_weeks, day_of_week } => {
                    if weekday == Weekday::Sunday && !in_week_of_origin {
                        weeks = if weeks == interval_weeks { 1 } else { weeks + 1 };
                    }
                    weeks == interval_weeks && weekday == day_of_week
                }
                Schedule::AbsoluteMonthly { interval_months, .. }
                | Schedule::RelativeMonthly { interval_months, .. } => {
                    if day.day() == 1 && !in_month_of_origin {
                        months = if months == interval_months { 1 } else { months + 1 };
                    }
                    months == interval_months && is_day_of_month(case.schedule, day)
                }
            };
        if day >= from {
            opens.push(fits && day >= origin);
        }
        day = day.tomorrow().unwrap();
    }
    opens
}

fn is_day_of_month(schedule: Schedule, day: Date) -> bool {
    match schedule {
        Schedule::AbsoluteMonthly { day_of_month, .. } => day.day() == day_of_month,
        Schedule::RelativeMonthly { week_index, day_of_week, .. } => {
            let week = match week_index {
                WeekIndex::First => 1..=7,
                WeekIndex::Second => 8..=14,
                WeekIndex::Third => 15..=21,
                WeekIndex::Fourth => 22..=28,
                WeekIndex::Last => day.days_in_month() - 6..=day.days_in_month(),
            };
            day.weekday() == day_of_week && week.contains(&day.day())
        }
        Schedule::Daily { .. } | Schedule::Weekly { .. } => unreachable!(),
    }
}

/// A window as minutes, from the midnight two days before the tested time, in the window's offset.
struct Minutes<'a> {
    case: &'a Case,
    /// For each day whether the window opens, and whether the day is allowed.
    days: Vec<(bool, bool)>,
    /// Midnight of the first day.
    zero: Timestamp,
}

impl<'a> Minutes<'a> {
    fn of(case: &'a Case) -> Self {
        let first = later(case.offset.to_datetime(case.at).date(), -2);
        let allowed = |day| !case.closed.iter().any(|(start, end)| (*start..=*end).contains(&day));
        let days =
            days_of(case, first).into_iter().zip(0..).map(|(opens, n)| (opens, allowed(later(first, n)))).collect();
        Self { case, days, zero: case.offset.to_timestamp(first.at(0, 0, 0, 0)).unwrap() }
    }

    fn number(&self, t: Timestamp) -> i64 {
        t.duration_since(self.zero).as_secs().div_euclid(60)
    }

    fn time(&self, minute: i64) -> Timestamp {
        self.zero + SignedDuration::from_mins(minute)
    }

    fn is_open(&self, minute: i64) -> bool {
        let day = (minute / MINUTES) as usize;
        let starts = i64::from(self.case.time.hour()) * 60 + i64::from(self.case.time.minute());
        let within = |opens: bool, since: i64| opens && (0..i64::from(self.case.hours) * 60).contains(&since);
        let since = minute % MINUTES - starts;
        self.days[day].1 && (within(self.days[day].0, since) || within(self.days[day - 1].0, since + MINUTES))
    }

    /// Returns the first minute from `from` on whose state is `open`. Days on which the state cannot change are skipped.
    fn first(&self, from: i64, open: bool) -> Option<i64> {
        let mut minute = from;
        while (minute / MINUTES) < self.days.len() as i64 {
            let day = (minute / MINUTES) as usize;
            let quiet = !self.days[day].1 || !(self.days[day].0 || self.days[day - 1].0);
            if quiet && minute % MINUTES == 0 {
                if !open {
                    return Some(minute);
                }
                minute += MINUTES;
                continue;
            }
            if self.is_open(minute) == open {
                return Some(minute);
            }
            minute += 1;
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_window_agrees_with_a_scan_of_every_minute(case in case()) {
        let Case { schedule, start, time, hours, offset, closed, at } = &case;
        let window = Window::new(*schedule, *start, *time, *hours, *offset, closed).unwrap();
        let minutes = Minutes::of(&case);
        let now = minutes.number(*at);
        // Times beyond the scan are not compared.
        let within = |t: Option<Timestamp>| t.map(|t| minutes.number(t)).filter(|m| *m < DAYS as i64 * MINUTES);
        match window.at(*at) {
            State::Open { until } => {
                prop_assert!(minutes.is_open(now));
                prop_assert_eq!(within(until), minutes.first(now, false));
            }
            State::Closed { opens } => {
                prop_assert!(!minutes.is_open(now));
                prop_assert_eq!(within(opens), minutes.first(now, true));
                prop_assert!(opens.is_none_or(|opens| opens > *at && opens == minutes.time(minutes.number(opens))));
            }
        }
        let closes = if minutes.is_open(now) { minutes.first(now, false) } else { Some(now) };
        prop_assert_eq!(within(window.next_opening(*at)), closes.and_then(|closes| minutes.first(closes, true)));
    }
}
