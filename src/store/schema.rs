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

/// Applies what is missing. Concurrent callers wait for each other on an advisory lock.
///
/// # Errors
/// When the database refuses, or has migrations that this build does not know (a newer replica's, which is fatal here:
/// code must not be older than its schema by more than one release).
pub async fn migrate(options: &PgConnectOptions) -> Result<(), sqlx::migrate::MigrateError> {
    // Not a pool with limits: an index over a large table takes its time.
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_WITHIN).connect_lazy_with(options.clone());
    let migrated = MIGRATOR.run(&pool).await;
    pool.close().await;
    migrated
}

/// Whether the database answers and has every migration of this build.
pub async fn is_ready(pool: &Pool) -> bool {
    let applied = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM _sqlx_migrations WHERE success");
    let wanted = MIGRATOR.iter().count();
    matches!(applied.fetch_one(pool).await, Ok(n) if usize::try_from(n).is_ok_and(|n| n >= wanted))
}
