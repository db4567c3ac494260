//! The pool of workers: claims jobs, executes them, renews their leases, and drains at a stop.

use super::claim::{self, ClaimedAttempt};
use super::outcome::{Outcome, Settlement, Ticket};
use super::quarantine::{self, Verdict};
use super::settings::{Settings, SettingsError};
use super::settle;
use super::{
    Attempt, CHANNEL,
    attempt::{Lease, Pauses},
    listen::{Heard, listen},
};
use crate::database::Pool;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Pause between attempts while the database does not answer.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// Pause before the next claim when a job is due but its row is locked.
const HELD_PAUSE: Duration = Duration::from_millis(200);

/// Shortest time between sending a claim and the database reading its clock.
const TICK: Duration = Duration::from_millis(1);

/// Connections for claims and heartbeats. Each has one statement at a time, and none of these waits for a lock.
const LEASE_CONNECTIONS: u32 = 2;

/// Executes the jobs of one kind.
pub trait Handler: Send + Sync + 'static {
    /// Returns the kind of its jobs.
    fn kind(&self) -> &'static str;

    /// Executes one attempt. Delivery is at least once: read the state before changing anything. The future is dropped at any await
    /// point when the lease is lost. A panic is a failed attempt.
    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome>;

    /// Reports, where people look, that the job is quarantined: its process ended in each of its last attempts. `reason` says so.
    /// Must end the job with [`Outcome::Fail`], which keeps its row; enqueuing the job again ends the quarantine. By default
    /// only the row and the log say it.
    fn quarantine<'a>(&'a self, _attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { Outcome::Fail { error: reason } })
    }
}

/// A pool of workers in this process. Any number of pools, in any number of processes, share one queue.
pub struct Workers {
    shared: Arc<Shared>,
    kinds: Vec<&'static str>,
}

struct Shared {
    /// For settling attempts, which may wait for locks.
    pool: Pool,
    /// For claims and heartbeats only, so that no lease ends because the other pool is used up.
    leases: Pool,
    settings: Arc<Settings>,
    pauses: Arc<Pauses>,
    owner: String,
    handlers: HashMap<&'static str, Arc<dyn Handler>>,
    in_flight: Mutex<HashMap<Ticket, Arc<Lease>>>,
    /// The place of the one suspect that may be executed at a time.
    suspect: Arc<Semaphore>,
    outage: Mutex<Option<Instant>>,
}

impl Workers {
    /// Returns a pool that executes the jobs of these handlers' kinds only.
    ///
    /// # Errors
    /// When a setting is out of its range, or two handlers have the same kind.
    pub fn new(pool: Pool, settings: Settings, handlers: Vec<Arc<dyn Handler>>) -> Result<Self, SettingsError> {
        settings.check()?;
        let mut by_kind = HashMap::new();
        for handler in handlers {
            let kind = handler.kind();
            if by_kind.insert(kind, handler).is_some() {
                return Err(SettingsError::DuplicateHandler(kind));
            }
        }
        let shared = Shared {
            leases: pool.separate(LEASE_CONNECTIONS),
            pool,
            owner: format!("{}/{}", settings.owner, uuid::Uuid::new_v4().simple()),
            pauses: Arc::new(Pauses::new(settings.concurrency)),
            settings: Arc::new(settings),
            in_flight: Mutex::default(),
            suspect: Arc::new(Semaphore::new(1)),
            outage: Mutex::default(),
            handlers: by_kind,
        };
        Ok(Self { kinds: shared.handlers.keys().copied().collect(), shared: Arc::new(shared) })
    }

    /// Executes jobs until `stop` is cancelled. Then it claims no more, waits for attempts in progress (at most
    /// [`Settings::drain`]), and gives back the leases of the rest. It continues after any outage of the database.
    ///
    /// Dropping this future is like a crash: its attempts are delivered again when their leases end.
    pub async fn run(self, stop: CancellationToken) {
        let wake = Notify::new();
        let mut attempts = JoinSet::new();
        tokio::select! {
            () = self.shared.heartbeat() => {}
            () = async {
                // Only claims need notifications. So the listener ends with them, and the heartbeat continues during the drain.
                let heard = |heard| {
                    // Wake after each connect as well: notifications that were sent before it are lost.
                    if heard != Heard::Lost {
                        wake.notify_one();
                    }
                };
                tokio::select! {
                    () = listen(&self.shared.pool, CHANNEL, heard) => {}
                    () = self.look_and_execute(&wake, &stop, &mut attempts) => {}
                }
                self.drain(&mut attempts).await;
            } => {}
        }
    }

