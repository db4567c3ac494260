//! The private PostgreSQL: it keeps data over restarts, runs once for a directory, and stops with its owner.

use crate::harness::eventually;
use fleet_manager::local::postgres::{LocalPostgresError, PostgresSettings, PrivatePostgres};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A directory that any user can enter, unlike what tempfile makes.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

async fn start(dir: &Path) -> Result<PrivatePostgres, LocalPostgresError> {
    PrivatePostgres::start_with(dir, &PostgresSettings { durable: false, ..Default::default() }).await
}

fn server_pid(dir: &Path) -> u32 {
    let file = std::fs::read_to_string(dir.join("postgres/postmaster.pid")).unwrap();
    file.lines().next().unwrap().trim().parse().unwrap()
}

/// A process that is dead but not yet waited for (in a container, perhaps never) has no executable any more.
fn alive(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[tokio::test]
async fn data_survives_a_restart_and_the_url_connects() {
    let dir = open_dir();
    let postgres = PrivatePostgres::start(dir.path()).await.unwrap();
    let mut connection = postgres.options().connect().await.unwrap();
    connection.execute("CREATE TABLE kept AS SELECT 42 AS answer").await.unwrap();
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.unwrap();
    assert_eq!(fsync, "on");
    postgres.stop().await.unwrap();

    let postgres = PrivatePostgres::start(dir.path()).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let answer: i32 = sqlx::query_scalar("SELECT answer FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(answer, 42);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn other_users_cannot_reach_the_socket_and_nothing_listens_on_tcp() {
    let dir = open_dir();
    let postgres = start(dir.path()).await.unwrap();
    let socket_dir = postgres.options().get_socket().unwrap().clone();
    assert_eq!(std::fs::metadata(&socket_dir).unwrap().permissions().mode() & 0o777, 0o700);
    let mut connection = postgres.options().connect().await.unwrap();
    let listening: String = sqlx::query_scalar("SHOW listen_addresses").fetch_one(&mut connection).await.unwrap();
    assert_eq!(listening, "");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_on_one_directory_fails_in_one_line_that_names_it() {
    let dir = open_dir();
    let postgres = start(dir.path()).await.unwrap();
    let error = start(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()) && error.lines().count() == 1, "{error}");
    postgres.stop().await.unwrap();
    start(dir.path()).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn dropping_the_handle_stops_the_server() {
    let dir = open_dir();
    let postgres = start(dir.path()).await.unwrap();
    let pid = server_pid(dir.path());
    drop(postgres);
    eventually("the server is down", || async { !alive(pid) }).await;
}

/// Not a test: the process that the next test kills.
#[tokio::test]
#[ignore = "run by killing_the_owner_stops_the_server"]
async fn owner() {
    let Some(dir) = std::env::var_os(OWNED) else { return };
    let _postgres = start(Path::new(&dir)).await.unwrap();
    std::future::pending::<()>().await;
}

const OWNED: &str = "TEST_OWNED_DIRECTORY";

#[tokio::test]
async fn killing_the_owner_stops_the_server_and_the_next_start_works() {
    let dir = open_dir();
    let mut owner = Command::new(std::env::current_exe().unwrap());
    let mut owner =
        owner.args(["--exact", "local_postgres::owner", "--ignored"]).env(OWNED, dir.path()).spawn().unwrap();
    // The last line that the server writes into its pid file is its state.
    let pid_file = dir.path().join("postgres/postmaster.pid");
    let ready = async || std::fs::read_to_string(&pid_file).is_ok_and(|file| file.trim_end().ends_with("ready"));
    eventually("the server is ready", ready).await;
    let pid = server_pid(dir.path());
    owner.kill().unwrap();
    owner.wait().unwrap();
    // The test does not wait for the server's end: the next owner handles a server that is still stopping.
    start(dir.path()).await.unwrap().stop().await.unwrap();
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_server_whose_guard_was_killed_is_stopped_by_the_next_start() {
    let dir = open_dir();
    let postgres = start(dir.path()).await.unwrap();
    let left_over = server_pid(dir.path());
    // The guard consists of two shells: the parent of the server, and the other child of that parent.
    let parent = stat_parent(left_over);
    let siblings = Command::new("ps").args(["-o", "pid=", "--ppid", &parent.to_string()]).output().unwrap();
    let siblings = String::from_utf8(siblings.stdout).unwrap();
    let guards = siblings.split_whitespace().map(|pid| pid.parse().unwrap()).filter(|pid: &u32| *pid != left_over);
    for pid in std::iter::once(parent).chain(guards) {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    }
    drop(postgres);
    assert!(alive(left_over));

    let postgres = start(dir.path()).await.unwrap();
    assert!(!alive(left_over));
    assert_ne!(server_pid(dir.path()), left_over);
    postgres.stop().await.unwrap();
}

fn stat_parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_stale_pid_file_of_another_process_is_ignored() {
    let dir = open_dir();
    start(dir.path()).await.unwrap().stop().await.unwrap();
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    let cluster = dir.path().join("postgres");
    std::fs::write(cluster.join("postmaster.pid"), format!("{}\n{}\n", stranger.id(), cluster.display())).unwrap();
    // PostgreSQL itself may refuse to start with such a file. The other process must not be killed in any case.
    if let Ok(postgres) = start(dir.path()).await {
        postgres.stop().await.unwrap();
    }
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works() {
    let dir = open_dir();
    let deep = dir.path().join("d".repeat(120));
    let postgres = start(&deep).await.unwrap();
    let socket_dir = postgres.options().get_socket().unwrap().clone();
    postgres.options().connect().await.unwrap().close().await.unwrap();
    postgres.stop().await.unwrap();
    assert!(!socket_dir.exists());
}

/// When root starts the service, the user `postgres` cannot enter a closed directory. The database cluster is elsewhere then, and the next
/// start finds it.
#[tokio::test]
async fn a_data_directory_without_access_for_others_works() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = start(dir.path()).await.unwrap();
    postgres.options().connect().await.unwrap().execute("CREATE TABLE kept ()").await.unwrap();
    postgres.stop().await.unwrap();
    let postgres = start(dir.path()).await.unwrap();
    postgres.options().connect().await.unwrap().execute("TABLE kept").await.unwrap();
    postgres.stop().await.unwrap();
    if let Ok(elsewhere) = std::fs::read_link(dir.path().join("postgres")) {
        std::fs::remove_dir_all(elsewhere.parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn an_interrupted_creation_is_repeated() {
    let dir = open_dir();
    std::fs::create_dir(dir.path().join("postgres.new")).unwrap();
    std::fs::write(dir.path().join("postgres.new/PG_VERSION"), "15\n").unwrap();
    start(dir.path()).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn the_cause_of_a_failed_start_is_reported() {
    let dir = open_dir();
    start(dir.path()).await.unwrap().stop().await.unwrap();
    std::fs::write(dir.path().join("postgres/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    let error = start(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");

    let none = PostgresSettings { binaries: Some(dir.path().to_owned()), ..Default::default() };
    let error = PrivatePostgres::start_with(dir.path(), &none).await.unwrap_err().to_string();
    assert!(error.contains("no PostgreSQL found"), "{error}");
}
