//! Random fleets, strategies and orders of events.

use jiff::{
    SignedDuration,
    civil::{Date, date, time},
    tz::Offset,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::sim::{Sim, error};
use crate::{
    calendar::{Schedule, Window},
    model::{
        strategy::{GateConfiguration, GateType, UpdateGroup, UpdateRunStrategy, UpdateStage},
        update_run::UpdateState,
    },
    rollout::*,
};

#[derive(Debug, Clone)]
enum Move {
    Start,
    Stop,
    Complete(usize),
    NoOp(usize),
    Fail(usize),
    Block(usize),
    Unblock(usize),
    Begin(usize),
    Leave(usize),
    Approve(usize),
    PassTime(i64),
    SkipMember(usize),
    SkipGroup(usize),
    SkipStage(usize),
    SkipWait(usize),
    /// Something that was raised before, again.
    Again(usize),
    Look,
}

fn any_move() -> impl Strategy<Value = Move> {
    let n = || 0..64_usize;
    prop_oneof![
        4 => Just(Move::Start),
        1 => Just(Move::Stop),
        12 => n().prop_map(Move::Complete),
        2 => n().prop_map(Move::NoOp),
        2 => n().prop_map(Move::Fail),
        3 => n().prop_map(Move::Block),
        3 => n().prop_map(Move::Unblock),
        4 => n().prop_map(Move::Begin),
        1 => n().prop_map(Move::Leave),
        4 => n().prop_map(Move::Approve),
        3 => (0..90_i64).prop_map(Move::PassTime),
        2 => (0..100_000_i64).prop_map(Move::PassTime),
        1 => n().prop_map(Move::SkipMember),
        1 => n().prop_map(Move::SkipGroup),
        1 => n().prop_map(Move::SkipStage),
        1 => n().prop_map(Move::SkipWait),
        4 => n().prop_map(Move::Again),
        1 => Just(Move::Look),
    ]
}

fn limit(of: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    option::of(select(of).prop_map(str::to_owned))
}

fn gates() -> impl Strategy<Value = Vec<GateConfiguration>> {
    let gate = GateConfiguration { display_name: None, gate_type: GateType::Approval };
    prop_oneof![5 => Just(0), 2 => Just(1), 1 => Just(2)].prop_map(move |n| vec![gate.clone(); n])
}

const CONCURRENCY: &[&str] = &["1", "2", "3", "5", "25%", "50%", "100%"];
const FAILURES: &[&str] = &["0", "1", "2", "25%", "50%", "100%"];

fn any_group() -> impl Strategy<Value = (UpdateGroup, usize)> {
    let size = prop_oneof![1 => Just(0), 6 => 1..7_usize];
    (limit(CONCURRENCY), limit(FAILURES), gates(), gates(), size).prop_map(|(c, f, before, after, size)| {
        let group = UpdateGroup {
            name: String::new(),
            max_concurrency: c,
            max_allowed_failures: f,
            before_gates: before,
            after_gates: after,
            ..UpdateGroup::default()
        };
        (group, size)
    })
}

/// None, one that is open for some hours of some days, or one that never opens.
fn any_window() -> impl Strategy<Value = Option<Window>> {
    let sometimes = (1..3_u16, 0..24_i8, 1..12_u8, option::of(0..3_i64));
    let sometimes = sometimes.prop_map(|(interval_days, hour, hours, closed)| {
        let day = |n: i64| date(2026, 1, 1).checked_add(SignedDuration::from_hours(24 * n)).unwrap();
        let closed: Vec<_> = closed.map(|n| (day(n), day(n + 1))).into_iter().collect();
        let daily = Schedule::Daily { interval_days };
        Some(Window::new(daily, Some(day(-1)), time(hour, 0, 0, 0), hours, Offset::UTC, &closed).unwrap())
    });
    let always = [(Date::MIN, Date::MAX)];
    let daily = Schedule::Daily { interval_days: 1 };
    let never = Window::new(daily, None, time(0, 0, 0, 0), 4, Offset::UTC, &always).unwrap();
    prop_oneof![8 => Just(None), 4 => sometimes, 1 => Just(Some(never))]
}

fn any_sim() -> impl Strategy<Value = Sim> {
    let stage = (vec(any_group(), 1..4), limit(CONCURRENCY), limit(FAILURES), gates(), gates(), option::of(1..60_i32));
    let planned = vec(stage, 1..4).prop_map(|stages| {
        let (mut members, mut strategy) = (Vec::new(), UpdateRunStrategy::default());
        for (s, (groups, c, f, before, after, wait)) in stages.into_iter().enumerate() {
            let mut stage = UpdateStage {
                name: format!("s{s}"),
                max_concurrency: c,
                max_allowed_failures: f,
                before_gates: before,
                after_gates: after,
                after_stage_wait_in_seconds: wait,
                ..UpdateStage::default()
            };
            for (g, (mut group, size)) in groups.into_iter().enumerate() {
                group.name = format!("s{s}g{g}");
                for _ in 0..size {
                    let name = format!("m{:02}", members.len());
                    members.push(FleetMember {
                        cluster_resource_id: name.clone(),
                        name,
                        group: Some(group.name.clone()),
                    });
                }
                stage.groups.push(group);
            }
            strategy.stages.push(stage);
        }
        plan(Some(&strategy), &members)
    });
    (planned, 1..4_usize, vec(any_window(), 64)).prop_map(|(plan, heads, windows)| {
        let mut sim = Sim::new(&plan, heads);
        sim.windows = windows;
        sim
    })
}

fn pick<T: Copy>(of: &[T], n: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[n % of.len()])
}

