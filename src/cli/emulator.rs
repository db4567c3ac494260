//! `fleet-manager emulator`.

use std::net::SocketAddr;

use anyhow::Context;
use azure_emulator::Config;
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

    /// Take in `nodeImageVersion` only what AKS takes: an image that the pool ran before. Otherwise any image that is
    /// published in the region is taken, which a service with FLEET_ARM_CREDENTIAL=emulator relies on for Consistent and
    /// Custom node images
    #[arg(long)]
    strict_node_images: bool,

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
        tracing::info!(address = %listener.local_addr()?, clusters = self.world.clusters, "emulator listens");
        let config = Config {
            clusters: self.world.clusters,
            upgrade_seconds: self.world.upgrade_seconds,
            seed: self.seed,
            enforce_throttles: self.enforce_throttles,
            require_token: self.require_token,
            accept_any_published_image: !self.strict_node_images,
        };
        azure_emulator::Emulator::new(config).serve(listener, stop).await.context("the emulator ended")
    }
}

/// A listener on an address that nobody else has.
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
