//! The state machine of a run.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    derive,
    event::{Effect, Event, Outcome, Refused, Step},
    run::{Gate, Group, Member, Run, Stage},
    skip,
    step::{StepBuilder, begin, conflict, finish},
};
use crate::{arm::ErrorDetail, model::update_run::UpdateState};

/// What an event leads to. The same three arguments give the same step.
///
/// # Errors
/// When the event is a person's action that the run's state does not allow, or that names what is not there.
pub fn advance(run: &Run, event: &Event, now: Timestamp) -> Result<Step, Refused> {
    let mut run = run.clone();
    let mut out = StepBuilder { now, members: Vec::new(), effects: Vec::new(), more: false };
    match event {
        Event::Start => start(&mut run, &mut out)?,
        Event::StartFailed { error } => start_failed(&mut run, error, now),
        Event::Planned => run.starting = false,
        Event::PlanningBlocked { error } => planning_blocked(&mut run, error),
        Event::Stop => stop(&mut run)?,
        Event::Skip { targets, members } => skip::skip(&mut run, targets, members, &mut out)?,
        Event::MemberEnded { member, attempt, outcome } => member_ended(&mut run, member, *attempt, outcome, &mut out),
        Event::MemberBlocked { member, attempt, error, message } => {
            member_blocked(&mut run, member, *attempt, error, message.as_deref(), &mut out);
        }
        Event::MemberUnblocked { member, attempt } => member_unblocked(&mut run, member, *attempt, &mut out),
        Event::MemberLeft { member } => skip::member_left(&mut run, member, &mut out),
        Event::WaitElapsed { stage } => wait_elapsed(&mut run, *stage, &mut out),
        Event::GateCompleted { gate } => {
            if let Some(gate) = run.gate_mut(*gate) {
                complete_gate(gate, &mut out)?;
            }
        }
        Event::GateDue { gate } => gate_due(&mut run, *gate, &mut out),
        Event::Continue => {}
    }
    skip::finish_unreached(&mut run, &mut out);
    if run.in_progress() && !run.starting {
        drive(&mut run, &mut out);
    }
    derive::derive(&mut run, now);
    Ok(Step { run, members: out.members, effects: out.effects, more: out.more })
}

fn start(run: &mut Run, out: &mut StepBuilder) -> Result<(), Refused> {
    match run.status.state {
        UpdateState::NotStarted | UpdateState::Stopped | UpdateState::Failed => {}
        // A start that is asked for again is the same start.
        UpdateState::Running | UpdateState::Pending => return Ok(()),
        UpdateState::Stopping => {
            return Err(conflict(
                "UpdateRunStopping",
                "The update run is stopping. Start it again once it has stopped.",
            ));
        }
        UpdateState::Completed | UpdateState::Skipped => {
            return Err(conflict(
                "UpdateRunFinished",
                "The update run is finished. Create another one to update its members again.",
            ));
        }
    }
    run.stop_requested = false;
    run.status.state = UpdateState::Running;
    run.status.completed_time = None;
    run.status.error = None;
    begin(&mut run.status, out.now);
    if !run.has_begun() {
        run.starting = true;
        out.effects.push(Effect::Plan);
        return Ok(());
    }
    let Some(stage) = run.current_mut() else { return Ok(()) };
    for group in &mut stage.groups {
        if group.tally.failed + group.tally.stopped > 0 {
            // They come before those that the queue holds.
            group.queue.clear();
            out.move_all(group, UpdateState::Failed, UpdateState::NotStarted, None);
            out.move_all(group, UpdateState::Stopped, UpdateState::NotStarted, None);
        }
    }
    if let Some(wait) = stage.wait.as_ref().filter(|wait| wait.status.state == UpdateState::Running) {
        out.effects.extend(wait.due().map(|at| Effect::Timer { stage: stage.index, at }));
    }
    let of_groups = stage.groups.iter().flat_map(|group| &group.before);
    let waiting = stage.before.iter().chain(of_groups).filter(|gate| gate.status.state == UpdateState::Pending);
    out.effects.extend(waiting.filter_map(|gate| Some(Effect::GateTimer { gate: gate.id, at: gate.due()? })));
    Ok(())
}

