//! Budgets: how many calls AKS accepts, counted by the service so that AKS does not have to refuse any. Pure: `now` is a
//! parameter.
//!
//! Each budget is a token bucket. The count is a lower bound of what AKS has left, whatever the latency: a call in flight
//! holds its token, and the bucket refills as if the call reached AKS only when its answer arrived. One token more is never
//! spent, for clocks that do not tick alike.
//!
//! A call that finds no token joins a queue and is told how long to wait. Its place is kept until it comes back, so that the
//! oldest call goes first and no call is refused twice because of others.
//!
//! The bucket of `work::bucket` is another one: it spaces the starts of jobs, and needs neither calls in flight, nor answers of
//! AKS, nor a queue.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

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
    /// All other calls, per subscription.
    Other,
    /// Maintenance configurations of a cluster, which AKS counts with all other calls. Each member of a run needs one such
    /// call just before its upgrade begins. Until AKS has answered 429, these calls exceed the documented limit, so that a
    /// limit that AKS does not enforce delays no run.
    Maintenance,
}

impl Class {
    /// The class whose bucket these calls take tokens from.
    fn counted_as(self) -> Self {
        if self == Self::Maintenance { Self::Other } else { self }
    }

    /// Burst, and how many tokens come back in a second.
    #[must_use]
    pub fn limit(self) -> (f64, f64) {
        match self {
            Self::PutCluster | Self::PutPool => (20.0, 1.0 / 60.0),
            Self::GetCluster | Self::Other | Self::Maintenance => (60.0, 1.0),
            Self::List => (500.0, 1.0),
            Self::OperationStatus => (200.0, 2.0),
        }
    }

    /// The largest part of the burst that is spent.
    fn spendable(self) -> f64 {
        self.limit().0 - 1.0
    }
}

/// For how long after a 429 the documented limit is known to be enforced.
const ENFORCED: Duration = Duration::from_secs(300);
/// How long a place in a queue is kept for a call that does not come back when its token is there.
const KEPT: Duration = Duration::from_secs(30);
/// Longest queue of one budget. A call beyond it is told how long the queue takes, without a place in it.
const LONGEST_QUEUE: usize = 4096;
/// A call that comes back when told must not be refused because sums of fractions fall short of a whole.
const ROUNDING: f64 = 1e-6;

/// How a call is counted, to be handed back when it has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// It holds a token.
    Counted,
    /// It goes beyond the documented limit.
    Uncounted,
}

/// What is left of AKS's limits, by kind of call and by what it is counted for (a subscription, or a lower-cased resource
/// ID).
#[derive(Debug, Default)]
pub(super) struct Budgets {
    buckets: HashMap<(Class, String), Bucket>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Bucket {
    /// Tokens at `at`, those of the calls in flight included.
    level: f64,
    at: Instant,
    in_flight: u32,
    queue: VecDeque<Waiting>,
    /// AKS said not to call before.
    closed_until: Option<Instant>,
    /// Until then AKS is known to enforce the limit.
    enforced_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    call: String,
    kept_until: Instant,
}

impl Bucket {
    fn full(class: Class, now: Instant) -> Self {
        Self {
            level: class.spendable(),
            at: now,
            in_flight: 0,
            queue: VecDeque::new(),
            closed_until: None,
            enforced_until: None,
        }
    }

    fn level_at(&self, class: Class, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * class.limit().1;
        (self.level + gained).min(class.spendable())
    }

    fn refill(&mut self, class: Class, now: Instant) {
        self.level = self.level_at(class, now);
        self.at = self.at.max(now);
        self.closed_until = self.closed_until.filter(|until| *until > now);
        self.enforced_until = self.enforced_until.filter(|until| *until > now);
        self.queue.retain(|waiting| waiting.kept_until > now);
    }

