//! A cache of answers: one call at a time for each key, and none while the last answer is young enough.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::UpstreamError;

/// For how long an error answers later callers, too, so that callers that waited for one call do not fail one after the
/// other.
const ERROR_AGE: Duration = Duration::from_secs(1);
/// Most answers of one cache. More than a large fleet has clusters and pools.
const MOST_ANSWERS: usize = 50_000;

/// When the call was made, and its answer.
type Answer<V> = (Instant, Result<V, UpstreamError>);
type Slot<V> = Arc<tokio::sync::Mutex<Kept<V>>>;

struct Kept<V> {
    last: Option<Answer<V>>,
    /// The last answer that is no error.
    good: Option<(Instant, V)>,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { last: None, good: None }
    }
}

pub(super) struct SingleFlightCache<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    most: usize,
}

impl<K, V> Default for SingleFlightCache<K, V> {
    fn default() -> Self {
        Self { slots: Mutex::default(), most: MOST_ANSWERS }
    }
}

impl<K: Eq + Hash, V: Clone> SingleFlightCache<K, V> {
    /// An answer to a call made at most `max_age` ago. Cancel-safe: the next caller that waits calls again.
    pub(super) async fn get<F>(
        &self,
        key: K,
        max_age: Duration,
        ask: impl FnOnce() -> F + Send,
    ) -> Result<V, UpstreamError>
    where
        F: Future<Output = Result<V, UpstreamError>> + Send,
    {
        let wanted = Instant::now();
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if let Some((asked, answer)) = &slot.last {
            let age = if answer.is_ok() { max_age } else { max_age.min(ERROR_AGE) };
            if *asked + age >= wanted {
                return answer.clone();
            }
        }
        let asked = Instant::now();
        let answer = ask().await;
        if let Ok(good) = &answer {
            slot.good = Some((asked, good.clone()));
        }
        slot.last = Some((asked, answer.clone()));
        answer
    }

    /// The slot of a key. When the cache is full, all answers that no caller is waiting for are forgotten first.
    fn slot(&self, key: K) -> Slot<V> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= self.most && !slots.contains_key(&key) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(key).or_default().clone()
    }

    /// The last good answer, if it is at most `max_age` old. Makes no call, and waits for none.
    pub(super) fn known<Q: Eq + Hash + ?Sized>(&self, key: &Q, max_age: Duration) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.clone();
        let slot = slot.try_lock().ok()?;
        let (_, good) = slot.good.as_ref().filter(|(asked, _)| asked.elapsed() <= max_age)?;
        Some(good.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_thousand_callers_make_one_call() {
        let (shared, calls) = (SingleFlightCache::<u8, u32>::default(), AtomicU32::new(0));
        let ask = || async {
            tokio::task::yield_now().await;
            Ok(calls.fetch_add(1, Ordering::Relaxed))
        };
        let all = futures_util::future::join_all((0..1000).map(|_| shared.get(1, Duration::from_secs(60), ask))).await;
        assert!(all.iter().all(|answer| *answer == Ok(0)));
        assert_eq!(shared.get(2, Duration::from_secs(60), ask).await, Ok(1), "another key, another call");
        assert_eq!(shared.get(1, Duration::ZERO, ask).await, Ok(2), "stale");
        assert_eq!(shared.known(&1, Duration::from_secs(60)), Some(2));
        assert_eq!((shared.known(&1, Duration::ZERO), shared.known(&3, Duration::from_secs(60))), (None, None));
    }

    #[tokio::test]
    async fn a_full_cache_forgets_what_nobody_waits_for() {
        let cache = SingleFlightCache::<u32, u32> { most: 10, ..SingleFlightCache::default() };
        let waiting = cache.slot(0);
        for key in 1..100 {
            assert_eq!(cache.get(key, Duration::from_secs(60), || async { Ok(1) }).await, Ok(1));
        }
        assert!(cache.slots.lock().unwrap().len() <= 10);
        assert!(Arc::ptr_eq(&waiting, &cache.slot(0)), "one call at a time still");
    }

    #[tokio::test]
    async fn an_error_is_shared_and_soon_forgotten() {
        let (shared, calls) = (SingleFlightCache::<u8, u32>::default(), AtomicU32::new(0));
        let fail = || async {
            calls.fetch_add(1, Ordering::Relaxed);
            Err(UpstreamError::Garbage(String::new()))
        };
        let all = futures_util::future::join_all((0..10).map(|_| shared.get(1, Duration::from_secs(60), fail))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(shared.known(&1, Duration::from_secs(60)), None);
        assert_eq!(shared.get(1, Duration::ZERO, || async { Ok(7) }).await, Ok(7));
        assert!(shared.get(1, Duration::ZERO, fail).await.is_err());
        assert_eq!(shared.known(&1, Duration::from_secs(60)), Some(7), "an error does not take away what was known");
    }
}
