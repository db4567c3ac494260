//! The steps of a run: load its snapshot, ask [`rollout::advance`], store what changed.

use std::collections::VecDeque;

use jiff::Timestamp;
use uuid::Uuid;

use super::EngineError;
use crate::{
    database::Connection,
    rollout::{self, Change, Effect, Event, Member, MemberChange, Run, SkipTarget, Step},
    store::{
        StoreError,
        runs::{self, Audience},
    },
};

/// What followed from events, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advanced {
    /// The run before the event.
    pub before: Run,
    /// The run after it. Its queues are not up to date.
    pub after: Run,
    /// To be carried out in the same transaction.
    pub effects: Vec<Effect>,
    /// What is new, in order; empty when there are no webhooks.
    pub changes: Vec<Change>,
    /// The webhooks that get events of the changes.
    pub audience: Option<Audience>,
}

/// Locks and loads a run, asks [`rollout::advance`] for the steps that follow from an event, and stores them. `None` when there is
/// no such run. The effects are left to the caller.
///
/// Members in the event are read again under the lock: of a member event only the index counts, of a skip only the targets.
pub async fn advance(
    conn: &mut Connection,
    run_id: Uuid,
    event: Event,
    now: Timestamp,
) -> Result<Option<Advanced>, EngineError> {
    advance_all(conn, run_id, vec![event], now).await
}

/// [`advance`] for many events, in this order, in as few statements as for one where their steps allow it.
pub async fn advance_all(
    conn: &mut Connection,
    run_id: Uuid,
    events: Vec<Event>,
    now: Timestamp,
) -> Result<Option<Advanced>, EngineError> {
    let Some((before, audience)) = runs::load_for_events(conn, run_id, events.len()).await? else { return Ok(None) };
    let mut events = VecDeque::from(events);
    refresh(conn, run_id, events.make_contiguous()).await?;
    let (mut unwritten, mut effects) = (Unwritten::new(before.clone(), audience.is_some()), Vec::new());
    while let Some(event) = events.pop_front() {
        let step = rollout::advance(&unwritten.after, &event, now)?;
        let stuck = step.more && event == Event::Continue && step.members.is_empty();
        if stuck {
            // No code writes such rows. The slot stays empty, and the rest of the run goes on.
            tracing::error!(run = %run_id, "a group's tally counts members in its queue that are not there");
        }
        let more = step.more && !stuck;
        if unwritten.clashes_with(&step) {
            unwritten.write(conn, run_id, now).await?;
        }
        let whole_groups = step.members.iter().any(is_of_whole_group);
        effects.extend(unwritten.add(step));
        if more || (whole_groups && !events.is_empty()) {
            unwritten.write(conn, run_id, now).await?;
            let Some((loaded, _)) = runs::load_for_events(conn, run_id, events.len() + 1).await? else {
                return Ok(None);
            };
            unwritten = unwritten.go_on_from(loaded);
            refresh(conn, run_id, events.make_contiguous()).await?;
        }
        if more {
            events.push_front(Event::Continue);
        }
    }
    unwritten.write(conn, run_id, now).await?;
    let Unwritten { after, reported, .. } = unwritten;
    Ok(Some(Advanced { before, after, effects, changes: reported.unwrap_or_default(), audience }))
}

/// Steps that are decided and not stored yet.
struct Unwritten {
    before: Run,
    after: Run,
    members: Vec<MemberChange>,
    /// What was written; absent when there are no webhooks.
    reported: Option<Vec<Change>>,
}

impl Unwritten {
    fn new(run: Run, has_webhooks: bool) -> Self {
        Self { before: run.clone(), after: run, members: Vec::new(), reported: has_webhooks.then(Vec::new) }
    }

    /// After everything was written and the run was read again.
    fn go_on_from(self, run: Run) -> Self {
        Self { reported: self.reported, ..Self::new(run, false) }
    }

    /// Whether a step changes members that an earlier one has changed, so that one statement cannot carry both.
    fn clashes_with(&self, step: &Step) -> bool {
        let index = |change: &MemberChange| match change {
            MemberChange::One { member, .. } => Some(*member),
            MemberChange::All { .. } => None,
        };
        !self.members.is_empty()
            && step.members.iter().any(|new| {
                is_of_whole_group(new)
                    || self.members.iter().any(|old| is_of_whole_group(old) || index(old) == index(new))
            })
    }

    fn add(&mut self, step: Step) -> Vec<Effect> {
        self.after = step.run;
        self.members.extend(step.members);
        step.effects
    }

    async fn write(&mut self, conn: &mut Connection, run_id: Uuid, now: Timestamp) -> Result<(), StoreError> {
        let members =
            runs::write_step(conn, run_id, &self.before, &self.after, &self.members, now, self.reported.is_some())
                .await?;
        if let Some(reported) = &mut self.reported {
            reported.extend(rollout::changes(&self.before, &self.after, members));
        }
        self.before = self.after.clone();
        self.members.clear();
        Ok(())
    }
}

fn is_of_whole_group(change: &MemberChange) -> bool {
    matches!(change, MemberChange::All { .. })
}

/// Replaces the members in events by what they are now.
async fn refresh(conn: &mut Connection, run_id: Uuid, events: &mut [Event]) -> Result<(), StoreError> {
    let indices: Vec<u32> = events.iter_mut().filter_map(|event| member_of(event).map(|member| member.index)).collect();
    let now_are = if indices.is_empty() { Vec::new() } else { runs::members_by_index(conn, run_id, &indices).await? };
    for event in events {
        if let Some(member) = member_of(event) {
            match now_are.iter().find(|is| is.index == member.index) {
                Some(is) => *member = is.clone(),
                None => *event = Event::Continue,
            }
        }
        if let Event::Skip { targets, members } = event {
            let names: Vec<&str> = targets.iter().filter_map(member_name).collect();
            *members = if names.is_empty() { Vec::new() } else { runs::members_by_name(conn, run_id, &names).await? };
        }
    }
    Ok(())
}

fn member_of(event: &mut Event) -> Option<&mut Member> {
    match event {
        Event::MemberEnded { member, .. }
        | Event::MemberBlocked { member, .. }
        | Event::MemberUnblocked { member, .. }
        | Event::MemberLeft { member } => Some(member),
        Event::Start
        | Event::StartFailed { .. }
        | Event::Planned
        | Event::PlanningBlocked { .. }
        | Event::Stop
        | Event::Skip { .. }
        | Event::WaitElapsed { .. }
        | Event::GateCompleted { .. }
        | Event::GateDue { .. }
        | Event::Continue => None,
    }
}

fn member_name(target: &SkipTarget) -> Option<&str> {
    match target {
        SkipTarget::Member(name) | SkipTarget::RunningMember(name) => Some(name),
        SkipTarget::Group(_) | SkipTarget::Stage(_) | SkipTarget::AfterStageWait(_) => None,
    }
}
