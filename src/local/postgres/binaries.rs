//! Finding PostgreSQL's programs.

use super::error::LocalPostgresError;
use std::path::{Path, PathBuf};
use tokio::process::Command;

const PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// A directory that has all programs of one PostgreSQL. A lone `postgres` in `PATH` may be anything.
#[derive(Debug)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// The given directory, or the newest that is found; for a cluster that exists, the one of its major version.
    pub(super) async fn find(given: Option<&Path>, version: Option<&str>) -> Result<Self, LocalPostgresError> {
        let candidates = match given {
            Some(directory) => vec![directory.to_owned()],
            None => candidates().await,
        };
        for directory in candidates.iter().filter(|directory| is_complete(directory)) {
            let fits = match version {
                Some(version) => major(directory).await.as_deref() == Some(version),
                None => true,
            };
            if fits {
                return Ok(Self(directory.clone()));
            }
        }
        let place = given.map_or_else(|| "on this machine".to_owned(), |path| format!("in {}", path.display()));
        let wanted = match version {
            Some(version) => format!("version {version} {place}, as the data directory needs"),
            None => format!("initdb, postgres and pg_ctl {place}"),
        };
        Err(LocalPostgresError::NotInstalled { wanted })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether a loadable library is installed beside these programs.
    pub(super) fn has_library(&self, name: &str) -> bool {
        ["../lib", "../lib/postgresql"].iter().any(|place| {
            let place = self.0.join(place);
            ["so", "dylib"].iter().any(|suffix| place.join(format!("{name}.{suffix}")).exists())
        })
    }
}

fn is_complete(directory: &Path) -> bool {
    PROGRAMS.iter().all(|program| directory.join(program).is_file())
}

/// Debian's and Red Hat's places, newest version first, then what `pg_config` says, then `PATH`.
async fn candidates() -> Vec<PathBuf> {
    let mut versioned: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/opt/homebrew/opt", "postgresql@")] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|name| name.parse().ok());
            versioned.extend(version.map(|version| (version, entry.path().join("bin"))));
        }
    }
    versioned.sort();
    let mut candidates: Vec<PathBuf> = versioned.into_iter().rev().map(|(_, directory)| directory).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output().await {
        candidates.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    candidates.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    candidates
}

/// `15` of `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`.
async fn major(directory: &Path) -> Option<String> {
    let output = Command::new(directory.join("postgres")).arg("--version").output().await.ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().nth(2)?;
    Some(version.chars().take_while(char::is_ascii_digit).collect())
}
