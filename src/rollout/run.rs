//! The snapshot of a run that a step is decided on.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::model::{
    scheduled_start::ScheduledStartConfiguration,
    strategy::GateType,
    update_run::{UpdateState, UpdateStatus},
};

/// A run: its stages in order, and whether somebody asked it to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// State, times and error of the run as a whole.
    pub status: UpdateStatus,
    /// A stop was asked for since the last start.
    pub stop_requested: bool,
    /// The first start was asked for, and the members and node images are being chosen: nothing begins before
    /// [`super::Event::Planned`].
    pub starting: bool,
    /// In order of execution.
    pub stages: Vec<Stage>,
}

/// A stage: groups in parallel, between gates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Position in the run, from 0.
    pub index: u32,
    /// Unique in the run.
    pub name: String,
    /// State, times and error.
    pub status: UpdateStatus,
    /// Most members in flight over all groups, at least 1.
    pub max_concurrency: u32,
    /// Failures tolerated over all groups.
    pub max_allowed_failures: u32,
    /// Gates before the first group.
    pub before: Vec<Gate>,
    /// Gates after the last group; reached together with the wait.
    pub after: Vec<Gate>,
    /// The wait after the last group.
    pub wait: Option<Wait>,
    /// Updated in parallel.
    pub groups: Vec<Group>,
}

/// A group: members in order, between gates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Position in the run (not in the stage), from 0.
    pub index: u32,
    /// Unique in the run.
    pub name: String,
    /// State, times and error.
    pub status: UpdateStatus,
    /// Most members in flight, at least 1.
    pub max_concurrency: u32,
    /// Failures tolerated.
    pub max_allowed_failures: u32,
    /// Gates before the first member.
    pub before: Vec<Gate>,
    /// Gates after the last member.
    pub after: Vec<Gate>,
    /// How many members are in which state.
    pub tally: Tally,
    /// The first `NotStarted` members in the order in which they get slots: by their maintenance windows, then by index. May hold fewer than there are, or none: [`super::Step::more`] then asks for
    /// a fresh look. What adds or removes members empties it for that reason.
    pub queue: VecDeque<Member>,
}

/// A point that waits for a person or for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Name of the gate resource, which exists from the moment the run reaches the gate.
    pub id: Uuid,
    /// What a person reads.
    pub display_name: Option<String>,
    /// What opens it.
    pub gate_type: GateType,
    /// Of the type `ScheduledStart`: when it opens by itself.
    pub schedule: Option<ScheduledStartConfiguration>,
    /// `NotStarted`, `Pending`, `Completed` or `Skipped`.
    pub status: UpdateStatus,
}

/// The wait after a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// How long, in seconds.
    pub seconds: u32,
    /// `NotStarted`, `Running`, `Completed` or `Skipped`.
    pub status: UpdateStatus,
}

/// One member of a run, as far as orchestration needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Position in the run (not in the group), from 0.
    pub index: u32,
    /// Name of the member resource.
    pub name: String,
    /// [`Group::index`] of its group.
    pub group: u32,
    /// Its state; never `Stopping`.
    pub state: UpdateState,
    /// How often it was given a slot. What a member's job reports holds for one attempt only.
    pub attempt: u32,
}

/// Members of a group by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "named after the states")]
pub struct Tally {
    pub not_started: u32,
    pub running: u32,
    pub pending: u32,
    pub stopped: u32,
    pub skipped: u32,
    pub failed: u32,
    pub completed: u32,
}

/// The status of a node that was not reached.
#[must_use]
pub const fn not_started() -> UpdateStatus {
    UpdateStatus { start_time: None, completed_time: None, state: UpdateState::NotStarted, error: None }
}

impl Run {
    /// Whether the run is between a start and its end, so that events move it on.
    #[must_use]
    pub const fn in_progress(&self) -> bool {
        match self.status.state {
            UpdateState::Running | UpdateState::Pending | UpdateState::Stopping => true,
            UpdateState::NotStarted
            | UpdateState::Stopped
            | UpdateState::Skipped
            | UpdateState::Failed
            | UpdateState::Completed => false,
        }
    }