/// Only of a run in which nothing has begun: what has begun goes on.
fn start_failed(run: &mut Run, error: &ErrorDetail, now: Timestamp) {
    if run.has_begun() || run.status.state.is_finished() {
        return;
    }
    run.starting = false;
    begin(&mut run.status, now);
    finish(&mut run.status, UpdateState::Failed, now);
    run.status.error = Some(error.clone());
}

fn planning_blocked(run: &mut Run, error: &ErrorDetail) {
    if run.starting {
        run.status.state = UpdateState::Pending;
        run.status.error = Some(error.clone());
    }
}

fn stop(run: &mut Run) -> Result<(), Refused> {
    match run.status.state {
        UpdateState::Running | UpdateState::Pending => run.stop_requested = true,
        // A stop that is asked for again is the same stop.
        UpdateState::Stopping => {}
        UpdateState::Stopped => {
            return Err(conflict("UpdateRunStopped", "The update run is stopped already. Start it to go on."));
        }
        UpdateState::NotStarted => return Err(conflict("UpdateRunNotStarted", "The update run has not been started.")),
        UpdateState::Skipped | UpdateState::Failed | UpdateState::Completed => {
            return Err(conflict("UpdateRunFinished", "The update run has ended. There is nothing to stop."));
        }
    }
    Ok(())
}

/// The member's group, if a job's report about this attempt is still of interest in this state.
fn reported<'a>(run: &'a mut Run, member: &Member, attempt: u32, state: UpdateState) -> Option<&'a mut Group> {
    (member.state == state && member.attempt == attempt).then(|| run.group_mut(member.group)).flatten()
}

fn member_ended(run: &mut Run, member: &Member, attempt: u32, outcome: &Outcome, out: &mut StepBuilder) {
    let Some(group) = reported(run, member, attempt, UpdateState::Running) else { return };
    let (to, error, message) = match outcome.clone() {
        Outcome::Completed { message } => (UpdateState::Completed, None, message),
        Outcome::Skipped { message } => (UpdateState::Skipped, None, Some(message)),
        Outcome::Failed { error, message } => (UpdateState::Failed, Some(error), message),
    };
    out.move_one(group, member, to, error, message);
}

fn member_blocked(
    run: &mut Run,
    member: &Member,
    attempt: u32,
    error: &ErrorDetail,
    message: Option<&str>,
    out: &mut StepBuilder,
) {
    // Of a run that winds down, nothing waits: it is left for the next start.
    let to = if run.is_winding_down() { UpdateState::Stopped } else { UpdateState::Pending };
    let group = match member.state {
        UpdateState::Running | UpdateState::Pending => reported(run, member, attempt, member.state),
        UpdateState::NotStarted
        | UpdateState::Stopping
        | UpdateState::Stopped
        | UpdateState::Skipped
        | UpdateState::Failed
        | UpdateState::Completed => None,
    };
    if let Some(group) = group {
        out.move_one(group, member, to, Some(error.clone()), message.map(str::to_owned));
    }
}

fn member_unblocked(run: &mut Run, member: &Member, attempt: u32, out: &mut StepBuilder) {
    let Some(group) = reported(run, member, attempt, UpdateState::Pending) else { return };
    out.move_one(group, member, UpdateState::NotStarted, None, None);
    // Where it belongs in the queue, the next look knows.
    group.queue.clear();
}

fn wait_elapsed(run: &mut Run, stage: u32, out: &mut StepBuilder) {
    let Some(stage) = run.stages.iter_mut().find(|s| s.index == stage) else { return };
    let Some(wait) = stage.wait.as_mut().filter(|wait| wait.status.state == UpdateState::Running) else { return };
    match wait.due() {
        Some(at) if at > out.now => out.effects.push(Effect::Timer { stage: stage.index, at }),
        _ => finish(&mut wait.status, UpdateState::Completed, out.now),
    }
}

fn gate_due(run: &mut Run, gate: Uuid, out: &mut StepBuilder) {
    let Some(gate) = run.gate_mut(gate).filter(|gate| gate.status.state == UpdateState::Pending) else { return };
    match gate.due() {
        Some(at) if at > out.now => out.effects.push(Effect::GateTimer { gate: gate.id, at }),
        Some(_) => open_gate(gate, out),
        // Not one that opens by itself.
        None => {}
    }
}

