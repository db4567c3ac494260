//! A token bucket (pure): time is a parameter.

use std::time::{Duration, Instant};

/// A caller that returns at the time it was given must not be refused because sums of fractions fall short of a whole.
const ROUNDING: f64 = 1e-6;

/// Allows a burst, then a steady rate. Each refused caller is given its own time to return, one refill apart from the next
/// one's, so that a crowd that is refused together does not come back together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenBucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    refilled: Instant,
    /// Up to when times have been handed out.
    promised: Instant,
}

impl TokenBucket {
    /// A full bucket. `burst` at least one token, `per_second` above zero.
    pub(crate) fn new(burst: u32, per_second: f64, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { burst, per_second: per_second.max(f64::MIN_POSITIVE), tokens: burst, refilled: now, promised: now }
    }

    /// Takes a token, or says how long to wait.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens >= 1.0 - ROUNDING {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = Self::seconds((1.0 - self.tokens) / self.per_second);
        Err(self.promise(now, missing))
    }

    /// A time of one's own, not before `least` from now.
    pub(crate) fn promise(&mut self, now: Instant, least: Duration) -> Duration {
        let interval = Self::seconds(1.0 / self.per_second);
        let at = (now + least).max(self.promised.checked_add(interval).unwrap_or(now + least));
        self.promised = at;
        at.saturating_duration_since(now)
    }

    /// Nothing is remembered that a new bucket would not have as well.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.burst && self.promised <= now
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        self.refilled = self.refilled.max(now);
    }

    /// Rounded up, so that nobody is told to come too early, and bounded, so that an absurd rate cannot overflow the clock.
    fn seconds(seconds: f64) -> Duration {
        let day = Duration::from_secs(86_400);
        Duration::try_from_secs_f64(seconds).unwrap_or(day).min(day) + Duration::from_nanos(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(
            burst in 1u32..50, per_second in 0.1f64..100.0, steps in prop::collection::vec(0u64..2_000, 1..300),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(burst, per_second, start);
            let (mut now, mut taken) = (start, 0u32);
            for step in steps {
                now += Duration::from_millis(step);
                taken += u32::from(bucket.take(now).is_ok());
                let allowed = f64::from(burst) + (now - start).as_secs_f64() * per_second;
                prop_assert!(f64::from(taken) <= allowed + ROUNDING, "{taken} of {allowed}");
            }
        }

        #[test]
        fn the_first_one_refused_gets_a_token_when_told_if_nobody_else_comes(burst in 1u32..50, per_second in 0.1f64..100.0) {
            let now = Instant::now();
            let mut bucket = TokenBucket::new(burst, per_second, now);
            let wait = loop {
                if let Err(wait) = bucket.take(now) { break wait }
            };
            prop_assert!(bucket.take(now + wait + Duration::from_micros(1)).is_ok());
        }

        #[test]
        fn a_crowd_that_comes_when_told_gets_through_in_one_round(crowd in 2usize..200, per_second in 0.5f64..100.0) {
            let now = Instant::now();
            let mut bucket = TokenBucket::new(1, per_second, now);
            prop_assert!(bucket.take(now).is_ok());
            let waits: Vec<Duration> = (0..crowd).filter_map(|_| bucket.take(now).err()).collect();
            prop_assert_eq!(waits.len(), crowd);
            for wait in waits {
                prop_assert!(bucket.take(now + wait + Duration::from_micros(1)).is_ok());
            }
        }
    }
}
