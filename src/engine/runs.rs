//! What a run executes: its plan over the fleet's members.

use super::EngineError;
use crate::{
    model::update_run::{NodeImageSelectionType, UpdateRunProperties},
    rollout::{self, FleetMember, Plan},
};

/// Whether a run's node images are chosen over all its members.
#[must_use]
pub fn chooses_images(run: &UpdateRunProperties) -> bool {
    let selection = run.managed_cluster_update.node_image_selection.as_ref();
    selection.is_some_and(|selection| selection.selection_type == NodeImageSelectionType::Consistent)
}

/// The plan of a stored run over these members. Its strategy was checked before it was stored.
pub fn plan(properties: &UpdateRunProperties, members: &[FleetMember]) -> Result<Plan, EngineError> {
    rollout::plan(properties.strategy.as_ref(), members).map_err(|error| EngineError::Inconsistent(error.to_string()))
}
