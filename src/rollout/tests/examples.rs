//! Documented examples, and what each action does.

use jiff::{civil::time, tz::Offset};

use super::sim::{Sim, error};
use crate::{
    calendar::{Schedule, Window},
    model::{
        strategy::{GateConfiguration, GateType, UpdateGroup, UpdateRunStrategy, UpdateStage},
        update_run::UpdateState::*,
    },
    rollout::{
        upgrade::{WindowRank, WindowStanding},
        *,
    },
};

fn group(name: &str, max: &str) -> UpdateGroup {
    UpdateGroup { name: name.to_owned(), max_concurrency: Some(max.to_owned()), ..UpdateGroup::default() }
}

fn stage(name: &str, max: &str, groups: Vec<UpdateGroup>) -> UpdateStage {
    UpdateStage { name: name.to_owned(), max_concurrency: Some(max.to_owned()), groups, ..UpdateStage::default() }
}

fn tolerant(max: &str, group: UpdateGroup) -> UpdateGroup {
    UpdateGroup { max_allowed_failures: Some(max.to_owned()), ..group }
}

fn gates() -> Vec<GateConfiguration> {
    vec![GateConfiguration { display_name: None, gate_type: GateType::Approval, scheduled_start_configuration: None }]
}

pub(super) fn fleet(sizes: &[(&str, usize)]) -> Vec<FleetMember> {
    let names = sizes.iter().flat_map(|(group, n)| (1..=*n).map(move |i| (group, format!("{group}{i:02}"))));
    names
        .map(|(group, name)| FleetMember { name, group: Some((*group).to_owned()), ..FleetMember::default() })
        .collect()
}

fn sim(stages: Vec<UpdateStage>, sizes: &[(&str, usize)]) -> Sim {
    Sim::new(&plan(Some(&UpdateRunStrategy { stages }), &fleet(sizes)).unwrap(), 3)
}

fn started(stages: Vec<UpdateStage>, sizes: &[(&str, usize)]) -> Sim {
    let mut sim = sim(stages, sizes);
    sim.raise(Event::Start).unwrap();
    sim
}

fn in_flight(stage_max: &str, a: &str, b: &str, sizes: (usize, usize)) -> (usize, usize) {
    let sim =
        started(vec![stage("s", stage_max, vec![group("a", a), group("b", b)])], &[("a", sizes.0), ("b", sizes.1)]);
    let running = sim.running();
    let of = |group| running.iter().filter(|name| name.starts_with(group)).count();
    (of("a"), of("b"))
}

#[test]
fn documented_concurrency() {
    assert_eq!(in_flight("4", "2", "2", (9, 9)), (2, 2));
    let (a, b) = in_flight("2", "5", "5", (9, 9));
    assert_eq!(a + b, 2);
    let (a, b) = in_flight("25%", "50%", "25%", (8, 12));
    assert_eq!((a + b, a <= 4, b <= 3), (5, true, true));
    assert_eq!(in_flight("100%", "100%", "100%", (30, 30)), (25, 25), "the system's ceiling is 50 in a stage");
}

#[test]
fn without_a_strategy_all_members_one_by_one() {
    let mut sim = Sim::new(&plan(None, &fleet(&[("b", 1), ("a", 2)])).unwrap(), 1);
    assert_eq!((sim.run.stages[0].name.as_str(), sim.run.stages[0].groups[0].name.as_str()), ("default", "default"));
    sim.raise(Event::Start).unwrap();
    for name in ["a01", "a02", "b01"] {
        assert_eq!(sim.running(), [name]);
        sim.complete(name);
    }
    assert_eq!(sim.run.status.state, Completed);
    let mut nobody = Sim::new(&plan(None, &[]).unwrap(), 1);
    nobody.raise(Event::Start).unwrap();
    assert_eq!(nobody.run.status.state, Completed);
}

