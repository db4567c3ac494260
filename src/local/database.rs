//! Databases of a private PostgreSQL server.

use anyhow::Context;
use secrecy::SecretString;
use sqlx::{ConnectOptions, Connection, Executor, postgres::PgConnectOptions};

/// Returns the URL of the demo's database on this server. The database is emptied unless `keep` is set.
///
/// # Errors
/// When the server cannot be reached, or refuses to drop or create the database.
pub async fn demo(server: &PgConnectOptions, keep: bool) -> anyhow::Result<SecretString> {
    let failed = "cannot create the demo's database";
    let mut connection = server.connect().await.context(failed)?;
    if !keep {
        connection.execute("DROP DATABASE IF EXISTS demo WITH (FORCE)").await.context(failed)?;
    }
    let existing = connection.fetch_optional("SELECT FROM pg_database WHERE datname = 'demo'").await.context(failed)?;
    if existing.is_none() {
        connection.execute("CREATE DATABASE demo").await.context(failed)?;
    }
    connection.close().await.context(failed)?;
    Ok(server.clone().database("demo").to_url_lossy().to_string().into())
}
