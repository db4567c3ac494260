//! Leaving out: by request, or because there is nothing to do.

use std::collections::HashSet;

use super::{
    event::{Effect, Refused, SkipTarget},
    run::{Gate, Group, Member, Run, Stage},
    step::{StepBuilder, begin, conflict, finish},
};
use crate::{
    arm::ErrorDetail,
    model::update_run::{UpdateState, UpdateStatus},
};

/// Message of what a person left out.
const BY_REQUEST: &str = "skipped by request.";
/// Message of a member in flight that a person left out.
const NOT_FOLLOWED: &str = "skipped by request while its upgrade was in progress. The update run no longer follows the upgrade, which may go on in AKS: check the cluster.";
/// Message of a member that is no longer there.
const LEFT_FLEET: &str = "skipped: the member left the fleet.";

/// Applies the targets, all or (by the caller dropping `run`) none. What is finished stays as it is.
pub(super) fn skip(
    run: &mut Run,
    targets: &[SkipTarget],
    members: &[Member],
    out: &mut StepBuilder,
) -> Result<(), Refused> {
    // A run that stops waits for members in flight: leaving these out is what ends it, should they never end.
    let only_running = targets.iter().all(|target| matches!(target, SkipTarget::RunningMember(_)));
    if run.status.state == UpdateState::Stopping && !only_running {
        return Err(conflict("UpdateRunStopping", "The update run is stopping. Skip once it has stopped."));
    }
    // Members first: their states are those from before the groups' and stages' turn.
    let mut seen = HashSet::new();
    for (at, target) in targets.iter().enumerate() {
        if let SkipTarget::Member(name) | SkipTarget::RunningMember(name) = target {
            let also_running = matches!(target, SkipTarget::RunningMember(_));
            let mut named = members.iter().filter(|member| member.name == *name).peekable();
            if named.peek().is_none() {
                return Err(unknown("member", name, at));
            }
            for member in named.filter(|member| seen.insert(member.index)) {
                skip_member(run, member, also_running, at, out)?;
            }
        }
    }
    for (at, target) in targets.iter().enumerate() {
        let retriable = |run: &Run, stage: u32| !run.in_progress() && run.current().is_some_and(|s| s.index == stage);
        match target {
            SkipTarget::Member(_) | SkipTarget::RunningMember(_) => {}
            SkipTarget::Group(name) => {
                let stage = run.stages.iter().find(|s| s.groups.iter().any(|g| g.name == *name)).map(|s| s.index);
                let retriable = stage.is_some_and(|stage| retriable(run, stage));
                let mut groups = run.stages.iter_mut().flat_map(|stage| &mut stage.groups);
                let group = groups.find(|group| group.name == *name).ok_or_else(|| unknown("group", name, at))?;
                skip_group(group, retriable, out);
            }
            SkipTarget::Stage(name) => {
                let index = find_stage(run, name, at)?.index;
                let retriable = retriable(run, index);
                skip_stage(find_stage(run, name, at)?, retriable, out);
            }
            SkipTarget::AfterStageWait(name) => {
                let stage = find_stage(run, name, at)?;
                if stage.wait.is_none() {
                    return Err(unknown("after-stage wait of stage", name, at));
                }
                skip_wait(stage, out);
            }
        }
    }
    Ok(())
}

fn find_stage<'a>(run: &'a mut Run, name: &str, at: usize) -> Result<&'a mut Stage, Refused> {
    run.stages.iter_mut().find(|stage| stage.name == name).ok_or_else(|| unknown("stage", name, at))
}

/// Refuses the target at this position.
fn unknown(what: &str, name: &str, at: usize) -> Refused {
    let message = format!("The update run has no {what} named '{name}'. Nothing was skipped.");
    Refused::BadRequest(ErrorDetail::new("SkipTargetNotFound", message).at(target_path(at)))
}

/// The path of a target's name in the request.
fn target_path(at: usize) -> String {
    format!("targets[{at}].name")
}

fn skip_member(
    run: &mut Run,
    member: &Member,
    also_running: bool,
    at: usize,
    out: &mut StepBuilder,
) -> Result<(), Refused> {
    // A failed member that the next start would try again may be left out; any other failure stands.
    let current = run.current().is_some_and(|stage| stage.groups.iter().any(|group| group.index == member.group));
    let retriable = !run.in_progress() && current;
    let skips = match member.state {
        UpdateState::NotStarted | UpdateState::Pending | UpdateState::Stopped => true,
        UpdateState::Failed => retriable,
        UpdateState::Skipped | UpdateState::Completed => false,
        UpdateState::Running | UpdateState::Stopping if also_running => {
            leave_out(run, member, NOT_FOLLOWED, out);
            out.effects.push(Effect::Abandon { member: member.index });
            return Ok(());
        }
        UpdateState::Running | UpdateState::Stopping => {
            let message = format!(
                "Member '{}' is being updated and cannot be skipped. Nothing was skipped. Should its upgrade never end, skip it as a target of type 'RunningMember'.",
                member.name
            );
            let detail = ErrorDetail::new("MemberUpdateInProgress", message).at(target_path(at));
            return Err(Refused::Conflict(detail));
        }
    };
    if skips {
        leave_out(run, member, BY_REQUEST, out);
    }
    Ok(())
}

