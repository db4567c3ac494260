//! A world behind a run: the members' rows, and the jobs, gates and timers that steps set in motion.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::invariants;
use crate::{
    arm::ErrorDetail,
    calendar::{State, Window},
    model::update_run::{UpdateState, UpdateStatus},
    rollout::*,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) group: u32,
    pub(super) status: UpdateStatus,
    pub(super) attempt: u32,
    pub(super) message: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Sim {
    pub(super) run: Run,
    pub(super) rows: Vec<Row>,
    pub(super) now: Timestamp,
    /// (member, attempt) of all upgrades that were ever asked for.
    pub(super) upgrades: Vec<(u32, u32)>,
    pub(super) opened: Vec<Uuid>,
    /// The gate resources that there are, by their states.
    pub(super) resources: BTreeMap<Uuid, UpdateState>,
    pub(super) timers: Vec<(Event, Timestamp)>,
    /// How many heads of a queue a snapshot shows.
    pub(super) heads: usize,
    /// Members' maintenance windows, and whom the members' jobs have told AKS to upgrade, by attempt.
    pub(super) windows: Vec<Option<Window>>,
    begun: HashSet<(u32, u32)>,
    /// The members of a run that is being started are chosen later, and not at once.
    pub(super) plans_late: bool,
    /// (member, attempt) of all upgrades that the run no longer follows.
    pub(super) abandoned: Vec<(u32, u32)>,
    /// What was raised, to be raised again.
    pub(super) past: Vec<Event>,
}

pub(super) fn error() -> ErrorDetail {
    ErrorDetail::new("UpgradeFailed", "it broke")
}