fn open_gate(gate: &mut Gate, out: &mut StepBuilder) {
    finish(&mut gate.status, UpdateState::Completed, out.now);
    out.effects.push(Effect::CompleteGate { gate: gate.id });
}

fn complete_gate(gate: &mut Gate, out: &mut StepBuilder) -> Result<(), Refused> {
    match gate.status.state {
        UpdateState::Pending => open_gate(gate, out),
        UpdateState::Skipped => {
            return Err(conflict(
                "GateSkipped",
                "The gate was skipped with its stage or group and cannot be completed.",
            ));
        }
        UpdateState::NotStarted
        | UpdateState::Running
        | UpdateState::Stopping
        | UpdateState::Stopped
        | UpdateState::Failed
        | UpdateState::Completed => {}
    }
    Ok(())
}

/// Moves the stage whose turn it is, and the next when it is finished with that.
fn drive(run: &mut Run, out: &mut StepBuilder) {
    loop {
        let winding_down = run.is_winding_down();
        let Some(stage) = run.current_mut() else { break };
        if winding_down {
            for group in &mut stage.groups {
                out.move_all(group, UpdateState::Pending, UpdateState::Stopped, None);
            }
            break;
        }
        move_stage(stage, out);
        derive::stage(stage, true, out.now);
        if !stage.status.state.is_finished() {
            break;
        }
    }
}

fn move_stage(stage: &mut Stage, out: &mut StepBuilder) {
    if skip::finish_idle_stage(stage, out) {
        return;
    }
    begin(&mut stage.status, out.now);
    if !pass(&mut stage.before, out) {
        return;
    }
    for group in &mut stage.groups {
        move_group(group, out);
    }
    admit(stage, out);
    let done = |group: &Group| derive::group_state(group, true).is_finished();
    if !stage.groups.iter().all(done) {
        return;
    }
    pass(&mut stage.after, out);
    if let Some(wait) = stage.wait.as_mut().filter(|wait| wait.status.state == UpdateState::NotStarted) {
        begin(&mut wait.status, out.now);
        wait.status.state = UpdateState::Running;
        out.effects.extend(wait.due().map(|at| Effect::Timer { stage: stage.index, at }));
    }
}

fn move_group(group: &mut Group, out: &mut StepBuilder) {
    if group.status.state.is_finished() && group.tally.open() == 0 {
        return;
    }
    if group.tally.total() == 0 {
        skip::finish_empty_group(group, out);
        return;
    }
    if !group.before.is_empty() {
        begin(&mut group.status, out.now);
    }
    if pass(&mut group.before, out) && group.tally.open() == 0 {
        begin(&mut group.status, out.now);
        pass(&mut group.after, out);
    }
}

/// Reaches gates for the first time; those whose time it is are passed at once. Whether all are passed.
fn pass(gates: &mut [Gate], out: &mut StepBuilder) -> bool {
    for gate in gates.iter_mut().filter(|gate| gate.status.state == UpdateState::NotStarted) {
        begin(&mut gate.status, out.now);
        gate.status.state = UpdateState::Pending;
        out.effects.push(Effect::OpenGate { gate: gate.id });
        match gate.due() {
            Some(at) if at > out.now => out.effects.push(Effect::GateTimer { gate: gate.id, at }),
            Some(_) => open_gate(gate, out),
            None => {}
        }
    }
    gates.iter().all(Gate::is_passed)
}

/// Gives free slots to members, each to the group that has fewest in flight.
fn admit(stage: &mut Stage, out: &mut StepBuilder) {
    let may_start = |group: &Group| {
        group.tally.not_started > 0
            && group.tally.running < group.max_concurrency
            && group.before.iter().all(Gate::is_passed)
    };
    while stage.running() < stage.max_concurrency {
        let next = stage.groups.iter_mut().filter(|group| may_start(group)).min_by_key(|group| group.tally.running);
        let Some(group) = next else { return };
        let Some(member) = group.queue.pop_front() else {
            // The others' turn comes when this group's queue is known, so that no group is favoured.
            out.more = true;
            return;
        };
        begin(&mut group.status, out.now);
        out.move_one(group, &member, UpdateState::Running, None, None);
        out.effects.push(Effect::Upgrade { member: member.index, name: member.name, attempt: member.attempt + 1 });
    }
}
