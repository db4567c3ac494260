//! `fleet-manager events`.

use clap::{Args, Subcommand};
use uuid::Uuid;

use crate::{app::dead_letters, config::Settings};

/// Read events that could not be delivered to webhooks, and have them delivered again
#[derive(Debug, Args)]
pub(super) struct Events {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print dead letters, the oldest first: one JSON object a line
    DeadLetters {
        /// Of this webhook only
        #[arg(long, value_name = "NAME")]
        webhook: Option<String>,

        /// At most so many
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: u32,

        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Have dead letters delivered again, by the workers that are running
    Replay {
        /// Those of this webhook
        #[arg(long, value_name = "NAME", required_unless_present_any = ["ids", "all"])]
        webhook: Option<String>,

        /// Those of these events, by their IDs
        #[arg(long = "id", id = "ids", value_name = "ID", value_delimiter = ',')]
        ids: Vec<Uuid>,

        /// All of them
        #[arg(long, conflicts_with_all = ["webhook", "ids"])]
        all: bool,

        #[command(flatten)]
        settings: Box<Settings>,
    },
}

impl Events {
    pub(super) fn settings(&self) -> &Settings {
        match &self.command {
            Command::DeadLetters { settings, .. } | Command::Replay { settings, .. } => settings,
        }
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::DeadLetters { webhook, limit, settings } => {
                for letter in dead_letters::read(*settings, webhook.as_deref(), limit).await? {
                    println!("{letter}");
                }
            }
            Command::Replay { webhook, ids, settings, .. } => {
                let replayed = dead_letters::replay(*settings, webhook.as_deref(), &ids).await?;
                println!("{replayed}");
            }
        }
        Ok(())
    }
}
