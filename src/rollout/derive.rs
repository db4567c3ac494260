//! States of groups, stages and the run: functions of their children.

use jiff::Timestamp;

use super::run::{Gate, Group, Run, Stage};
use crate::{
    arm::ErrorDetail,
    model::update_run::{UpdateState, UpdateStatus},
};

/// Code of a group, stage or run in which more members failed than are tolerated.
const FAILURES_EXCEEDED: &str = "MaxAllowedFailuresExceeded";

/// Sets every level's state from below.
pub(super) fn derive(run: &mut Run, now: Timestamp) {
    let advancing = run.in_progress() && !run.is_winding_down();
    for each in &mut run.stages {
        stage(each, advancing, now);
    }
    let all = |finished: fn(UpdateState) -> bool| {
        !run.stages.is_empty() && run.stages.iter().all(|stage| finished(stage.status.state))
    };
    if run.starting && !run.stop_requested && !all(|state| state == UpdateState::Skipped) {
        // Running, or Pending with the reason, until the members are chosen.
        return;
    }
    run.starting = false;
    let (all_skipped, all_finished) = (all(|state| state == UpdateState::Skipped), all(UpdateState::is_finished));
    let current = run.current();
    let failed = current.filter(|stage| stage.exceeds_failures());
    let state = match run.status.state {
        UpdateState::NotStarted if all_skipped => UpdateState::Skipped,
        UpdateState::Running | UpdateState::Pending | UpdateState::Stopping => {
            if run.running() > 0 {
                if advancing { UpdateState::Running } else { UpdateState::Stopping }
            } else if failed.is_some() {
                UpdateState::Failed
            } else if all_skipped {
                UpdateState::Skipped
            } else if all_finished || run.stages.is_empty() {
                UpdateState::Completed
            } else if !advancing {
                UpdateState::Stopped
            } else if current.is_some_and(|stage| stage.status.state == UpdateState::Pending) {
                UpdateState::Pending
            } else {
                UpdateState::Running
            }
        }
        // What has come to rest stays so until it is started, whatever is left out meanwhile.
        UpdateState::NotStarted
        | UpdateState::Stopped
        | UpdateState::Skipped
        | UpdateState::Failed
        | UpdateState::Completed => return,
    };
    let error = failed.and_then(|stage| stage.status.error.clone());
    set(&mut run.status, state, error, now);
}

/// Sets the states of a stage and its groups. `advancing`: the run is in progress and does not wind down.
pub(super) fn stage(stage: &mut Stage, advancing: bool, now: Timestamp) {
    for group in &mut stage.groups {
        let state = group_state(group, advancing);
        let error = group.exceeds_failures().then(|| {
            exceeded(
                &format!("group '{}'", group.name),
                group.tally.failed,
                group.tally.total(),
                group.max_allowed_failures,
            )
        });
        set(&mut group.status, state, error, now);
    }
    let state = stage_state(stage, advancing);
    let error = stage.exceeds_failures().then(|| stage_error(stage));
    set(&mut stage.status, state, error, now);
}

/// The state of a group.
pub(super) fn group_state(group: &Group, advancing: bool) -> UpdateState {
    let tally = group.tally;
    if group.status.start_time.is_none() || tally.total() == 0 {
        // Nothing below decides: it is still to come, was left out, or has nobody in it.
        return group.status.state;
    }
    if tally.running > 0 {
        return if advancing { UpdateState::Running } else { UpdateState::Stopping };
    }
    if group.exceeds_failures() {
        return UpdateState::Failed;
    }
    if tally.open() == 0 && group.after.iter().all(Gate::is_passed) {
        return if tally.skipped == tally.total() { UpdateState::Skipped } else { UpdateState::Completed };
    }
    if !advancing {
        return UpdateState::Stopped;
    }
    if tally.pending > 0 || group.before.iter().chain(&group.after).any(is_pending) {
        return UpdateState::Pending;
    }
    UpdateState::Running
}

fn stage_state(stage: &Stage, advancing: bool) -> UpdateState {
    if stage.status.start_time.is_none() {
        return stage.status.state;
    }
    let groups = || stage.groups.iter().map(|group| group.status.state);
    if stage.running() > 0 {
        return if advancing { UpdateState::Running } else { UpdateState::Stopping };
    }
    if stage.exceeds_failures() {
        return UpdateState::Failed;
    }
    let around = stage.after.iter().all(Gate::is_passed)
        && stage.wait.as_ref().is_none_or(|wait| wait.status.state.is_finished());
    if around && groups().all(UpdateState::is_finished) {
        let skipped = !stage.groups.is_empty() && groups().all(|state| state == UpdateState::Skipped);
        return if skipped { UpdateState::Skipped } else { UpdateState::Completed };
    }
    if !advancing {
        return UpdateState::Stopped;
    }
    let waits = stage.wait.as_ref().is_some_and(|wait| wait.status.state == UpdateState::Running);
    let pending = !waits && groups().any(|state| state == UpdateState::Pending);
    if pending || stage.before.iter().chain(&stage.after).any(is_pending) {
        UpdateState::Pending
    } else {
        UpdateState::Running
    }
}

fn is_pending(gate: &Gate) -> bool {
    gate.status.state == UpdateState::Pending
}

/// A node's new state and error; its end is when it got there.
fn set(status: &mut UpdateStatus, state: UpdateState, error: Option<ErrorDetail>, now: Timestamp) {
    if status.state != state {
        status.state = state;
        status.completed_time = (state.is_finished() || state == UpdateState::Failed).then_some(now);
    }
    status.error = error;
}

fn stage_error(stage: &Stage) -> ErrorDetail {
    let total = stage.groups.iter().map(|group| group.tally.total()).sum();
    let of_groups = stage.groups.iter().filter_map(|group| group.status.error.clone());
    if stage.failed() > stage.max_allowed_failures {
        let error = exceeded(&format!("stage '{}'", stage.name), stage.failed(), total, stage.max_allowed_failures);
        of_groups.fold(error, ErrorDetail::with)
    } else {
        let message = format!("More members of a group of stage '{}' failed than it tolerates.", stage.name);
        of_groups.fold(ErrorDetail::new(FAILURES_EXCEEDED, message), ErrorDetail::with)
    }
}

fn exceeded(of: &str, failed: u32, total: u32, tolerated: u32) -> ErrorDetail {
    let message = format!(
        "{failed} of {total} members of {of} failed; {tolerated} are tolerated. The members' own errors say why. Start the update run to try these members again, or skip them."
    );
    ErrorDetail::new(FAILURES_EXCEEDED, message)
}