#[test]
fn the_first_failure_stops_by_default_and_start_tries_it_again_first() {
    let mut sim = started(vec![stage("s", "9", vec![group("a", "2"), group("b", "1")])], &[("a", 4), ("b", 2)]);
    assert_eq!(sim.running(), ["a01", "a02", "b01"]);
    sim.fail("a01");
    assert_eq!((sim.run.status.state, sim.running()), (Stopping, vec!["a02", "b01"]));
    assert!(matches!(sim.raise(Event::Start), Err(Refused::Conflict(_))));
    sim.complete("a02");
    sim.complete("b01");
    let stage = &sim.run.stages[0];
    assert_eq!((sim.run.status.state, stage.status.state), (Failed, Failed));
    assert_eq!(stage.groups.iter().map(|g| g.status.state).collect::<Vec<_>>(), [Failed, Stopped]);
    assert_eq!(sim.run.status.error.as_ref().unwrap().code, "MaxAllowedFailuresExceeded");
    sim.raise(Event::Start).unwrap();
    assert_eq!(sim.running(), ["a01", "a03", "b02"]);
    assert_eq!((sim.run.status.state, sim.run.stages[0].failed()), (Running, 0));
    assert!(sim.run.status.error.is_none() && sim.run.status.completed_time.is_none());
}

#[test]
fn tolerated_failures_end_in_completed_and_are_not_retried_in_later_stages() {
    let groups = vec![tolerant("100%", group("a", "9"))];
    let first = UpdateStage { max_allowed_failures: Some("100%".to_owned()), ..stage("s", "9", groups) };
    let mut sim = started(vec![first, stage("t", "9", vec![group("b", "1")])], &[("a", 2), ("b", 2)]);
    sim.fail("a01");
    sim.fail("a02");
    assert_eq!((sim.run.stages[0].status.state, sim.running()), (Completed, vec!["b01"]));
    sim.fail("b01");
    sim.raise(Event::Start).unwrap();
    assert_eq!((sim.state("a01"), sim.running()), (Failed, vec!["b01"]));
}

#[test]
fn the_stage_is_the_outer_limit_of_failures() {
    let groups = vec![tolerant("2", group("a", "2")), tolerant("2", group("b", "2"))];
    let limited = UpdateStage { max_allowed_failures: Some("1".to_owned()), ..stage("s", "9", groups) };
    let mut sim = started(vec![limited], &[("a", 3), ("b", 3)]);
    sim.fail("a01");
    assert_eq!((sim.run.status.state, sim.running()), (Running, vec!["a02", "a03", "b01", "b02"]));
    sim.fail("b01");
    assert_eq!(sim.run.status.state, Stopping);
}

#[test]
fn stop_lets_what_is_in_flight_end_and_start_goes_on() {
    let mut sim = sim(vec![stage("s", "9", vec![group("a", "1")])], &[("a", 3)]);
    assert!(matches!(sim.raise(Event::Stop), Err(Refused::Conflict(_))), "not started");
    sim.raise(Event::Start).unwrap();
    sim.raise(Event::Stop).unwrap();
    assert_eq!((sim.run.status.state, sim.running()), (Stopping, vec!["a01"]));
    assert_eq!(sim.raise(Event::Stop), Ok(false), "stopping already");
    sim.complete("a01");
    assert_eq!((sim.run.status.state, sim.state("a02")), (Stopped, NotStarted));
    assert!(matches!(sim.raise(Event::Stop), Err(Refused::Conflict(_))), "stopped already");
    sim.raise(Event::Start).unwrap();
    assert_eq!(sim.raise(Event::Start), Ok(false), "started already");
    assert_eq!(sim.running(), ["a02"]);
}

#[test]
fn a_run_is_running_from_its_start_on_and_nothing_begins_before_its_members_are_chosen() {
    let mut sim = sim(vec![stage("s", "9", vec![group("a", "1")])], &[("a", 2)]);
    sim.plans_late = true;
    sim.raise(Event::Start).unwrap();
    assert_eq!((sim.run.status.state, sim.run.stages[0].status.state), (Running, NotStarted));
    assert_eq!(sim.raise(Event::Start), Ok(false), "started already");
    sim.raise(Event::PlanningBlocked { error: error() }).unwrap();
    assert_eq!((sim.run.status.state, sim.run.status.error.clone()), (Pending, Some(error())));
    sim.raise(Event::Stop).unwrap();
    assert_eq!((sim.run.status.state, sim.run.status.error.clone(), sim.run.starting), (Stopped, None, false));
    // The job is late.
    assert_eq!(sim.raise(Event::Planned), Ok(false));
    assert_eq!(sim.raise(Event::PlanningBlocked { error: error() }), Ok(false));
    sim.raise(Event::Start).unwrap();
    assert!(sim.run.starting && sim.upgrades.is_empty());
    sim.raise(Event::Planned).unwrap();
    assert_eq!((sim.run.status.state, sim.running()), (Running, vec!["a01"]));
}