    /// How long a call waits that has so many before it in the queue.
    fn wait(&self, class: Class, before: usize, now: Instant) -> Duration {
        let closed = self.closed_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let missing = before as f64 + 1.0 - (self.level - f64::from(self.in_flight));
        if missing <= ROUNDING {
            return closed;
        }
        // The longest queue at the slowest rate takes less than three days.
        closed + Duration::try_from_secs_f64(missing / class.limit().1).unwrap_or(Duration::from_secs(3 * 86_400))
    }
}

impl Budgets {
    /// Consumes one call from the budget. `call` names the call, so that its place in the queue is found when it comes back;
    /// a call without a name does not queue, and comes after all that do.
    ///
    /// # Errors
    /// How long to wait for a token. Nothing is consumed.
    pub(super) fn take(
        &mut self,
        class: Class,
        key: &str,
        call: Option<&str>,
        now: Instant,
    ) -> Result<Grant, Duration> {
        let wait = match call {
            Some(call) => self.reserve(class, key, call, now),
            None => {
                let bucket = self.bucket(class, key, now);
                bucket.wait(class, bucket.queue.len(), now)
            }
        };
        let bucket = self.bucket(class, key, now);
        let place = call.and_then(|call| bucket.queue.iter().position(|waiting| waiting.call == call));
        if !wait.is_zero() && class == Class::Maintenance && bucket.enforced_until.is_none() {
            place.map(|place| bucket.queue.remove(place));
            return Ok(Grant::Uncounted);
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        place.map(|place| bucket.queue.remove(place));
        bucket.in_flight += 1;
        Ok(Grant::Counted)
    }

    /// Gives the call a place in the queue, unless it has one, and returns how long it waits from now. A token that is
    /// there is kept for it.
    pub(super) fn reserve(&mut self, class: Class, key: &str, call: &str, now: Instant) -> Duration {
        self.sweep(now);
        let bucket = self.bucket(class, key, now);
        let place = bucket.queue.iter().position(|waiting| waiting.call == call).unwrap_or(bucket.queue.len());
        let wait = bucket.wait(class, place, now);
        let kept_until = now + wait + KEPT;
        match bucket.queue.get_mut(place) {
            Some(waiting) => waiting.kept_until = kept_until,
            None if place < LONGEST_QUEUE => bucket.queue.push_back(Waiting { call: call.to_owned(), kept_until }),
            None => {}
        }
        wait
    }

    /// Keeps the call's place for longer: it waits for something else as well.
    pub(super) fn keep(&mut self, class: Class, key: &str, call: &str, wait: Duration, now: Instant) {
        let bucket = self.bucket(class, key, now);
        if let Some(waiting) = bucket.queue.iter_mut().find(|waiting| waiting.call == call) {
            waiting.kept_until = now + wait + KEPT;
        }
    }

    /// The call was answered, or given up.
    pub(super) fn answered(&mut self, class: Class, key: &str, grant: Grant, now: Instant) {
        let bucket = self.bucket(class, key, now);
        if grant == Grant::Counted {
            bucket.in_flight = bucket.in_flight.saturating_sub(1);
            bucket.level = (bucket.level - 1.0).max(0.0);
        }
    }

    /// AKS answered 429: others spend from the same budget, so it is empty whatever was counted here. When the time that
    /// AKS named has passed, one call may be made. Returns how long the refused call waits; one with a name is the first in
    /// the queue.
    pub(super) fn exhausted(
        &mut self,
        class: Class,
        key: &str,
        call: Option<&str>,
        (grant, retry_after): (Grant, Duration),
        now: Instant,
    ) -> Duration {
        self.answered(class, key, grant, now);
        let bucket = self.bucket(class, key, now);
        let until = bucket.closed_until.map_or(now + retry_after, |closed| closed.max(now + retry_after));
        (bucket.level, bucket.at) = (1.0, until);
        (bucket.closed_until, bucket.enforced_until) = (Some(until), Some(until + ENFORCED));
        let wait = bucket.wait(class, 0, now);
        if let Some(call) = call {
            bucket.queue.retain(|waiting| waiting.call != call);
            bucket.queue.push_front(Waiting { call: call.to_owned(), kept_until: now + wait + KEPT });
            bucket.queue.truncate(LONGEST_QUEUE);
        }
        wait
    }

    /// What nobody has taken or waits for, as a part of the burst: 0–1.
    pub(super) fn left(&self, class: Class, key: &str, now: Instant) -> f64 {
        self.buckets.get(&(class.counted_as(), key.to_owned())).map_or(1.0, |bucket| {
            let closed = bucket.closed_until.is_some_and(|until| until > now);
            let waiting = bucket.queue.iter().filter(|waiting| waiting.kept_until > now).count();
            let free = bucket.level_at(class, now) - f64::from(bucket.in_flight) - waiting as f64;
            if closed { 0.0 } else { (free / class.spendable()).max(0.0) }
        })
    }

    fn bucket(&mut self, class: Class, key: &str, now: Instant) -> &mut Bucket {
        let key = (class.counted_as(), key.to_owned());
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket::full(class, now));
        bucket.refill(class, now);
        bucket
    }