/// A member that left the fleet is not attempted; what is in flight goes on.
pub(super) fn member_left(run: &mut Run, member: &Member, out: &mut StepBuilder) {
    match member.state {
        UpdateState::NotStarted | UpdateState::Pending | UpdateState::Stopped => {
            leave_out(run, member, LEFT_FLEET, out);
        }
        UpdateState::Running
        | UpdateState::Stopping
        | UpdateState::Skipped
        | UpdateState::Failed
        | UpdateState::Completed => {}
    }
}

fn leave_out(run: &mut Run, member: &Member, message: &str, out: &mut StepBuilder) {
    if let Some(group) = run.group_mut(member.group) {
        group.queue.clear();
        out.move_one(group, member, UpdateState::Skipped, None, Some(message.to_owned()));
    }
}

fn skip_group(group: &mut Group, retriable: bool, out: &mut StepBuilder) {
    if group.status.state.is_finished() {
        return;
    }
    group.queue.clear();
    out.move_all(group, UpdateState::NotStarted, UpdateState::Skipped, Some(BY_REQUEST));
    out.move_all(group, UpdateState::Pending, UpdateState::Skipped, Some(BY_REQUEST));
    out.move_all(group, UpdateState::Stopped, UpdateState::Skipped, Some(BY_REQUEST));
    if retriable {
        out.move_all(group, UpdateState::Failed, UpdateState::Skipped, Some(BY_REQUEST));
    }
    skip_gates(&mut group.before, out);
    skip_gates(&mut group.after, out);
    if group.tally.total() == 0 {
        finish(&mut group.status, UpdateState::Skipped, out.now);
    }
}

fn skip_stage(stage: &mut Stage, retriable: bool, out: &mut StepBuilder) {
    if stage.status.state.is_finished() {
        return;
    }
    for group in &mut stage.groups {
        skip_group(group, retriable, out);
    }
    skip_around(stage, out);
    if stage.groups.is_empty() {
        finish(&mut stage.status, UpdateState::Skipped, out.now);
    }
}

/// Gates and wait of a stage.
fn skip_around(stage: &mut Stage, out: &mut StepBuilder) {
    skip_gates(&mut stage.before, out);
    skip_gates(&mut stage.after, out);
    skip_wait(stage, out);
}

fn skip_gates(gates: &mut [Gate], out: &mut StepBuilder) {
    for gate in gates.iter_mut().filter(|gate| !gate.is_passed()) {
        if gate.status.state == UpdateState::Pending {
            out.effects.push(Effect::SkipGate { gate: gate.id });
        }
        finish(&mut gate.status, UpdateState::Skipped, out.now);
    }
}

fn skip_wait(stage: &mut Stage, out: &mut StepBuilder) {
    if let Some(wait) = stage.wait.as_mut().filter(|wait| !wait.status.state.is_finished()) {
        finish(&mut wait.status, UpdateState::Skipped, out.now);
    }
}

/// Groups and stages of which all members were left out before their first turn: nobody is asked at their gates.
pub(super) fn finish_unreached(run: &mut Run, out: &mut StepBuilder) {
    let unreached = |status: &UpdateStatus, before: &[Gate]| {
        !status.state.is_finished() && (status.start_time.is_none() || !before.iter().all(Gate::is_passed))
    };
    for stage in &mut run.stages {
        for group in stage.groups.iter_mut().filter(|group| unreached(&group.status, &group.before)) {
            let total = group.tally.total();
            if total > 0 && group.tally.skipped == total {
                skip_gates(&mut group.before, out);
                skip_gates(&mut group.after, out);
                finish(&mut group.status, UpdateState::Skipped, out.now);
            }
        }
        let all_skipped = stage.groups.iter().all(|group| group.status.state == UpdateState::Skipped);
        if unreached(&stage.status, &stage.before) && !stage.groups.is_empty() && all_skipped {
            skip_around(stage, out);
            finish(&mut stage.status, UpdateState::Skipped, out.now);
        }
    }
}

/// A group that matches nobody is done the moment its stage starts; its gates are not created.
pub(super) fn finish_empty_group(group: &mut Group, out: &mut StepBuilder) {
    skip_gates(&mut group.before, out);
    skip_gates(&mut group.after, out);
    begin(&mut group.status, out.now);
    finish(&mut group.status, UpdateState::Completed, out.now);
}

/// A stage in which nobody is left to update, when its turn comes: done without gates and wait. Whether it was one.
pub(super) fn finish_idle_stage(stage: &mut Stage, out: &mut StepBuilder) -> bool {
    let idle = |group: &Group| group.tally.total() == 0 || group.status.state.is_finished();
    if stage.status.start_time.is_some() || !stage.groups.iter().all(idle) {
        return false;
    }
    for group in stage.groups.iter_mut().filter(|group| !group.status.state.is_finished()) {
        finish_empty_group(group, out);
    }
    skip_around(stage, out);
    begin(&mut stage.status, out.now);
    true
}
