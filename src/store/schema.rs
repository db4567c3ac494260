//! Migrations: embedded, applied at start under a lock, forward only.

use crate::database::Pool;
use sqlx::{
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::time::Duration;

/// All migrations, in order.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// How long a database that does not accept connections yet is waited for.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A migration failed, or the database cannot be reached.
    #[error(transparent)]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A newer program has changed the database in a way that this one does not know.
    #[error(
        "a newer version has migrated the database: programs must know migration {least} at least, and this one knows {known}. Use the newer version"
    )]
    TooNew {
        /// The oldest migration that a program must know.
        least: i64,
        /// The newest one that this program knows.
        known: i64,
    },
    /// What a newer program demands cannot be read.
    #[error("reading which programs may use the database")]
    Requirements(#[from] sqlx::Error),
}

/// Applies what is missing. Concurrent callers wait for each other on an advisory lock.
///
/// Migrations of newer programs are left alone, so that a version that was rolled out can be rolled back. A migration that
/// older programs cannot live with says so in `schema_requirements`, and then they refuse to start.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), SchemaError> {
    // Not a pool with limits: an index over a large table takes its time.
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_WITHIN).connect_lazy_with(options.clone());
    let migrated = async {
        let mut migrator = sqlx::migrate!("./migrations");
        migrator.set_ignore_missing(true);
        migrator.run(&pool).await?;
        let least: i64 =
            sqlx::query_scalar("SELECT least_known_migration FROM schema_requirements").fetch_one(&pool).await?;
        let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
        if least > known {
            return Err(SchemaError::TooNew { least, known });
        }
        Ok(())
    };
    let migrated = migrated.await;
    pool.close().await;
    migrated
}

/// Whether the database answers and has every migration of this build.
pub async fn is_ready(pool: &Pool) -> bool {
    let wanted: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
    let applied =
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM _sqlx_migrations WHERE success AND version = ANY($1)");
    matches!(applied.bind(&wanted).fetch_one(pool).await, Ok(n) if usize::try_from(n) == Ok(wanted.len()))
}
