//! When to ask about an operation again. Pure: times are parameters.

use std::{collections::VecDeque, time::Duration};

/// Shortest time between two questions about an operation.
pub const SHORTEST: Duration = Duration::from_millis(25);
/// Longest time between two questions about an operation.
pub const LONGEST: Duration = Duration::from_secs(30);
/// Up to here an operation is young: questions are few yet, and may come more often.
const EARLY: Duration = Duration::from_secs(20);
/// How long after the end of the shortest operations of its kind an operation is first asked about.
const PAST_SHORTEST: Duration = Duration::from_millis(20);

/// When to ask about an operation again, from now.
///
/// `Retry-After` is a lower bound. Before the shortest such operations end: then. Otherwise after a part of the
/// time elapsed, 2.5 % in the first seconds and 5 % later, so that an end is noticed late by that much at most and the
/// number of questions grows with the logarithm of the time. With many in flight in one subscription the shortest gap grows with their number.
#[must_use]
pub fn next_poll(
    elapsed: Duration,
    shortest: Option<Duration>,
    retry_after: Option<Duration>,
    in_flight: usize,
) -> Duration {
    let crowd = Duration::from_millis(u64::try_from(in_flight).unwrap_or(u64::MAX));
    let floor = SHORTEST.max(crowd).min(LONGEST);
    let gap = match shortest.map(|shortest| shortest + PAST_SHORTEST) {
        Some(end) if end > elapsed => (end - elapsed).min(LONGEST),
        _ => part(elapsed).clamp(floor, LONGEST),
    };
    gap.max(retry_after.unwrap_or_default())
}

/// The part of the time elapsed that an end may be noticed late by.
#[must_use]
pub fn part(elapsed: Duration) -> Duration {
    if elapsed < EARLY { elapsed / 40 } else { elapsed / 20 }
}

/// How long operations of one kind take: what the latest that have ended took.
#[derive(Debug, Clone, Default)]
pub struct Lengths(VecDeque<Duration>);

impl Lengths {
    /// So many are remembered: of the next one, hardly any chance is left to be shorter than all of them.
    const REMEMBERED: usize = 50;

    /// Learns from one that has ended.
    pub fn learn(&mut self, took: Duration) {
        if self.0.len() == Self::REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// Before this, hardly any ends; `None` before the first has ended.
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
        fn late_by_a_twentieth_at_most(ends_ms in 1_u64..7_200_000) {
            let ends = Duration::from_millis(ends_ms);
            let (polls, late) = watch(ends, None);
            prop_assert!(late <= (ends / 20).max(SHORTEST) + Duration::from_millis(1), "{:?} late", late);
            let young = 41.0 + 42.0 * ends.as_secs_f64().clamp(1.0, 20.0).ln();
            let expected = young + 22.0 * (ends.as_secs_f64() / 20.0).max(1.0).ln() + ends.as_secs_f64() / 30.0;
            prop_assert!(f64::from(polls) <= expected, "{} polls", polls);
        }

        #[test]
        fn two_questions_when_it_takes_as_long_as_usual(ends_ms in 500_u64..25_000, off in -10_i64..10) {
            let shortest = Duration::from_millis(ends_ms.saturating_add_signed(off));
            let (polls, late) = watch(Duration::from_millis(ends_ms), Some(shortest));
            prop_assert!(polls <= 2 && late <= Duration::from_millis(130), "{} polls, {:?} late", polls, late);
        }

        #[test]
        fn never_before_retry_after(elapsed in 0_u64..10_000_000, wait in 0_u64..100_000, many in 0_usize..20_000) {
            let gap = next_poll(Duration::from_millis(elapsed), None, Some(Duration::from_millis(wait)), many);
            prop_assert!(gap >= Duration::from_millis(wait).max(SHORTEST));
        }
    }
}
