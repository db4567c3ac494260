//! The events of runs, for webhooks: recorded with the change, in its transaction, and delivered by a job for each webhook and run
//! that has a backlog.

use jiff::Timestamp;
use uuid::Uuid;

use super::queue::{self, DeliveryJob};
use crate::{
    database::Connection,
    model::update_run::UpdateState,
    store::{
        StoreError,
        deliveries::{self, DeadLetters},
        outbox,
        resources::Resource,
        runs::Listener,
    },
    webhooks::{self, NewEvent},
    work::{self, NewJob},
};

/// The jobs that deliver what was recorded of a run to those who want it.
pub(super) fn deliveries_of<'a>(
    run: Uuid,
    recorded: &'a [(Uuid, NewEvent)],
    listeners: &'a [Listener],
    trace: Option<&'a str>,
) -> impl Iterator<Item = NewJob> + 'a {
    let wanted = move |listener: &&Listener| {
        let wants = |kind: &str| listener.types.as_ref().is_none_or(|types| types.iter().any(|wanted| wanted == kind));
        recorded.iter().any(|(of, event)| *of == run && wants(event.kind))
    };
    listeners.iter().filter(wanted).map(move |listener| delivery(&listener.name, run, trace))
}

fn delivery(webhook: &str, run: Uuid, trace: Option<&str>) -> NewJob {
    queue::delivery(&DeliveryJob { webhook: webhook.to_owned(), run }, trace)
}

/// Records the events of gates that were deleted, and enqueues their deliveries.
pub(super) async fn gates_deleted(
    tx: &mut Connection,
    gates: &[Resource],
    now: Timestamp,
    trace: Option<&str>,
) -> Result<(), StoreError> {
    if gates.is_empty() {
        return Ok(());
    }
    let listeners = outbox::listeners(tx).await?;
    if listeners.is_empty() {
        return Ok(());
    }
    let recorded = gates.iter().filter_map(|gate| Some((gate.parent_id?, gate))).flat_map(|(run, gate)| {
        let events = webhooks::gate_events(&gate.arm_id, UpdateState::Pending, None, &gate.properties, now);
        events.into_iter().map(move |event| (run, event))
    });
    let mut recorded: Vec<(Uuid, NewEvent)> = recorded.collect();
    recorded.sort_by_key(|(run, _)| *run);
    outbox::record(tx, &recorded, now).await?;
    let mut runs: Vec<Uuid> = recorded.iter().map(|(run, _)| *run).collect();
    runs.dedup();
    let jobs: Vec<NewJob> = runs.iter().flat_map(|run| deliveries_of(*run, &recorded, &listeners, trace)).collect();
    work::enqueue_all(tx, &jobs).await.map_err(StoreError::while_("enqueuing deliveries"))
}

/// Enqueues a job for each webhook and run with events that are not delivered: a webhook may want types now that it did not want
/// when the events were recorded, in runs that are over.
pub async fn catch_up(tx: &mut Connection) -> Result<(), StoreError> {
    let behind = deliveries::backlogs(tx).await?;
    let jobs: Vec<NewJob> = behind.iter().map(|(webhook, run)| delivery(webhook, *run, None)).collect();
    work::enqueue_all(tx, &jobs).await.map_err(StoreError::while_("enqueuing deliveries"))
}

/// Has dead letters delivered again, and returns how many.
pub async fn replay(tx: &mut Connection, which: &DeadLetters<'_>) -> Result<usize, StoreError> {
    let asked = deliveries::replay(tx, which).await?;
    let jobs: Vec<NewJob> = asked.iter().map(|(webhook, run)| delivery(webhook, *run, None)).collect();
    work::enqueue_all(tx, &jobs).await.map_err(StoreError::while_("enqueuing deliveries"))?;
    Ok(asked.len())
}
