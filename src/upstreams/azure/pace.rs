//! When to poll an operation again. Pure: times are parameters.

use std::{collections::VecDeque, time::Duration};

/// Shortest time between two polls of an operation.
pub const SHORTEST: Duration = Duration::from_millis(25);
/// Longest time between two polls of an operation.
pub const LONGEST: Duration = Duration::from_secs(30);
/// Up to this age an operation was polled only a few times, and may be polled more often.
const EARLY: Duration = Duration::from_secs(20);
/// The first poll comes so long after the time that the shortest operations of the kind took.
const AFTER_SHORTEST: Duration = Duration::from_millis(20);

/// Returns how long to wait before the next poll of an operation.
///
/// `Retry-After` is a lower bound. Until the time that the shortest operations of the kind took (`shortest`), the wait lasts to that
/// time. After it, the wait is a part of the time elapsed: 2.5 % in the first seconds and 5 % later. An end is then noticed
/// late by that much at most, and the number of polls grows with the logarithm of the time. The shortest wait grows with the
/// number of operations in flight in the subscription.
#[must_use]
pub fn next_poll(
    elapsed: Duration,
    shortest: Option<Duration>,
    retry_after: Option<Duration>,
    in_flight: usize,
) -> Duration {
    let crowd = Duration::from_millis(u64::try_from(in_flight).unwrap_or(u64::MAX));
    let floor = SHORTEST.max(crowd).min(LONGEST);
    let gap = match shortest.map(|shortest| shortest + AFTER_SHORTEST) {
        Some(end) if end > elapsed => (end - elapsed).min(LONGEST),
        _ => tolerated_delay(elapsed).clamp(floor, LONGEST),
    };
    gap.max(retry_after.unwrap_or_default())
}

/// Returns how late the end of an operation may be noticed that has taken this long.
#[must_use]
pub fn tolerated_delay(elapsed: Duration) -> Duration {
    if elapsed < EARLY { elapsed / 40 } else { elapsed / 20 }
}

/// The durations of the latest operations of one kind.
#[derive(Debug, Clone, Default)]
pub struct Durations(VecDeque<Duration>);

impl Durations {
    /// Number of durations that are kept. The next operation is shorter than all of them in one of fifty cases.
    const REMEMBERED: usize = 50;

    /// Adds the duration of an operation that has ended.
    pub fn record(&mut self, took: Duration) {
        if self.0.len() == Self::REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// Returns the shortest duration; `None` before the first operation has ended.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        self.0.iter().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn watch(ends: Duration, shortest: Option<Duration>) -> (u32, Duration) {
        let (mut elapsed, mut polls) = (Duration::ZERO, 0);
        loop {
            elapsed += next_poll(elapsed, shortest, None, 1);
            polls += 1;
            if elapsed >= ends {
                return (polls, elapsed - ends);
            }
        }
    }

    proptest! {
        #[test]
        fn an_end_is_noticed_late_by_a_twentieth_at_most(ends_ms in 1_u64..7_200_000) {
            let ends = Duration::from_millis(ends_ms);
            let (polls, late) = watch(ends, None);
            prop_assert!(late <= (ends / 20).max(SHORTEST) + Duration::from_millis(1), "{:?} late", late);
            let young = 41.0 + 42.0 * ends.as_secs_f64().clamp(1.0, 20.0).ln();
            let expected = young + 22.0 * (ends.as_secs_f64() / 20.0).max(1.0).ln() + ends.as_secs_f64() / 30.0;
            prop_assert!(f64::from(polls) <= expected, "{} polls", polls);
        }

        #[test]
        fn an_operation_of_usual_duration_is_polled_twice(ends_ms in 500_u64..25_000, off in -10_i64..10) {
            let shortest = Duration::from_millis(ends_ms.saturating_add_signed(off));
            let (polls, late) = watch(Duration::from_millis(ends_ms), Some(shortest));
            prop_assert!(polls <= 2 && late <= Duration::from_millis(130), "{} polls, {:?} late", polls, late);
        }

        #[test]
        fn no_poll_comes_before_retry_after(elapsed in 0_u64..10_000_000, wait in 0_u64..100_000, many in 0_usize..20_000) {
            let gap = next_poll(Duration::from_millis(elapsed), None, Some(Duration::from_millis(wait)), many);
            prop_assert!(gap >= Duration::from_millis(wait).max(SHORTEST));
        }
    }
}
