//! Limits of this process on calls to each upstream: calls at once, calls per second, and a pause after a refusal.

use super::bucket::TokenBucket;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most keys that are kept. When there are more, idle keys are removed.
const REMEMBERED: usize = 1_024;

/// Shortest wait when no further call at once is allowed. When one of those in progress ends is not known.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// The limits on calls to one upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitSettings {
    /// Calls at once; at least 1.
    pub concurrency: usize,
    /// Calls that may follow one another at once after a time without calls; at least 1.
    pub burst: u32,
    /// Calls per second, sustained; above 0.
    pub per_second: f64,
}

/// Limits keyed by upstream, for example by subscription. Cloning shares them.
///
/// A refusal does not wait. It says after how long to try again, and the handler returns that as
/// [`Outcome::AgainAfter`](super::Outcome::AgainAfter).
#[derive(Debug, Clone)]
pub struct Limits {
    settings: LimitSettings,
    upstreams: Arc<Mutex<HashMap<String, Upstream>>>,
}

#[derive(Debug)]
struct Upstream {
    in_use: usize,
    bucket: TokenBucket,
    closed_until: Option<Instant>,
}

/// Permission for one call. Dropping it ends the call.
#[derive(Debug)]
#[must_use = "the call is over when the permit is dropped"]
pub struct Permit {
    key: String,
    limits: Limits,
}

/// The call is not allowed now. Try again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit on calls is reached; try again in {0:?}")]
pub struct RetryAfter(pub Duration);

impl Limits {
    /// Returns limits that are the same for every key.
    pub fn new(settings: LimitSettings) -> Self {
        Self { settings, upstreams: Arc::default() }
    }

    /// Returns a permit for one call to this upstream.
    ///
    /// # Errors
    /// [`RetryAfter`] when a limit is reached. Callers that are refused together get different times.
    pub fn try_acquire(&self, key: &str) -> Result<Permit, RetryAfter> {
        self.try_acquire_at(key, Instant::now())
    }

    /// Refuses all calls to this upstream for this time, because it answered 429 or 503. A longer pause that began before is kept.
    pub fn penalise(&self, key: &str, pause: Duration) {
        self.penalise_at(key, pause, Instant::now());
    }

    fn try_acquire_at(&self, key: &str, now: Instant) -> Result<Permit, RetryAfter> {
        let mut upstreams = self.lock();
        let upstream = self.upstream(&mut upstreams, key, now);
        if let Some(open) = upstream.closed_until.filter(|until| *until > now) {
            return Err(RetryAfter(upstream.bucket.promise(now, open.saturating_duration_since(now))));
        }
        if upstream.in_use >= self.settings.concurrency.max(1) {
            return Err(RetryAfter(upstream.bucket.promise(now, BUSY_PAUSE)));
        }
        upstream.bucket.take(now).map_err(RetryAfter)?;
        upstream.in_use += 1;
        Ok(Permit { key: key.to_owned(), limits: self.clone() })
    }

    fn penalise_at(&self, key: &str, pause: Duration, now: Instant) {
        let mut upstreams = self.lock();
        let upstream = self.upstream(&mut upstreams, key, now);
        upstream.closed_until = upstream.closed_until.max(now.checked_add(pause));
    }

    fn upstream<'a>(&self, all: &'a mut HashMap<String, Upstream>, key: &str, now: Instant) -> &'a mut Upstream {
        if all.len() >= REMEMBERED && !all.contains_key(key) {
            all.retain(|_, upstream| !upstream.is_idle(now));
        }
        all.entry(key.to_owned()).or_insert_with(|| Upstream {
            in_use: 0,
            bucket: TokenBucket::new(self.settings.burst, self.settings.per_second, now),
            closed_until: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Upstream>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    fn is_idle(&mut self, now: Instant) -> bool {
        self.in_use == 0 && self.closed_until.is_none_or(|until| until <= now) && self.bucket.is_full(now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(upstream) = self.limits.lock().get_mut(&self.key) {
            upstream.in_use = upstream.in_use.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(concurrency: usize, burst: u32, per_second: f64) -> Limits {
        Limits::new(LimitSettings { concurrency, burst, per_second })
    }

    #[test]
    fn a_dropped_permit_frees_its_place() {
        let limits = limits(1, 10, 1.0);
        let now = Instant::now();
        let first = limits.try_acquire_at("a", now).unwrap();
        assert!(limits.try_acquire_at("a", now).is_err());
        drop(first);
        assert!(limits.try_acquire_at("a", now).is_ok());
    }

    #[test]
    fn upstreams_do_not_disturb_each_other() {
        let limits = limits(1, 1, 0.001);
        let now = Instant::now();
        let _a = limits.try_acquire_at("a", now).unwrap();
        assert!(limits.try_acquire_at("b", now).is_ok());
    }

    #[test]
    fn a_penalty_closes_and_a_shorter_one_does_not_open() {
        let limits = limits(10, 10, 1.0);
        let now = Instant::now();
        limits.penalise_at("a", Duration::from_secs(30), now);
        limits.penalise_at("a", Duration::from_secs(1), now);
        let RetryAfter(wait) = limits.try_acquire_at("a", now).unwrap_err();
        assert!(wait >= Duration::from_secs(30));
        assert!(limits.try_acquire_at("a", now + Duration::from_secs(31)).is_ok());
    }

    #[test]
    fn idle_keys_are_forgotten() {
        let limits = limits(1, 1, 1000.0);
        let start = Instant::now();
        for n in 0..(REMEMBERED as u64 * 3) {
            drop(limits.try_acquire_at(&n.to_string(), start + Duration::from_millis(n * 10)).unwrap());
        }
        assert!(limits.lock().len() <= REMEMBERED);
    }

    proptest! {
        #[test]
        fn never_more_at_once_than_allowed(concurrency in 1usize..8, moves in prop::collection::vec(any::<bool>(), 0..200)) {
            let limits = limits(concurrency, 1_000, 1.0);
            let now = Instant::now();
            let mut held = Vec::new();
            for acquire in moves {
                if acquire {
                    held.extend(limits.try_acquire_at("a", now).ok());
                } else {
                    held.pop();
                }
                prop_assert!(held.len() <= concurrency);
            }
        }
    }
}