    /// Forgets the buckets that are full again, once a minute.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) > Duration::from_secs(60)) {
            self.swept = Some(now);
            self.buckets.retain(|(class, _), bucket| {
                bucket.refill(*class, now);
                let idle = bucket.in_flight == 0 && bucket.queue.is_empty() && bucket.enforced_until.is_none();
                !idle || bucket.level < class.spendable()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A call that is answered at once.
    fn call(budgets: &mut Budgets, class: Class, key: &str, name: Option<&str>, now: Instant) -> Result<(), Duration> {
        let grant = budgets.take(class, key, name, now)?;
        budgets.answered(class, key, grant, now);
        Ok(())
    }

    #[test]
    fn documented_limits_hold_over_an_hour() {
        let start = Instant::now();
        for class in [Class::PutCluster, Class::GetCluster, Class::List, Class::OperationStatus, Class::Other] {
            let mut budgets = Budgets::default();
            let mut granted = 0.0;
            for step in 0..36_000 {
                while call(&mut budgets, class, "s", None, start + step * 100 * MS).is_ok() {
                    granted += 1.0;
                }
            }
            let (burst, per_second) = class.limit();
            assert!((granted - (burst - 1.0 + 3600.0 * per_second)).abs() <= 1.0, "{class:?} {granted}");
        }
    }

    #[test]
    fn a_429_closes_the_budget_of_its_key_only() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        let seven = Duration::from_secs(7);
        let refused = |budgets: &mut Budgets, class, wait| {
            let grant = budgets.take(class, "a", None, now).unwrap();
            budgets.exhausted(class, "a", None, (grant, wait), now)
        };
        assert_eq!(refused(&mut budgets, Class::List, seven), seven);
        assert_eq!(call(&mut budgets, Class::List, "a", None, now), Err(seven));
        assert!(budgets.left(Class::List, "a", now) == 0.0 && budgets.left(Class::List, "b", now) == 1.0);
        assert_eq!(call(&mut budgets, Class::List, "b", None, now), Ok(()));
        assert_eq!(call(&mut budgets, Class::List, "a", None, now + seven), Ok(()));
        let second = Duration::from_secs(1);
        refused(&mut budgets, Class::PutCluster, second);
        assert_eq!(call(&mut budgets, Class::PutCluster, "a", None, now + second), Ok(()), "not a minute later");
        assert!(call(&mut budgets, Class::PutCluster, "a", None, now + second).is_err());
    }

    #[test]
    fn maintenance_configurations_count_with_all_other_calls_but_wait_only_after_a_429() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for n in 0..200 {
            assert_eq!(call(&mut budgets, Class::Maintenance, "a", Some(&n.to_string()), now), Ok(()));
        }
        assert_eq!(call(&mut budgets, Class::Other, "a", Some("other"), now), Err(Duration::from_secs(1)));
        assert!(budgets.left(Class::Maintenance, "a", now) == 0.0);
        let second = now + Duration::from_secs(1);
        assert!(call(&mut budgets, Class::Maintenance, "a", Some("beyond"), second).is_ok());
        assert_eq!(call(&mut budgets, Class::Other, "a", Some("other"), second), Ok(()), "its token was kept");

        let grant = budgets.take(Class::Maintenance, "a", None, second).unwrap();
        assert_eq!(grant, Grant::Uncounted);
        budgets.exhausted(Class::Maintenance, "a", None, (grant, Duration::from_secs(7)), second);
        let mut granted = 0;
        for n in 0..60 {
            let then = second + Duration::from_secs(n);
            granted += (0..5).filter(|_| call(&mut budgets, Class::Maintenance, "a", None, then).is_ok()).count();
        }
        assert_eq!(granted, 60 - 7, "one a second from then on");
        let later = second + Duration::from_secs(7) + ENFORCED;
        assert!((0..200).all(|_| call(&mut budgets, Class::Maintenance, "a", None, later).is_ok()));
    }

