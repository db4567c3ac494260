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

    /// Reads (GET, HEAD) that a principal may send in a second in a subscription, in the long run; ten times as many at once. More
    /// are answered 429. Azure's own limit is 25
    #[arg(long, env = "FLEET_READS_PER_SECOND", default_value_t = 1000, value_parser = between(1, 1_000_000), value_name = "N")]
    pub reads_per_second: u32,

    /// Writes (PUT, PATCH, POST), likewise; twenty times as many at once. Azure's own limit is 10
    #[arg(long, env = "FLEET_WRITES_PER_SECOND", default_value_t = 1000, value_parser = between(1, 1_000_000), value_name = "N")]
    pub writes_per_second: u32,

    /// Deletes, likewise; twenty times as many at once. Azure's own limit is 10
    #[arg(long, env = "FLEET_DELETES_PER_SECOND", default_value_t = 1000, value_parser = between(1, 1_000_000), value_name = "N")]
    pub deletes_per_second: u32,
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