#[test]
fn a_blocked_member_gives_its_slot_to_the_next_and_stops_at_once() {
    let mut sim = started(vec![stage("s", "9", vec![group("a", "1")])], &[("a", 2)]);
    sim.block(0);
    assert_eq!((sim.state("a01"), sim.running(), sim.run.status.state), (Pending, vec!["a02"], Running));
    sim.complete("a02");
    assert_eq!(sim.run.status.state, Pending);
    sim.raise(Event::Stop).unwrap();
    assert_eq!((sim.run.status.state, sim.state("a01")), (Stopped, Stopped));
    assert!(sim.rows[0].status.error.is_some(), "the reason stays readable");
    sim.raise(Event::Start).unwrap();
    assert_eq!(sim.running(), ["a01"]);
}

#[test]
fn gates_hold_their_level_and_are_asked_once() {
    let a = UpdateGroup { before_gates: gates(), ..group("a", "1") };
    let gated = UpdateStage {
        after_gates: gates(),
        after_stage_wait_in_seconds: Some(60),
        ..stage("s", "9", vec![a, group("b", "1")])
    };
    let mut sim = started(vec![gated], &[("a", 1), ("b", 1)]);
    assert_eq!((sim.running(), sim.run.status.state), (vec!["b01"], Running));
    sim.complete("b01");
    assert_eq!(sim.run.status.state, Pending);
    sim.raise(Event::Stop).unwrap();
    let gate = sim.pending_gates()[0];
    sim.raise(Event::GateCompleted { gate }).unwrap();
    assert_eq!((sim.run.status.state, sim.running().len()), (Stopped, 0));
    sim.raise(Event::Start).unwrap();
    assert_eq!(sim.running(), ["a01"]);
    sim.complete("a01");
    // The gate and the wait begin together, and the wait goes on while the run is stopped.
    assert_eq!((sim.pending_gates().len(), sim.timers.len()), (1, 1));
    sim.raise(Event::Stop).unwrap();
    sim.pass_time(60);
    sim.elapse();
    assert_eq!(sim.run.stages[0].wait.as_ref().unwrap().status.state, Completed);
    sim.raise(Event::Start).unwrap();
    let gate = sim.pending_gates()[0];
    sim.raise(Event::GateCompleted { gate }).unwrap();
    assert_eq!(sim.run.status.state, Completed);
    assert_eq!(sim.opened.len(), 2);
}

#[test]
fn the_wait_after_the_last_stage_is_honoured_and_can_be_skipped() {
    let waiting = UpdateStage { after_stage_wait_in_seconds: Some(60), ..stage("s", "9", vec![group("a", "1")]) };
    let mut sim = started(vec![waiting], &[("a", 1)]);
    sim.complete("a01");
    sim.pass_time(59);
    sim.elapse();
    assert_eq!(sim.run.status.state, Running);
    sim.skip(vec![SkipTarget::AfterStageWait("s".to_owned())]).unwrap();
    assert_eq!(sim.run.status.state, Completed);
}

#[test]
fn skip_is_all_or_nothing_and_says_so() {
    let member = |name: &str| SkipTarget::Member(name.to_owned());
    let mut sim = started(vec![stage("s", "9", vec![group("a", "1")])], &[("a", 3)]);
    let Err(Refused::BadRequest(detail)) = sim.skip(vec![member("a02"), SkipTarget::Group("x".to_owned())]) else {
        panic!("unknown names are refused")
    };
    assert_eq!(detail.target.as_deref(), Some("targets[1].name"));
    assert!(matches!(sim.skip(vec![member("a02"), member("a01")]), Err(Refused::Conflict(_))));
    assert!(matches!(sim.skip(vec![SkipTarget::AfterStageWait("s".to_owned())]), Err(Refused::BadRequest(_))));
    assert_eq!(sim.state("a02"), NotStarted);
    sim.skip(vec![member("a02"), member("a02")]).unwrap();
    let row = &sim.rows[1];
    assert_eq!((row.status.state, row.message.as_deref()), (Skipped, Some("skipped by request.")));
    assert!(row.status.completed_time.is_some() && row.status.start_time.is_none());
    sim.complete("a01");
    assert_eq!(sim.running(), ["a03"]);
}

