//! Stopping: the first SIGTERM or SIGINT asks, the second one insists.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that did not wait for its work to end: 128 + SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

/// A token that the first SIGTERM or SIGINT cancels. A second one ends the process at once.
pub(super) fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            tracing::info!("stopping; a second signal stops at once");
            told.cancel();
        }
    });
    Ok(stop)
}
