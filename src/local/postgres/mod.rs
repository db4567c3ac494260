//! A private PostgreSQL, for a world without `DATABASE_URL`: started from the machine's own binaries, on a Unix socket that
//! only its owner can reach, stopped with its owner, never two at once on one directory.
//!
//! What is in the data directory:
//!
//! - `postgres.lock`: locked by the owner as long as it lives; the lock of a dead owner is free by itself.
//! - `postgres/`: the cluster. Run as root, the server runs as the user `postgres`, who must be able to get there; if the
//!   data directory is out of that user's reach (`/root`), this is a symbolic link to a place below `/var/lib`.
//! - `postgres.log`: what the server says.
//! - `socket/` in the cluster's home, or a private temporary directory when the path is too long for a socket.
//!
//! The server dies with its owner, `kill -9` included: a shell between the two holds the end of a pipe, and tells the
//! server to shut down when the other end closes. Should that shell be killed too, the next start stops what is left over.

mod binaries;
mod error;
mod home;
mod user;

pub use error::LocalPostgresError;

use binaries::Binaries;
use home::Home;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use user::User;

/// Recovery after a crash may take a while.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// Starts `"$@"`, and interrupts it (PostgreSQL: fast shutdown) when standard input closes, that is when the owner dies.
const TIED_TO_OWNER: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read -r _ <&3; kill -INT $server; } & guard=$!
exec 3<&-
wait $server; code=$?
kill $guard 2>/dev/null
exit $code
"#;

/// How a private server is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// The directory of `initdb`, `postgres` and `pg_ctl`; looked for when absent.
    pub binaries: Option<PathBuf>,
    /// Whether a commit survives a power cut. Only tests do without.
    pub durable: bool,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self { binaries: None, durable: true }
    }
}

/// A running private server. [`PrivatePostgres::stop`] waits until it is down; dropping it lets it shut down by itself.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Child,
    options: PgConnectOptions,
    home: Home,
    _lock: OwnerLock,
}

impl PrivatePostgres {
    /// Starts the private server of this data directory, creating both if need be, and waits until it answers.
    ///
    /// # Errors
    /// See [`LocalPostgresError`].
    pub async fn start(data_dir: &Path) -> Result<Self, LocalPostgresError> {
        Self::start_with(data_dir, &PostgresSettings::default()).await
    }

    /// [`PrivatePostgres::start`] with settings of one's own.
    ///
    /// # Errors
    /// See [`LocalPostgresError`].
    pub async fn start_with(data_dir: &Path, settings: &PostgresSettings) -> Result<Self, LocalPostgresError> {
        std::fs::create_dir_all(data_dir)
            .map_err(LocalPostgresError::io(format!("creating {}", data_dir.display())))?;
        let data_dir =
            data_dir.canonicalize().map_err(LocalPostgresError::io(format!("resolving {}", data_dir.display())))?;
        let lock = OwnerLock::take(&data_dir)?;
        let user = User::for_server().await?;
        let mut home = Home::prepare(&data_dir, &user).await?;
        let binaries = Binaries::find(settings.binaries.as_deref(), home.version()?.as_deref()).await?;
        if home.version()?.is_none() {
            initialise(&home, &binaries, &user, settings).await?;
        } else {
            stop_left_over(&home, &binaries, &user).await?;
        }
        let socket = home.make_socket_dir(&user)?;
        let options = PgConnectOptions::new_without_pgpass()
            .socket(socket)
            .port(home::PORT)
            .username("postgres")
            .database("postgres");
        let log = home.open_log()?;
        let server = spawn(&home, &binaries, &user, settings, log)?;
        let mut this = Self { server, options, home, _lock: lock };
        this.wait_until_ready().await?;
        Ok(this)
    }

    /// How to connect: as the superuser, to the database `postgres`.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// [`PrivatePostgres::options`] as a `DATABASE_URL`.
    pub fn url(&self) -> String {
        self.options.to_url_lossy().to_string()
    }

