//! A separate database for each test: a clone of a template that is migrated once per process.
//!
//! All tests of a process share one private server, which is started lazily and dies with the process. `cargo test` is the
//! intended runner; under one that starts a process per test (nextest) everything works, with one server for each.
//! The clusters are kept in the target directory, so that only the first run creates one.

use fleet_manager::database::{Limits, Pool};
use fleet_manager::local::postgres::{LocalPostgresError, PostgresSettings, PrivatePostgres};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static SERVER: OnceLock<Server> = OnceLock::new();
static DATABASES: AtomicUsize = AtomicUsize::new(0);

struct Server {
    /// Statics are not dropped: the server goes down when the process ends.
    postgres: PrivatePostgres,
    /// The runtime that started the server, to which its process belongs.
    _runtime: tokio::runtime::Runtime,
}

/// An empty, migrated database, dropped (best effort) with this value.
pub struct TestDatabase {
    pub pool: Pool,
    pub options: PgConnectOptions,
    pub name: String,
}

pub async fn database() -> TestDatabase {
    database_from("migrated").await
}

/// A database without tables.
pub async fn empty_database() -> TestDatabase {
    database_from("template0").await
}

async fn database_from(template: &'static str) -> TestDatabase {
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(start)).await.unwrap();
    let name = format!("t_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let mut admin = server.postgres.options().connect().await.unwrap();
    execute(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    admin.close().await.unwrap();
    let options = server.postgres.options().database(&name);
    // Tests hold locks longer than a service would.
    let pool = Pool::new(options.clone(), 10, Limits { answer: Duration::from_secs(60) });
    TestDatabase { pool, options, name }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let admin = self.options.clone().database("postgres");
        let name = std::mem::take(&mut self.name);
        // Not waited for: what is left is dropped at the next start.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok(mut admin) = admin.connect().await {
                    drop(admin.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await);
                }
            });
        });
    }
}

fn start() -> Server {
    // In a thread of its own, because a runtime cannot be entered from within another.
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let postgres = runtime.block_on(async {
            let postgres = first_free().await;
            let mut admin = postgres.options().connect().await.unwrap();
            let left: Vec<String> =
                sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE datname ~ '^(t_[0-9]+|migrated)$'")
                    .fetch_all(&mut admin)
                    .await
                    .unwrap();
            for name in left {
                execute(&mut admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
            }
            execute(&mut admin, "CREATE DATABASE migrated".to_owned()).await;
            migrate(&postgres.options().database("migrated")).await;
            postgres
        });
        Server { postgres, _runtime: runtime }
    })
    .join()
    .unwrap()
}

/// Other test processes have clusters of their own.
async fn first_free() -> PrivatePostgres {
    let settings = PostgresSettings { durable: false, ..PostgresSettings::default() };
    let mut slot = 0;
    loop {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{slot}"));
        match PrivatePostgres::start_with(&directory, &settings).await {
            Ok(postgres) => return postgres,
            Err(LocalPostgresError::InUse(_)) => slot += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Applies all migrations to the database of these options.
pub async fn migrate(options: &PgConnectOptions) {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut connection = options.connect().await.unwrap();
    Migrator::new(migrations).await.unwrap().run(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn execute(admin: &mut PgConnection, statement: String) {
    admin.execute(AssertSqlSafe(statement)).await.unwrap();
}
