//! A cache of tokens: each is replaced shortly before it expires, and all callers share one request.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::{TokenSource, UpstreamError};

/// A token is replaced this long before it expires, or after half of its life if that is later.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// The pause after the first failure, and the longest pause. The pause doubles with each failure.
const PAUSES: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(1), SignedDuration::from_secs(30));
/// Shortest time between two tokens that are dropped because AKS refused them: when AKS refuses the next token as well, the cause is not
/// the token.
const BETWEEN_DROPS: SignedDuration = SignedDuration::from_mins(1);

/// A token from its issuer.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The token.
    pub token: SecretString,
    /// When it expires.
    pub expires: Timestamp,
}

/// Issues tokens, a new one for each call.
pub trait TokenIssuer: Send + Sync + 'static {
    /// Requests a new token.
    fn issue(&self) -> BoxFuture<'_, Result<NewToken, UpstreamError>>;
}

/// The tokens of an issuer. While a token is valid, no caller waits for its replacement, and a failed replacement fails no caller.
pub struct CachedToken {
    inner: Arc<Inner>,
}

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;
/// A request to the issuer that all callers wait for. It goes on when all of them are dropped.
type PendingRequest = Shared<BoxFuture<'static, Result<SecretString, UpstreamError>>>;

struct Inner {
    issuer: Box<dyn TokenIssuer>,
    now: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<HeldToken>,
    pending: Option<PendingRequest>,
    failure: Option<Failure>,
    dropped: Option<Timestamp>,
}

struct HeldToken {
    token: SecretString,
    refresh: Timestamp,
    expires: Timestamp,
}

struct Failure {
    in_a_row: u32,
    /// The issuer is not called before this time.
    until: Timestamp,
    error: UpstreamError,
}

impl CachedToken {
    /// Returns an empty cache of this issuer's tokens.
    #[must_use]
    pub fn new(issuer: impl TokenIssuer) -> Self {
        Self::with_clock(issuer, Timestamp::now)
    }

    fn with_clock(issuer: impl TokenIssuer, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let (issuer, now) = (Box::new(issuer), Box::new(now));
        Self { inner: Arc::new(Inner { issuer, now, state: Mutex::default() }) }
    }

    async fn valid(&self) -> Result<SecretString, UpstreamError> {
        let pending = {
            let mut state = self.inner.state();
            let now = (self.inner.now)();
            let paused = state.failure.as_ref().filter(|failure| now < failure.until);
            match &state.held {
                Some(held) if now < held.expires => {
                    let token = held.token.clone();
                    if now >= held.refresh && paused.is_none() {
                        // The request goes on in the background.
                        drop(self.inner.request(&mut state));
                    }
                    return Ok(token);
                }
                _ => match (&state.pending, paused) {
                    (Some(pending), _) => pending.clone(),
                    (None, Some(failure)) => return Err(failure.again(now)),
                    (None, None) => self.inner.request(&mut state),
                },
            }
        };
        pending.await
    }
}

impl TokenSource for CachedToken {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, UpstreamError>> {
        Box::pin(self.valid())
    }

