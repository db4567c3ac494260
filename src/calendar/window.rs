//! A maintenance window: the times at which it is open.

use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::Offset,
};

use super::{
    InvalidWindow, Schedule,
    schedule::{date_of, day_of},
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A maintenance window, as AKS's planned maintenance has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    schedule: Schedule,
    start_date: Option<Date>,
    start_time: Time,
    duration_hours: u8,
    utc_offset: Offset,
    /// Spans of days that are not allowed, each from its first day to the day after its last; sorted, and not adjacent.
    closed: Vec<(i64, i64)>,
}

/// Whether a window is open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is open.
    Open {
        /// `None`: it never closes.
        until: Option<Timestamp>,
    },
    /// It is closed.
    Closed {
        /// `None`: it never opens again.
        opens: Option<Timestamp>,
    },
}

impl Window {
    /// Returns a window that opens on the days of `schedule` from `start_date` on (`None`: without a first day), at `start_time` in
    /// `utc_offset`, for `duration_hours` (1 to 24). It is closed on the days of `not_allowed`: spans from a first to a last day, in
    /// that offset.
    ///
    /// # Errors
    /// [`InvalidWindow`].
    pub fn new(
        schedule: Schedule,
        start_date: Option<Date>,
        start_time: Time,
        duration_hours: u8,
        utc_offset: Offset,
        not_allowed: &[(Date, Date)],
    ) -> Result<Self, InvalidWindow> {
        schedule.check()?;
        if !(1..=24).contains(&duration_hours) {
            return Err(InvalidWindow::Duration);
        }
        if let Some((start, end)) = not_allowed.iter().copied().find(|(start, end)| end < start) {
            return Err(InvalidWindow::Span { start, end });
        }
        let mut spans: Vec<(i64, i64)> =
            not_allowed.iter().map(|(start, end)| (day_of(*start), day_of(*end) + 1)).collect();
        spans.sort_unstable();
        let mut closed: Vec<(i64, i64)> = Vec::with_capacity(spans.len());
        for (start, end) in spans {
            match closed.last_mut().filter(|last| start <= last.1) {
                Some(last) => last.1 = last.1.max(end),
                None => closed.push((start, end)),
            }
        }
        Ok(Self { schedule, start_date, start_time, duration_hours, utc_offset, closed })
    }

    /// Returns whether the window is open at `t`.
    #[must_use]
    pub fn at(&self, t: Timestamp) -> State {
        let local = self.local(t);
        match self.open_from(local) {
            Some(open) if open <= local => State::Open { until: self.end(local).and_then(|end| self.timestamp(end)) },
            opens => State::Closed { opens: opens.and_then(|open| self.timestamp(open)) },
        }
    }

    /// Returns when the window opens next after `t`; if it is open at `t`, the opening after that. `None`: never again.
    #[must_use]
    pub fn next_opening(&self, t: Timestamp) -> Option<Timestamp> {
        match self.at(t) {
            State::Closed { opens } => opens,
            State::Open { .. } => self.timestamp(self.open_from(self.end(self.local(t))?)?),
        }
    }

    /// Returns the first time at or after `from` at which the window is open.
    fn open_from(&self, from: i64) -> Option<i64> {
        let mut from = from;
        loop {
            let (start, end) = self.occurrence(from)?;
            let open = start.max(from);
            match self.closed_around(open) {
                None => return Some(open),
                Some(reopens) if reopens < end => return Some(reopens),
                // The span covers the rest of the occurrence. Each iteration passes one span.
                Some(reopens) => from = reopens,
            }
        }
    }

    /// Returns when the window closes that is open at this time. `None`: never.
    fn end(&self, open: i64) -> Option<i64> {
        let next_closed = self.closed.get(self.closed.partition_point(|(start, _)| start * DAY <= open));
        let cut = next_closed.map(|(start, _)| start * DAY);
        // Only daily windows of 24 hours follow each other without a gap.
        if self.duration_hours == 24 && self.schedule == (Schedule::Daily { interval_days: 1 }) {
            return cut;
        }
        let (_, end) = self.occurrence(open)?;
        Some(cut.map_or(end, |cut| cut.min(end)))
    }

    /// Returns the first occurrence that ends after this time, regardless of days that are not allowed.
    fn occurrence(&self, after: i64) -> Option<(i64, i64)> {
        let at = i64::from(self.start_time.hour()) * HOUR + i64::from(self.start_time.minute()) * 60;
        let length = i64::from(self.duration_hours) * HOUR;
        let mut day = after.div_euclid(DAY) - 1;
        loop {
            day = self.schedule.day_from(day, self.start_date)?;
            let start = day * DAY + at;
            if start + length > after {
                return Some((start, start + length));
            }
            day += 1;
        }
    }

    /// Returns the end of the span of days that are not allowed and contain this time.
    fn closed_around(&self, time: i64) -> Option<i64> {
        let next = self.closed.partition_point(|(start, _)| start * DAY <= time);
        let (_, end) = self.closed.get(next.checked_sub(1)?)?;
        (time < end * DAY).then_some(end * DAY)
    }

    /// Returns the seconds since 1970 on a clock in the window's offset. Windows open and close at full minutes.
    fn local(&self, t: Timestamp) -> i64 {
        let whole = if t.subsec_nanosecond() < 0 { t.as_second() - 1 } else { t.as_second() };
        whole + i64::from(self.utc_offset.seconds())
    }

    fn timestamp(&self, local: i64) -> Option<Timestamp> {
        // Times after the calendar's last day do not occur.
        date_of(local.div_euclid(DAY))?;
        Timestamp::from_second(local - i64::from(self.utc_offset.seconds())).ok()
    }
}
