//! The timers of gates that open by themselves.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::outcome::{JobError, begin, outcome, timer_now};
use crate::{
    database::Pool,
    engine::{
        drive,
        queue::{self, GateJob},
    },
    rollout::Event,
    work::{Attempt, Handler, Outcome},
};

/// Opens a gate whose time has come.
struct GateDue {
    pool: Pool,
}

impl Handler for GateDue {
    fn kind(&self) -> &'static str {
        queue::GATE
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl GateDue {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let GateJob { run, gate } = attempt.subject.parse()?;
        let mut tx = begin(attempt, &self.pool, run).await?;
        drive(&mut tx, run, Event::GateDue { gate }, timer_now(attempt), attempt.trace.as_deref()).await?;
        attempt.settle(&mut tx, Outcome::Done).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

/// The handlers of this file.
pub(super) fn handlers(pool: &Pool) -> Vec<Arc<dyn Handler>> {
    vec![Arc::new(GateDue { pool: pool.clone() })]
}