    async fn look_and_execute(&self, wake: &Notify, stop: &CancellationToken, attempts: &mut JoinSet<Option<Instant>>) {
        let concurrency = self.shared.settings.concurrency;
        let mut next_look = Instant::now();
        while !stop.is_cancelled() {
            let free = concurrency.saturating_sub(attempts.len());
            if free > 0 && next_look <= Instant::now() {
                // Not in the select below: a claim in progress must not be dropped, since it may have taken leases.
                next_look = self.look(free, stop, attempts).await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                // `Notify` keeps a notification that arrives during a claim.
                () = wake.notified() => next_look = Instant::now(),
                () = sleep_until(next_look), if free > 0 => {}
                Some(ended) = attempts.join_next(), if !attempts.is_empty() => {
                    next_look = sooner(next_look, ended);
                    while let Some(ended) = attempts.try_join_next() {
                        next_look = sooner(next_look, ended);
                    }
                }
            }
        }
    }

    /// Claims jobs that are due, starts them, and returns when to claim next.
    async fn look(&self, free: usize, stop: &CancellationToken, attempts: &mut JoinSet<Option<Instant>>) -> Instant {
        let Shared { leases, settings, pauses, owner, .. } = &*self.shared;
        let place = Arc::clone(&self.shared.suspect).try_acquire_owned().ok();
        let claiming = claim::claim(leases, settings, pauses, owner, &self.kinds, free, place.is_some());
        let Ok(claimed) = timeout(settings.lease / 2, claiming)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .inspect_err(|error| self.shared.unreachable(error))
        else {
            tokio::select! { () = stop.cancelled() => {}, () = sleep(OUTAGE_PAUSE) => {} }
            return Instant::now();
        };
        self.shared.reachable();
        let now = Instant::now();
        let mut place = place.filter(|_| claimed.is_suspect());
        // A suspect is claimed alone, whatever else is due.
        let full = claimed.attempts.len() >= free || place.is_some();
        for claimed in claimed.attempts {
            attempts.spawn(Arc::clone(&self.shared).execute(claimed, place.take()));
        }
        match claimed.next_in {
            Some(next) if next.is_zero() && full => now,
            Some(next) if next.is_zero() => now + HELD_PAUSE,
            // Counted from the time of the claim, not of its answer: a job that became due in between is not claimed yet.
            Some(next) => claimed.sent + next.min(settings.poll) + TICK,
            None => now + settings.poll,
        }
    }

    async fn drain(&self, attempts: &mut JoinSet<Option<Instant>>) {
        let Shared { leases, settings, pauses, owner, .. } = &*self.shared;
        pauses.ended.cancel();
        let all_ended = async { while attempts.join_next().await.is_some() {} };
        if timeout_at(Instant::now() + settings.drain, all_ended).await.is_err() {
            tracing::info!(attempts = attempts.len(), "giving leases back: attempts outlast the drain deadline");
            for lease in self.shared.in_flight().values() {
                lease.lost.cancel();
            }
        }
        // This includes leases of a claim whose answer was lost.
        let giving_back = async {
            while attempts.join_next().await.is_some() {}
            claim::give_back(leases, owner).await
        };
        match timeout(settings.drain.max(Duration::from_secs(1)), giving_back).await {
            Ok(Ok(0)) => {}
            Ok(Ok(jobs)) => tracing::info!(jobs, "leases given back"),
            Ok(Err(error)) => tracing::warn!(%error, "leases not given back; they end by themselves"),
            Err(_) => tracing::warn!("leases not given back in time; they end by themselves"),
        }
    }
}

