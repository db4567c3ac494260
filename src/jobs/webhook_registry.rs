//! The webhooks in the database: those in the configuration of any running process.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::outcome::JobError;
use crate::{database::Pool, engine::queue, store::outbox, webhooks::Webhooks, work};

/// How often a process confirms its webhooks.
const REFRESH: Duration = Duration::from_secs(60);
/// A webhook that no process has confirmed for this long is removed.
const UNSEEN: Duration = Duration::from_secs(600);

/// Registers the webhooks of this process's configuration. Other webhooks stay: another process may have them.
pub async fn register(pool: &Pool, webhooks: &Webhooks) -> Result<(), JobError> {
    let mut conn = pool.acquire().await?;
    Ok(outbox::register(&mut conn, &webhooks.0).await?)
}

/// Confirms the webhooks of this process.
pub async fn refresh(pool: &Pool, webhooks: &Webhooks) -> Result<(), JobError> {
    let mut conn = pool.acquire().await?;
    Ok(outbox::seen(&mut conn, &webhooks.0).await?)
}

/// Removes the webhooks that no process has confirmed for 10 minutes. They get no more events.
pub async fn forget(pool: &Pool) -> Result<(), JobError> {
    let mut tx = pool.begin().await?;
    for gone in outbox::forget(&mut tx, UNSEEN).await? {
        tracing::warn!(webhook = gone, "removed, since no process has it in FLEET_WEBHOOKS; it gets no more events");
        work::cancel_prefix(&mut tx, queue::DELIVERY, &format!("{gone}/")).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Confirms the webhooks of this process and removes those of no process, periodically and forever.
pub async fn watch(pool: &Pool, webhooks: &Webhooks) {
    // After an outage of the processes or the database, other processes get the full time to confirm their webhooks.
    let mut confirmed_since = Instant::now();
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = round(pool, webhooks, confirmed_since.elapsed() >= UNSEEN).await {
            confirmed_since = Instant::now();
            tracing::warn!(%error, "cannot confirm the webhooks in the database");
        }
    }
}

async fn round(pool: &Pool, webhooks: &Webhooks, removes: bool) -> Result<(), JobError> {
    refresh(pool, webhooks).await?;
    match removes {
        true => forget(pool).await,
        false => Ok(()),
    }
}