    #[test]
    fn the_oldest_call_goes_first_and_a_call_that_does_not_come_back_loses_its_place() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        while call(&mut budgets, Class::Other, "a", None, now).is_ok() {}
        let seconds = Duration::from_secs;
        for (n, name) in (1..).zip(["one", "two", "three"]) {
            assert_eq!(call(&mut budgets, Class::Other, "a", Some(name), now), Err(seconds(n)));
        }
        let then = now + seconds(2);
        assert_eq!(call(&mut budgets, Class::Other, "a", None, then), Err(seconds(2)), "after those who queue");
        assert_eq!(call(&mut budgets, Class::Other, "a", Some("three"), then), Err(seconds(1)), "its place is kept");
        assert_eq!(
            call(&mut budgets, Class::Other, "a", Some("two"), then),
            Ok(()),
            "whoever comes first of those due"
        );
        assert_eq!(call(&mut budgets, Class::Other, "a", Some("two"), then), Err(seconds(2)), "a new call");
        let then = now + seconds(1) + KEPT;
        let left = KEPT.as_secs_f64() + 1.0 - 1.0 - 2.0;
        assert!((budgets.left(Class::Other, "a", then) * 59.0 - left).abs() < 1e-6, "one of three has lost its place");
    }

    #[test]
    fn reserved_tokens_wait_for_their_calls() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for n in 0..59 {
            assert_eq!(budgets.reserve(Class::Other, "a", &n.to_string(), now), Duration::ZERO);
        }
        assert!(call(&mut budgets, Class::Other, "a", Some("late"), now).is_err());
        for n in 0..59 {
            assert_eq!(call(&mut budgets, Class::Other, "a", Some(&n.to_string()), now), Ok(()));
        }
    }

    /// AKS's own bucket, full at first.
    struct Aks {
        tokens: f64,
        at: u64,
    }

    impl Aks {
        fn accepts(&mut self, at: u64, (burst, per_second): (f64, f64)) -> bool {
            self.tokens = (self.tokens + (at - self.at) as f64 / 1e3 * per_second).min(burst);
            self.at = at;
            self.tokens -= 1.0;
            self.tokens >= -ROUNDING
        }
    }

    proptest! {
        #[test]
        fn aks_accepts_all_calls_whatever_the_latency(
            class in prop::sample::select(vec![Class::Other, Class::OperationStatus, Class::PutPool]),
            arrivals in prop::collection::vec((0_u64..400, 0_u64..3_000, 0_u64..2_000), 100..400),
        ) {
            let start = Instant::now();
            let mut budgets = Budgets::default();
            let mut aks = Aks { tokens: class.limit().0, at: 0 };
            // By time: (when, what, call); a call arrives at AKS before its answer arrives here.
            let mut events: std::collections::BTreeSet<(u64, u8, usize)> = std::collections::BTreeSet::new();
            let mut at = 0;
            for (n, (gap, ..)) in arrivals.iter().enumerate() {
                at += gap;
                events.insert((at, 2, n));
            }
            while let Some((ms, what, n)) = events.pop_first() {
                let now = start + Duration::from_millis(ms);
                let (_, there, back) = arrivals[n];
                match what {
                    0 => prop_assert!(aks.accepts(ms, class.limit()), "refused at {ms} ms"),
                    1 => budgets.answered(class, "s", Grant::Counted, now),
                    _ => match budgets.take(class, "s", Some(&n.to_string()), now) {
                        Ok(_) => {
                            events.insert((ms + there, 0, n));
                            events.insert((ms + there + back, 1, n));
                        }
                        Err(wait) => _ = events.insert((ms + u64::try_from(wait.as_millis()).unwrap() + 1, 2, n)),
                    }
                }
            }
        }

        /// A call that comes back when told is refused again only because of calls that were in flight.
        #[test]
        fn each_call_of_a_crowd_waits_once(many in 60_usize..400) {
            let start = Instant::now();
            let mut budgets = Budgets::default();
            let waits: Vec<_> =
                (0..many).map(|n| call(&mut budgets, Class::Other, "s", Some(&n.to_string()), start)).collect();
            for (n, wait) in waits.into_iter().enumerate() {
                if let Err(wait) = wait {
                    prop_assert_eq!(wait.as_secs(), n as u64 - 58);
                    prop_assert_eq!(call(&mut budgets, Class::Other, "s", Some(&n.to_string()), start + wait), Ok(()));
                }
            }
        }
    }
}
