//! Gates: what they hold back, and when they open.

use jiff::Timestamp;

use super::sim::Sim;
use crate::{
    model::{
        scheduled_start::{DayOfWeek, ScheduledStartConfiguration},
        strategy::{GateConfiguration, GateType, UpdateGroup, UpdateRunStrategy, UpdateStage},
        update_run::UpdateState::*,
    },
    rollout::*,
};

fn approval() -> GateConfiguration {
    GateConfiguration { display_name: None, gate_type: GateType::Approval, scheduled_start_configuration: None }
}

/// The simulation begins on Thursday, 1 January 2026, at midnight.
fn scheduled(start_day: DayOfWeek, start_time: &str, utc_offset: &str) -> GateConfiguration {
    let (start_time, utc_offset) = (start_time.to_owned(), utc_offset.to_owned());
    GateConfiguration {
        display_name: None,
        gate_type: GateType::ScheduledStart,
        scheduled_start_configuration: Some(ScheduledStartConfiguration { start_day, start_time, utc_offset }),
    }
}

fn group(name: &str) -> UpdateGroup {
    UpdateGroup { name: name.to_owned(), ..UpdateGroup::default() }
}

/// One stage with the groups a and b, of two members each, started.
fn started(change: impl FnOnce(&mut UpdateStage)) -> Sim {
    let mut stage =
        UpdateStage { name: "s".to_owned(), groups: vec![group("a"), group("b")], ..UpdateStage::default() };
    change(&mut stage);
    let names = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")];
    let members = names.map(|(name, group)| FleetMember {
        name: name.to_owned(),
        group: Some(group.to_owned()),
        ..FleetMember::default()
    });
    let mut sim = Sim::new(&plan(Some(&UpdateRunStrategy { stages: vec![stage] }), &members).unwrap(), 2);
    sim.raise(Event::Start).unwrap();
    sim
}

fn at(sim: &mut Sim, time: &str) {
    sim.now = time.parse().unwrap();
    sim.elapse();
}

fn approve(sim: &mut Sim) {
    let gate = sim.pending_gates()[0];
    sim.raise(Event::GateCompleted { gate }).unwrap();
}

#[test]
fn a_gate_before_a_stage_holds_all_of_its_groups() {
    let mut sim = started(|stage| stage.before_gates = vec![approval()]);
    assert_eq!((sim.running().len(), sim.run.status.state, sim.run.stages[0].status.state), (0, Pending, Pending));
    assert!(sim.run.stages[0].groups.iter().all(|group| group.status.state == NotStarted));
    approve(&mut sim);
    assert_eq!((sim.running(), sim.run.status.state), (vec!["a1", "b1"], Running));
}

#[test]
fn a_gate_of_a_group_holds_that_group_only() {
    let mut sim = started(|stage| stage.groups[0].before_gates = vec![approval()]);
    let states = |sim: &Sim| sim.run.stages[0].groups.iter().map(|group| group.status.state).collect::<Vec<_>>();
    assert_eq!((sim.running(), states(&sim), sim.run.status.state), (vec!["b1"], vec![Pending, Running], Running));
    sim.complete("b1");
    sim.complete("b2");
    assert_eq!((states(&sim), sim.run.status.state), (vec![Pending, Completed], Pending), "waits at the gate alone");
}

#[test]
fn a_gate_after_failures_that_are_tolerated_is_asked() {
    let mut sim = started(|stage| {
        stage.max_allowed_failures = Some("1".to_owned());
        stage.groups[0].max_allowed_failures = Some("1".to_owned());
        stage.groups[0].after_gates = vec![approval()];
    });
    sim.fail("a1");
    sim.complete("a2");
    assert_eq!(sim.pending_gates(), [sim.run.stages[0].groups[0].after[0].id]);
}

#[test]
fn a_gate_after_too_many_failures_is_not_reached() {
    let mut sim = started(|stage| {
        stage.after_gates = vec![approval()];
        stage.groups[0].after_gates = vec![approval()];
    });
    sim.fail("a1");
    sim.complete("b1");
    assert_eq!(sim.run.status.state, Failed);
    assert!(sim.gates().iter().all(|gate| gate.status.state == NotStarted) && sim.resources.is_empty());
}

#[test]
fn skipping_a_group_skips_its_pending_gate() {
    let mut sim = started(|stage| stage.groups[0].before_gates = vec![approval()]);
    let gate = sim.pending_gates()[0];
    sim.skip(vec![SkipTarget::Group("a".to_owned())]).unwrap();
    assert_eq!(sim.resources[&gate], Skipped);
    assert!(matches!(sim.raise(Event::GateCompleted { gate }), Err(Refused::Conflict(_))));
}

#[test]
fn stopped_at_a_gate_approved_and_started_it_goes_on_without_asking() {
    let mut sim = started(|stage| stage.before_gates = vec![approval()]);
    sim.raise(Event::Stop).unwrap();
    assert_eq!((sim.run.status.state, sim.pending_gates().len()), (Stopped, 1), "at once, with the gate as it was");
    approve(&mut sim);
    assert_eq!(sim.run.status.state, Stopped);
    sim.raise(Event::Start).unwrap();
    assert_eq!((sim.running(), sim.opened.len()), (vec!["a1", "b1"], 1));
    // Nor after a failure.
    sim.fail("a1");
    sim.complete("b1");
    sim.raise(Event::Start).unwrap();
    assert_eq!((sim.run.status.state, sim.opened.len()), (Running, 1));
}

