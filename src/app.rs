//! Wiring of pool, clock, clients and limits; the order of start and stop.

use tokio_util::sync::CancellationToken;

use crate::config::Settings;

/// What a process that serves does beside serving.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Work on jobs, too.
    pub worker: bool,
}

/// Serves the API until told to stop.
///
/// # Errors
/// When something that it needs cannot be had.
pub async fn serve(settings: Settings, options: ServeOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let _ = (settings, options, stop);
    anyhow::bail!("the API is not there yet")
}

/// Works on jobs until told to stop.
///
/// # Errors
/// When something that it needs cannot be had.
pub async fn work(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let _ = (settings, stop);
    anyhow::bail!("the worker is not there yet")
}

/// Applies migrations.
///
/// # Errors
/// When the database cannot be reached, or a migration fails.
pub async fn migrate(settings: Settings) -> anyhow::Result<()> {
    let _ = settings;
    anyhow::bail!("migrations are not there yet")
}
