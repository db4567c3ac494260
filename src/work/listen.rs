//! Being told by `NOTIFY`.

use crate::database::Pool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::time::Duration;

/// Between attempts to connect again.
const RECONNECT: Duration = Duration::from_millis(500);

/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long nothing is said before it is asked whether the connection is still there: one that a firewall has forgotten is
/// silent, too, and never ends by itself.
const SILENCE: Duration = Duration::from_secs(30);

/// What a listener learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It listens from now on; what was sent before is lost.
    Connected,
    /// Somebody said this.
    Said(String),
    /// It hears nothing any more, until it is connected again.
    Lost,
}

/// Listens to a channel on a connection of its own, for ever.
///
/// Logs at a low level when the database is away: its other users log the failure.
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
