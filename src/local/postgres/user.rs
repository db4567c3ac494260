//! As whom the server runs: as us, or, since PostgreSQL refuses root, as `postgres`.

use super::error::LocalPostgresError;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// The user that owns the server and its files; `None` is ourselves.
#[derive(Debug)]
pub(super) struct User(Option<(u32, u32)>);

impl User {
    pub(super) async fn for_server() -> Result<Self, LocalPostgresError> {
        if id(&["-u"]).await? != Some(0) {
            return Ok(Self(None));
        }
        match (id(&["-u", "postgres"]).await?, id(&["-g", "postgres"]).await?) {
            (Some(uid), Some(gid)) => Ok(Self(Some((uid, gid)))),
            _ => Err(LocalPostgresError::NoUser),
        }
    }

    /// A program to be run as this user.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes this user the owner of a file or directory that we have created.
    pub(super) fn own(&self, path: &Path) -> Result<(), LocalPostgresError> {
        let Some((uid, gid)) = self.0 else { return Ok(()) };
        chown(path, Some(uid), Some(gid))
            .map_err(LocalPostgresError::io(format!("giving {} to postgres", path.display())))
    }

    /// Whether this user can get into a directory, whatever stands in the way (modes, ACLs, mount options).
    pub(super) async fn can_enter(&self, directory: &Path) -> Result<bool, LocalPostgresError> {
        if self.0.is_none() {
            return Ok(true);
        }
        let mut test = self.command(Path::new("test"));
        test.arg("-x").arg(directory).current_dir("/").stdin(Stdio::null());
        let status = test.status().await.map_err(LocalPostgresError::io("running test"))?;
        Ok(status.success())
    }
}

async fn id(arguments: &[&str]) -> Result<Option<u32>, LocalPostgresError> {
    let output = Command::new("id").args(arguments).output().await.map_err(LocalPostgresError::io("running id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}
