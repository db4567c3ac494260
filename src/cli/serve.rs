//! `fleet-manager serve`.

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, ServeOptions},
    config::Settings,
};

/// Serve the API, and work on jobs unless told not to
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Serve the API only; workers run elsewhere, against the same database
    #[arg(long)]
    no_worker: bool,

    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        app::serve(self.settings, ServeOptions { worker: !self.no_worker }, stop).await
    }
}
