//! Tokens kept until shortly before they expire, and asked for once for all who wait.

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

/// How long before its end a token is replaced; half of its life, if that is shorter.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// Between attempts after a failure: doubling, from the first to the second.
const PAUSES: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(1), SignedDuration::from_secs(30));
/// A token that is refused is dropped; if the next one is refused as well, it is not the token that is wrong.
const BETWEEN_DROPS: SignedDuration = SignedDuration::from_mins(1);

/// A token as issued.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The token.
    pub token: SecretString,
    /// When it ceases to be valid.
    pub expires: Timestamp,
}

/// Who issues tokens: asked for a new one each time.
pub trait TokenIssuer: Send + Sync + 'static {
    /// A new token.
    fn issue(&self) -> BoxFuture<'_, Result<NewToken, UpstreamError>>;
}

/// The tokens of an issuer. While the last one is valid nobody waits for the next, and a failure to get it fails no request.
pub struct CachedToken {
    kept: Arc<Kept>,
}

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;
/// A question under way, which goes on when those who wait for its answer go away.
type Flight = Shared<BoxFuture<'static, Result<SecretString, UpstreamError>>>;

struct Kept {
    issuer: Box<dyn TokenIssuer>,
    now: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    flight: Option<Flight>,
    failure: Option<Failure>,
    dropped: Option<Timestamp>,
}

struct Held {
    token: SecretString,
    refresh: Timestamp,
    expires: Timestamp,
}

struct Failure {
    in_a_row: u32,
    /// Not to ask again before.
    until: Timestamp,
    error: UpstreamError,
}

impl CachedToken {
    /// Tokens of this issuer. None is asked for yet.
    #[must_use]
    pub fn new(issuer: impl TokenIssuer) -> Self {
        Self::with_clock(issuer, Timestamp::now)
    }

    fn with_clock(issuer: impl TokenIssuer, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let (issuer, now) = (Box::new(issuer), Box::new(now));
        Self { kept: Arc::new(Kept { issuer, now, state: Mutex::default() }) }
    }

    async fn valid(&self) -> Result<SecretString, UpstreamError> {
        let flight = {
            let mut state = self.kept.state();
            let now = (self.kept.now)();
            let paused = state.failure.as_ref().filter(|failure| now < failure.until);
            match &state.held {
                Some(held) if now < held.expires => {
                    let token = held.token.clone();
                    if now >= held.refresh && paused.is_none() {
                        // It goes on without anybody waiting.
                        drop(self.kept.depart(&mut state));
                    }
                    return Ok(token);
                }
                _ => match (&state.flight, paused) {
                    (Some(flight), _) => flight.clone(),
                    (None, Some(failure)) => return Err(failure.again(now)),
                    (None, None) => self.kept.depart(&mut state),
                },
            }
        };
        flight.await
    }
}

impl TokenSource for CachedToken {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, UpstreamError>> {
        Box::pin(self.valid())
    }

    fn refused(&self, token: &SecretString) {
        let mut state = self.kept.state();
        let now = (self.kept.now)();
        let is_held = state.held.as_ref().is_some_and(|held| held.token.expose_secret() == token.expose_secret());
        let lately = state.dropped.is_some_and(|at| now.duration_since(at) < BETWEEN_DROPS);
        if is_held && !lately {
            tracing::warn!("Azure Resource Manager refused a token that has not expired; another is asked for");
            state.held = None;
            state.dropped = Some(now);
        }
    }
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the issuer, unless that is under way.
    fn depart(self: &Arc<Self>, state: &mut State) -> Flight {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let kept = Arc::clone(self);
        let asked = tokio::spawn(async move {
            let answer = AssertUnwindSafe(kept.issuer.issue()).catch_unwind().await;
            kept.land(answer.unwrap_or_else(|_| Err(crashed())))
        });
        let flight = asked.map(|joined| joined.unwrap_or_else(|_| Err(crashed()))).boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    fn land(&self, answer: Result<NewToken, UpstreamError>) -> Result<SecretString, UpstreamError> {
        let mut state = self.state();
        let now = (self.now)();
        state.flight = None;
        match answer {
            Ok(NewToken { token, expires }) => {
                tracing::debug!(%expires, "a new token for Azure Resource Manager");
                let margin = MARGIN.min(expires.duration_since(now) / 2);
                state.held = Some(Held { token: token.clone(), refresh: expires - margin, expires });
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
    /// The same error, for who asks before another attempt is due.
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
    UpstreamError::transient("CredentialUnavailable", "Asking for a token failed unexpectedly; it is tried again.")
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

    /// Until what goes on in the background has ended.
    async fn quiet(cache: &CachedToken) {
        while cache.kept.state().flight.is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_thousand_wait_for_one_answer() {
        let (bench, cache) = Bench::start();
        let all = join_all((0..1000).map(|_| token(&cache))).await;
        assert!(all.iter().all(|token| token == "1"));
        bench.at(LIFE - 301);
        assert_eq!(token(&cache).await, "1");
        quiet(&cache).await;
        assert_eq!(bench.asked(), 1, "far from its end nobody asks");
    }

    #[tokio::test]
    async fn shortly_before_its_end_a_token_is_replaced_while_nobody_waits() {
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
    async fn a_failed_replacement_fails_nobody_while_the_old_token_is_valid() {
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
    async fn who_comes_in_the_pause_after_a_failure_gets_the_same_answer_and_when_to_come_again() {
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
    async fn a_refused_token_is_dropped_but_not_one_after_the_other() {
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
    async fn who_goes_away_takes_nothing_along() {
        let (bench, cache) = Bench::start();
        assert!(cache.token().now_or_never().is_none());
        quiet(&cache).await;
        assert_eq!((token(&cache).await.as_str(), bench.asked()), ("1", 1));
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_like_another() {
        let (bench, cache) = Bench::start();
        bench.panics.store(true, Ordering::Relaxed);
        assert_eq!(cache.token().await.unwrap_err(), crashed());
        bench.panics.store(false, Ordering::Relaxed);
        bench.at(1);
        assert_eq!(token(&cache).await, "2");
    }
}
