//! An emulator of the AKS resource provider: seeded clusters, long-running operations, faults on request.
//!
//! The module `world` is a state machine without clock, network or tasks: it maps a request and a time to a response. Around it are
//! the HTTP server and a control API under `/emulator/`. The crate's README documents both.

mod aks;
mod call;
mod catalogue;
mod cluster;
mod config;
mod control;
mod errors;
mod faults;
mod http;
mod log;
mod operations;
mod rules;
mod seed;
mod snapshot;
#[cfg(test)]
mod tests;
mod throttle;
mod tokens;
mod version;
mod world;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Config, Identity};
use world::World;

/// How long requests in progress may take after the emulator is told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// A running emulator. Clones share its state.
#[derive(Clone)]
pub struct Emulator {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    world: Mutex<World>,
}

impl Emulator {
    /// Returns an emulator with the clusters that `config` describes.
    pub fn new(config: Config) -> Self {
        let world = Mutex::new(World::new(&config, Timestamp::now()));
        Self { shared: Arc::new(Shared { config, world }) }
    }

    /// Returns a router for the AKS API and, under `/emulator/`, the control API, to be served without TLS.
    pub fn router(&self) -> Router {
        http::router(self.clone(), "http")
    }

    /// Serves until `stop` is cancelled. Requests in progress then get a second to end.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let served = axum::serve(listener, self.router()).with_graceful_shutdown(stop.clone().cancelled_owned());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = served.into_future() => result,
            () = overdue => Ok(()),
        }
    }

    /// Serves https with a certificate chain and a key in PEM files. Azure's identity libraries request tokens over https only.
    ///
    /// # Errors
    /// When the files cannot be used, or the listener fails.
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        certificate: &Path,
        key: &Path,
        stop: CancellationToken,
    ) -> io::Result<()> {
        // An error means that the process has installed a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = RustlsConfig::from_pem_file(certificate, key).await?;
        let handle = Handle::new();
        let service = http::router(self, "https").into_make_service();
        let served = axum_server::from_tcp_rustls(listener.into_std()?, config)?.handle(handle.clone()).serve(service);
        let stopped = async {
            stop.cancelled().await;
            handle.graceful_shutdown(Some(GRACE));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = served => result,
            () = stopped => Ok(()),
        }
    }

    /// Returns the state. It stays usable after a panic elsewhere, since every change to it is a plain assignment.
    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self, now: Timestamp) {
        let fresh = World::new(&self.shared.config, now);
        *self.world() = fresh;
    }
}