#[test]
fn a_skipped_group_takes_its_gates_along_and_what_is_in_flight_ends() {
    let gated = UpdateGroup { before_gates: gates(), after_gates: gates(), ..group("a", "1") };
    let strategy = vec![stage("s", "9", vec![gated]), stage("t", "9", vec![group("b", "1")])];
    let mut fresh = sim(strategy.clone(), &[("a", 2), ("b", 2)]);
    fresh.skip(vec![SkipTarget::Group("a".to_owned())]).unwrap();
    assert_eq!((fresh.run.stages[0].status.state, fresh.run.status.state), (Skipped, NotStarted));
    assert!(fresh.gates().iter().all(|g| g.status.state == Skipped));
    fresh.skip(vec![SkipTarget::Stage("t".to_owned())]).unwrap();
    assert_eq!(fresh.run.status.state, Skipped);
    assert!(matches!(fresh.raise(Event::Start), Err(Refused::Conflict(_))));
    assert!(matches!(fresh.raise(Event::Stop), Err(Refused::Conflict(_))));

    let mut running = started(strategy, &[("a", 2), ("b", 2)]);
    let gate = running.pending_gates()[0];
    running.raise(Event::GateCompleted { gate }).unwrap();
    running.skip(vec![SkipTarget::Group("a".to_owned())]).unwrap();
    assert_eq!((running.state("a01"), running.state("a02")), (Running, Skipped));
    running.complete("a01");
    assert_eq!((running.run.stages[0].status.state, running.running()), (Completed, vec!["b01"]));
    let after = running.run.stages[0].groups[0].after[0].id;
    assert!(matches!(running.raise(Event::GateCompleted { gate: after }), Err(Refused::Conflict(_))));
}

#[test]
fn a_failed_member_of_a_failed_run_can_be_left_out() {
    let mut sim = started(vec![stage("s", "9", vec![group("a", "1")])], &[("a", 2)]);
    sim.fail("a01");
    sim.skip(vec![SkipTarget::Member("a01".to_owned())]).unwrap();
    assert_eq!((sim.state("a01"), sim.run.status.state), (Skipped, Failed));
    sim.raise(Event::Start).unwrap();
    assert_eq!(sim.running(), ["a02"]);
}

#[test]
fn no_op_members_are_skipped_and_so_is_what_holds_nothing_else() {
    let mut sim = started(vec![stage("s", "9", vec![group("a", "2")])], &[("a", 2)]);
    for member in 0..2 {
        sim.end(member, Outcome::Skipped { message: "at the target".to_owned() });
    }
    assert_eq!((sim.run.status.state, sim.run.stages[0].groups[0].status.state), (Skipped, Skipped));
    assert!(sim.rows[0].status.start_time.is_some());
}

#[test]
fn empty_groups_and_stages_do_not_ask_or_wait() {
    let empty = UpdateStage {
        before_gates: gates(),
        after_stage_wait_in_seconds: Some(60),
        ..stage("s", "9", vec![group("none", "1")])
    };
    let gated = UpdateGroup { before_gates: gates(), ..group("nobody", "1") };
    let mut sim = started(vec![empty, stage("t", "9", vec![gated, group("a", "1")])], &[("a", 1)]);
    assert_eq!((sim.run.stages[0].status.state, sim.running(), sim.opened.len()), (Completed, vec!["a01"], 0));
    assert_eq!(sim.run.stages[1].groups[0].status.state, Completed);
    sim.complete("a01");
    assert_eq!(sim.run.status.state, Completed);
}

#[test]
fn a_report_of_an_earlier_attempt_changes_nothing() {
    let mut sim = started(vec![stage("s", "9", vec![group("a", "1")])], &[("a", 1)]);
    sim.fail("a01");
    sim.raise(Event::Start).unwrap();
    let outcome = Outcome::Failed { error: error(), message: None };
    assert!(!sim.raise(Event::MemberEnded { member: sim.member(0), attempt: 1, outcome }).unwrap());
    sim.complete("a01");
    assert_eq!(sim.run.status.state, Completed);
}

