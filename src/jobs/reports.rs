//! Reports of members that have ended, many in one transaction.
//!
//! Each step of a run holds the run's lock, so that steps follow one another. When many members end at the same time, one
//! transaction for each would wait for all before it. Reports that arrive during a transaction go together in the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::outcome::JobError;
use crate::{
    arm::ResourceId,
    database::Pool,
    engine::drive_all,
    rollout::{Event, Member, Outcome},
    store::runs::{self, Ended},
    work::Ticket,
};

/// Most reports in one transaction, so that the first does not wait long for the last.
const TOGETHER: usize = 64;

/// A member has ended.
pub(super) struct Report {
    /// The member's job, finished in the same transaction.
    pub(super) job: Ticket,
    pub(super) member: Member,
    pub(super) cluster: ResourceId,
    pub(super) outcome: Outcome,
    /// The record of its upgrade, and the AKS operation.
    pub(super) upgrade: Value,
    pub(super) operation_id: Option<String>,
    pub(super) trace: Option<String>,
}

impl Report {
    fn ended(&self) -> Ended<'_> {
        Ended {
            job: self.job.clone(),
            member: &self.member,
            cluster: &self.cluster,
            upgrade: &self.upgrade,
            operation_id: self.operation_id.as_deref(),
        }
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// Stored, and the job is finished.
    Together,
    /// Nothing was stored: to be reported by itself.
    Alone,
}

/// Takes reports. One for the whole process.
pub(super) struct Reports {
    pool: Pool,
    /// By run. An entry is there as long as somebody works it off.
    waiting: Mutex<HashMap<Uuid, Vec<Waiting>>>,
}

type Waiting = (Report, oneshot::Sender<Reported>);

impl Reports {
    pub(super) fn new(pool: Pool) -> Arc<Self> {
        Arc::new(Self { pool, waiting: Mutex::default() })
    }

    /// Reports, and waits until it is stored.
    pub(super) async fn send(self: &Arc<Self>, run: Uuid, report: Report) -> Reported {
        let (sender, stored) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting();
            let first = !waiting.contains_key(&run);
            waiting.entry(run).or_default().push((report, sender));
            first
        };
        if first {
            // Apart from the job that happens to be first: it may be dropped at any time, and others wait.
            tokio::spawn(Arc::clone(self).work_off(run));
        }
        stored.await.unwrap_or(Reported::Alone)
    }

    async fn work_off(self: Arc<Self>, run: Uuid) {
        let _end = End { reports: &self, run };
        loop {
            let batch: Vec<Waiting> = {
                let mut waiting = self.waiting();
                let Some(queue) = waiting.get_mut(&run).filter(|queue| !queue.is_empty()) else {
                    waiting.remove(&run);
                    return;
                };
                queue.drain(..queue.len().min(TOGETHER)).collect()
            };
            let (reports, senders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let stored = self.store(run, &reports).await.unwrap_or_else(|error| {
                tracing::warn!(%run, reports = reports.len(), error = %anyhow::Error::from(error), "not stored together");
                vec![Reported::Alone; reports.len()]
            });
            for (sender, reported) in senders.into_iter().zip(stored) {
                // A receiver that was dropped belongs to a job that lost its lease, or that finds its row gone.
                let _ = sender.send(reported);
            }
        }
    }

    async fn store(&self, run: Uuid, reports: &[Report]) -> Result<Vec<Reported>, JobError> {
        let mut tx = self.pool.begin_locking(run).await?;
        runs::lock(&mut tx, run).await?;
        let ended: Vec<Ended<'_>> = reports.iter().map(Report::ended).collect();
        // The records first: they are kept only while the member is in flight in this attempt.
        let finished = runs::finish_upgrades(&mut tx, run, &ended).await?;
        let together = || reports.iter().filter(|report| finished.contains(&report.job));
        let events = together().map(|report| Event::MemberEnded {
            member: report.member.clone(),
            attempt: report.member.attempt,
            outcome: report.outcome.clone(),
        });
        let trace = reports.iter().find_map(|report| report.trace.as_deref());
        drive_all(&mut tx, run, events.collect(), Timestamp::now(), trace).await?;
        tx.commit().await?;
        let became =
            |report: &Report| if finished.contains(&report.job) { Reported::Together } else { Reported::Alone };
        Ok(reports.iter().map(became).collect())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Should working off end abnormally, those who wait report by themselves.
struct End<'a> {
    reports: &'a Reports,
    run: Uuid,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.reports.waiting().remove(&self.run);
        }
    }
}
