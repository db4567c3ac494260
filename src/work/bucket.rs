//! A token bucket that spaces job attempts (pure): time is a parameter.
//!
//! It differs from the budgets of `upstreams::azure::budget`: an attempt that starts is over for the bucket, and it may start a
//! moment too early without harm. The budgets there count what AKS counts, so that they also know calls in flight, refusals
//! by AKS, and a queue of named calls.

use std::time::{Duration, Instant};

/// An attempt that comes back at the time it was given must not be refused because sums of fractions fall short of a whole.
const ROUNDING: f64 = 1e-6;

/// Allows a burst, then a steady rate. Each refused attempt is given a time of its own, one refill after the time of the
/// attempt before it, so that attempts that are refused together do not come back together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenBucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    refilled: Instant,
    /// The latest time that was given to a refused attempt.
    promised: Instant,
}

impl TokenBucket {
    /// A full bucket. `burst` at least one token, `per_second` above zero.
    pub(crate) fn new(burst: u32, per_second: f64, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { burst, per_second: per_second.max(f64::MIN_POSITIVE), tokens: burst, refilled: now, promised: now }
    }

    /// Takes a token, or returns how long to wait.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens >= 1.0 - ROUNDING {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = Self::seconds((1.0 - self.tokens) / self.per_second);
        Err(self.promise(now, missing))
    }

    /// Takes a token and returns how many whole ones are left, or says how long it is until there is one. Unlike [`Self::take`],
    /// it hands out no times: however often it refuses, the next token is there at the same time.
    pub(crate) fn take_or_wait(&mut self, now: Instant) -> Result<u32, Duration> {
        self.refill(now);
        let missing = 1.0 - ROUNDING - self.tokens;
        if missing > 0.0 {
            return Err(Self::seconds(missing / self.per_second));
        }
        self.tokens = (self.tokens - 1.0).max(0.0);
        // Between zero and the burst, which is a u32.
        Ok(self.tokens as u32)
    }

    /// Returns how long the caller waits for a time that no other caller was given, at least `least` from now.
    pub(crate) fn promise(&mut self, now: Instant, least: Duration) -> Duration {
        let interval = Self::seconds(1.0 / self.per_second);
        let at = (now + least).max(self.promised.checked_add(interval).unwrap_or(now + least));
        self.promised = at;
        at.saturating_duration_since(now)
    }

    /// Whether the bucket is in the state of a new one, so that it can be forgotten.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.burst && self.promised <= now
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        self.refilled = self.refilled.max(now);
    }

    /// Returns a duration that is rounded up, so that no attempt comes back too early, and at most a day, so that an extreme
    /// rate cannot overflow the clock.
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