    /// Shuts the server down (sessions are ended, data is flushed) and waits until it is.
    ///
    /// # Errors
    /// If it takes longer than half a minute.
    pub async fn stop(mut self) -> Result<(), LocalPostgresError> {
        drop(self.server.stdin.take());
        match timeout(STOPPED_WITHIN, self.server.wait()).await {
            Ok(ended) => ended.map(drop).map_err(LocalPostgresError::io("waiting for PostgreSQL to stop")),
            Err(_) => Err(self.home.server_error("does not stop")),
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), LocalPostgresError> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Ok(Ok(connection)) = timeout(Duration::from_secs(5), self.options.connect()).await {
                drop(connection.close().await);
                return Ok(());
            }
            if self.server.try_wait().map_err(LocalPostgresError::io("watching PostgreSQL start"))?.is_some() {
                return Err(self.home.server_error("did not start"));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(self.home.server_error("did not get ready in time"))
    }
}

/// The exclusive right to a data directory.
#[derive(Debug)]
struct OwnerLock(File);

impl OwnerLock {
    fn take(data_dir: &Path) -> Result<Self, LocalPostgresError> {
        let path = data_dir.join("postgres.lock");
        let doing = format!("locking {}", path.display());
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(LocalPostgresError::io(doing.clone()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(LocalPostgresError::InUse(data_dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(LocalPostgresError::Io { doing, source }),
        }
    }
}

impl Drop for OwnerLock {
    /// Closing the file would do, but for a child process that is being started at this moment and shares it until its exec.
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

/// Creates the cluster beside its place and moves it there when complete, so that a crash in between leaves no half of one.
async fn initialise(
    home: &Home,
    binaries: &Binaries,
    user: &User,
    settings: &PostgresSettings,
) -> Result<(), LocalPostgresError> {
    let fresh = home.make_fresh_dir(user)?;
    let mut initdb = user.command(&binaries.program("initdb"));
    initdb.arg("-D").arg(&fresh).args(["-U", "postgres", "-E", "UTF8", "--locale=C"]);
    // Only the owner of the directory can reach the socket.
    initdb.args(["--auth-local=trust", "--auth-host=reject"]);
    if !settings.durable {
        initdb.arg("--no-sync");
    }
    run("initdb", initdb.current_dir(&fresh)).await?;
    home.install(&fresh)
}

/// A server whose owner was killed may be shutting down still, or, if its shell was killed as well, be running.
async fn stop_left_over(home: &Home, binaries: &Binaries, user: &User) -> Result<(), LocalPostgresError> {
    if !home.server_is_left_over() {
        return Ok(());
    }
    tracing::info!(directory = %home.cluster().display(), "stopping a private PostgreSQL that was left over");
    let mut stop = user.command(&binaries.program("pg_ctl"));
    stop.arg("stop").arg("-D").arg(home.cluster()).args(["-m", "fast", "-w", "-t", "60"]);
    match run("pg_ctl", stop.current_dir(home.cluster())).await {
        // It went down by itself in between.
        Err(_) if !home.server_is_left_over() => Ok(()),
        stopped => stopped,
    }
}

fn spawn(
    home: &Home,
    binaries: &Binaries,
    user: &User,
    settings: &PostgresSettings,
    log: File,
) -> Result<Child, LocalPostgresError> {
    let starting = || LocalPostgresError::io("starting PostgreSQL");
    let mut command = user.command(Path::new("/bin/sh"));
    command.args(["-c", TIED_TO_OWNER, "sh"]).arg(binaries.program("postgres")).arg("-D").arg(home.cluster());
    command.arg("-k").arg(home.socket_dir()).arg("-p").arg(home::PORT.to_string());
    let mut set = |setting: &str| {
        command.args(["-c", setting]);
    };
    set("listen_addresses=");
    set("unix_socket_permissions=0700");
    set("max_connections=200");
    set("jit=off");
    if binaries.has_library("pg_stat_statements") {
        set("shared_preload_libraries=pg_stat_statements");
    }
    if !settings.durable {
        set("fsync=off");
        set("full_page_writes=off");
        set("synchronous_commit=off");
        // Only tests lose their data, and they have hundreds of databases, each with statements of its own.
        set("pg_stat_statements.max=50000");
    }
    command
        .current_dir(home.cluster())
        // Ctrl-C in the terminal is for the owner, who stops the server last.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(starting())?)
        .stderr(log)
        .spawn()
        .map_err(starting())
}

async fn run(program: &'static str, command: &mut Command) -> Result<(), LocalPostgresError> {
    let output =
        command.stdin(Stdio::null()).output().await.map_err(LocalPostgresError::io(format!("running {program}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(LocalPostgresError::Program { program, said: home::tail(&String::from_utf8_lossy(&said)) })
}
