//! Queues of transactions that wait for the lock of a row, which another transaction may hold for long.
//!
//! A transaction that waits for a lock in PostgreSQL occupies a connection, and a pool has few. So transactions of this process that
//! want the same lock wait for each other here, without a connection. At most half of the pool's connections belong to transactions
//! that may wait for a lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Held by the one transaction of this process that may ask the database for the lock of a key.
type KeyLock = tokio::sync::Mutex<()>;

/// The queues of one pool: for each lock of the database, the transactions that want it.
#[derive(Debug)]
pub(super) struct LockQueue {
    slots: Arc<Semaphore>,
    key_locks: Mutex<HashMap<String, Weak<KeyLock>>>,
}

/// The right to wait for a lock with a connection.
#[derive(Debug)]
pub(super) struct Place {
    _key: OwnedMutexGuard<()>,
    _slot: OwnedSemaphorePermit,
}

impl LockQueue {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots.max(1))), key_locks: Mutex::default() }
    }

    /// Waits until no other transaction of this process has entered for `key`, and a slot is free.
    pub(super) async fn enter(&self, key: &str) -> Result<Place, sqlx::Error> {
        let key = self.key_lock(key).lock_owned().await;
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        Ok(Place { _key: key, _slot: slot })
    }

    fn key_lock(&self, key: &str) -> Arc<KeyLock> {
        let mut key_locks = self.key_locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = key_locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        key_locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(KeyLock::default());
        key_locks.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_transaction_a_key_and_no_more_than_slots() {
        let queue = LockQueue::new(2);
        let a = queue.enter("a").await.unwrap();
        assert!(timeout(SOON, queue.enter("a")).await.is_err(), "a second one for the same lock");
        let b = queue.enter("b").await.unwrap();
        assert!(timeout(SOON, queue.enter("c")).await.is_err(), "a third slot");
        drop(a);
        let c = queue.enter("c").await.unwrap();
        drop((b, c));
        let _again = queue.enter("a").await.unwrap();
        assert_eq!(queue.key_locks.lock().unwrap().len(), 1, "keys that nobody wants are forgotten");
    }

    #[tokio::test]
    async fn a_transaction_that_waits_for_the_same_lock_takes_no_slot() {
        let queue = Arc::new(LockQueue::new(2));
        let _a = queue.enter("a").await.unwrap();
        let waiting = Arc::clone(&queue);
        let waits = tokio::spawn(async move { waiting.enter("a").await });
        tokio::task::yield_now().await;
        let b = timeout(Duration::from_secs(5), queue.enter("b")).await;
        assert!(b.is_ok(), "the waiting transaction has the last slot");
        waits.abort();
    }
}
