//! `fleet-manager worker`.

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{app, config::Settings};

/// Work on jobs, without the API
#[derive(Debug, Args)]
pub(super) struct Worker {
    #[command(flatten)]
    settings: Settings,
}

impl Worker {
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        app::work(self.settings, stop).await
    }
}
