//! What of an old plan a new one keeps.

use std::collections::HashSet;

use super::{
    event::SkipTarget,
    plan::{Plan, PlannedGroup},
};
use crate::model::update_run::{UpdateRunStatus, UpdateState};

/// Returns what a person skipped in a run that has not begun, as far as the new plan still has it. What was skipped because it is
/// also part of an earlier group is for the new plan to decide.
#[must_use]
pub fn kept_skips(status: &UpdateRunStatus, plan: &Plan) -> Vec<SkipTarget> {
    let is_skipped = |state| state == UpdateState::Skipped;
    let planned: Vec<&PlannedGroup> = plan.stages.iter().flat_map(|stage| &stage.groups).collect();
    let groups: HashSet<&str> = planned.iter().map(|group| group.name.as_str()).collect();
    let members: HashSet<&str> = planned.iter().flat_map(|group| &group.members).map(|m| m.name.as_str()).collect();
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    for stage in &status.stages {
        let mut repeats_only = false;
        for group in &stage.groups {
            // The first row of a name is the one that counts.
            let own: Vec<_> = group.members.iter().filter(|member| seen.insert(member.name.as_str())).collect();
            if own.is_empty() && !group.members.is_empty() {
                repeats_only = true;
            } else if is_skipped(group.status.state) && groups.contains(group.name.as_str()) {
                targets.push(SkipTarget::Group(group.name.clone()));
            }
            let skipped = own.into_iter().filter(|member| is_skipped(member.status.state));
            let still_in = skipped.filter(|member| members.contains(member.name.as_str()));
            targets.extend(still_in.map(|member| SkipTarget::Member(member.name.clone())));
        }
        let Some(planned) = plan.stages.iter().find(|planned| planned.name == stage.name) else { continue };
        let left_out = is_skipped(stage.status.state);
        if left_out && !repeats_only {
            targets.push(SkipTarget::Stage(stage.name.clone()));
        }
        if planned.wait_seconds.is_some()
            && !(left_out && repeats_only)
            && stage.after_stage_wait_status.as_ref().is_some_and(|wait| is_skipped(wait.status.state))
        {
            targets.push(SkipTarget::AfterStageWait(stage.name.clone()));
        }
    }
    targets
}
