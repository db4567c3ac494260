//! The command line, one file a subcommand.
//!
//! Exit codes: 0 done, or stopped as told; 1 something failed; 2 the command line or a setting is wrong. What is wrong
//! is said in one line on standard error.

mod demo;
mod emulator;
mod events;
mod migrate;
mod openapi;
mod progress;
mod serve;
mod signals;
mod token;
mod worker;

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::{
    config::{LogSettings, Settings},
    telemetry,
};

/// Prefix of this program's environment variables. Others may use it, too, for their scripts.
const PREFIX: &str = "FLEET_";

/// An open, self-hosted fleet manager for AKS clusters, with the API of Azure Kubernetes Fleet Manager.
#[derive(Debug, Parser)]
#[command(name = "fleet-manager", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    Worker(worker::Worker),
    Emulator(emulator::Emulator),
    Events(events::Events),
    Migrate(migrate::Migrate),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    Token(token::Token),
}

impl Command {
    fn settings(&self) -> Option<&Settings> {
        match self {
            Self::Demo(demo) => Some(demo.settings()),
            Self::Serve(serve) => Some(serve.settings()),
            Self::Worker(worker) => Some(worker.settings()),
            Self::Migrate(migrate) => Some(migrate.settings()),
            Self::Events(events) => Some(events.settings()),
            Self::Emulator(_) | Self::OpenApi(_) | Self::Token(_) => None,
        }
    }

    fn log(&self) -> Option<&LogSettings> {
        match self {
            Self::Emulator(emulator) => Some(emulator.log()),
            _ => self.settings().map(|settings| &settings.log),
        }
    }

    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Demo(demo) => demo.run(signals::stop_on_signal()?).await,
            Self::Serve(serve) => serve.run(signals::stop_on_signal()?).await,
            Self::Worker(worker) => worker.run(signals::stop_on_signal()?).await,
            Self::Emulator(emulator) => emulator.run(signals::stop_on_signal()?).await,
            Self::Migrate(migrate) => migrate.run().await,
            Self::Events(events) => events.run().await,
            Self::OpenApi(_) => openapi::OpenApi::run(),
            Self::Token(token) => token.run(),
        }
    }
}

/// Runs the program with this process's arguments and environment.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    if let Err(line) = check(&command) {
        return fail(2, line);
    }
    // One TLS implementation for the whole process. An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, format!("cannot start: {error}")),
    };
    match runtime.block_on(command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, format!("{error:#}")),
    }
}

/// What is wrong with environment and settings, in one line; sets up logs when nothing is.
fn check(command: &Command) -> Result<(), String> {
    let unknown = unknown_variables(std::env::vars_os().map(|(name, _)| name));
    let misspelt: Vec<String> =
        unknown.iter().filter_map(|name| Some(format!("{name} is no setting, but {} is", near_miss(name)?))).collect();
    if !misspelt.is_empty() {
        return Err(format!("{}: rename the variable or unset it", misspelt.join(", ")));
    }
    if let Some(Err(problems)) = command.settings().map(Settings::check) {
        return Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    }
    match command {
        Command::Serve(serve) => serve.settings().check_exposure(false).map_err(|problem| problem.to_string())?,
        Command::Demo(demo) => demo.settings().check_exposure(true).map_err(|problem| problem.to_string())?,
        // These answer no requests.
        Command::Worker(_)
        | Command::Emulator(_)
        | Command::Events(_)
        | Command::Migrate(_)
        | Command::OpenApi(_)
        | Command::Token(_) => {}
    }
    if let Some(log) = command.log() {
        telemetry::init(&log.filter, log.format).map_err(|error| error.to_string())?;
    }
    if !unknown.is_empty() {
        tracing::warn!(variables = unknown.join(", "), "environment variables that are no settings are ignored");
    }
    Ok(())
}

/// The environment variables that are settings of some command.
fn known_variables() -> BTreeSet<OsString> {
    let cli = Cli::command();
    let arguments = cli.get_subcommands().flat_map(|command| command.get_arguments());
    arguments.filter_map(|argument| argument.get_env().map(OsStr::to_owned)).collect()
}

/// The setting that a variable is likely meant to be. Short names differ by one letter, longer ones by two at most: `FLEET_RG` of
/// somebody's script is not `FLEET_LOG`.
fn near_miss(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    let most = if rest.len() <= 5 { 1 } else { 2 };
    let known = known_variables();
    let candidates = known.iter().filter_map(|known| known.to_str()?.strip_prefix(PREFIX));
    let (distance, nearest) = candidates.map(|known| (strsim::osa_distance(rest, known), known)).min()?;
    (distance <= most).then(|| format!("{PREFIX}{nearest}"))
}

/// Variables that begin as this program's and are no settings.
fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let known = known_variables();
    let names: BTreeSet<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    // Kubernetes describes each service of a namespace in variables of that name: FLEET_MANAGER_PORT, for one.
    let services: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix("_SERVICE_HOST")).collect();
    let describes_service = |name: &str| {
        let rests = services.iter().filter_map(|service| name.strip_prefix(service)?.strip_prefix('_'));
        rests.into_iter().any(|rest| ["SERVICE_HOST", "SERVICE_PORT", "PORT"].iter().any(|kind| rest.starts_with(kind)))
    };
    let ours = names.iter().filter(|name| name.starts_with(PREFIX));
    ours.filter(|name| !known.contains(OsStr::new(name)) && !describes_service(name)).cloned().collect()
}

/// Help and version are what was asked for; anything else becomes one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is there to be told that standard output is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let text = error.to_string();
            let words: Vec<&str> = text
                .lines()
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
                .flat_map(str::split_whitespace)
                .collect();
            let line = words.join(" ");
            fail(2, line.strip_prefix("error: ").unwrap_or(&line))
        }
    }
}

fn fail(code: u8, line: impl std::fmt::Display) -> ExitCode {
    eprintln!("fleet-manager: {line}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn knows_its_own_variables_and_no_misspelt_ones() {
        let names = ["FLEET_LISTEN", "FLEET_LISTN", "FLEET_DATA_DIR", "PATH", "DATABASE_URL", "FLEET_"];
        assert_eq!(unknown_variables(names.into_iter().map(Into::into)), ["FLEET_", "FLEET_LISTN"]);
        let kubernetes = ["FLEET_MANAGER_SERVICE_HOST", "FLEET_MANAGER_PORT_8443_TCP", "FLEET_MANGER_PORT"];
        assert_eq!(unknown_variables(kubernetes.into_iter().map(Into::into)), ["FLEET_MANGER_PORT"]);
    }

    #[test]
    fn only_near_misses_are_taken_for_settings() {
        for (name, meant) in [
            ("FLEET_LISTN", Some("FLEET_LISTEN")),
            ("FLEET_DATADIR", Some("FLEET_DATA_DIR")),
            ("FLEET_OWNER", Some("FLEET_OWNERS")),
            ("FLEET_LOGS", Some("FLEET_LOG")),
            ("FLEET_ARM_ENDPIONT", Some("FLEET_ARM_ENDPOINT")),
            ("FLEET_INSECURE_LOCALAUTH", Some("FLEET_INSECURE_LOCAL_AUTH")),
            ("FLEET_URL", None),
            ("FLEET_RG", None),
            ("FLEET_NAME", None),
            ("FLEET_", None),
            ("FLEET_RESOURCE_GROUP", None),
            ("FLEET_MANGER_PORT", None),
        ] {
            assert_eq!(near_miss(name).as_deref(), meant, "{name}");
        }
    }
}
