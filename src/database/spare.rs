//! Connections that were used a moment ago and are used again without a test.
//!
//! The pool of the library tests each connection that is returned to it: another round trip for each use. That test finds
//! statements whose answer nobody read. A [`Connection`](super::Connection) knows of those by itself, so that it stays here
//! between uses. After a short time it goes through the library's test, and through its rules about the age of connections.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::{Postgres, pool::PoolConnection};
use tokio::time::{Duration, Instant};

/// A connection, and when it was taken from the library's pool, tested.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) pooled: PoolConnection<Postgres>,
    pub(super) since: Instant,
}

/// The connections of one pool that nobody uses now.
#[derive(Debug)]
pub(super) struct Spares {
    /// How long a connection is used without a test.
    trusted: Duration,
    /// The latest one is used first. `None` once the pool is closed.
    connections: Mutex<Option<Vec<Spare>>>,
}

impl Spares {
    pub(super) fn new(trusted: Duration) -> Self {
        Self { trusted, connections: Mutex::new(Some(Vec::new())) }
    }

    /// A connection that needs no test, if there is one, and those that were found to need one.
    pub(super) fn take(&self) -> (Option<Spare>, Vec<PoolConnection<Postgres>>) {
        let (mut connections, mut to_test) = (self.connections(), Vec::new());
        while let Some(spare) = connections.as_mut().and_then(Vec::pop) {
            if spare.since.elapsed() < self.trusted {
                return (Some(spare), to_test);
            }
            to_test.push(spare.pooled);
        }
        (None, to_test)
    }

    /// Keeps a connection for its next use, or gives it back when it needs a test or the pool is closed.
    pub(super) fn keep(&self, spare: Spare) -> Option<PoolConnection<Postgres>> {
        match self.connections().as_mut().filter(|_| spare.since.elapsed() < self.trusted) {
            Some(connections) => connections.push(spare),
            None => return Some(spare.pooled),
        }
        None
    }

    /// Returns all connections, and keeps none from now on.
    pub(super) fn close(&self) -> Vec<PoolConnection<Postgres>> {
        self.connections().take().unwrap_or_default().into_iter().map(|spare| spare.pooled).collect()
    }

    fn connections(&self) -> MutexGuard<'_, Option<Vec<Spare>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spares {
    /// Closes the connections at once: there may be no runtime any more in which they could be returned.
    fn drop(&mut self) {
        for pooled in self.close() {
            drop(pooled.detach());
        }
    }
}
