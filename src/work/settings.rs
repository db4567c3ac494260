//! What a pool of workers is told.

use super::Backoff;
use std::time::Duration;

/// The longest fallback poll that is sound: enqueuing notifies only of what is due within a minute.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// Settings of one pool of workers. [`Settings::new`] has defaults that suit production.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Names this pool in the rows it leases. Each start adds a suffix of its own, so two pools never share leases.
    pub owner: String,
    /// How many attempts at once; default 128, of which half may
    /// [pause](super::Attempt::pause). Attempts that settle or transact use the pool's connections, so a handful of
    /// connections serves many attempts that wait elsewhere.
    pub concurrency: usize,
    /// How long a lease lasts unless renewed, and so how long after a crash its jobs are delivered again; default 30 s.
    pub lease: Duration,
    /// The fallback poll for a lost wake-up; default 15 s, at most 60 s.
    pub poll: Duration,
    /// How long a stop waits for attempts under way before their leases are given back; default 10 s.
    pub drain: Duration,
    /// The longest [`Attempt::pause`](super::Attempt::pause); default 1 min. Longer waits are rows.
    pub longest_pause: Duration,
    /// The wait after a failed attempt; default 1 s doubling up to 5 min.
    pub backoff: Backoff,
    /// At this many consecutive failures the job is given up; default 20, at least 1.
    pub max_failures: u32,
}

impl Settings {
    /// The defaults, for a pool of this name.
    pub fn new(owner: impl Into<String>) -> Self {
        Self {
            owner: owner.into(),
            concurrency: 128,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(15),
            drain: Duration::from_secs(10),
            longest_pause: Duration::from_secs(60),
            backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) },
            max_failures: 20,
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let impossible = [
            (self.concurrency == 0, "concurrency must be at least 1"),
            (self.lease < Duration::from_millis(100), "a lease must last 100 ms or more"),
            (self.poll.is_zero() || self.poll > LONGEST_POLL, "the fallback poll must be at most 60 s and not 0"),
            (self.max_failures == 0, "max_failures must be at least 1"),
        ];
        match impossible.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(SettingsError::Impossible(why)),
            None => Ok(()),
        }
    }
}

/// Why a pool of workers cannot be set up.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// A value out of its range.
    #[error("worker settings: {0}")]
    Impossible(&'static str),
    /// Two handlers want the same jobs.
    #[error("two handlers for jobs of kind {0:?}")]
    DuplicateHandler(&'static str),
}
