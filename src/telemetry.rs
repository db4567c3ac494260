//! Logs: set up once. They go to standard error, so that standard output belongs to what a command prints.
//!
//! Identifiers of a request or a job are fields of spans, made where the request or job enters; the formats below
//! write the fields of all enclosing spans with each event.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::LogFormat;

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("the log filter is invalid: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a subscriber already.
    #[error(transparent)]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the events that `filter` lets through (`info,fleet_manager=debug`) to standard error.
///
/// # Errors
/// When the filter does not parse, or logs were set up before.
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
