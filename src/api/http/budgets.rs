//! How many requests each principal may send: token buckets, as those of Azure Resource Manager.
//!
//! Reads, writes and deletes of a principal in a subscription are counted apart. Requests outside of the subscriptions that are
//! served are counted together. Each process counts for itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use uuid::Uuid;

use crate::{arm::ArmError, work::TokenBucket};

/// Most budgets that are remembered. Full ones are forgotten first.
const MOST_BUDGETS: usize = 10_000;

/// Requests of a principal in a subscription that are allowed in a second, in the long run. In a burst, ten times as many reads,
/// and twenty times as many writes and deletes are allowed: the proportions of Azure Resource Manager's own limits.
#[derive(Debug, Clone, Copy)]
pub struct RequestRates {
    /// GET and HEAD.
    pub reads: u32,
    /// PUT, PATCH and POST.
    pub writes: u32,
    /// DELETE.
    pub deletes: u32,
}

/// The budgets of all principals.
#[derive(Debug)]
pub struct RequestBudgets {
    rates: RequestRates,
    /// By principal and subscription.
    budgets: Mutex<HashMap<(Uuid, Uuid), Budget>>,
}

/// The budget of one principal in one subscription.
#[derive(Debug)]
struct Budget {
    reads: TokenBucket,
    writes: TokenBucket,
    deletes: TokenBucket,
}

impl Budget {
    fn new(rates: RequestRates, now: Instant) -> Self {
        let bucket = |rate: u32, burst: u32| TokenBucket::new(rate.saturating_mul(burst), rate.into(), now);
        Self { reads: bucket(rates.reads, 10), writes: bucket(rates.writes, 20), deletes: bucket(rates.deletes, 20) }
    }

    fn bucket(&mut self, kind: Kind) -> &mut TokenBucket {
        match kind {
            Kind::Reads => &mut self.reads,
            Kind::Writes => &mut self.writes,
            Kind::Deletes => &mut self.deletes,
        }
    }

    fn is_full(&mut self, now: Instant) -> bool {
        [&mut self.reads, &mut self.writes, &mut self.deletes].into_iter().all(|bucket| bucket.is_full(now))
    }
}

/// Kinds of requests that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    Writes,
    Deletes,
}

impl Kind {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => Self::Reads,
            Method::DELETE => Self::Deletes,
            _ => Self::Writes,
        }
    }

    fn header(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::Reads => "x-ms-ratelimit-remaining-subscription-reads",
            Self::Writes => "x-ms-ratelimit-remaining-subscription-writes",
            Self::Deletes => "x-ms-ratelimit-remaining-subscription-deletes",
        })
    }
}

impl RequestBudgets {
    /// Full budgets for everybody.
    #[must_use]
    pub fn new(rates: RequestRates) -> Self {
        Self { rates, budgets: Mutex::default() }
    }

    /// Counts a request of a principal. `subscription` is `None` outside of the subscriptions that are served.
    ///
    /// # Errors
    /// 429 `SubscriptionRequestsThrottled`, with the time after which a request is allowed again.
    pub(crate) fn count(
        &self,
        principal: Uuid,
        subscription: Option<Uuid>,
        method: &Method,
        left: Option<&Left>,
        now: Instant,
    ) -> Result<(), ArmError> {
        let kind = Kind::of(method);
        let taken = self.take((principal, subscription.unwrap_or_default()), kind, now);
        if let Some(Left(left)) = left {
            // Set once, as a request is counted once.
            let _ = left.set((kind, taken.unwrap_or(0)));
        }
        let Err(wait) = taken else { return Ok(()) };
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let scope = subscription.map_or_else(String::new, |id| format!(" for subscription '{id}'"));
        Err(ArmError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "SubscriptionRequestsThrottled",
            format!(
                "Number of requests{scope} actor '{principal}' exceeded. Please try again after '{seconds}' seconds after additional tokens are available."
            ),
        )
        .retry_after(seconds))
    }

    /// Takes a token. Returns how many are left, or when there is one again.
    fn take(&self, key: (Uuid, Uuid), kind: Kind, now: Instant) -> Result<u32, Duration> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() >= MOST_BUDGETS && !budgets.contains_key(&key) {
            budgets.retain(|_, budget| !budget.is_full(now));
            if budgets.len() >= MOST_BUDGETS {
                budgets.clear();
            }
        }
        budgets.entry(key).or_insert_with(|| Budget::new(self.rates, now)).bucket(kind).take_or_wait(now)
    }
}