    fn refused(&self, token: &SecretString) {
        let mut state = self.inner.state();
        let now = (self.inner.now)();
        let is_held = state.held.as_ref().is_some_and(|held| held.token.expose_secret() == token.expose_secret());
        let lately = state.dropped.is_some_and(|at| now.duration_since(at) < BETWEEN_DROPS);
        if is_held && !lately {
            tracing::warn!(
                "Azure Resource Manager refused a token that has not expired; the next call requests another token"
            );
            state.held = None;
            state.dropped = Some(now);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the request in progress, or starts one.
    fn request(self: &Arc<Self>, state: &mut State) -> PendingRequest {
        if let Some(pending) = &state.pending {
            return pending.clone();
        }
        let inner = Arc::clone(self);
        let asked = tokio::spawn(async move {
            let answer = AssertUnwindSafe(inner.issuer.issue()).catch_unwind().await;
            inner.finish(answer.unwrap_or_else(|_| Err(crashed())))
        });
        let pending = asked.map(|joined| joined.unwrap_or_else(|_| Err(crashed()))).boxed().shared();
        state.pending = Some(pending.clone());
        pending
    }

    fn finish(&self, answer: Result<NewToken, UpstreamError>) -> Result<SecretString, UpstreamError> {
        let mut state = self.state();
        let now = (self.now)();
        state.pending = None;
        match answer {
            Ok(NewToken { token, expires }) => {
                tracing::debug!(%expires, "a new token for Azure Resource Manager");
                let margin = MARGIN.min(expires.duration_since(now) / 2);
                state.held = Some(HeldToken { token: token.clone(), refresh: expires - margin, expires });
                state.failure = None;
                Ok(token)
            }
            Err(error) => {
                let in_a_row = state.failure.as_ref().map_or(0, |failure| failure.in_a_row) + 1;
                let (first, longest) = PAUSES;
                let pause = (first * (1 << (in_a_row - 1).min(8))).min(longest);
                tracing::warn!(%error, in_a_row, "no new token for Azure Resource Manager");
                state.failure = Some(Failure { in_a_row, until: now + pause, error: error.clone() });
                Err(error)
            }
        }
    }
}

impl Failure {
    /// Returns the error of the last attempt, with the time that is left until the next one.
    fn again(&self, now: Timestamp) -> UpstreamError {
        match &self.error {
            UpstreamError::Transient { after, detail } => {
                let rest = Duration::try_from(self.until.duration_since(now)).unwrap_or_default();
                UpstreamError::Transient { after: Some(after.unwrap_or_default().max(rest)), detail: detail.clone() }
            }
            other => other.clone(),
        }
    }
}

fn crashed() -> UpstreamError {
    UpstreamError::transient(
        "CredentialUnavailable",
        "The request for a token failed unexpectedly. The service tries again.",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    const LIFE: i64 = 3600;

    /// An issuer and a clock that a test sets.
    #[derive(Default)]
    struct Bench {
        now: AtomicI64,
        asked: AtomicU32,
        down: AtomicBool,
        panics: AtomicBool,
    }

    struct Numbered(Arc<Bench>);

    impl TokenIssuer for Numbered {
        fn issue(&self) -> BoxFuture<'_, Result<NewToken, UpstreamError>> {
            Box::pin(async move {
                let number = self.0.asked.fetch_add(1, Ordering::Relaxed) + 1;
                tokio::task::yield_now().await;
                assert!(!self.0.panics.load(Ordering::Relaxed), "as the test wants");
                if self.0.down.load(Ordering::Relaxed) {
                    return Err(UpstreamError::transient("Down", format!("attempt {number}")));
                }
                let expires = Timestamp::from_second(self.0.now.load(Ordering::Relaxed) + LIFE).unwrap();
                Ok(NewToken { token: number.to_string().into(), expires })
            })
        }
    }

    impl Bench {
        fn start() -> (Arc<Self>, CachedToken) {
            let bench = Arc::new(Self::default());
            let clock = Arc::clone(&bench);
            let now = move || Timestamp::from_second(clock.now.load(Ordering::Relaxed)).unwrap();
            (Arc::clone(&bench), CachedToken::with_clock(Numbered(bench), now))
        }

        fn at(&self, second: i64) {
            self.now.store(second, Ordering::Relaxed);
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    async fn token(cache: &CachedToken) -> String {
        cache.token().await.unwrap().expose_secret().to_owned()
    }

    /// Waits until the request in the background has ended.
    async fn quiet(cache: &CachedToken) {
        while cache.inner.state().pending.is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_thousand_callers_share_one_request() {
        let (bench, cache) = Bench::start();
        let all = join_all((0..1000).map(|_| token(&cache))).await;
        assert!(all.iter().all(|token| token == "1"));
        bench.at(LIFE - 301);
        assert_eq!(token(&cache).await, "1");
        quiet(&cache).await;
        assert_eq!(bench.asked(), 1, "no request long before the token expires");
    }

    #[tokio::test]
    async fn a_token_is_replaced_in_the_background_shortly_before_it_expires() {
        let (bench, cache) = Bench::start();
        token(&cache).await;
        bench.at(LIFE - 300);
        let all = join_all((0..100).map(|_| token(&cache))).await;
        assert!(all.iter().all(|token| token == "1"), "the old one, which is valid");
        quiet(&cache).await;
        assert_eq!((token(&cache).await.as_str(), bench.asked()), ("2", 2));
        bench.at(3 * LIFE);
        assert_eq!(token(&cache).await, "3", "an expired token is not given");
    }

    #[tokio::test]
    async fn a_failed_replacement_fails_no_caller_while_the_old_token_is_valid() {
        let (bench, cache) = Bench::start();
        token(&cache).await;
        bench.down.store(true, Ordering::Relaxed);
        for second in [LIFE - 300, LIFE - 299, LIFE - 290, LIFE - 1] {
            bench.at(second);
            for _ in 0..10 {
                assert_eq!(token(&cache).await, "1");
                quiet(&cache).await;
            }
        }
        assert_eq!(bench.asked(), 5, "at each time once, after the pause");
        bench.at(LIFE);
        assert!(cache.token().await.is_err());
        bench.down.store(false, Ordering::Relaxed);
        bench.at(LIFE + 30);
        assert_eq!(token(&cache).await, "6");
    }

    #[tokio::test]
    async fn a_caller_in_the_pause_after_a_failure_gets_the_same_error_and_the_time_of_the_next_attempt() {
        let (bench, cache) = Bench::start();
        bench.down.store(true, Ordering::Relaxed);
        let all = join_all((0..100).map(|_| cache.token())).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(bench.asked(), 1);
        let mut now = 0;
        for (asked, pause) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30)] {
            let Err(UpstreamError::Transient { after, detail, .. }) = cache.token().await else {
                panic!("no token yet")
            };
            assert_eq!((detail.message, after), (format!("attempt {asked}"), Some(Duration::from_secs(pause))));
            now += i64::try_from(pause).unwrap();
            bench.at(now);
            assert!(cache.token().await.is_err(), "asked again");
        }
        bench.down.store(false, Ordering::Relaxed);
        bench.at(now + 30);
        assert_eq!((token(&cache).await.as_str(), bench.asked()), ("9", 9));
    }

    #[tokio::test]
    async fn a_refused_token_is_dropped_at_most_once_a_minute() {
        let (bench, cache) = Bench::start();
        let first = cache.token().await.unwrap();
        cache.refused(&first);
        let second = cache.token().await.unwrap();
        assert_eq!(second.expose_secret(), "2");
        cache.refused(&first);
        cache.refused(&second);
        assert_eq!(token(&cache).await, "2", "another one would be refused, too");
        bench.at(60);
        cache.refused(&second);
        assert_eq!(token(&cache).await, "3");
    }

    #[tokio::test]
    async fn a_caller_that_is_dropped_does_not_cancel_the_request() {
        let (bench, cache) = Bench::start();
        assert!(cache.token().now_or_never().is_none());
        quiet(&cache).await;
        assert_eq!((token(&cache).await.as_str(), bench.asked()), ("1", 1));
    }

    #[tokio::test]
    async fn a_panic_counts_as_a_failure() {
        let (bench, cache) = Bench::start();
        bench.panics.store(true, Ordering::Relaxed);
        assert_eq!(cache.token().await.unwrap_err(), crashed());
        bench.panics.store(false, Ordering::Relaxed);
        bench.at(1);
        assert_eq!(token(&cache).await, "2");
    }
}
