//! How long things may take.

use std::time::Duration;

/// How long the server may be silent before it is asked whether it is still there, and how often it is asked.
const KEEPALIVE_IDLE: u32 = 10;
const KEEPALIVE_INTERVAL: u32 = 5;
const KEEPALIVE_COUNT: u32 = 3;

/// How long things may take; the room's documentation has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `T`: how long PostgreSQL may take for one answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(10) }
    }
}

impl Limits {
    pub(super) fn statement(self) -> Duration {
        self.answer.mul_f64(1.25)
    }

    pub(super) fn transaction(self) -> Duration {
        self.answer * 2
    }

    pub(super) fn test(self) -> Duration {
        self.answer / 5
    }

    /// How long a connection may lie in the pool and be used again without a test.
    pub(super) fn trusted(self) -> Duration {
        self.answer / 10
    }

    /// What the server is told at the beginning of each session.
    pub(super) fn session(self) -> [(&'static str, u128); 8] {
        let answer = self.answer.as_millis().max(1);
        [
            ("statement_timeout", answer),
            ("lock_timeout", (answer / 2).max(1)),
            ("idle_in_transaction_session_timeout", answer),
            ("tcp_user_timeout", answer),
            ("client_connection_check_interval", 1000),
            ("tcp_keepalives_idle", KEEPALIVE_IDLE.into()),
            ("tcp_keepalives_interval", KEEPALIVE_INTERVAL.into()),
            ("tcp_keepalives_count", KEEPALIVE_COUNT.into()),
        ]
    }
}
