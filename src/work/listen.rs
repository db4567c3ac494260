//! Being woken by `NOTIFY`.

use super::queue::CHANNEL;
use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::time::Duration;
use tokio::sync::Notify;

/// Between attempts to connect again.
const RECONNECT: Duration = Duration::from_millis(500);

/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Listens on a connection of its own, for ever, and wakes the worker on every notification, and after every (re)connect,
/// since what was sent in between is lost.
///
/// Says nothing when the database is away: the workers do, and their poll makes up for it.
pub(crate) async fn listen(pool: &PgPool, wake: &Notify) {
    loop {
        if let Err(error) = listen_once(pool, wake).await {
            tracing::debug!(%error, "not listening for jobs");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn listen_once(pool: &PgPool, wake: &Notify) -> Result<(), sqlx::Error> {
    let options = pool.connect_options().as_ref().clone();
    let own = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_WITHIN)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(options)
        .await?;
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    wake.notify_one();
    while listener.try_recv().await?.is_some() {
        wake.notify_one();
    }
    Ok(())
}
