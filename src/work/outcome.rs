//! How an attempt ends: what its handler answers, and what became of the job.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

/// What a handler answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job is finished and removed.
    Done,
    /// Not finished, and nothing is wrong: go again at this time. Consecutive failures start from zero.
    Again {
        /// When, by the database's clock.
        at: Timestamp,
    },
    /// [`Outcome::Again`], this long from now.
    AgainAfter {
        /// How long to wait.
        delay: Duration,
    },
    /// The attempt failed and may succeed later.
    Retry {
        /// Why, for people; kept in the row.
        error: String,
        /// How long to wait, if the upstream said so; otherwise the back-off decides.
        after: Option<Duration>,
    },
    /// The job failed for good; its row stays, with the reason.
    Fail {
        /// Why, for people; kept in the row.
        error: String,
    },
    /// The handler has settled the job itself, by [`Attempt::settle`](super::Attempt::settle).
    Settled,
}

/// The name of an attempt, for where the attempt itself is not at hand: [`finish_all`](super::finish_all).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(crate) id: i64,
    pub(crate) claim: Arc<str>,
}

/// What became of the job when an attempt was settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Settlement {
    /// The job is finished or given up.
    Ended,
    /// The job goes again in this time.
    Goes(Duration),
    /// The lease was lost: nothing was changed.
    Lost,
}