#[test]
fn approving_twice_changes_nothing() {
    let mut sim = started(|stage| stage.before_gates = vec![approval()]);
    let gate = sim.pending_gates()[0];
    approve(&mut sim);
    assert!(!sim.raise(Event::GateCompleted { gate }).unwrap());
}

#[test]
fn a_scheduled_gate_opens_by_itself_at_its_time_and_not_before() {
    let mut sim = started(|stage| stage.before_gates = vec![scheduled(DayOfWeek::Friday, "18:00", "-05:00")]);
    let due: Timestamp = "2026-01-02T23:00:00Z".parse().unwrap();
    assert_eq!((sim.timers.len(), sim.timers[0].1), (1, due));
    at(&mut sim, "2026-01-02T22:59:59.999Z");
    let gate = sim.pending_gates()[0];
    sim.raise(Event::GateDue { gate }).unwrap();
    assert_eq!((sim.run.status.state, sim.running().len()), (Pending, 0), "a timer that is early is set again");
    at(&mut sim, "2026-01-02T23:00:00Z");
    assert_eq!((sim.running(), sim.resources[&gate]), (vec!["a1", "b1"], Completed));
    assert_eq!(sim.gates()[0].status.completed_time, Some(due));
}

#[test]
fn a_scheduled_gate_can_be_opened_earlier_and_its_timer_is_late_then() {
    let mut sim = started(|stage| stage.groups[0].before_gates = vec![scheduled(DayOfWeek::Sunday, "00:00", "+00:00")]);
    approve(&mut sim);
    assert_eq!(sim.running(), ["a1", "b1"]);
    at(&mut sim, "2026-01-04T00:00:00Z");
    assert_eq!(sim.running(), ["a1", "b1"]);
}

#[test]
fn its_time_passes_while_nobody_is_there() {
    // Down over the time: it opens as soon as somebody looks, and does not wait for the next week.
    let mut sim = started(|stage| stage.before_gates = vec![scheduled(DayOfWeek::Friday, "00:00", "+00:00")]);
    at(&mut sim, "2026-01-07T12:00:00Z");
    assert_eq!(sim.running(), ["a1", "b1"]);
    // Stopped over the time: it opens, and the start finds it open.
    let mut sim = started(|stage| stage.before_gates = vec![scheduled(DayOfWeek::Friday, "00:00", "+00:00")]);
    sim.raise(Event::Stop).unwrap();
    at(&mut sim, "2026-01-02T00:00:00Z");
    assert_eq!((sim.run.status.state, sim.gates()[0].status.state), (Stopped, Completed));
    sim.raise(Event::Start).unwrap();
    assert_eq!(sim.running(), ["a1", "b1"]);
}

#[test]
fn reached_in_its_own_minute_it_opens_at_once() {
    let mut sim = started(|stage| stage.before_gates = vec![scheduled(DayOfWeek::Thursday, "00:00", "+00:00")]);
    assert_eq!((sim.running(), sim.timers.len()), (vec!["a1", "b1"], 0));
    assert_eq!(sim.resources[&sim.gates()[0].id], Completed, "and there is one to read");
    sim.complete("a1");
}

#[test]
fn both_gates_of_a_position_must_open() {
    let both = || vec![scheduled(DayOfWeek::Friday, "00:00", "+00:00"), approval()];
    let mut sim = started(|stage| stage.before_gates = both());
    assert_eq!(sim.opened.len(), 2, "made together");
    at(&mut sim, "2026-01-02T00:00:00Z");
    assert_eq!((sim.run.status.state, sim.running().len()), (Pending, 0));
    approve(&mut sim);
    assert_eq!(sim.running(), ["a1", "b1"]);
    let mut sim = started(|stage| stage.before_gates = both());
    let asked = sim.gates()[1].id;
    sim.raise(Event::GateCompleted { gate: asked }).unwrap();
    assert_eq!(sim.run.status.state, Pending);
    at(&mut sim, "2026-01-02T00:00:00Z");
    assert_eq!(sim.run.status.state, Running);
}

#[test]
fn the_wait_and_the_gate_after_a_stage_begin_together_and_both_must_end() {
    let mut sim = started(|stage| {
        stage.after_gates = vec![approval()];
        stage.after_stage_wait_in_seconds = Some(60);
    });
    for name in ["a1", "a2", "b1", "b2"] {
        sim.complete(name);
    }
    assert_eq!((sim.pending_gates().len(), sim.timers.len(), sim.run.status.state), (1, 1, Pending));
    approve(&mut sim);
    assert_eq!(sim.run.status.state, Running);
    sim.pass_time(60);
    sim.elapse();
    assert_eq!(sim.run.status.state, Completed);
}
