//! Receives PostgreSQL notifications (`LISTEN`).

use crate::database::Pool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::time::Duration;

/// Pause between attempts to connect.
const RECONNECT: Duration = Duration::from_millis(500);

/// Longest time for one attempt to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Probe the LISTEN connection after this time without notifications, since firewalls drop idle connections without a word to
/// either side.
const SILENCE: Duration = Duration::from_secs(30);

/// An event of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The listener is connected. Notifications that were sent before are lost.
    Connected,
    /// A notification with this payload arrived.
    Said(String),
    /// The connection is lost. No notification arrives until the next [`Heard::Connected`].
    Lost,
}

/// Calls `heard` with each event of a channel. Uses a connection of its own, connects again when that is lost, and never returns.
///
/// A lost connection is logged at debug level only, since the workers log outages of the database.
pub async fn listen(pool: &Pool, channel: &str, mut heard: impl FnMut(Heard)) {
    loop {
        if let Err(error) = listen_once(pool, channel, &mut heard).await {
            tracing::debug!(%error, channel, "not listening");
        }
        heard(Heard::Lost);
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn listen_once(pool: &Pool, channel: &str, heard: &mut impl FnMut(Heard)) -> Result<(), sqlx::Error> {
    let options = pool.connect_options();
    let own = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_WITHIN)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(options)
        .await?;
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    heard(Heard::Connected);
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(said) => match said? {
                Some(said) => heard(Heard::Said(said.payload().to_owned())),
                None => return Ok(()),
            },
            Err(_) => {
                let alive = sqlx::query("SELECT 1").execute(&mut listener);
                tokio::time::timeout(CONNECT_WITHIN, alive)
                    .await
                    .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
            }
        }
    }
}
