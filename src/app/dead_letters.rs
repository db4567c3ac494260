//! What could not be delivered, for the command line.

use anyhow::Context;
use serde_json::Value;
use uuid::Uuid;

use super::Database;
use crate::{
    config::Settings,
    engine,
    store::deliveries::{self, DeadLetters},
};

/// Reads dead letters, of a webhook or of all: the oldest first.
///
/// # Errors
/// When the database cannot be used.
pub async fn read(settings: Settings, webhook: Option<&str>, most: u32) -> anyhow::Result<Vec<Value>> {
    let database = Database::open(&settings).await?;
    let read = async {
        let mut conn = database.pool.acquire().await?;
        let found = deliveries::dead_letters(&mut conn, &DeadLetters { webhook, ids: &[] }, most).await?;
        found.iter().map(|letter| serde_json::to_value(letter).context("a dead letter")).collect()
    };
    let found = read.await;
    database.close().await?;
    found
}

/// Has dead letters delivered again, by whatever worker there is. Answers how many.
///
/// # Errors
/// When the database cannot be used.
pub async fn replay(settings: Settings, webhook: Option<&str>, ids: &[Uuid]) -> anyhow::Result<usize> {
    let database = Database::open(&settings).await?;
    let replay = async {
        let mut tx = database.pool.begin().await?;
        let replayed = engine::deliveries::replay(&mut tx, &DeadLetters { webhook, ids }).await?;
        tx.commit().await?;
        anyhow::Ok(replayed)
    };
    let replayed = replay.await;
    database.close().await?;
    replayed
}
