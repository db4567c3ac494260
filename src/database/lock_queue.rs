//! Who may wait for the lock of a row that others may hold for long.
//!
//! A transaction that waits for a lock has a connection, and a pool has few. So the transactions of this process that want
//! the same lock wait for each other here, without a connection, and at most half of the pool's connections belong to
//! transactions that may wait for a lock at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

type Turn = tokio::sync::Mutex<()>;

/// The queues of one pool, by what is locked.
#[derive(Debug)]
pub(super) struct LockQueue {
    slots: Arc<Semaphore>,
    turns: Mutex<HashMap<String, Weak<Turn>>>,
}

/// The right to wait for a lock with a connection.
#[derive(Debug)]
pub(super) struct Place {
    _turn: OwnedMutexGuard<()>,
    _slot: OwnedSemaphorePermit,
}

impl LockQueue {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots.max(1))), turns: Mutex::default() }
    }

    /// Waits until nobody else of this process wants the lock of `key`, and a slot is free.
    pub(super) async fn enter(&self, key: &str) -> Result<Place, sqlx::Error> {
        let turn = self.turn(key).lock_owned().await;
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        Ok(Place { _turn: turn, _slot: slot })
    }

    fn turn(&self, key: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::default());
        turns.insert(key.to_owned(), Arc::downgrade(&turn));
        turn
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
        assert_eq!(queue.turns.lock().unwrap().len(), 1, "keys that nobody wants are forgotten");
    }

    #[tokio::test]
    async fn who_waits_for_the_same_lock_takes_no_slot() {
        let queue = Arc::new(LockQueue::new(2));
        let _a = queue.enter("a").await.unwrap();
        let waiting = Arc::clone(&queue);
        let waits = tokio::spawn(async move { waiting.enter("a").await });
        tokio::task::yield_now().await;
        let b = timeout(Duration::from_secs(5), queue.enter("b")).await;
        assert!(b.is_ok(), "the one that waits has the last slot");
        waits.abort();
    }
}
