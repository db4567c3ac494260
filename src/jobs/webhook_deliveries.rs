//! Telling webhooks what has changed: events are recorded with the change, in its transaction, and delivered by a job for
//! each webhook and run that has a backlog.
//!
//! One job at a time delivers the events of a run to a webhook, in order, and keeps afterwards how far it came: a process
//! that dies in between has them delivered again, from the same one on.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use super::outcome::{JobError, outcome};
use crate::{
    database::{Connection, Pool},
    engine::queue::{self, DeliveryJob},
    store::deliveries::{self, Backlog, GivenUp, Queued},
    webhooks::{Failure, Sender, Webhook, Webhooks},
    work::{Attempt, Backoff, Handler, LimitSettings, Limits, Outcome, RetryAfter},
};

/// Most events that are read at a time.
const READ: usize = 100;
/// How long a job keeps its slot before others have theirs.
const TURN: Duration = Duration::from_secs(5);
/// Deliveries to one webhook at the same time, so that a slow one leaves the others their slots.
const AT_ONCE: usize = 4;
/// Least attempts before anything is given up.
const LEAST_ATTEMPTS: u32 = 3;
/// Between attempts, where the receiver does not say.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };

/// Delivers.
pub struct Deliver {
    pool: Pool,
    webhooks: Webhooks,
    sender: Sender,
    /// How old an event gets before it is given up.
    patience: Duration,
    limits: Limits,
}

impl Handler for Deliver {
    fn kind(&self) -> &'static str {
        queue::DELIVERY
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

/// The handler.
#[must_use]
pub fn handler(pool: &Pool, webhooks: Webhooks, sender: Sender, patience: Duration) -> Arc<dyn Handler> {
    let limits = Limits::new(LimitSettings { concurrency: AT_ONCE, burst: 1000, per_second: 1000.0 });
    Arc::new(Deliver { pool: pool.clone(), webhooks, sender, patience, limits })
}

/// One attempt at one webhook and run.
struct Turn<'a> {
    attempt: &'a Attempt,
    webhook: &'a Webhook,
    run: Uuid,
    backlog: Backlog,
}

impl Deliver {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let DeliveryJob { webhook: name, run } = attempt.subject.parse()?;
        let backlog = {
            let mut conn = self.pool.acquire().await?;
            deliveries::backlog(&mut conn, &name, run, READ).await?
        };
        let Some(backlog) = backlog else { return Ok(Outcome::Done) };
        if !backlog.wait.is_zero() {
            return Ok(Outcome::AgainAfter { delay: backlog.wait });
        }
        if backlog.events.is_empty() {
            return Ok(Outcome::Done);
        }
        let Some(webhook) = self.webhooks.named(&name) else {
            // Another process knows it, which has a newer configuration.
            return Ok(Outcome::AgainAfter { delay: Duration::from_secs(15) });
        };
        let _permit = match self.limits.try_acquire(&name) {
            Ok(permit) => permit,
            Err(RetryAfter(delay)) => return Ok(Outcome::AgainAfter { delay }),
        };
        let turn = Turn { attempt, webhook, run, backlog };
        let (delivered, failure) = self.deliver(&turn).await;
        self.keep(&turn, delivered, failure).await
    }

    /// Sends what is queued, as long as it is taken and the turn lasts. How many events were delivered, and what went wrong.
    async fn deliver(&self, turn: &Turn<'_>) -> (usize, Option<Failure>) {
        let began = Instant::now();
        let mut delivered = 0;
        // After a failure one by one, so that one event that is not taken does not take others along.
        let size = if turn.backlog.failures > 0 { 1 } else { turn.webhook.batch };
        for batch in turn.backlog.events.chunks(size) {
            let events: Vec<_> = batch.iter().map(|queued| queued.event.clone()).collect();
            if let Err(failure) = self.sender.send(turn.webhook, &events).await {
                return (delivered, Some(failure));
            }
            delivered += batch.len();
            if began.elapsed() > TURN {
                break;
            }
        }
        (delivered, None)
    }

    /// Keeps how far it came, and settles the job: one transaction.
    async fn keep(&self, turn: &Turn<'_>, delivered: usize, failure: Option<Failure>) -> Result<Outcome, JobError> {
        let Turn { attempt, webhook, run, backlog } = turn;
        let name = webhook.name.as_str();
        let (done, rest) = backlog.events.split_at_checked(delivered).unwrap_or((&backlog.events, &[]));
        let mut tx = attempt.begin(&self.pool).await?;
        deliveries::delivered(&mut tx, name, *run, done).await?;
        let outcome = match (failure, rest.first()) {
            (Some(failure), Some(head)) => {
                let failures = if done.is_empty() { backlog.failures.saturating_add(1) } else { 1 };
                self.keep_failure(&mut tx, turn, head, failures, failure).await?
            }
            // That was all: what was recorded since has enqueued the job again.
            _ if rest.is_empty() && done.len() < READ && !done.iter().any(|queued| queued.replay) => Outcome::Done,
            _ => Outcome::AgainAfter { delay: Duration::ZERO },
        };
        attempt.settle(&mut tx, outcome).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }

    async fn keep_failure(
        &self,
        tx: &mut Connection,
        turn: &Turn<'_>,
        head: &Queued,
        failures: u32,
        Failure { error, after, refused }: Failure,
    ) -> Result<Outcome, JobError> {
        let (name, run) = (turn.webhook.name.as_str(), turn.run);
        let wait = after.unwrap_or_default().max(BACKOFF.wait(failures, rand::random()));
        if let Some(pause) = after {
            self.limits.penalise(name, pause);
        }
        let error = format!("webhook '{name}': {error}");
        tracing::warn!(%run, failures, error, "events not delivered");
        let retry = Outcome::Retry { error: error.clone(), after: Some(wait) };
        let hopeless = failures >= LEAST_ATTEMPTS && (refused || head.replay || head.age >= self.patience);
        let sequence = head.event.sequence;
        // Dead letters before cursors, as whoever replays them locks them.
        if hopeless && head.replay {
            deliveries::give_up_replays(tx, name, run, refused.then_some(sequence), failures, &error).await?;
        }
        deliveries::failed(tx, name, run, failures, &error, wait).await?;
        if !hopeless {
            return Ok(retry);
        }
        if !head.replay {
            let which = if refused { GivenUp::One(sequence) } else { GivenUp::OlderThan(self.patience) };
            let given_up = deliveries::give_up(tx, name, run, which, failures, &error).await?;
            tracing::error!(
                webhook = name, %run, sequence, given_up, error,
                "events given up after {failures} attempts: see 'fleet-manager events dead-letters'"
            );
        }
        if !refused {
            return Ok(retry);
        }
        // The receiver is there: what follows may be to its liking.
        deliveries::failed(tx, name, run, 0, &error, Duration::ZERO).await?;
        Ok(Outcome::AgainAfter { delay: Duration::ZERO })
    }
}
