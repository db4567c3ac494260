//! The services that the fleet manager calls, one module each, over one set-up of HTTP clients.

pub mod azure;
mod transport;