    /// Whether the run's members were chosen for good: its first stage has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.stages.iter().any(|stage| stage.status.start_time.is_some())
    }

    /// The stage whose turn it is: the first that is not finished.
    #[must_use]
    pub fn current(&self) -> Option<&Stage> {
        self.stages.iter().find(|stage| !stage.status.state.is_finished())
    }

    /// Whether nothing new may start: a stop was asked for, or too much failed.
    #[must_use]
    pub fn is_winding_down(&self) -> bool {
        self.stop_requested || self.current().is_some_and(Stage::exceeds_failures)
    }

    /// Members in flight.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.stages.iter().map(Stage::running).sum()
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Stage> {
        self.stages.iter_mut().find(|stage| !stage.status.state.is_finished())
    }

    pub(super) fn group_mut(&mut self, index: u32) -> Option<&mut Group> {
        self.stages.iter_mut().flat_map(|stage| &mut stage.groups).find(|group| group.index == index)
    }

    /// A gate, whether it is a stage's or a group's.
    #[must_use]
    pub fn gate(&self, id: Uuid) -> Option<&Gate> {
        self.stages
            .iter()
            .flat_map(|stage| {
                let of_groups = stage.groups.iter().flat_map(|group| group.before.iter().chain(&group.after));
                stage.before.iter().chain(&stage.after).chain(of_groups)
            })
            .find(|gate| gate.id == id)
    }

    pub(super) fn gate_mut(&mut self, id: Uuid) -> Option<&mut Gate> {
        self.stages
            .iter_mut()
            .flat_map(|stage| {
                let of_groups =
                    stage.groups.iter_mut().flat_map(|group| group.before.iter_mut().chain(&mut group.after));
                stage.before.iter_mut().chain(&mut stage.after).chain(of_groups)
            })
            .find(|gate| gate.id == id)
    }
}

impl Stage {
    /// Members in flight.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.groups.iter().map(|group| group.tally.running).sum()
    }

    /// Members that failed.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.groups.iter().map(|group| group.tally.failed).sum()
    }

    /// Whether more failed than the stage, or one of its groups, tolerates.
    #[must_use]
    pub fn exceeds_failures(&self) -> bool {
        self.failed() > self.max_allowed_failures || self.groups.iter().any(Group::exceeds_failures)
    }
}

impl Group {
    /// Whether more failed than the group tolerates.
    #[must_use]
    pub fn exceeds_failures(&self) -> bool {
        self.tally.failed > self.max_allowed_failures
    }
}

impl Gate {
    /// Whether it holds nobody back any more.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.status.state.is_finished()
    }

    /// When it opens by itself, once it was reached: at the first occurrence from then on. A stop does not put it off.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.schedule.as_ref()?.next(self.status.start_time?)
    }
}

impl Wait {
    /// When it ends, once it has begun. A stop does not interrupt it: time goes on.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let begun = self.status.start_time?;
        Some(begun.checked_add(SignedDuration::from_secs(i64::from(self.seconds))).unwrap_or(Timestamp::MAX))
    }
}

impl Tally {
    /// All members of the group.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.open() + self.skipped + self.failed + self.completed
    }

    /// Members that have not ended.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.not_started + self.running + self.pending + self.stopped
    }

    /// Members in one state.
    #[must_use]
    pub const fn count(&self, state: UpdateState) -> u32 {
        match state {
            UpdateState::NotStarted => self.not_started,
            UpdateState::Running | UpdateState::Stopping => self.running,
            UpdateState::Pending => self.pending,
            UpdateState::Stopped => self.stopped,
            UpdateState::Skipped => self.skipped,
            UpdateState::Failed => self.failed,
            UpdateState::Completed => self.completed,
        }
    }

    /// Counts `n` members as having gone from one state to another.
    pub(super) const fn shift(&mut self, from: UpdateState, to: UpdateState, n: u32) {
        let source = self.slot(from);
        *source = source.saturating_sub(n);
        let target = self.slot(to);
        *target = target.saturating_add(n);
    }

    const fn slot(&mut self, state: UpdateState) -> &mut u32 {
        match state {
            UpdateState::NotStarted => &mut self.not_started,
            // A member is never `Stopping`; were it, it would be in flight.
            UpdateState::Running | UpdateState::Stopping => &mut self.running,
            UpdateState::Pending => &mut self.pending,
            UpdateState::Stopped => &mut self.stopped,
            UpdateState::Skipped => &mut self.skipped,
            UpdateState::Failed => &mut self.failed,
            UpdateState::Completed => &mut self.completed,
        }
    }
}
