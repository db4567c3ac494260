//! What happens to a run, and what follows from it.

use jiff::Timestamp;
use uuid::Uuid;

use super::run::{Member, Run};
use crate::{arm::ErrorDetail, model::update_run::UpdateState};

/// Something that happened to a run. Events may come twice, late or out of order: one that no longer fits changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A person starts or restarts the run. The first start is followed by [`Event::Planned`].
    Start,
    /// The members and node images of a run that is being started were chosen, and stored.
    Planned,
    /// They cannot be chosen at all: nothing was begun, and nothing is until somebody starts the run again.
    StartFailed {
        /// Why, and what to do.
        error: ErrorDetail,
    },
    /// They cannot be chosen yet: the run is Pending until they are.
    PlanningBlocked {
        /// Why.
        error: ErrorDetail,
    },
    /// A person stops the run.
    Stop,
    /// A person leaves something out.
    Skip {
        /// What to leave out; all or nothing.
        targets: Vec<SkipTarget>,
        /// The run's members that the targets name, as they are now.
        members: Vec<Member>,
    },
    /// A member's job came to an end.
    MemberEnded {
        /// The member as it is now.
        member: Member,
        /// The attempt that the job speaks of.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
    },
    /// A member cannot go on before something outside happens: it gives its slot back, or waits for a new reason.
    MemberBlocked {
        /// The member as it is now.
        member: Member,
        /// The attempt that the job speaks of.
        attempt: u32,
        /// What it waits for.
        error: ErrorDetail,
        /// The same for a person.
        message: Option<String>,
    },
    /// What a member waited for may have happened: it queues again, ahead of those behind it.
    MemberUnblocked {
        /// The member as it is now.
        member: Member,
        /// The attempt that the job speaks of.
        attempt: u32,
    },
    /// A member left the fleet. What is in flight goes on.
    MemberLeft {
        /// The member as it is now.
        member: Member,
    },
    /// The timer of the wait after this stage went off.
    WaitElapsed {
        /// [`super::Stage::index`].
        stage: u32,
    },
    /// A person completed a gate, whatever its type.
    GateCompleted {
        /// [`super::Gate::id`].
        gate: Uuid,
    },
    /// The timer of a scheduled gate went off.
    GateDue {
        /// [`super::Gate::id`].
        gate: Uuid,
    },
    /// Nothing: look again with fresh queues ([`Step::more`]).
    Continue,
}

/// How a member's upgrade ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// At the target.
    Completed {
        /// What was left as it was, and why.
        message: Option<String>,
    },
    /// Nothing was to be done.
    Skipped {
        /// Why.
        message: String,
    },
    /// The upgrade failed.
    Failed {
        /// Why.
        error: ErrorDetail,
        /// More about it.
        message: Option<String>,
    },
}

/// What a skip leaves out, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipTarget {
    /// A member that is not in flight.
    Member(String),
    /// A member, also one in flight: the run no longer follows its upgrade, which goes on in AKS.
    RunningMember(String),
    /// A group with its gates.
    Group(String),
    /// A stage with its groups, gates and wait.
    Stage(String),
    /// The wait after the stage of this name.
    AfterStageWait(String),
}

impl SkipTarget {
    /// The name of the member, group or stage.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Member(name)
            | Self::RunningMember(name)
            | Self::Group(name)
            | Self::Stage(name)
            | Self::AfterStageWait(name) => name,
        }
    }
}

/// The outcome of an event: the new snapshot, what became of members, and what to set in motion, all to be stored at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The snapshot after the event.
    pub run: Run,
    /// Members whose state changed. No two contradict each other, whatever their order.
    pub members: Vec<MemberChange>,
    /// Jobs, timers and gates.
    pub effects: Vec<Effect>,
    /// A slot is free and members are left, but the snapshot's queues were too short to fill it: load again and
    /// [`Event::Continue`], in the same transaction.
    pub more: bool,
}

/// A change of members' rows.
///
/// The times follow from the states: `Running` begins now and is the next attempt; `NotStarted` has neither times, error
/// nor message; `Completed`, `Failed` and `Skipped` end now; a member that is `Skipped` without having been in flight has
/// no start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// One member, with its new error and message.
    One {
        /// [`Member::index`].
        member: u32,
        /// New state.
        to: UpdateState,
        /// New error.
        error: Option<ErrorDetail>,
        /// New message.
        message: Option<String>,
    },
    /// All members of a group in one state. Error and message are cleared, but when they become `Stopped`: the reason
    /// why they waited stays readable.
    All {
        /// [`super::Group::index`].
        group: u32,
        /// The state they are in.
        from: UpdateState,
        /// New state.
        to: UpdateState,
        /// New message.
        message: Option<String>,
    },
}

/// Something to set in motion. Each is harmless when set in motion twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Choose the run's members and node images, then raise [`Event::Planned`].
    Plan,
    /// Upgrade a member: it has a slot.
    Upgrade {
        /// [`Member::index`].
        member: u32,
        /// Name of the member resource.
        name: String,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// Raise [`Event::WaitElapsed`] then.
    Timer {
        /// [`super::Stage::index`].
        stage: u32,
        /// When; may be past.
        at: Timestamp,
    },
    /// Create the gate resource, `Pending`.
    OpenGate {
        /// [`super::Gate::id`].
        gate: Uuid,
    },
    /// Raise [`Event::GateDue`] then.
    GateTimer {
        /// [`super::Gate::id`].
        gate: Uuid,
        /// When; may be past.
        at: Timestamp,
    },
    /// Set the gate resource to `Completed`.
    CompleteGate {
        /// [`super::Gate::id`].
        gate: Uuid,
    },
    /// Set the gate resource to `Skipped`.
    SkipGate {
        /// [`super::Gate::id`].
        gate: Uuid,
    },
    /// Cancel the job of a member in flight, and release its cluster.
    Abandon {
        /// [`Member::index`].
        member: u32,
    },
}

/// Why an action was refused. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The run's state does not allow the action.
    #[error("{}", .0.message)]
    Conflict(ErrorDetail),
    /// The action names what the run does not have.
    #[error("{}", .0.message)]
    BadRequest(ErrorDetail),
}
