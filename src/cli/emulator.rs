//! `fleet-manager emulator`.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use azure_emulator::{Config, Identity};
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::LogSettings;

/// Run the emulator of the AKS resource provider
#[derive(Debug, Args)]
pub(super) struct Emulator {
    /// Address and port
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Certificate chain, PEM; with it the emulator is served by https
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// Private key of that certificate, PEM
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    #[command(flatten)]
    world: World,

    /// Chooses versions and agent pools of the clusters; the same seed gives the same clusters
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Answer 429 where AKS's documented throttles would
    #[arg(long)]
    enforce_throttles: bool,

    /// Answer 401 to requests without a bearer token
    #[arg(long)]
    require_token: bool,

    #[command(flatten)]
    tokens: Tokens,

    #[command(flatten)]
    log: LogSettings,
}

/// The emulator's clusters, and their pace.
#[derive(Debug, Clone, Args)]
pub(super) struct World {
    /// Clusters aks-1 … aks-N in resource group rg1
    #[arg(long, default_value_t = 12, value_name = "N")]
    pub(super) clusters: usize,

    /// Seconds that an upgrade takes
    #[arg(long, default_value_t = 5.0, value_parser = seconds, value_name = "S")]
    pub(super) upgrade_seconds: f64,
}

/// The emulator's token endpoints, in the tenant 11111111-1111-1111-1111-111111111111.
#[derive(Debug, Args)]
struct Tokens {
    /// Answer 401 to all tokens but those that the emulator's token endpoints have issued and that have not expired
    #[arg(long)]
    require_issued_tokens: bool,

    /// Seconds that issued tokens are valid
    #[arg(long, default_value_t = 3600, value_name = "S")]
    token_seconds: u64,

    /// Client ID of the one identity that gets tokens
    #[arg(long, default_value = "33333333-3333-3333-3333-333333333333", value_name = "GUID")]
    client_id: String,

    /// Its client secret
    #[arg(long, default_value = "secret", value_name = "SECRET")]
    client_secret: String,

    /// The federated token that is taken for it (workload identity)
    #[arg(long, default_value = "federated-token", value_name = "TOKEN")]
    federated_token: String,

    /// What IDENTITY_HEADER must be (managed identity of App Service)
    #[arg(long, default_value = "identity-header", value_name = "TEXT")]
    identity_header: String,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0 to 86400".to_owned()),
    }
}

impl Emulator {
    pub(super) fn log(&self) -> &LogSettings {
        &self.log
    }

    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let listener = listen(self.listen).await?;
        let tls = self.tls_cert.zip(self.tls_key);
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!(address = %listener.local_addr()?, scheme, clusters = self.world.clusters, "emulator listens");
        let config = Config {
            clusters: self.world.clusters,
            upgrade_seconds: self.world.upgrade_seconds,
            seed: self.seed,
            enforce_throttles: self.enforce_throttles,
            require_token: self.require_token,
            require_issued_tokens: self.tokens.require_issued_tokens,
            token_seconds: self.tokens.token_seconds,
            identity: Identity {
                client_id: self.tokens.client_id,
                client_secret: self.tokens.client_secret,
                federated_token: self.tokens.federated_token,
                identity_header: self.tokens.identity_header,
            },
        };
        let emulator = azure_emulator::Emulator::new(config);
        match tls {
            None => emulator.serve(listener, stop).await.context("the emulator ended"),
            Some((certificate, key)) => {
                emulator.serve_tls(listener, &certificate, &key, stop).await.with_context(|| {
                    format!("cannot serve with --tls-cert {} and --tls-key {}", certificate.display(), key.display())
                })
            }
        }
    }
}

/// A listener on an address that nobody else has.
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
