//! The files of a private server: where they are, who owns them, what they say.

use super::{error::LocalPostgresError, user::User};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Only names the socket's file: nothing listens on TCP.
pub(super) const PORT: u16 = 5432;

/// `sun_path` has room for 107 bytes on Linux and 103 on macOS and BSD, the file's name included.
const SOCKET_PATH_BYTES: usize = 103;

/// Where the cluster of a data directory goes that the server's user cannot reach.
const ELSEWHERE: &str = "/var/lib/fleet-manager";

/// Where everything is.
#[derive(Debug)]
pub(super) struct Home {
    data_dir: PathBuf,
    /// The cluster's parent: the data directory, unless that is out of reach.
    base: PathBuf,
    socket_dir: PathBuf,
    /// The socket is in a temporary directory that goes with the server.
    temporary_socket: bool,
}

impl Home {
    pub(super) async fn prepare(data_dir: &Path, user: &User) -> Result<Self, LocalPostgresError> {
        let link = data_dir.join("postgres");
        let base = match std::fs::read_link(&link) {
            Ok(target) => target.parent().unwrap_or(data_dir).to_owned(),
            Err(_) if user.can_enter(data_dir).await? => data_dir.to_owned(),
            Err(_) => {
                let base = Path::new(ELSEWHERE).join(uuid::Uuid::new_v4().simple().to_string());
                let doing = format!("creating {}, since postgres cannot reach {}", base.display(), data_dir.display());
                std::fs::create_dir_all(&base).map_err(LocalPostgresError::io(doing.clone()))?;
                // Whatever the umask is.
                for directory in [Path::new(ELSEWHERE), &base] {
                    std::fs::set_permissions(directory, Permissions::from_mode(0o755))
                        .map_err(LocalPostgresError::io(doing.clone()))?;
                }
                symlink(base.join("postgres"), &link)
                    .map_err(LocalPostgresError::io(format!("linking {}", link.display())))?;
                base
            }
        };
        Ok(Self { data_dir: data_dir.to_owned(), socket_dir: base.join("socket"), base, temporary_socket: false })
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.base.join("postgres")
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The major version of the cluster; `None` if there is none yet.
    pub(super) fn version(&self) -> Result<Option<String>, LocalPostgresError> {
        let file = self.cluster().join("PG_VERSION");
        match std::fs::read_to_string(&file) {
            Ok(version) => Ok(Some(version.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LocalPostgresError::Io { doing: format!("reading {}", file.display()), source }),
        }
    }

    /// An empty directory for a cluster in the making; what an interrupted attempt has left is removed.
    pub(super) fn make_fresh_dir(&self, user: &User) -> Result<PathBuf, LocalPostgresError> {
        let fresh = self.base.join("postgres.new");
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh).map_err(LocalPostgresError::io(format!("removing {}", fresh.display())))?;
        }
        make_private_dir(&fresh, user)?;
        Ok(fresh)
    }

    /// Moves a complete cluster to its place.
    pub(super) fn install(&self, fresh: &Path) -> Result<(), LocalPostgresError> {
        std::fs::rename(fresh, self.cluster()).map_err(LocalPostgresError::io(format!("moving {}", fresh.display())))
    }

    /// The directory of the socket, closed to everybody but the server's user (and root).
    pub(super) fn make_socket_dir(&mut self, user: &User) -> Result<PathBuf, LocalPostgresError> {
        if !fits_a_socket(&self.socket_dir) {
            let name = format!("fleet-pg-{}", uuid::Uuid::new_v4().simple());
            self.socket_dir = std::env::temp_dir().join(name);
            self.temporary_socket = true;
        }
        if !fits_a_socket(&self.socket_dir) {
            return Err(LocalPostgresError::SocketPath(self.socket_dir.clone()));
        }
        make_private_dir(&self.socket_dir, user)?;
        Ok(self.socket_dir.clone())
    }

    /// Whether the cluster's pid file names a live server of this cluster, rather than a process that has got its number.
    pub(super) fn server_is_left_over(&self) -> bool {
        let Ok(file) = std::fs::read_to_string(self.cluster().join("postmaster.pid")) else { return false };
        let Some(pid) = file.lines().next() else { return false };
        // A server's working directory is its cluster. Without /proc, `pg_ctl` has to find out.
        !Path::new("/proc/self").exists()
            || std::fs::read_link(format!("/proc/{}/cwd", pid.trim())).ok() == self.cluster().canonicalize().ok()
    }

    pub(super) fn open_log(&self) -> Result<File, LocalPostgresError> {
        let log = self.log();
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(LocalPostgresError::io(format!("opening {}", log.display())))
    }

    pub(super) fn server_error(&self, what: &'static str) -> LocalPostgresError {
        let said = std::fs::read(self.log()).unwrap_or_default();
        LocalPostgresError::Server { what, log: self.log(), tail: tail(&String::from_utf8_lossy(&said)) }
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary_socket {
            // The server may be removing its socket at this moment; either way nothing of value is left.
            drop(std::fs::remove_dir_all(&self.socket_dir));
        }
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(15);
    lines.get(from..).unwrap_or_default().join("\n")
}

fn fits_a_socket(directory: &Path) -> bool {
    let socket = directory.join(format!(".s.PGSQL.{PORT}"));
    socket.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES
}

fn make_private_dir(directory: &Path, user: &User) -> Result<(), LocalPostgresError> {
    let doing = || LocalPostgresError::io(format!("creating {}", directory.display()));
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            std::fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(doing())?;
        }
        made => made.map_err(doing())?,
    }
    user.own(directory)
}
