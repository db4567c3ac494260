//! Migrations: embedded, applied at start under a lock, forward only.

use sqlx::{PgPool, migrate::Migrator};

/// All migrations, in order.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Applies what is missing. Concurrent callers wait for each other on an advisory lock.
///
/// # Errors
/// When the database refuses, or has migrations that this build does not know (a newer replica's, which is fatal here:
/// code must not be older than its schema by more than one release).
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    MIGRATOR.run(pool).await
}

/// Whether the database answers and has every migration of this build.
pub async fn is_ready(pool: &PgPool) -> bool {
    let applied = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM _sqlx_migrations WHERE success");
    let wanted = MIGRATOR.iter().count();
    matches!(applied.fetch_one(pool).await, Ok(n) if usize::try_from(n).is_ok_and(|n| n >= wanted))
}
