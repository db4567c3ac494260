//! Webhook events of runs. They are recorded in the transaction of the change. A job for each webhook and run with undelivered events
//! sends them.

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

/// Returns the jobs that deliver the recorded events of a run to the webhooks that get their types.
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

/// Records events of deleted gates, and enqueues their delivery.
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

/// Enqueues a job for each webhook and run with undelivered events. Such a job is missing when a webhook was configured for more
/// types after their events were recorded, in a run that has ended.
pub async fn catch_up(tx: &mut Connection) -> Result<(), StoreError> {
    let behind = deliveries::backlogs(tx).await?;
    let jobs: Vec<NewJob> = behind.iter().map(|(webhook, run)| delivery(webhook, *run, None)).collect();
    work::enqueue_all(tx, &jobs).await.map_err(StoreError::while_("enqueuing deliveries"))
}

/// Enqueues dead letters for another delivery, and returns how many.
pub async fn replay(tx: &mut Connection, which: &DeadLetters<'_>) -> Result<usize, StoreError> {
    let replayed = deliveries::replay(tx, which).await?;
    let jobs: Vec<NewJob> = replayed.iter().map(|(webhook, run)| delivery(webhook, *run, None)).collect();
    work::enqueue_all(tx, &jobs).await.map_err(StoreError::while_("enqueuing deliveries"))?;
    Ok(replayed.len())
}
