//! The wait after a failure (pure).

use std::time::Duration;

/// Exponential back-off with jitter: the wait doubles with every consecutive failure, up to a ceiling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure, before jitter.
    pub base: Duration,
    /// The ceiling, before jitter; not below `base`.
    pub max: Duration,
}

impl Backoff {
    /// Returns the wait after the `failures`-th consecutive failure (from 1). `jitter` in `0.0..=1.0` picks a point between half the
    /// nominal wait and the whole of it, so that jobs that failed together do not all run again together.
    pub fn wait(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let nominal = self.base.saturating_mul(1 << doublings).min(self.max.max(self.base));
        nominal.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_between_half_of_base_and_max(
            base in 1u64..10_000, max in 1u64..10_000_000, failures in 0u32.., jitter in 0.0f64..=1.0,
        ) {
            let backoff = Backoff { base: Duration::from_millis(base), max: Duration::from_millis(max.max(base)) };
            let wait = backoff.wait(failures, jitter);
            prop_assert!(wait >= backoff.base / 2, "{wait:?}");
            prop_assert!(wait <= backoff.max, "{wait:?}");
        }

        #[test]
        fn never_shrinks_with_more_failures(base in 1u64..10_000, max in 1u64..10_000_000, failures in 0u32..100) {
            let backoff = Backoff { base: Duration::from_millis(base), max: Duration::from_millis(max) };
            prop_assert!(backoff.wait(failures + 1, 1.0) >= backoff.wait(failures, 1.0));
        }
    }

    #[test]
    fn doubles_until_the_ceiling() {
        let backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(6) };
        let waits: Vec<u64> = (1..=5).map(|n| backoff.wait(n, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 6, 6]);
    }
}