#[test]
fn membership_and_limits_are_resolved_over_the_members_there_are() {
    let tolerance =
        |max: &str, groups| UpdateStage { max_allowed_failures: Some(max.to_owned()), ..stage("s", "25%", groups) };
    let groups = vec![tolerant("25%", group("a", "50%")), tolerant("25%", group("b", "25%"))];
    let mut members = fleet(&[("a", 7), ("b", 12), ("other", 3)]);
    members.push(FleetMember { name: "alone".to_owned(), ..FleetMember::default() });
    members.reverse();
    let plan = plan(Some(&UpdateRunStrategy { stages: vec![tolerance("25%", groups)] }), &members).unwrap();
    let stage = &plan.stages[0];
    assert_eq!((stage.max_concurrency, stage.max_allowed_failures), (4, 5), "of 19");
    let of = |g: &PlannedGroup| (g.members.len(), g.max_concurrency, g.max_allowed_failures);
    assert_eq!(stage.groups.iter().map(of).collect::<Vec<_>>(), [(7, 3, 2), (12, 3, 3)]);
    assert_eq!(stage.groups[0].members[0].name, "a01", "by name, however the fleet lists them");
}

#[test]
fn members_queue_in_the_order_of_their_windows() {
    let stages = vec![stage("s", "9", vec![group("a", "9"), group("b", "1")])];
    let mut plan = plan(Some(&UpdateRunStrategy { stages }), &fleet(&[("a", 6), ("b", 1)])).unwrap();
    let ranks = [
        ("a01", WindowRank::Closed),
        ("a02", WindowRank::NoWindow),
        ("a03", WindowRank::OpensSoon),
        ("a04", WindowRank::Open),
        ("a05", WindowRank::Open),
    ];
    let window = |member: &PlannedMember| {
        let known = ranks.iter().find(|(name, _)| *name == member.name);
        known.map_or_else(WindowStanding::default, |(_, rank)| WindowStanding { rank: *rank, until: None })
    };
    let contenders: Vec<_> = plan.contenders().map(|member| member.name.clone()).collect();
    assert_eq!(contenders, ["a01", "a02", "a03", "a04", "a05", "a06"], "alone, b01 comes first anyway");
    plan.order(window);
    let names: Vec<_> = plan.stages[0].groups[0].members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["a04", "a05", "a03", "a02", "a06", "a01"]);
    assert_eq!(plan.stages[0].groups[1].members[0].name, "b01");
}

#[test]
fn a_closed_window_holds_no_slot_and_its_member_comes_back_when_it_opens() {
    let mut sim = started(vec![stage("s", "1", vec![group("a", "1")])], &[("a", 3)]);
    let from_six = Schedule::Daily { interval_days: 1 };
    let window = Window::new(from_six, None, time(6, 0, 0, 0), 4, Offset::UTC, &[]).unwrap();
    sim.windows[0] = Some(window);
    assert!(!sim.begin(0));
    assert_eq!((sim.state("a01"), sim.running()), (Pending, vec!["a02"]));
    assert_eq!(sim.run.status.state, Running, "as long as one runs");
    sim.pass_time(6 * 3600 - 1);
    sim.look_again(0);
    assert_eq!(sim.state("a01"), Pending);
    sim.pass_time(1);
    sim.look_again(0);
    assert_eq!(sim.state("a01"), NotStarted, "it waits for a slot, ahead of the third");
    sim.complete("a02");
    assert_eq!(sim.running(), ["a01"]);
    assert!(sim.begin(0));
    // What began goes on after the window.
    sim.pass_time(24 * 3600 - 1);
    sim.complete("a01");
    sim.complete("a03");
    assert_eq!(sim.run.status.state, Completed);
}

#[test]
fn a_start_that_fails_touches_nothing_and_can_be_repeated() {
    let error = error();
    let failed = Event::StartFailed { error: error.clone() };
    let mut sim = sim(vec![stage("s", "2", vec![group("a", "2")])], &[("a", 2)]);
    sim.raise(failed.clone()).unwrap();
    assert_eq!((sim.run.status.state, &sim.run.status.error), (Failed, &Some(error)));
    assert!(!sim.run.has_begun());
    assert!(sim.rows.iter().all(|row| row.status.state == NotStarted));
    sim.raise(Event::Start).unwrap();
    assert_eq!((sim.run.status.state, &sim.run.status.error), (Running, &None));
    // What has begun goes on, whatever a late report says.
    let before = sim.run.clone();
    sim.raise(failed).unwrap();
    assert_eq!(sim.run, before);
}
