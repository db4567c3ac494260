//! Why a private server cannot be started.

use std::{io, path::PathBuf};

/// Why there is no private server. Each is one line for the person who has started it.
#[derive(Debug, thiserror::Error)]
pub enum LocalPostgresError {
    /// Another process owns the directory.
    #[error("the private PostgreSQL in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// PostgreSQL is not installed.
    #[error("no PostgreSQL found ({wanted}): install the server package, or set DATABASE_URL")]
    NotInstalled {
        /// What was looked for.
        wanted: String,
    },
    /// Run as root, and there is nobody to run the server as.
    #[error("PostgreSQL does not run as root, and there is no user `postgres`")]
    NoUser,
    /// The socket's path is too long even in the temporary directory.
    #[error("the path of the socket directory {} is too long: set TMPDIR to a shorter one", .0.display())]
    SocketPath(PathBuf),
    /// A file or program could not be used.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Which one.
        program: &'static str,
        /// The end of its output.
        said: String,
    },
    /// The server did not get ready, or not go down.
    #[error("PostgreSQL {what}; the end of {}:\n{tail}", .log.display())]
    Server {
        /// What went wrong.
        what: &'static str,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
}

impl LocalPostgresError {
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