/// What is left of the budget that a request was counted in; empty before it is counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left(Arc<OnceLock<(Kind, u32)>>);

impl Left {
    /// Adds to an answer how many more requests of its kind are allowed now. An answer that was passed on has the upstream's number.
    pub(crate) fn tell(&self, response: &mut Response) {
        if let Some((kind, left)) = self.0.get() {
            response.headers_mut().entry(kind.header()).or_insert_with(|| HeaderValue::from(*left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets() -> RequestBudgets {
        RequestBudgets::new(RequestRates { reads: 2, writes: 1, deletes: 1 })
    }

    fn allowed(budgets: &RequestBudgets, principal: u128, subscription: u128, method: &Method, now: Instant) -> usize {
        let subscription = Some(Uuid::from_u128(subscription));
        let count = || budgets.count(Uuid::from_u128(principal), subscription, method, None, now);
        (0..100).filter(|_| count().is_ok()).count()
    }

    #[test]
    fn principals_subscriptions_and_kinds_have_budgets_of_their_own() {
        let (budgets, now) = (budgets(), Instant::now());
        assert_eq!(allowed(&budgets, 1, 1, &Method::GET, now), 20);
        assert_eq!(allowed(&budgets, 1, 1, &Method::HEAD, now), 0);
        assert_eq!(allowed(&budgets, 2, 1, &Method::GET, now), 20);
        assert_eq!(allowed(&budgets, 1, 2, &Method::GET, now), 20);
        assert_eq!(allowed(&budgets, 1, 1, &Method::PUT, now), 20);
        assert_eq!(allowed(&budgets, 1, 1, &Method::POST, now), 0);
        assert_eq!(allowed(&budgets, 1, 1, &Method::DELETE, now), 20);
        assert_eq!(allowed(&budgets, 1, 1, &Method::GET, now + Duration::from_secs(3)), 6);
        assert_eq!(allowed(&budgets, 1, 1, &Method::PUT, now + Duration::from_secs(3)), 3);
    }

    #[test]
    fn a_refused_principal_may_come_back_when_told_however_often_it_was_refused() {
        let (budgets, now) = (budgets(), Instant::now());
        assert_eq!(allowed(&budgets, 1, 1, &Method::PUT, now), 20);
        let one = Some(Uuid::from_u128(1));
        let error = budgets.count(Uuid::from_u128(1), one, &Method::PUT, None, now).unwrap_err();
        assert_eq!((error.status().as_u16(), error.retry_after_seconds()), (429, Some(1)));
        assert_eq!(error.detail().code, "SubscriptionRequestsThrottled");
        assert_eq!(allowed(&budgets, 1, 1, &Method::PUT, now + Duration::from_secs(1)), 1);
    }

    #[test]
    fn the_number_of_budgets_is_bounded() {
        let (budgets, now) = (budgets(), Instant::now());
        assert_eq!(allowed(&budgets, 0, 1, &Method::GET, now), 20);
        let count = |n: usize, now| {
            budgets.count(Uuid::from_u128(n as u128), Some(Uuid::from_u128(1)), &Method::GET, None, now).is_ok()
        };
        let soon = now + Duration::from_secs(9);
        assert!((1..MOST_BUDGETS).all(|n| count(n, now)));
        assert!(count(MOST_BUDGETS, soon), "all but the first are full again, and forgotten");
        assert_eq!(budgets.budgets.lock().unwrap().len(), 2);
        assert!((MOST_BUDGETS + 1..3 * MOST_BUDGETS).all(|n| count(n, soon)));
        assert!(budgets.budgets.lock().unwrap().len() <= MOST_BUDGETS);
    }
}
