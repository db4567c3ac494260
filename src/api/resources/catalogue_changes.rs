//! Wakes requests that wait for the first read of what AKS offers.

use tokio::sync::watch;

use crate::{
    database::Pool,
    store::catalogues,
    work::{Heard, listen},
};

/// Reads of what AKS offers, by the jobs of all replicas.
#[derive(Debug, Default)]
pub struct CatalogueChanges(watch::Sender<()>);

impl CatalogueChanges {
    /// Returns a receiver that is notified of each read from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }

    /// Receives the notifications of the database, and never returns.
    pub async fn listen(&self, pool: &Pool) {
        listen(pool, catalogues::CHANNEL, |heard| match heard {
            // Notifications that were sent before the connection are lost: whoever waits looks again.
            Heard::Connected | Heard::Said(_) => self.0.send_replace(()),
            Heard::Lost => {}
        })
        .await;
    }
}
