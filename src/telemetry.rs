//! Logs. They go to standard error; standard output is for the output of commands.
//!
//! The IDs of a request or a job are fields of its span. Both log formats write the fields of all enclosing spans with each event.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::LogFormat;

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is invalid.
    #[error("the log filter is invalid: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging is set up already.
    #[error(transparent)]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging to standard error, for events that pass `filter` (such as `info,fleet_manager=debug`).
///
/// # Errors
/// [`TelemetryError`].
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()?;
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_span_list(true).with_writer(std::io::stderr))
            .try_init()?,
    }
    Ok(())
}
