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
        label::Labels,
        scheduled_start::{DayOfWeek, ScheduledStartConfiguration},
        selector::MemberSelector,
        strategy::{GateConfiguration, GateType, UpdateGroup, UpdateRunStrategy, UpdateStage},
        update_run::UpdateState,
    },
    rollout::*,
};

#[derive(Debug, Clone)]
enum Move {
    Start,
    /// A start whose members are chosen by another event.
    StartLate,
    Planned,
    Blocked,
    Stop,
    Complete(usize),
    NoOp(usize),
    Fail(usize),
    Block(usize),
    Unblock(usize),
    Begin(usize),
    Leave(usize),
    Approve(usize),
    /// A timer that goes off too early.
    Early(usize),
    PassTime(i64),
    SkipMember(usize),
    /// Leaves a member out, also while its upgrade is in progress.
    SkipRunning(usize),
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
        1 => Just(Move::StartLate),
        2 => Just(Move::Planned),
        1 => Just(Move::Blocked),
        1 => Just(Move::Stop),
        12 => n().prop_map(Move::Complete),
        2 => n().prop_map(Move::NoOp),
        2 => n().prop_map(Move::Fail),
        3 => n().prop_map(Move::Block),
        3 => n().prop_map(Move::Unblock),
        4 => n().prop_map(Move::Begin),
        1 => n().prop_map(Move::Leave),
        4 => n().prop_map(Move::Approve),
        1 => n().prop_map(Move::Early),
        3 => (0..90_i64).prop_map(Move::PassTime),
        1 => (0..9 * 24 * 3600_i64).prop_map(Move::PassTime),
        1 => n().prop_map(Move::SkipMember),
        1 => n().prop_map(Move::SkipRunning),
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

fn approval() -> GateConfiguration {
    GateConfiguration { display_name: None, gate_type: GateType::Approval, scheduled_start_configuration: None }
}

fn scheduled() -> impl Strategy<Value = GateConfiguration> {
    let day = select(vec![DayOfWeek::Monday, DayOfWeek::Thursday, DayOfWeek::Friday, DayOfWeek::Sunday]);
    let time = select(vec!["00:00", "00:01", "12:30", "23:59"]).prop_map(str::to_owned);
    let offset = select(vec!["+00:00", "-12:00", "+14:00", "+05:45"]).prop_map(str::to_owned);
    (day, time, offset).prop_map(|(start_day, start_time, utc_offset)| GateConfiguration {
        display_name: None,
        gate_type: GateType::ScheduledStart,
        scheduled_start_configuration: Some(ScheduledStartConfiguration { start_day, start_time, utc_offset }),
    })
}

fn before() -> impl Strategy<Value = Vec<GateConfiguration>> {
    prop_oneof![
        6 => Just(vec![]),
        2 => Just(vec![approval()]),
        1 => scheduled().prop_map(|gate| vec![gate]),
        1 => scheduled().prop_map(|gate| vec![gate, approval()]),
    ]
}

fn after() -> impl Strategy<Value = Vec<GateConfiguration>> {
    prop_oneof![3 => Just(vec![]), 1 => Just(vec![approval()])]
}

/// Selectors that overlap.
fn selector() -> impl Strategy<Value = MemberSelector> {
    select(vec!["env=prod", "env!=prod", "tier in (a,b)", "!env", "tier", "env,tier notin (b)", "tier=none"])
        .prop_map(|text| MemberSelector { by_label: text.to_owned() })
}

const CONCURRENCY: &[&str] = &["1", "2", "3", "5", "25%", "50%", "100%"];
const FAILURES: &[&str] = &["0", "1", "2", "25%", "50%", "100%"];

fn any_group() -> impl Strategy<Value = (UpdateGroup, usize)> {
    let size = prop_oneof![1 => Just(0), 6 => 1..7_usize];
    let selector = prop_oneof![5 => Just(None), 1 => selector().prop_map(Some)];
    (limit(CONCURRENCY), limit(FAILURES), before(), after(), size, selector).prop_map(
        |(c, f, before, after, size, chosen)| {
            let group = UpdateGroup {
                name: String::new(),
                max_concurrency: c,
                max_allowed_failures: f,
                member_selector: chosen,
                before_gates: before,
                after_gates: after,
            };
            (group, size)
        },
    )
}

fn any_stage() -> impl Strategy<Value = (UpdateStage, Vec<usize>)> {
    let groups = prop_oneof![1 => Just(vec![]), 7 => vec(any_group(), 1..4)];
    let chosen = (selector(), prop::bool::weighted(0.2));
    let limits = (limit(CONCURRENCY), limit(FAILURES));
    (groups, chosen, limits, before(), after(), option::of(1..60_i32)).prop_map(
        |(groups, (selector, chooses), (c, f), before, after, wait)| {
            let (groups, sizes): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
            let stage = UpdateStage {
                name: String::new(),
                max_concurrency: c,
                max_allowed_failures: f,
                member_selector: (chooses || groups.is_empty()).then_some(selector),
                before_gates: before,
                after_gates: after,
                after_stage_wait_in_seconds: wait,
                groups,
            };
            (stage, sizes)
        },
    )
}

fn labels() -> impl Strategy<Value = Labels> {
    let env = option::of(select(vec!["prod", "test"]));
    let tier = option::of(select(vec!["a", "b", "c"]));
    (env, tier).prop_map(|(env, tier)| {
        let pairs = [("env", env), ("tier", tier)].into_iter();
        pairs.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
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
    let planned = (vec(any_stage(), 1..4), vec(labels(), 1..12)).prop_map(|(stages, labels)| {
        let (mut members, mut strategy) = (Vec::new(), UpdateRunStrategy::default());
        let mut join = |group| {
            let n = members.len();
            let labels = labels[n % labels.len()].clone();
            members.push(FleetMember { name: format!("m{n:02}"), group, labels, ..FleetMember::default() });
        };
        for (s, (mut stage, sizes)) in stages.into_iter().enumerate() {
            stage.name = format!("s{s}");
            for (g, group) in stage.groups.iter_mut().enumerate() {
                group.name = format!("s{s}g{g}");
                (0..sizes[g]).for_each(|_| join(Some(group.name.clone())));
            }
            strategy.stages.push(stage);
        }
        join(None);
        plan(Some(&strategy), &members).unwrap()
    });
    (planned, 1..4_usize, vec(any_window(), 64)).prop_map(|(plan, heads, windows)| {
        let mut sim = Sim::new(&plan, heads);
        sim.windows = windows.into_iter().cycle().take(sim.rows.len()).collect();
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
        Move::StartLate => {
            sim.plans_late = true;
            drop(sim.raise(Event::Start));
        }
        Move::Planned => {
            sim.plans_late = false;
            if sim.run.starting {
                sim.raise(Event::Planned).unwrap();
            }
        }
        Move::Blocked => drop(sim.raise(Event::PlanningBlocked { error: error() })),
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
        Move::Early(n) => {
            if let Some(gate) = pick(&sim.pending_gates(), n) {
                sim.raise(Event::GateDue { gate }).unwrap();
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
        Move::SkipRunning(n) => {
            let names: Vec<String> = sim.rows.iter().map(|r| r.name.clone()).collect();
            if !names.is_empty() {
                let _ = sim.skip(vec![SkipTarget::RunningMember(names[n % names.len()].clone()); 2]);
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
                            | Event::GateDue { .. }
                    ) && !matches!(e, Event::GateDue { gate } if sim.pending_gates().contains(gate))
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

/// Cases of each property: few for whoever waits, as many as make a million steps where `ROLLOUT_CASES` says so.
fn config() -> ProptestConfig {
    let cases = std::env::var("ROLLOUT_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn live(mut sim: Sim, moves: Vec<Move>, plans_late: bool) {
    sim.plans_late = plans_late;
    let _ = sim.raise(Event::Start);
    for next in moves {
        play(&mut sim, next);
    }
    sim.run_dry();
}

proptest! {
    #![proptest_config(config())]

    // Two of the same, for two cores.
    #[test]
    fn after_any_events_the_invariants_hold_and_the_run_ends(sim in any_sim(), moves in vec(any_move(), 0..60)) {
        live(sim, moves, false);
    }

    #[test]
    fn whatever_happens_to_others_they_hold_as_well(sim in any_sim(), moves in vec(any_move(), 0..60)) {
        live(sim, moves, true);
    }

    #[test]
    fn skips_before_the_start_hold_too(mut sim in any_sim(), skips in vec(0..64_usize, 0..6)) {
        for n in skips {
            let next = match n % 4 { 0 => Move::SkipMember(n / 4), 1 => Move::SkipGroup(n / 4), 2 => Move::SkipStage(n / 4), _ => Move::SkipWait(n / 4) };
            play(&mut sim, next);
        }
        sim.run_dry();
    }

    #[test]
    fn a_run_that_stops_ends_when_all_members_in_flight_are_left_out(
        mut sim in any_sim(), moves in vec(any_move(), 0..30), part in 0..64_usize,
    ) {
        let _ = sim.raise(Event::Start);
        for next in moves {
            play(&mut sim, next);
        }
        sim.plans_late = false;
        if sim.raise(Event::Stop).is_ok() {
            let running: Vec<String> = sim.running().into_iter().map(str::to_owned).collect();
            let (some, others) = running.split_at(part % (running.len() + 1));
            for names in [some, others] {
                let targets: Vec<_> = names.iter().cloned().map(SkipTarget::RunningMember).collect();
                if !targets.is_empty() {
                    prop_assert!(sim.skip(targets).unwrap());
                }
            }
            prop_assert!(sim.running().is_empty());
            prop_assert!(!sim.run.in_progress(), "{:?}", sim.run.status);
        }
        sim.run_dry();
    }
}
