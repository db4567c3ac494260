//! Helpers of all tests.

pub mod postgres;
pub mod proxy;
pub mod raw;
pub mod world;

use std::time::{Duration, Instant};

/// How much longer than on a quiet machine tests wait before they fail. Deadlines only end tests that would fail anyway: a test
/// that passes never waits for one, so that a busy machine must not make the difference.
pub const BUSY: u32 = 8;

/// Waits until a condition holds, and fails the test if it does not in time.
#[track_caller]
pub fn eventually<F, Fut>(what: &'static str, mut holds: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + Duration::from_secs(30) * BUSY;
        while !holds().await {
            assert!(Instant::now() < deadline, "not in time: {what} ({caller})");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