impl Sim {
    pub(super) fn new(plan: &Plan, heads: usize) -> Self {
        let (mut gates, mut groups, mut rows) = (0, 0, Vec::new());
        let mut gates_of = |configured: &[crate::model::strategy::GateConfiguration]| -> Vec<Gate> {
            let gate = |c: &crate::model::strategy::GateConfiguration| {
                gates += 1;
                Gate {
                    id: Uuid::from_u128(gates),
                    display_name: c.display_name.clone(),
                    gate_type: c.gate_type,
                    schedule: c.scheduled_start_configuration.clone(),
                    status: not_started(),
                }
            };
            configured.iter().map(gate).collect()
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut stages = Vec::new();
        for (index, stage) in (0..).zip(&plan.stages) {
            let mut of_stage = Vec::new();
            for group in &stage.groups {
                for member in &group.members {
                    let skipped =
                        UpdateStatus { state: UpdateState::Skipped, completed_time: Some(now), ..not_started() };
                    rows.push(Row {
                        name: member.name.clone(),
                        group: groups,
                        status: if member.repeats.is_some() { skipped } else { not_started() },
                        attempt: 0,
                        message: member.repeats.clone(),
                    });
                }
                let repeats = group.members.iter().filter(|member| member.repeats.is_some()).count() as u32;
                of_stage.push(Group {
                    index: groups,
                    name: group.name.clone(),
                    status: not_started(),
                    max_concurrency: group.max_concurrency,
                    max_allowed_failures: group.max_allowed_failures,
                    before: gates_of(&group.before_gates),
                    after: gates_of(&group.after_gates),
                    tally: Tally {
                        not_started: group.members.len() as u32 - repeats,
                        skipped: repeats,
                        ..Tally::default()
                    },
                    queue: [].into(),
                });
                groups += 1;
            }
            stages.push(Stage {
                index,
                name: stage.name.clone(),
                status: not_started(),
                max_concurrency: stage.max_concurrency,
                max_allowed_failures: stage.max_allowed_failures,
                before: gates_of(&stage.before_gates),
                after: gates_of(&stage.after_gates),
                wait: stage.wait_seconds.map(|seconds| Wait { seconds, status: not_started() }),
                groups: of_stage,
            });
        }
        let run = Run { status: not_started(), stop_requested: false, starting: false, stages };
        let (upgrades, opened, resources, timers, abandoned, past) = Default::default();
        let (windows, begun, plans_late) = (vec![None; rows.len()], HashSet::new(), false);
        let mut sim = Self {
            run,
            rows,
            now,
            upgrades,
            opened,
            resources,
            timers,
            heads,
            windows,
            begun,
            plans_late,
            abandoned,
            past,
        };
        // As the store does it, for the sake of groups whose members are all part of others.
        sim.raise(Event::Continue).unwrap();
        sim.past.clear();
        sim
    }

    pub(super) fn member(&self, index: u32) -> Member {
        let row = &self.rows[index as usize];
        Member { index, name: row.name.clone(), group: row.group, state: row.status.state, attempt: row.attempt }
    }

    pub(super) fn index(&self, name: &str) -> u32 {
        self.rows.iter().position(|row| row.name == name).unwrap() as u32
    }

    pub(super) fn in_state(&self, state: UpdateState) -> Vec<u32> {
        (0..self.rows.len() as u32).filter(|i| self.rows[*i as usize].status.state == state).collect()
    }

    pub(super) fn state(&self, name: &str) -> UpdateState {
        self.rows[self.index(name) as usize].status.state
    }

    /// Names of the members in flight, in order.
    pub(super) fn running(&self) -> Vec<&str> {
        self.in_state(UpdateState::Running).into_iter().map(|i| self.rows[i as usize].name.as_str()).collect()
    }

    pub(super) fn gates(&self) -> Vec<&Gate> {
        self.run
            .stages
            .iter()
            .flat_map(|s| {
                s.before.iter().chain(s.groups.iter().flat_map(|g| g.before.iter().chain(&g.after))).chain(&s.after)
            })
            .collect()
    }

    pub(super) fn pending_gates(&self) -> Vec<Uuid> {
        self.gates().into_iter().filter(|g| g.status.state == UpdateState::Pending).map(|g| g.id).collect()
    }

    /// As the store loads it: queues of the stage whose turn it is.
    fn load(&self) -> Run {
        let mut run = self.run.clone();
        let current = run.current().map(|s| s.index);
        for stage in &mut run.stages {
            for group in &mut stage.groups {
                group.queue = (0..self.rows.len() as u32)
                    .map(|i| self.member(i))
                    .filter(|m| m.group == group.index && m.state == UpdateState::NotStarted)
                    .take(if Some(stage.index) == current { self.heads } else { 0 })
                    .collect();
            }
        }
        run
    }

    /// Raises an event as the store does: until the run is at rest.
    pub(super) fn raise(&mut self, event: Event) -> Result<bool, Refused> {
        let changed = self.raise_one(event)?;
        if self.run.starting && !self.plans_late {
            self.raise_one(Event::Planned)?;
        }
        Ok(changed)
    }

    fn raise_one(&mut self, event: Event) -> Result<bool, Refused> {
        let fresh = self.refresh(event.clone());
        let before = (self.run.clone(), self.rows.clone());
        let (upgrades, abandoned) = (self.upgrades.len(), self.abandoned.len());
        let mut next = fresh.clone();
        self.past.push(event);
        loop {
            let snapshot = self.load();
            let step = advance(&snapshot, &next, self.now)?;
            invariants::of_step(&snapshot, &next, &step, self.now);
            let silent = step.members.is_empty()
                && step.run.stages.iter().zip(&snapshot.stages).all(|(a, b)| a.status == b.status);
            assert!(!(step.more && silent && next == Event::Continue), "asks for more without using it");
            let more = step.more;
            self.apply(step);
            if !more {
                break;
            }
            next = Event::Continue;
        }
        for group in self.run.stages.iter_mut().flat_map(|s| &mut s.groups) {
            group.queue.clear();
        }
        invariants::of_change(&before.0, &before.1, &self.rows, &fresh);
        invariants::in_turn(self, &self.upgrades[upgrades..]);
        if matches!(fresh, Event::Skip { .. }) {
            invariants::of_abandoned(&before.1, &self.rows, &self.abandoned[abandoned..]);
        } else {
            assert_eq!(self.abandoned.len(), abandoned, "abandoned by {fresh:?}");
        }
        invariants::at_rest(self);
        Ok(before != (self.run.clone(), self.rows.clone()))
    }

    /// Events carry members as they are when the event is handled.
    fn refresh(&self, mut event: Event) -> Event {
        match &mut event {
            Event::MemberEnded { member, .. }
            | Event::MemberBlocked { member, .. }
            | Event::MemberUnblocked { member, .. }
            | Event::MemberLeft { member } => *member = self.member(member.index),
            Event::Skip { members, .. } => members.iter_mut().for_each(|m| *m = self.member(m.index)),
            Event::Start | Event::Planned | Event::PlanningBlocked { .. } | Event::StartFailed { .. } => {}
            Event::Stop | Event::WaitElapsed { .. } => {}
            Event::GateCompleted { .. } | Event::GateDue { .. } | Event::Continue => {}
        }
        event
    }

    fn apply(&mut self, step: Step) {
        // In reverse, as order must not matter.
        for change in step.members.iter().rev() {
            match change {
                MemberChange::One { member, to, error, message } => {
                    let row = &mut self.rows[*member as usize];
                    row.go(*to, self.now);
                    row.status.error = error.clone();
                    row.message = message.clone();
                }
                MemberChange::All { group, from, to, message } => {
                    for row in self.rows.iter_mut().filter(|r| r.group == *group && r.status.state == *from) {
                        row.go(*to, self.now);
                        if *to != UpdateState::Stopped {
                            row.status.error = None;
                            row.message = message.clone();
                        }
                    }
                }
            }
        }
        self.run = step.run;
        for effect in step.effects {
            match effect {
                Effect::Plan => {}
                Effect::Upgrade { member, attempt, name } => {
                    assert_eq!(
                        (self.rows[member as usize].attempt, &self.rows[member as usize].name),
                        (attempt, &name)
                    );
                    assert!(!self.upgrades.contains(&(member, attempt)), "told twice");
                    self.upgrades.push((member, attempt));
                }
                Effect::Timer { stage, at } => self.timers.push((Event::WaitElapsed { stage }, at)),
                Effect::GateTimer { gate, at } => self.timers.push((Event::GateDue { gate }, at)),
                Effect::OpenGate { gate } => {
                    assert!(!self.opened.contains(&gate), "asked twice");
                    self.opened.push(gate);
                    self.resources.insert(gate, UpdateState::Pending);
                }
                Effect::CompleteGate { gate } => self.close(gate, UpdateState::Completed),
                Effect::SkipGate { gate } => self.close(gate, UpdateState::Skipped),
                Effect::Abandon { member } => {
                    let row = &self.rows[member as usize];
                    assert_eq!(row.status.state, UpdateState::Skipped, "abandoned and not skipped");
                    assert!(!self.abandoned.contains(&(member, row.attempt)), "abandoned twice");
                    self.abandoned.push((member, row.attempt));
                }
            }
        }
    }

    fn close(&mut self, gate: Uuid, state: UpdateState) {
        assert_eq!(
            self.resources.insert(gate, state),
            Some(UpdateState::Pending),
            "closed before it was there, or twice"
        );
    }

    // What the world may do.

    pub(super) fn end(&mut self, member: u32, outcome: Outcome) {
        if !matches!(outcome, Outcome::Skipped { .. }) && !self.begin(member) {
            return;
        }
        let member = self.member(member);
        self.raise(Event::MemberEnded { attempt: member.attempt, member, outcome }).unwrap();
    }

    pub(super) fn complete(&mut self, name: &str) {
        self.end(self.index(name), Outcome::Completed { message: None });
    }

    pub(super) fn fail(&mut self, name: &str) {
        self.end(self.index(name), Outcome::Failed { error: error(), message: None });
    }

    /// When a member's window opens: `Ok`, it is open.
    fn window(&self, member: u32) -> Result<(), Option<Timestamp>> {
        match self.windows[member as usize].as_ref().map(|window| window.at(self.now)) {
            None | Some(State::Open { .. }) => Ok(()),
            Some(State::Closed { opens }) => Err(opens),
        }
    }

    /// A member's job with a slot: begins, unless the window is closed. What has begun goes on when it closes. Whether it has.
    pub(super) fn begin(&mut self, member: u32) -> bool {
        if self.has_begun(member) {
            return true;
        }
        if self.window(member).is_err() {
            self.block(member);
            return false;
        }
        self.begun.insert((member, self.rows[member as usize].attempt));
        true
    }

    pub(super) fn has_begun(&self, member: u32) -> bool {
        self.begun.contains(&(member, self.rows[member as usize].attempt))
    }

    /// A member's job without a slot looks again.
    pub(super) fn look_again(&mut self, member: u32) {
        if self.window(member).is_ok() { self.unblock(member) } else { self.block(member) }
    }

    pub(super) fn block(&mut self, member: u32) {
        assert!(!self.has_begun(member), "cut off");
        let member = self.member(member);
        let event = Event::MemberBlocked {
            attempt: member.attempt,
            member,
            error: ErrorDetail::new("MaintenanceWindowClosed", "closed"),
            message: Some("opens later".to_owned()),
        };
        self.raise(event).unwrap();
    }

    pub(super) fn unblock(&mut self, member: u32) {
        let member = self.member(member);
        self.raise(Event::MemberUnblocked { attempt: member.attempt, member }).unwrap();
    }

    pub(super) fn skip(&mut self, targets: Vec<SkipTarget>) -> Result<bool, Refused> {
        let named = |m: &Member| {
            targets
                .iter()
                .any(|t| matches!(t, SkipTarget::Member(name) | SkipTarget::RunningMember(name) if *name == m.name))
        };
        let members = (0..self.rows.len() as u32).map(|i| self.member(i)).filter(named).collect();
        self.raise(Event::Skip { targets, members })
    }

    pub(super) fn pass_time(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Lets all timers go off that are due.
    pub(super) fn elapse(&mut self) {
        while let Some(due) = self.timers.iter().position(|(_, at)| *at <= self.now) {
            let (event, _) = self.timers.remove(due);
            self.raise(event).unwrap();
        }
    }

    /// The Pending member that can go on first.
    fn soonest(&self) -> Option<u32> {
        let when = |member: &u32| match self.window(*member) {
            Ok(()) => self.now,
            Err(opens) => opens.unwrap_or(Timestamp::MAX),
        };
        self.in_state(UpdateState::Pending).into_iter().min_by_key(when)
    }

    /// Plays on until nothing is left, with everything going well: DESIGN §7.7.
    pub(super) fn run_dry(&mut self) {
        self.plans_late = false;
        if self.run.starting {
            self.raise(Event::Planned).unwrap();
        }
        for _ in 0..(20 * self.rows.len() + 200) {
            self.pass_time(1);
            if !self.run.in_progress() {
                if self.run.status.state.is_finished() {
                    assert!(self.rows.iter().all(|r| !matches!(
                        r.status.state,
                        UpdateState::NotStarted | UpdateState::Running | UpdateState::Pending | UpdateState::Stopped
                    )));
                    return;
                }
                self.raise(Event::Start).unwrap();
            } else if let Some(member) = self.in_state(UpdateState::Running).first() {
                self.end(*member, Outcome::Completed { message: None });
            } else if let Some(member) = self.soonest() {
                match self.window(member) {
                    Ok(()) => self.unblock(member),
                    Err(Some(opens)) => {
                        self.now = opens;
                        self.elapse();
                        assert_eq!(self.window(member), Ok(()), "woken for nothing");
                    }
                    Err(None) => {
                        let name = self.rows[member as usize].name.clone();
                        self.skip(vec![SkipTarget::Member(name)]).unwrap();
                    }
                }
            } else if let Some(gate) = self.gates().into_iter().find(|gate| is_asked(gate)) {
                let gate = gate.id;
                self.raise(Event::GateCompleted { gate }).unwrap();
            } else {
                let (_, at) =
                    self.timers.iter().min_by_key(|(_, at)| *at).expect("a run in progress waits for something");
                self.now = self.now.max(*at);
                self.elapse();
            }
        }
        panic!("the run does not end: {:#?}", self.run);
    }
}

/// Whether a gate waits for a person and for nothing else.
fn is_asked(gate: &Gate) -> bool {
    gate.status.state == UpdateState::Pending && gate.schedule.is_none()
}

impl Row {
    fn go(&mut self, to: UpdateState, now: Timestamp) {
        let from = self.status.state;
        self.status.state = to;
        let status = &mut self.status;
        match to {
            UpdateState::NotStarted => (status.start_time, status.completed_time) = (None, None),
            UpdateState::Running => {
                (status.start_time, status.completed_time) = (Some(now), None);
                self.attempt += 1;
            }
            UpdateState::Pending | UpdateState::Stopped => status.completed_time = None,
            UpdateState::Skipped => {
                status.completed_time = Some(now);
                if from != UpdateState::Running {
                    status.start_time = None;
                }
            }
            UpdateState::Failed | UpdateState::Completed => status.completed_time = Some(now),
            UpdateState::Stopping => panic!("a member is never Stopping"),
        }
    }
}
