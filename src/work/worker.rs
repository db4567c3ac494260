//! The pool of workers: looks, executes, renews, drains.

use super::claim::{self, ClaimedAttempt};
use super::outcome::{Outcome, Settlement, Ticket};
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
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Between attempts while the database is away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// Before looking again at a job that is due but whose row somebody holds.
const HELD_PAUSE: Duration = Duration::from_millis(200);

/// Between sending a look and the database reading its clock, at least.
const TICK: Duration = Duration::from_millis(1);

/// Connections for claims and heartbeats. Each has one statement at a time, and none of these waits for a lock.
const LEASE_CONNECTIONS: u32 = 2;

/// Executes the jobs of one kind.
pub trait Handler: Send + Sync + 'static {
    /// The kind of jobs it wants.
    fn kind(&self) -> &'static str;

    /// Executes one attempt. Delivery is at least once, so it looks before it acts. It is dropped at any await point when
    /// its lease is lost; a panic is a failed attempt.
    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome>;
}

/// A pool of workers in this process. Any number of them, in any number of processes, share one queue.
pub struct Workers {
    shared: Arc<Shared>,
    kinds: Vec<&'static str>,
}

struct Shared {
    /// For handlers' answers, which may wait for locks.
    pool: Pool,
    /// For claims and heartbeats alone: whatever uses up the other pool, no lease ends because of it.
    leases: Pool,
    settings: Arc<Settings>,
    pauses: Arc<Pauses>,
    owner: String,
    handlers: HashMap<&'static str, Arc<dyn Handler>>,
    in_flight: Mutex<HashMap<Ticket, Arc<Lease>>>,
    outage: Mutex<Option<Instant>>,
}

impl Workers {
    /// A pool that executes the jobs these handlers want, and leaves others alone.
    ///
    /// # Errors
    /// If the settings make no sense, or two handlers want the same kind.
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
            outage: Mutex::default(),
            handlers: by_kind,
        };
        Ok(Self { kinds: shared.handlers.keys().copied().collect(), shared: Arc::new(shared) })
    }

    /// Works until `stop` is cancelled; then claims no more, waits for attempts under way (at most [`Settings::drain`]) and
    /// gives the leases of the rest back. Survives any outage of the database.
    ///
    /// Dropping this future is like a crash: its attempts are delivered again when their leases end.
    pub async fn run(self, stop: CancellationToken) {
        let wake = Notify::new();
        let mut attempts = JoinSet::new();
        tokio::select! {
            () = self.shared.heartbeat() => {}
            () = async {
                // Only looking needs to be woken: the listener ends with it, the heartbeat goes on during the drain.
                let told = |heard| {
                    // After a (re)connect, too, since what was sent in between is lost.
                    if heard != Heard::Lost {
                        wake.notify_one();
                    }
                };
                tokio::select! {
                    () = listen(&self.shared.pool, CHANNEL, told) => {}
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
                // Not in the select below: a claim that is under way is never dropped, it may have taken leases.
                next_look = self.look(free, stop, attempts).await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                // A notification that arrives during a look is kept, so none falls between looking and waiting.
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

    /// Claims and starts what is due, and returns when to look next.
    async fn look(&self, free: usize, stop: &CancellationToken, attempts: &mut JoinSet<Option<Instant>>) -> Instant {
        let Shared { leases, settings, pauses, owner, .. } = &*self.shared;
        let claiming = claim::claim(leases, settings, pauses, owner, &self.kinds, free);
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
        let full = claimed.attempts.len() >= free;
        for claimed in claimed.attempts {
            attempts.spawn(Arc::clone(&self.shared).execute(claimed));
        }
        match claimed.next_in {
            Some(next) if next.is_zero() && full => now,
            Some(next) if next.is_zero() => now + HELD_PAUSE,
            // By the time of the look, not of its answer: what has become due between is not held by anybody.
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
        // Leases whose claim was never answered are given back as well.
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
    /// Renews all leases at a third of their length. What is not renewed ends by its own deadline.
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

    /// Executes one attempt and settles it. Returns when its job goes again, if it does.
    async fn execute(self: Arc<Self>, ClaimedAttempt { attempt, cancelled }: ClaimedAttempt) -> Option<Instant> {
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
            match settlement {
                Settlement::Goes(after) => Instant::now().checked_add(after),
                Settlement::Ended => None,
                Settlement::Lost => {
                    tracing::info!("lease lost; result dropped");
                    None
                }
            }
        }
        .instrument(span)
        .await
    }

    /// The handler's answer; `None` if the lease ended first.
    async fn handle(&self, attempt: &Attempt) -> Option<Outcome> {
        let given_up = self.settings.max_failures;
        if attempt.failures >= given_up {
            return Some(Outcome::Fail { error: format!("{} workers in a row vanished with it", attempt.failures) });
        }
        let handler = self.handlers.get(attempt.kind)?;
        let handling = AssertUnwindSafe(async { handler.handle(attempt).await }).catch_unwind();
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

    /// Settles, through outages, as long as the lease lasts.
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

    /// A job that was cancelled during the attempt is cleaned up now rather than when the lease ends.
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
            tracing::warn!(%error, "the database does not answer; going on as soon as it does");
        }
    }

    fn reachable(&self) {
        if let Some(since) = self.outage.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tracing::info!(seconds = since.elapsed().as_secs_f64(), "the database answers again");
        }
    }
}

/// An attempt is known to the heartbeat exactly as long as this lives, panics and aborts included.
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

/// The earlier of the next look and when a job that has just been settled goes again.
fn sooner(next_look: Instant, ended: Result<Option<Instant>, tokio::task::JoinError>) -> Instant {
    match ended {
        Ok(Some(due)) => next_look.min(due),
        Ok(None) => next_look,
        Err(error) => {
            tracing::error!(%error, "an attempt ended in an unforeseen way; its job goes again when the lease ends");
            next_look
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