impl Shared {
    /// Renews all leases at a third of their length. A lease that is not renewed ends at its own deadline.
    async fn heartbeat(&self) {
        let interval = self.settings.lease / 3;
        let mut next = Instant::now() + interval;
        loop {
            sleep_until(next).await;
            next = Instant::now() + interval;
            let held: Vec<Ticket> = self.in_flight().keys().cloned().collect();
            if held.is_empty() {
                continue;
            }
            let sent = Instant::now();
            let renewing = claim::renew(&self.leases, self.settings.lease, &held);
            match timeout(interval, renewing).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Ok(renewed) => {
                    self.reachable();
                    let in_flight = self.in_flight();
                    for row in renewed {
                        match in_flight.get(&row.ticket) {
                            Some(lease) if row.cancelled => lease.lost.cancel(),
                            Some(lease) => lease.renewed(sent, self.settings.lease),
                            None => {}
                        }
                    }
                }
                Err(error) => {
                    self.unreachable(&error);
                    next = Instant::now() + OUTAGE_PAUSE.min(interval);
                }
            }
        }
    }

    /// Executes one attempt and settles it. Returns when to look at the queue, if that depends on the attempt. `place`: held by a
    /// suspect for as long as it is executed.
    async fn execute(
        self: Arc<Self>,
        ClaimedAttempt { attempt, cancelled }: ClaimedAttempt,
        place: Option<OwnedSemaphorePermit>,
    ) -> Option<Instant> {
        let span = tracing::info_span!(
            "attempt",
            job = attempt.id,
            kind = attempt.kind,
            subject = attempt.subject,
            attempt = attempt.attempt,
            trace = attempt.trace,
        );
        async {
            let _in_flight = InFlight::enter(&self, &attempt);
            let outcome = if cancelled { Some(Outcome::Done) } else { self.handle(&attempt).await };
            let settlement = match outcome {
                Some(outcome) => self.settle(&attempt, outcome).await,
                None => self.settle_lost(&attempt).await,
            };
            let next = match settlement {
                Settlement::Goes(after) => Instant::now().checked_add(after),
                Settlement::Ended => None,
                Settlement::Lost => {
                    tracing::info!("lease lost; result dropped");
                    None
                }
            };
            // After a suspect, the next suspect may be due.
            if place.is_some() { Some(Instant::now()) } else { next }
        }
        .instrument(span)
        .await
    }

    /// Returns the handler's outcome, or `None` when the lease ended first.
    async fn handle(&self, attempt: &Attempt) -> Option<Outcome> {
        let handler = self.handlers.get(attempt.kind)?;
        let handling = async {
            match quarantine::verdict(attempt.vanished) {
                Verdict::Trusted | Verdict::Suspect => handler.handle(attempt).await,
                Verdict::Quarantine => {
                    let error = quarantine_reason(attempt);
                    tracing::error!(error, "job quarantined; enqueuing it again ends the quarantine");
                    handler.quarantine(attempt, error).await
                }
                Verdict::GiveUp => Outcome::Fail { error: quarantine_reason(attempt) },
            }
        };
        let handling = AssertUnwindSafe(handling).catch_unwind();
        let outcome = tokio::select! {
            biased;
            outcome = handling => outcome,
            () = attempt.lease.ended() => return None,
        };
        Some(match outcome {
            Ok(Outcome::Settled) if attempt.settlement().is_none() => Outcome::Retry {
                error: "the handler answered that it had settled, but had not".to_owned(),
                after: None,
            },
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Retry { error: format!("panicked: {}", panic_message(&*panic)), after: None },
        })
    }

    /// Settles the attempt. Tries again through outages until the lease ends.
    async fn settle(&self, attempt: &Attempt, outcome: Outcome) -> Settlement {
        match &outcome {
            Outcome::Settled => return attempt.settlement().unwrap_or(Settlement::Ended),
            Outcome::Retry { error, .. } => tracing::warn!(error, failures = attempt.failures + 1, "attempt failed"),
            Outcome::Fail { error } => tracing::error!(error, "job failed for good"),
            Outcome::Done | Outcome::Again { .. } | Outcome::AgainAfter { .. } => {}
        }
        let settling = async {
            loop {
                let settled = async { settle::settle(&mut self.pool.acquire().await?, attempt, &outcome).await };
                match settled.await {
                    Ok(settlement) => return settlement,
                    Err(error) => self.unreachable(&error),
                }
                sleep(OUTAGE_PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            settlement = settling => settlement,
            () = attempt.lease.ended() => Settlement::Lost,
        }
    }

    /// Removes a job that was cancelled during the attempt now, not only when the lease ends.
    async fn settle_lost(&self, attempt: &Attempt) -> Settlement {
        let cleaning = async { settle::drop_cancelled(&mut self.pool.acquire().await?, attempt).await };
        timeout(self.settings.lease, cleaning).await.unwrap_or(Ok(Settlement::Lost)).unwrap_or(Settlement::Lost)
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Ticket, Arc<Lease>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self, error: &sqlx::Error) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        if outage.is_none() {
            *outage = Some(Instant::now());
            tracing::warn!(%error, "the database does not answer; work continues when it does");
        }
    }

    fn reachable(&self) {
        if let Some(since) = self.outage.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tracing::info!(seconds = since.elapsed().as_secs_f64(), "the database answers again");
        }
    }
}

/// Has the heartbeat renew an attempt's lease until this is dropped, which a panic or abort does, too.
struct InFlight<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl<'a> InFlight<'a> {
    fn enter(shared: &'a Shared, attempt: &Attempt) -> Self {
        let ticket = attempt.ticket();
        shared.in_flight().insert(ticket.clone(), Arc::clone(&attempt.lease));
        Self { shared, ticket }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.shared.in_flight().remove(&self.ticket);
    }
}

/// Returns the earlier of `next_look` and the time at which the ended attempt asks for a claim.
fn sooner(next_look: Instant, ended: Result<Option<Instant>, tokio::task::JoinError>) -> Instant {
    match ended {
        Ok(Some(due)) => next_look.min(due),
        Ok(None) => next_look,
        Err(error) => {
            tracing::error!(%error, "an attempt was aborted; its job is executed again when the lease ends");
            next_look
        }
    }
}

fn quarantine_reason(attempt: &Attempt) -> String {
    format!(
        "The process that executed the job ended without an answer {} times in a row, with job '{}' of '{}'.",
        attempt.vanished, attempt.kind, attempt.subject
    )
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
