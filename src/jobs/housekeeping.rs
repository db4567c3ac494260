//! Removing what is old, once webhooks have got it: one job that comes again and again, and whenever a process starts, however
//! many replicas there are.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::outcome::{JobError, outcome};
use crate::{
    database::Pool,
    engine::deliveries,
    store::housekeeping::{self, BATCH, Grows},
    work::{self, Attempt, Handler, NewJob, Outcome},
};

const KIND: &str = "housekeeping";

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Most batches of a kind in a round before others have the slot.
const MOST_BATCHES: u32 = 100;

/// How long things are kept, in days.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// ARM operations after their end.
    pub operations: u32,
    /// The audit trail.
    pub audit: u32,
    /// Events that were delivered.
    pub events: u32,
    /// Events that were given up.
    pub dead_letters: u32,
}

impl Retention {
    const fn days(&self, what: Grows) -> u32 {
        match what {
            Grows::Operations => self.operations,
            Grows::AuditEvents => self.audit,
            Grows::Events | Grows::EventStreams => self.events,
            Grows::DeadLetters => self.dead_letters,
        }
    }
}

/// Sees to it that the job is there.
pub async fn begin(pool: &Pool) -> Result<(), sqlx::Error> {
    let mut conn = pool.acquire().await?;
    work::enqueue(&mut conn, NewJob::new(KIND, "all")).await
}

/// Removes what is old.
struct Housekeeping {
    pool: Pool,
    retention: Retention,
}

/// The handler.
#[must_use]
pub fn handler(pool: &Pool, retention: Retention) -> Arc<dyn Handler> {
    Arc::new(Housekeeping { pool: pool.clone(), retention })
}

impl Handler for Housekeeping {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn handle<'a>(&'a self, _attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run().await) })
    }
}

impl Housekeeping {
    async fn run(&self) -> Result<Outcome, JobError> {
        let mut delay = INTERVAL;
        deliveries::catch_up(&mut self.pool.acquire().await?).await?;
        for what in Grows::ALL {
            let mut removed = 0;
            for batch in 1..=MOST_BATCHES {
                let mut conn = self.pool.acquire().await?;
                let rows = housekeeping::remove(&mut conn, what, self.retention.days(what)).await?;
                removed += rows;
                if rows < BATCH {
                    break;
                }
                if batch == MOST_BATCHES {
                    delay = Duration::from_secs(1);
                }
            }
            if removed > 0 {
                tracing::info!(?what, removed, "removed what is old");
            }
        }
        Ok(Outcome::AgainAfter { delay })
    }
}
