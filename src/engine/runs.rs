//! What a run executes: its plan over the fleet's members.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    EngineError,
    steps::{Advanced, advance},
};
use crate::{
    database::Connection,
    model::update_run::{NodeImageSelectionType, UpdateRunProperties, UpdateState},
    rollout::{self, Event, FleetMember, Plan},
    store::runs,
};

/// Whether a run's node images are chosen over all its members.
#[must_use]
pub fn chooses_images(run: &UpdateRunProperties) -> bool {
    match run.managed_cluster_update.node_image_selection.as_ref().map(|selection| selection.selection_type) {
        Some(NodeImageSelectionType::Consistent) => true,
        Some(NodeImageSelectionType::Latest | NodeImageSelectionType::Custom) | None => false,
    }
}

/// The plan of a stored run over these members. Its strategy was checked before it was stored.
pub fn plan(properties: &UpdateRunProperties, members: &[FleetMember]) -> Result<Plan, EngineError> {
    rollout::plan(properties.strategy.as_ref(), members).map_err(|error| EngineError::Inconsistent(error.to_string()))
}

/// Stores the plan of a run whose resource was just created.
pub async fn create_plan(
    tx: &mut Connection,
    run_id: Uuid,
    fleet_id: Uuid,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), EngineError> {
    runs::create_rows(tx, run_id, fleet_id, plan, now).await?;
    skip_repeats(tx, run_id, plan, now).await
}

/// Gives a run that has not begun another plan: it was edited, or its members are chosen again at the first start. What was
/// skipped by name stays skipped. Returns whether the run has the new plan: a run that has begun keeps its own.
pub async fn replace_plan(tx: &mut Connection, run_id: Uuid, plan: &Plan, now: Timestamp) -> Result<bool, EngineError> {
    let Some(run) = runs::load_for_update(tx, run_id).await? else { return Ok(false) };
    if run.has_begun() || (run.status.state != UpdateState::NotStarted && !run.starting) {
        return Ok(false);
    }
    let status = runs::status_without_gates(tx, run_id).await?;
    let targets = status.map(|status| rollout::kept_skips(&status, plan)).unwrap_or_default();
    runs::replace_rows(tx, run_id, plan, now).await?;
    if targets.is_empty() {
        skip_repeats(tx, run_id, plan, now).await?;
    } else {
        never_refused(run_id, advance(tx, run_id, Event::Skip { targets, members: Vec::new() }, now).await)?;
    }
    Ok(true)
}

/// Skips the groups all of whose members are also part of other groups.
async fn skip_repeats(tx: &mut Connection, run_id: Uuid, plan: &Plan, now: Timestamp) -> Result<(), EngineError> {
    let mut groups = plan.stages.iter().flat_map(|stage| &stage.groups);
    if groups.any(|group| group.members.iter().any(|member| member.repeats.is_some())) {
        never_refused(run_id, advance(tx, run_id, Event::Continue, now).await)?;
    }
    Ok(())
}

/// The events of a new plan name what the plan has, in a run that has not begun, so that none is refused. If one is, the run keeps
/// its plan without the skip.
fn never_refused(run_id: Uuid, advanced: Result<Option<Advanced>, EngineError>) -> Result<(), EngineError> {
    match advanced {
        Ok(_) => Ok(()),
        Err(EngineError::Refused(refused)) => {
            tracing::error!(run = %run_id, %refused, "a run did not take over what was skipped in its earlier plan");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
