//! What holds after every step, whatever happened: DESIGN §7.

use std::collections::HashSet;

use jiff::Timestamp;

use super::sim::{Row, Sim};
use crate::{
    model::update_run::{UpdateState, UpdateStatus},
    rollout::*,
};

/// Of one step, seen from outside.
pub(super) fn of_step(before: &Run, event: &Event, step: &Step, now: Timestamp) {
    super::changes_of_step::check(before, &step.run);
    // 4. Stop, and too many failures, start nothing new.
    let starts = step.effects.iter().any(|e| matches!(e, Effect::Upgrade { .. } | Effect::OpenGate { .. }));
    let started = *event == Event::Start && !before.in_progress();
    assert!(!starts || before.in_progress() || started, "something starts in a run at rest");
    assert!(!starts || !step.run.stop_requested, "something starts after stop");
    assert_eq!(advance(before, event, now).as_ref(), Ok(step), "the same arguments, another step");
    // A scheduled gate opens by itself at its time, never before.
    for effect in &step.effects {
        if let Effect::CompleteGate { gate } = effect {
            let due = step.run.gate(*gate).and_then(Gate::due).is_some_and(|at| at <= now);
            assert!(due || *event == Event::GateCompleted { gate: *gate }, "{gate} opens too early");
        }
    }
    let mut members = HashSet::new();
    for change in &step.members {
        assert!(
            !matches!(change, MemberChange::One { member, .. } if !members.insert(*member)),
            "two changes of one member"
        );
    }
}

/// Of the members' rows, before and after an event.
pub(super) fn of_change(run: &Run, before: &[Row], after: &[Row], event: &Event) {
    for (was, is) in before.iter().zip(after) {
        let (from, to) = (was.status.state, is.status.state);
        if from == to && was == is {
            continue;
        }
        // 5. Nothing is undone, and what is in flight ends by its own job, or because a person named it.
        assert!(!matches!(from, UpdateState::Completed | UpdateState::Skipped), "{was:?} → {is:?}");
        let own = match event {
            Event::MemberEnded { member, .. } | Event::MemberBlocked { member, .. } => member.name == is.name,
            // A person leaves the member out while its upgrade is in progress.
            Event::Skip { targets, .. } => {
                to == UpdateState::Skipped && targets.contains(&SkipTarget::RunningMember(is.name.clone()))
            }
            _ => false,
        };
        assert!(from != UpdateState::Running || own, "{was:?} → {is:?}");
        // A failure stands, but for what the next start would try again.
        let again = !run.in_progress() && matches!(event, Event::Start | Event::Skip { .. });
        let current = run.current().is_some_and(|stage| stage.groups.iter().any(|group| group.index == is.group));
        assert!(from != UpdateState::Failed || (again && current), "{was:?} → {is:?}");
        assert!(is.attempt >= was.attempt);
    }
}

/// The upgrades that the run no longer follows are those of the members that were left out in flight, and no others.
pub(super) fn of_abandoned(before: &[Row], after: &[Row], abandoned: &[(u32, u32)]) {
    for ((index, was), is) in (0..).zip(before).zip(after) {
        let left_out = was.status.state == UpdateState::Running && is.status.state == UpdateState::Skipped;
        assert_eq!(abandoned.contains(&(index, was.attempt)), left_out, "{was:?} → {is:?}");
        let told = is.message.as_deref().is_some_and(|message| message.contains("check the cluster"));
        assert!(!left_out || told, "{is:?} does not say that the upgrade may go on");
    }
}

/// Nobody was given a slot ahead of a member of the group that is before it in the order.
pub(super) fn in_turn(sim: &Sim, upgrades: &[(u32, u32)]) {
    for (member, _) in upgrades {
        let group = sim.rows[*member as usize].group;
        let waits = |row: &&Row| row.group == group && row.status.state == UpdateState::NotStarted;
        assert_eq!(sim.rows.iter().take(*member as usize).find(waits), None, "passed over for {member}");
    }
}

/// Of a run between events.
pub(super) fn at_rest(sim: &Sim) {
    let run = &sim.run;
    tallies(sim);
    order(sim);
    limits(sim);
    times(sim);
    states(run);
    stops(run);
    once(sim);
    gates(sim);
    let again = advance(run, &Event::Continue, sim.now).unwrap();
    let fresh = Run { stages: again.run.stages.clone(), ..run.clone() };
    assert_eq!(&fresh, run, "not at rest");
    assert_eq!((again.members, again.effects), (vec![], vec![]), "not at rest");
}

