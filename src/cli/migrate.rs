//! `fleet-manager migrate`.

use clap::Args;

use crate::{app, config::Settings};

/// Apply the database's migrations, and end
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    settings: Settings,
}

impl Migrate {
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        app::migrate(self.settings).await
    }
}
