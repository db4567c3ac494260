//! Settings that limit what clients may demand of the service. Each holds for one process.

use std::time::Duration;

use clap::Args;

use super::between;

/// What clients may demand of the service.
#[derive(Debug, Clone, Args)]
pub struct ClientLimits {
    /// Most connections of clients. Further connections wait until one is closed
    #[arg(long, env = "FLEET_MAX_CONNECTIONS", default_value_t = 4096, value_parser = between(1, 1_000_000), value_name = "N")]
    pub max_connections: u32,

    /// Seconds after which a connection without a request in progress is closed. The header of a request must arrive within this
    /// time, too
    #[arg(long, env = "FLEET_IDLE_CONNECTION_SECONDS", default_value_t = 120, value_parser = between(1, 86_400), value_name = "SECONDS")]
    idle_connection_seconds: u32,

    /// Largest request body, in bytes
    #[arg(long, env = "FLEET_MAX_BODY_BYTES", default_value_t = 4 * 1024 * 1024, value_parser = between(1024, 64 * 1024 * 1024))]
    pub max_body_bytes: u32,

    /// Seconds within which the body of a request must arrive
    #[arg(long, env = "FLEET_BODY_SECONDS", default_value_t = 60, value_parser = between(1, 3600), value_name = "SECONDS")]
    body_seconds: u32,
}

impl ClientLimits {
    /// Time after which a connection without a request in progress is closed.
    #[must_use]
    pub fn idle_connection(&self) -> Duration {
        Duration::from_secs(self.idle_connection_seconds.into())
    }

    /// Time within which the body of a request must arrive.
    #[must_use]
    pub fn body_deadline(&self) -> Duration {
        Duration::from_secs(self.body_seconds.into())
    }
}
