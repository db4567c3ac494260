//! What is new between two snapshots of a run, for those who follow it.

use std::collections::HashMap;

use super::run::{Gate, Group, Run, Stage};
use crate::model::{
    gate::Timing,
    update_run::{MemberUpdateStatus, UpdateState, UpdateStatus},
};

/// The state of one node has changed, or the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The run as a whole.
    Run {
        /// What it is now.
        status: UpdateStatus,
    },
    /// A stage.
    Stage {
        /// Its name.
        stage: String,
        /// What it is now.
        status: UpdateStatus,
    },
    /// The wait after a stage.
    Wait {
        /// Name of the stage.
        stage: String,
        /// How long it is, in seconds.
        seconds: u32,
        /// What it is now.
        status: UpdateStatus,
    },
    /// A group.
    Group {
        /// Name of its stage.
        stage: String,
        /// Its name.
        group: String,
        /// What it is now.
        status: UpdateStatus,
    },
    /// A gate.
    Gate {
        /// Name of its stage.
        stage: String,
        /// Name of its group; absent for a gate of the stage itself.
        group: Option<String>,
        /// Whether it is before or after its stage or group.
        timing: Timing,
        /// The state that it was in.
        was: UpdateState,
        /// What it is now.
        gate: Gate,
    },
    /// A member.
    Member {
        /// Name of its stage.
        stage: String,
        /// Name of its group.
        group: String,
        /// How often it was given a slot.
        attempt: u32,
        /// What it is now.
        member: MemberUpdateStatus,
    },
}

/// A member whose state has changed, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedMember {
    /// [`super::Group::index`] of its group.
    pub group: u32,
    /// How often it was given a slot.
    pub attempt: u32,
    /// What it is now.
    pub status: MemberUpdateStatus,
}

/// All changes from one snapshot to another, in an order that makes sense to a reader: what holds others begins before them
/// and ends after them, a stage ends before the next begins, and in a group members end before others take their slots.
#[must_use]
pub fn changes(before: &Run, after: &Run, members: Vec<ChangedMember>) -> Vec<Change> {
    let mut by_group: HashMap<u32, Vec<ChangedMember>> = HashMap::new();
    for member in members {
        by_group.entry(member.group).or_default().push(member);
    }
    let mut out = Vec::new();
    let end = around(&mut out, &before.status, &after.status, |status| Change::Run { status });
    for (was, is) in before.stages.iter().zip(&after.stages) {
        of_stage(was, is, &mut by_group, &mut out);
    }
    out.extend(end);
    out
}

fn of_stage(was: &Stage, is: &Stage, members: &mut HashMap<u32, Vec<ChangedMember>>, out: &mut Vec<Change>) {
    let name = || is.name.clone();
    let end = around(out, &was.status, &is.status, |status| Change::Stage { stage: name(), status });
    of_gates(&was.before, &is.before, is, None, Timing::Before, out);
    for (was, of) in was.groups.iter().zip(&is.groups) {
        let group = || of.name.clone();
        let end =
            around(out, &was.status, &of.status, |status| Change::Group { stage: name(), group: group(), status });
        of_gates(&was.before, &of.before, is, Some(of), Timing::Before, out);
        let mut members = members.remove(&of.index).unwrap_or_default();
        members.sort_by_key(|member| !has_ended(member.status.status.state));
        out.extend(members.into_iter().map(|member| Change::Member {
            stage: name(),
            group: group(),
            attempt: member.attempt,
            member: member.status,
        }));
        of_gates(&was.after, &of.after, is, Some(of), Timing::After, out);
        out.extend(end);
    }
    if let (Some(was), Some(wait)) = (&was.wait, &is.wait)
        && differ(&was.status, &wait.status)
    {
        out.push(Change::Wait { stage: name(), seconds: wait.seconds, status: wait.status.clone() });
    }
    of_gates(&was.after, &is.after, is, None, Timing::After, out);
    out.extend(end);
}

fn of_gates(was: &[Gate], is: &[Gate], stage: &Stage, group: Option<&Group>, timing: Timing, out: &mut Vec<Change>) {
    let changed = was.iter().zip(is).filter(|(was, is)| differ(&was.status, &is.status));
    out.extend(changed.map(|(was, is)| Change::Gate {
        stage: stage.name.clone(),
        group: group.map(|group| group.name.clone()),
        timing,
        was: was.status.state,
        gate: is.clone(),
    }));
}

/// Adds the change of what holds others, or answers it for when their changes are in.
fn around(
    out: &mut Vec<Change>,
    was: &UpdateStatus,
    is: &UpdateStatus,
    change: impl FnOnce(UpdateStatus) -> Change,
) -> Option<Change> {
    let change = differ(was, is).then(|| change(is.clone()))?;
    if has_ended(is.state) {
        return Some(change);
    }
    out.push(change);
    None
}

fn differ(was: &UpdateStatus, is: &UpdateStatus) -> bool {
    (was.state, &was.error) != (is.state, &is.error)
}

fn has_ended(state: UpdateState) -> bool {
    match state {
        UpdateState::Stopped | UpdateState::Skipped | UpdateState::Failed | UpdateState::Completed => true,
        UpdateState::NotStarted | UpdateState::Running | UpdateState::Stopping | UpdateState::Pending => false,
    }
}
