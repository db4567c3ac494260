//! Which webhooks there are: those that some process knows.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::outcome::JobError;
use crate::{database::Pool, engine::queue, store::outbox, webhooks::Webhooks, work};

/// How often a process says what it knows.
const REFRESH: Duration = Duration::from_secs(60);
/// After so long a webhook that no process knows is removed.
const UNSEEN: Duration = Duration::from_secs(600);

/// Registers the webhooks of this process, as its configuration has them. Others stay: a process with another configuration may
/// know them.
///
/// # Errors
/// When the database fails.
pub async fn register(pool: &Pool, webhooks: &Webhooks) -> Result<(), JobError> {
    let mut conn = pool.acquire().await?;
    Ok(outbox::register(&mut conn, &webhooks.0).await?)
}

/// Keeps that this process knows its webhooks.
///
/// # Errors
/// When the database fails.
pub async fn refresh(pool: &Pool, webhooks: &Webhooks) -> Result<(), JobError> {
    let mut conn = pool.acquire().await?;
    Ok(outbox::seen(&mut conn, &webhooks.0).await?)
}

/// Removes the webhooks that no process has known for 10 minutes: they get nothing more.
///
/// # Errors
/// When the database fails.
pub async fn forget(pool: &Pool) -> Result<(), JobError> {
    let mut tx = pool.begin().await?;
    for gone in outbox::forget(&mut tx, UNSEEN).await? {
        tracing::warn!(webhook = gone, "in no process's FLEET_WEBHOOKS: it gets no more events");
        work::cancel_prefix(&mut tx, queue::DELIVERY, &format!("{gone}/")).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Refreshes the webhooks of this process, and forgets those of none, for ever.
pub async fn watch(pool: &Pool, webhooks: &Webhooks) {
    // When nothing has run, or the database was away, others have as long to say what they know.
    let mut well_since = Instant::now();
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = round(pool, webhooks, well_since.elapsed() >= UNSEEN).await {
            well_since = Instant::now();
            tracing::warn!(%error, "cannot keep that the webhooks are known");
        }
    }
}

async fn round(pool: &Pool, webhooks: &Webhooks, forgets: bool) -> Result<(), JobError> {
    refresh(pool, webhooks).await?;
    match forgets {
        true => forget(pool).await,
        false => Ok(()),
    }
}
