//! A step while it is being decided.

use jiff::Timestamp;

use super::{
    event::{Effect, MemberChange, Refused},
    run::{Group, Member},
};
use crate::{
    arm::ErrorDetail,
    model::update_run::{UpdateState, UpdateStatus},
};

/// What a step collects besides the snapshot.
pub(super) struct StepBuilder {
    pub(super) now: Timestamp,
    pub(super) members: Vec<MemberChange>,
    pub(super) effects: Vec<Effect>,
    pub(super) more: bool,
}

impl StepBuilder {
    /// Moves all members of a group that are in one state, if there are any.
    pub(super) fn move_all(&mut self, group: &mut Group, from: UpdateState, to: UpdateState, message: Option<&str>) {
        let count = group.tally.count(from);
        if count > 0 {
            group.tally.shift(from, to, count);
            self.members.push(MemberChange::All { group: group.index, from, to, message: message.map(str::to_owned) });
        }
    }

    /// Moves one member.
    pub(super) fn move_one(
        &mut self,
        group: &mut Group,
        member: &Member,
        to: UpdateState,
        error: Option<ErrorDetail>,
        message: Option<String>,
    ) {
        group.tally.shift(member.state, to, 1);
        self.members.push(MemberChange::One { member: member.index, to, error, message });
    }
}

/// Marks a node as begun, once.
pub(super) fn begin(status: &mut UpdateStatus, now: Timestamp) {
    status.start_time.get_or_insert(now);
}

/// Ends a node.
pub(super) fn finish(status: &mut UpdateStatus, state: UpdateState, now: Timestamp) {
    status.state = state;
    status.completed_time = Some(now);
}

/// Refuses an action that the run's state does not allow.
pub(super) fn conflict(code: &'static str, message: &str) -> Refused {
    Refused::Conflict(ErrorDetail::new(code, message))
}