/// 3. However many groups choose a member, it is updated in one of them.
fn once(sim: &Sim) {
    let mut names = HashSet::new();
    for row in sim.rows.iter().filter(|row| row.attempt > 0) {
        assert!(names.insert(row.name.as_str()), "{} is updated in two groups", row.name);
    }
}

/// The resource of a gate is there from the moment the gate is reached, in the gate's state; what opens or ends by itself has
/// its timer.
fn gates(sim: &Sim) {
    let armed = |event: &Event, at| sim.timers.iter().any(|(timer, when)| timer == event && *when <= at);
    for gate in sim.gates() {
        let reached = gate.status.start_time.is_some();
        assert_eq!(sim.resources.get(&gate.id), reached.then_some(&gate.status.state), "{gate:?}");
        if let (UpdateState::Pending, Some(at)) = (gate.status.state, gate.due()) {
            assert!(armed(&Event::GateDue { gate: gate.id }, at), "{gate:?} has no timer");
        }
    }
    for stage in &sim.run.stages {
        if let Some(wait) = stage.wait.as_ref().filter(|wait| wait.status.state == UpdateState::Running) {
            assert!(armed(&Event::WaitElapsed { stage: stage.index }, wait.due().unwrap()), "{wait:?} has no timer");
        }
    }
}

fn tallies(sim: &Sim) {
    let groups: Vec<&Group> = sim.run.stages.iter().flat_map(|stage| &stage.groups).collect();
    let mut real = vec![Tally::default(); groups.len()];
    for row in &sim.rows {
        let tally = &mut real[row.group as usize];
        match row.status.state {
            UpdateState::NotStarted => tally.not_started += 1,
            UpdateState::Running => tally.running += 1,
            UpdateState::Pending => tally.pending += 1,
            UpdateState::Stopped => tally.stopped += 1,
            UpdateState::Skipped => tally.skipped += 1,
            UpdateState::Failed => tally.failed += 1,
            UpdateState::Completed => tally.completed += 1,
            UpdateState::Stopping => panic!("a member is never Stopping"),
        }
    }
    for (group, real) in groups.into_iter().zip(real) {
        assert_eq!(group.tally, real, "tally of {}", group.name);
    }
}

/// 1. No member of a stage is attempted before the stage before it is finished, with its wait and gates.
fn order(sim: &Sim) {
    let mut finished = true;
    let attempted: HashSet<u32> = sim.rows.iter().filter(|row| row.attempt > 0).map(|row| row.group).collect();
    let attempted = |group: &Group| attempted.contains(&group.index);
    for stage in &sim.run.stages {
        for group in &stage.groups {
            let open = stage.before.iter().chain(&group.before).all(Gate::is_passed);
            assert!(!attempted(group) || (finished && open), "{} was attempted too early", group.name);
        }
        let groups_done = stage.groups.iter().all(|g| g.tally.open() == 0 && g.status.state.is_finished());
        let gates = stage.before.iter().chain(&stage.after).all(Gate::is_passed);
        let waited = stage.wait.as_ref().is_none_or(|w| w.status.state.is_finished());
        if stage.status.state.is_finished() {
            assert!(
                groups_done && gates && waited && finished || stage.status.state == UpdateState::Skipped,
                "{stage:?}"
            );
        }
        finished &= stage.status.state.is_finished();
    }
}

/// 2. Never more in flight than allowed; and never fewer without a reason.
fn limits(sim: &Sim) {
    for stage in &sim.run.stages {
        assert!(stage.running() <= stage.max_concurrency);
        for group in &stage.groups {
            assert!(group.tally.running <= group.max_concurrency);
        }
    }
    let run = &sim.run;
    if let Some(stage) = run.current().filter(|_| run.in_progress() && !run.starting && !run.is_winding_down()) {
        for group in &stage.groups {
            let open = stage.before.iter().chain(&group.before).all(Gate::is_passed);
            let full = group.tally.running == group.max_concurrency || stage.running() == stage.max_concurrency;
            assert!(group.tally.not_started == 0 || !open || full, "{} leaves slots empty", group.name);
        }
    }
}

