//! Delivery of events to webhooks. Events are recorded in the transaction of the change. A job for each webhook and run with
//! undelivered events sends them.
//!
//! One job at a time delivers the events of a run to a webhook, in order, and then stores how far it came. If the process dies in
//! between, the events after the stored position are delivered again.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use super::outcome::{JobError, outcome};
use crate::{
    database::{Connection, Pool},
    engine::queue::{self, DeliveryJob},
    store::deliveries::{self, Backlog, GivenUp, Queued},
    webhooks::{DeliveryFailure, Sender, Webhook, Webhooks},
    work::{Attempt, Backoff, Handler, LimitSettings, Limits, Outcome, RetryAfter},
};

/// Largest number of events read at a time.
const PAGE: usize = 100;
/// Time after which a job releases its slot to other deliveries.
const MAX_SLOT_TIME: Duration = Duration::from_secs(5);
/// Concurrent deliveries to one webhook, so that a slow webhook does not use all slots.
const CONCURRENT_PER_WEBHOOK: usize = 4;
/// Attempts before an event may become a dead letter.
const MIN_ATTEMPTS: u32 = 3;
/// Time between attempts when the receiver sends no `Retry-After`.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };

/// The handler of delivery jobs.
pub struct Deliver {
    pool: Pool,
    webhooks: Webhooks,
    sender: Sender,
    /// Age at which an undelivered event becomes a dead letter.
    max_age: Duration,
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

/// Returns the handler of delivery jobs.
#[must_use]
pub fn handler(pool: &Pool, webhooks: Webhooks, sender: Sender, max_age: Duration) -> Arc<dyn Handler> {
    let limits = Limits::new(LimitSettings { concurrency: CONCURRENT_PER_WEBHOOK, burst: 1000, per_second: 1000.0 });
    Arc::new(Deliver { pool: pool.clone(), webhooks, sender, max_age, limits })
}

/// One attempt to deliver the events of a run to a webhook.
struct Delivery<'a> {
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
            deliveries::backlog(&mut conn, &name, run, PAGE).await?
        };
        let Some(backlog) = backlog else { return Ok(Outcome::Done) };
        if !backlog.wait.is_zero() {
            return Ok(Outcome::AgainAfter { delay: backlog.wait });
        }
        if backlog.events.is_empty() {
            return Ok(Outcome::Done);
        }
        let Some(webhook) = self.webhooks.named(&name) else {
            // Another process with a newer configuration has this webhook.
            return Ok(Outcome::AgainAfter { delay: Duration::from_secs(15) });
        };
        let _permit = match self.limits.try_acquire(&name) {
            Ok(permit) => permit,
            Err(RetryAfter(delay)) => return Ok(Outcome::AgainAfter { delay }),
        };
        let delivery = Delivery { attempt, webhook, run, backlog };
        let (delivered, failure) = self.send_events(&delivery).await;
        self.record_progress(&delivery, delivered, failure).await
    }

    /// Sends queued events until one fails or the slot time is over. Returns how many were delivered, and the failure.
    async fn send_events(&self, delivery: &Delivery<'_>) -> (usize, Option<DeliveryFailure>) {
        let began = Instant::now();
        let mut delivered = 0;
        // After a failure events are sent one by one, so that one rejected event does not fail others.
        let size = if delivery.backlog.failures > 0 { 1 } else { delivery.webhook.batch };
        for batch in delivery.backlog.events.chunks(size) {
            let events: Vec<_> = batch.iter().map(|queued| queued.event.clone()).collect();
            if let Err(failure) = self.sender.send(delivery.webhook, &events).await {
                return (delivered, Some(failure));
            }
            delivered += batch.len();
            if began.elapsed() > MAX_SLOT_TIME {
                break;
            }
        }
        (delivered, None)
    }

    /// Stores how many events were delivered and settles the job, in one transaction.
    async fn record_progress(
        &self,
        delivery: &Delivery<'_>,
        delivered: usize,
        failure: Option<DeliveryFailure>,
    ) -> Result<Outcome, JobError> {
        let Delivery { attempt, webhook, run, backlog } = delivery;
        let name = webhook.name.as_str();
        let (done, rest) = backlog.events.split_at_checked(delivered).unwrap_or((&backlog.events, &[]));
        let mut tx = attempt.begin(&self.pool).await?;
        deliveries::delivered(&mut tx, name, *run, done).await?;
        let outcome = match (failure, rest.first()) {
            (Some(failure), Some(head)) => {
                let failures = if done.is_empty() { backlog.failures.saturating_add(1) } else { 1 };
                self.record_failure(&mut tx, delivery, head, failures, failure).await?
            }
            // All events were delivered. Events recorded in the meantime have enqueued the job again.
            _ if rest.is_empty() && done.len() < PAGE && !done.iter().any(|queued| queued.replay) => Outcome::Done,
            _ => Outcome::AgainAfter { delay: Duration::ZERO },
        };
        attempt.settle(&mut tx, outcome).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }

    async fn record_failure(
        &self,
        tx: &mut Connection,
        delivery: &Delivery<'_>,
        head: &Queued,
        failures: u32,
        DeliveryFailure { error, retry_after, is_rejected }: DeliveryFailure,
    ) -> Result<Outcome, JobError> {
        let (name, run) = (delivery.webhook.name.as_str(), delivery.run);
        let wait = retry_after.unwrap_or_default().max(BACKOFF.wait(failures, rand::random()));
        if let Some(pause) = retry_after {
            self.limits.penalise(name, pause);
        }
        let error = format!("webhook '{name}': {error}");
        tracing::warn!(%run, failures, error, "events not delivered");
        let retry = Outcome::Retry { error: error.clone(), after: Some(wait) };
        let is_given_up = failures >= MIN_ATTEMPTS && (is_rejected || head.replay || head.age >= self.max_age);
        let sequence = head.event.sequence;
        // Locks dead letters before cursors, in the order of a replay.
        if is_given_up && head.replay {
            deliveries::give_up_replays(tx, name, run, is_rejected.then_some(sequence), failures, &error).await?;
        }
        deliveries::failed(tx, name, run, failures, &error, wait).await?;
        if !is_given_up {
            return Ok(retry);
        }
        if !head.replay {
            let which = if is_rejected { GivenUp::One(sequence) } else { GivenUp::OlderThan(self.max_age) };
            let given_up = deliveries::give_up(tx, name, run, which, failures, &error).await?;
            tracing::error!(
                webhook = name, %run, sequence, given_up, error,
                "events given up after {failures} attempts: see 'fleet-manager events dead-letters'"
            );
        }
        if !is_rejected {
            return Ok(retry);
        }
        // The receiver responds, and may accept the next event: continue at once.
        deliveries::failed(tx, name, run, 0, &error, Duration::ZERO).await?;
        Ok(Outcome::AgainAfter { delay: Duration::ZERO })
    }
}