fn play(sim: &mut Sim, next: Move) {
    let running = sim.in_state(UpdateState::Running);
    let stages: Vec<String> = sim.run.stages.iter().map(|s| s.name.clone()).collect();
    let groups: Vec<String> = sim.run.stages.iter().flat_map(|s| &s.groups).map(|g| g.name.clone()).collect();
    match next {
        // Refusals are checked by the examples; here they must only be without consequences.
        Move::Start => drop(sim.raise(Event::Start)),
        Move::Stop => drop(sim.raise(Event::Stop)),
        Move::Complete(n) => {
            if let Some(m) = pick(&running, n) {
                sim.end(m, Outcome::Completed { message: None });
            }
        }
        Move::NoOp(n) => {
            if let Some(m) = pick(&running, n) {
                sim.end(m, Outcome::Skipped { message: "at the target".to_owned() });
            }
        }
        Move::Fail(n) => {
            if let Some(m) = pick(&running, n) {
                sim.end(m, Outcome::Failed { error: error(), message: None });
            }
        }
        Move::Block(n) => {
            if let Some(m) = pick(&running, n).filter(|m| !sim.has_begun(*m)) {
                sim.block(m);
            }
        }
        Move::Unblock(n) => {
            if let Some(m) = pick(&sim.in_state(UpdateState::Pending), n) {
                sim.look_again(m);
            }
        }
        Move::Begin(n) => {
            if let Some(m) = pick(&running, n) {
                sim.begin(m);
            }
        }
        Move::Leave(n) => {
            if let Some(m) = pick(&(0..sim.rows.len() as u32).collect::<Vec<_>>(), n) {
                let member = sim.member(m);
                sim.raise(Event::MemberLeft { member }).unwrap();
            }
        }
        Move::Approve(n) => {
            if let Some(gate) = pick(&sim.pending_gates(), n) {
                sim.raise(Event::GateCompleted { gate }).unwrap();
            }
        }
        Move::PassTime(seconds) => {
            sim.pass_time(seconds);
            sim.elapse();
        }
        Move::SkipMember(n) => {
            let names: Vec<String> = sim.rows.iter().map(|r| r.name.clone()).collect();
            if !names.is_empty() {
                let _ = sim.skip(vec![SkipTarget::Member(names[n % names.len()].clone()); 2]);
            }
        }
        Move::SkipGroup(n) => {
            // Twice the same, and a member of it: counted once.
            let group = groups[n % groups.len()].clone();
            let index = (n % groups.len()) as u32;
            let mut targets = vec![SkipTarget::Group(group.clone()), SkipTarget::Group(group)];
            targets.extend(sim.rows.iter().find(|r| r.group == index).map(|r| SkipTarget::Member(r.name.clone())));
            let _ = sim.skip(targets);
        }
        Move::SkipStage(n) => drop(sim.skip(vec![SkipTarget::Stage(stages[n % stages.len()].clone())])),
        Move::SkipWait(n) => drop(sim.skip(vec![SkipTarget::AfterStageWait(stages[n % stages.len()].clone())])),
        Move::Again(n) => {
            let jobs = sim
                .past
                .iter()
                .filter(|e| {
                    matches!(
                        e,
                        Event::MemberEnded { .. }
                            | Event::GateCompleted { .. }
                            | Event::WaitElapsed { .. }
                            | Event::MemberUnblocked { .. }
                    )
                })
                .cloned()
                .collect::<Vec<_>>();
            if !jobs.is_empty() {
                let changed = sim.raise(jobs[n % jobs.len()].clone()).unwrap_or(false);
                assert!(!changed, "a repeated event changed something");
            }
        }
        Move::Look => drop(sim.raise(Event::Continue)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold_and_the_run_ends(mut sim in any_sim(), moves in vec(any_move(), 0..60)) {
        let _ = sim.raise(Event::Start);
        for next in moves {
            play(&mut sim, next);
        }
        sim.run_dry();
    }

    #[test]
    fn skips_before_the_start_hold_too(mut sim in any_sim(), skips in vec(0..64_usize, 0..6)) {
        for n in skips {
            let next = match n % 4 { 0 => Move::SkipMember(n / 4), 1 => Move::SkipGroup(n / 4), 2 => Move::SkipStage(n / 4), _ => Move::SkipWait(n / 4) };
            play(&mut sim, next);
        }
        sim.run_dry();
    }
}