/// 6. Every state has its times, and its reason when somebody should act.
fn times(sim: &Sim) {
    let nodes = |s: &Stage| -> Vec<UpdateStatus> {
        [s.status.clone()].into_iter().chain(s.groups.iter().map(|g| g.status.clone())).collect()
    };
    let all = sim.run.stages.iter().flat_map(nodes).chain([sim.run.status.clone()]);
    let gates = sim.gates().into_iter().map(|g| g.status.clone()).collect::<Vec<_>>();
    for status in all.chain(gates).chain(sim.rows.iter().map(|r| r.status.clone())) {
        let ended = status.state.is_finished() || status.state == UpdateState::Failed;
        assert_eq!(status.completed_time.is_some(), ended, "{status:?}");
        match status.state {
            UpdateState::NotStarted => assert_eq!(status, not_started()),
            UpdateState::Skipped => {}
            _ => assert!(status.start_time.is_some(), "{status:?}"),
        }
        assert!(status.state != UpdateState::Failed || status.error.is_some(), "{status:?}");
        assert!(status.state != UpdateState::Completed || status.error.is_none(), "{status:?}");
    }
    for row in &sim.rows {
        assert!(row.status.state != UpdateState::Pending || row.status.error.is_some());
        assert!(row.status.state != UpdateState::Skipped || row.message.is_some());
    }
}

/// 6. States are functions of the children's.
fn states(run: &Run) {
    for stage in &run.stages {
        for group in stage.groups.iter().filter(|g| g.tally.total() > 0) {
            let t = group.tally;
            match group.status.state {
                UpdateState::NotStarted => assert_eq!(t.not_started + t.skipped, t.total()),
                UpdateState::Running => assert!(t.running > 0 || t.not_started > 0 && t.pending == 0),
                UpdateState::Stopping => assert!(t.running > 0 && run.is_winding_down()),
                UpdateState::Pending => assert!(t.running == 0),
                UpdateState::Stopped => assert!(t.running == 0 && (run.is_winding_down() || !run.in_progress())),
                UpdateState::Failed => assert!(t.running == 0 && group.exceeds_failures()),
                UpdateState::Skipped => assert!(t.skipped == t.total()),
                UpdateState::Completed => assert!(t.open() == 0 && t.skipped < t.total() && !group.exceeds_failures()),
            }
        }
        let all = |f: fn(&Group) -> bool| stage.groups.iter().all(f);
        match stage.status.state {
            UpdateState::Skipped => assert!(all(|g| g.status.state == UpdateState::Skipped)),
            UpdateState::Completed => assert!(all(|g| g.status.state.is_finished())),
            UpdateState::Failed => assert!(stage.exceeds_failures() && stage.running() == 0),
            UpdateState::Running | UpdateState::Pending => assert!(run.in_progress() && !run.is_winding_down()),
            UpdateState::Stopping => assert!(stage.running() > 0 && run.is_winding_down()),
            UpdateState::NotStarted | UpdateState::Stopped => assert_eq!(stage.running(), 0),
        }
    }
    let current = run.current();
    match run.status.state {
        UpdateState::NotStarted => {
            assert!(run.stages.iter().all(|s| matches!(s.status.state, UpdateState::NotStarted | UpdateState::Skipped)))
        }
        UpdateState::Running | UpdateState::Pending if run.starting => {
            assert!(
                run.stages.iter().all(|s| matches!(s.status.state, UpdateState::NotStarted | UpdateState::Skipped))
            );
        }
        UpdateState::Running | UpdateState::Pending => {
            assert_eq!(current.map(|s| s.status.state), Some(run.status.state))
        }
        UpdateState::Completed | UpdateState::Skipped => assert!(current.is_none()),
        UpdateState::Stopping | UpdateState::Stopped | UpdateState::Failed => {}
    }
}

/// 4 and 7. A run that winds down is over when nothing is in flight; a run in progress waits for something.
fn stops(run: &Run) {
    if !run.in_progress() {
        assert_eq!(run.running(), 0);
        assert!(run.stages.iter().flat_map(|s| &s.groups).all(|g| g.tally.pending == 0));
        return;
    }
    assert_eq!(run.status.state == UpdateState::Stopping, run.is_winding_down());
    let stage = run.current().expect("a run in progress has a stage whose turn it is");
    let gate = |g: &Gate| g.status.state == UpdateState::Pending;
    let waits = stage.wait.as_ref().is_some_and(|w| w.status.state == UpdateState::Running)
        || stage.before.iter().chain(&stage.after).any(gate)
        || stage.groups.iter().any(|g| g.tally.pending > 0 || g.before.iter().chain(&g.after).any(gate));
    assert!(run.running() > 0 || run.starting || waits && !run.is_winding_down(), "nothing will ever happen: {run:#?}");
}
