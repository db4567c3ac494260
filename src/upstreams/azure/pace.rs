//! How fast AKS may be asked, and when to ask about an operation again. Pure: `now` is a parameter.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Shortest time between two questions about an operation.
pub const SHORTEST: Duration = Duration::from_millis(25);
/// Longest time between two questions about an operation.
pub const LONGEST: Duration = Duration::from_secs(30);
/// Up to here an operation is young: questions are few yet, and may come more often.
const EARLY: Duration = Duration::from_secs(20);
/// How long after the end of the shortest operations of its kind an operation is first asked about.
const PAST_SHORTEST: Duration = Duration::from_millis(20);

/// Kinds of calls that AKS counts apart (product documentation, throttling limits of the AKS resource provider).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// PUT of a cluster, per cluster.
    PutCluster,
    /// PUT of an agent pool, per pool.
    PutPool,
    /// GET of a cluster, per cluster.
    GetCluster,
    /// List of a subscription's clusters, per subscription.
    List,
    /// GET of an operation's status, per subscription.
    OperationStatus,
    /// All else, per subscription.
    Other,
    /// Maintenance configurations of a cluster, which AKS counts with all else. They are asked for once a member of a run,
    /// just before it begins, so that a count which may be wrong holds nobody back: they go beyond it until AKS has said
    /// that it is right.
    Maintenance,
}

impl Class {
    /// What counts what it counts.
    fn counted_as(self) -> Self {
        if self == Self::Maintenance { Self::Other } else { self }
    }

    /// Burst, and how many come back in a second.
    #[must_use]
    pub fn limit(self) -> (f64, f64) {
        match self {
            Self::PutCluster | Self::PutPool => (20.0, 1.0 / 60.0),
            Self::GetCluster | Self::Other | Self::Maintenance => (60.0, 1.0),
            Self::List => (500.0, 1.0),
            Self::OperationStatus => (200.0, 2.0),
        }
    }
}

/// What is left of AKS's limits, by kind of call and by what it is counted for (a lower-cased resource ID).
#[derive(Debug, Default)]
pub struct Budgets {
    buckets: HashMap<(Class, String), Bucket>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    /// AKS said not to come before.
    closed_until: Option<Instant>,
    /// AKS has said so lately, and so the count is right.
    strict_until: Option<Instant>,
}

/// For how long a count is known to be right.
const STRICT: Duration = Duration::from_secs(300);

impl Bucket {
    fn full(class: Class, now: Instant) -> Self {
        Self { tokens: class.limit().0, at: now, closed_until: None, strict_until: None }
    }

    fn refilled(self, class: Class, now: Instant) -> Self {
        let (burst, per_second) = class.limit();
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        let ahead = |until: &Instant| *until > now;
        Self {
            tokens: (self.tokens + gained).min(burst),
            at: now,
            closed_until: self.closed_until.filter(ahead),
            strict_until: self.strict_until.filter(ahead),
        }
    }
}

impl Budgets {
    /// Takes leave for one call.
    ///
    /// # Errors
    /// How long to wait, when the limit is reached.
    pub fn take(&mut self, class: Class, key: &str, now: Instant) -> Result<(), Duration> {
        self.sweep(now);
        let bucket = self.bucket(class, key, now);
        if let Some(until) = bucket.closed_until {
            return Err(until - now);
        }
        let beyond = class == Class::Maintenance && bucket.strict_until.is_none();
        if bucket.tokens < 1.0 && !beyond {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / class.limit().1));
        }
        bucket.tokens = (bucket.tokens - 1.0).max(0.0);
        Ok(())
    }

    /// AKS answered 429: others spend from the same budget, so it is empty whatever was counted here. When the time that
    /// AKS named has passed, there is leave for one call.
    pub fn exhausted(&mut self, class: Class, key: &str, retry_after: Duration, now: Instant) {
        let bucket = self.bucket(class, key, now);
        bucket.tokens = 1.0;
        bucket.closed_until = Some(now + retry_after);
        bucket.strict_until = Some(now + retry_after + STRICT);
    }

    /// What is left, as a part of the burst: 0–1.
    #[must_use]
    pub fn left(&self, class: Class, key: &str, now: Instant) -> f64 {
        self.buckets.get(&(class.counted_as(), key.to_owned())).map_or(1.0, |bucket| {
            let bucket = bucket.refilled(class, now);
            if bucket.closed_until.is_some() { 0.0 } else { bucket.tokens / class.limit().0 }
        })
    }

    fn bucket(&mut self, class: Class, key: &str, now: Instant) -> &mut Bucket {
        let key = (class.counted_as(), key.to_owned());
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket::full(class, now));
        *bucket = bucket.refilled(class, now);
        bucket
    }

    /// Forgets what is full again, once a minute.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) > Duration::from_secs(60)) {
            self.swept = Some(now);
            self.buckets.retain(|(class, _), bucket| {
                let bucket = bucket.refilled(*class, now);
                bucket.tokens < class.limit().0 || bucket.strict_until.is_some()
            });
        }
    }
}

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

    #[test]
    fn documented_limits_hold_over_an_hour() {
        let start = Instant::now();
        for class in [Class::PutCluster, Class::GetCluster, Class::List, Class::OperationStatus, Class::Other] {
            let mut budgets = Budgets::default();
            let mut granted = 0.0;
            for step in 0..36_000_u64 {
                while budgets.take(class, "s", start + Duration::from_millis(step * 100)).is_ok() {
                    granted += 1.0;
                }
            }
            let (burst, per_second) = class.limit();
            assert!((granted - (burst + 3600.0 * per_second)).abs() <= 1.0, "{class:?} {granted}");
        }
    }

    #[test]
    fn a_429_closes_the_budget_of_its_key_only() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        budgets.exhausted(Class::List, "a", Duration::from_secs(7), now);
        assert_eq!(budgets.take(Class::List, "a", now), Err(Duration::from_secs(7)));
        assert!(budgets.left(Class::List, "a", now) == 0.0 && budgets.left(Class::List, "b", now) == 1.0);
        assert_eq!(budgets.take(Class::List, "b", now), Ok(()));
        assert_eq!(budgets.take(Class::List, "a", now + Duration::from_secs(7)), Ok(()));
        budgets.exhausted(Class::PutCluster, "a", Duration::from_secs(1), now);
        assert_eq!(budgets.take(Class::PutCluster, "a", now + Duration::from_secs(1)), Ok(()), "not a minute later");
        assert!(budgets.take(Class::PutCluster, "a", now + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn maintenance_configurations_count_with_all_else_but_wait_only_after_a_429() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for _ in 0..200 {
            assert_eq!(budgets.take(Class::Maintenance, "a", now), Ok(()));
        }
        assert!(budgets.take(Class::Other, "a", now).is_err() && budgets.left(Class::Maintenance, "a", now) == 0.0);
        budgets.exhausted(Class::Maintenance, "a", Duration::from_secs(7), now);
        let mut granted = 0;
        for second in 0..60 {
            let then = now + Duration::from_secs(second);
            granted += (0..5).filter(|_| budgets.take(Class::Maintenance, "a", then).is_ok()).count();
        }
        assert_eq!(granted, 60 - 7 + 7, "one a second from then on, and those that came back meanwhile");
        let later = now + Duration::from_secs(7) + STRICT;
        assert!((0..200).all(|_| budgets.take(Class::Maintenance, "a", later).is_ok()));
    }

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
