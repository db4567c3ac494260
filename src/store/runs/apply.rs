//! Writing steps.

use std::collections::VecDeque;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    load::{Audience, load_for_events},
    members,
    rows::{GroupRow, StageRow},
    status::StatusRow,
};
use crate::{
    database::Connection,
    rollout::{self, Change, ChangedMember, Effect, Event, Gate, Member, MemberChange, Refused, Run, SkipTarget, Step},
    store::StoreError,
};

/// What an event led to, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advanced {
    /// The run before the event.
    pub before: Run,
    /// The run after it. Its queues are of no use to anybody.
    pub after: Run,
    /// To be set in motion in the same transaction.
    pub effects: Vec<Effect>,
    /// What is new, in order; empty when there is nobody to tell.
    pub changes: Vec<Change>,
    /// Whom to tell, in the same transaction.
    pub audience: Option<Audience>,
}

/// Raises an event: locks and loads the run, takes the steps that follow, stores them. `None` when there is no such run.
///
/// Members in the event are read again under the lock: of a member event only the index counts, of a skip only the targets.
///
/// # Errors
/// When the database fails. Inside: when the event was refused, and then nothing changed.
pub async fn advance(
    conn: &mut Connection,
    run_id: Uuid,
    event: Event,
    now: Timestamp,
) -> Result<Option<Result<Advanced, Refused>>, StoreError> {
    advance_all(conn, run_id, vec![event], now).await
}

/// [`advance`] for many events, in this order, in as few statements as for one where their steps allow it.
///
/// # Errors
/// As [`advance`]; when one of the events was refused, roll back.
pub async fn advance_all(
    conn: &mut Connection,
    run_id: Uuid,
    events: Vec<Event>,
    now: Timestamp,
) -> Result<Option<Result<Advanced, Refused>>, StoreError> {
    let Some((before, audience)) = load_for_events(conn, run_id, events.len()).await? else { return Ok(None) };
    let mut events = VecDeque::from(events);
    refresh(conn, run_id, events.make_contiguous()).await?;
    let (mut unwritten, mut effects) = (Unwritten::new(before.clone(), audience.is_some()), Vec::new());
    while let Some(event) = events.pop_front() {
        let step = match rollout::advance(&unwritten.after, &event, now) {
            Ok(step) => step,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        let stuck = step.more && event == Event::Continue && step.members.is_empty();
        if stuck {
            // Nothing here writes such rows. Going on without filling the slot keeps the rest of the run alive.
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
            let Some((loaded, _)) = load_for_events(conn, run_id, events.len() + 1).await? else { return Ok(None) };
            unwritten = unwritten.go_on_from(loaded);
            refresh(conn, run_id, events.make_contiguous()).await?;
        }
        if more {
            events.push_front(Event::Continue);
        }
    }
    unwritten.write(conn, run_id, now).await?;
    let Unwritten { after, told, .. } = unwritten;
    Ok(Some(Ok(Advanced { before, after, effects, changes: told.unwrap_or_default(), audience })))
}

/// Steps that were taken and are not stored yet.
struct Unwritten {
    before: Run,
    after: Run,
    members: Vec<MemberChange>,
    /// What was written, for those who follow the run; absent when nobody does.
    told: Option<Vec<Change>>,
}

impl Unwritten {
    fn new(run: Run, followed: bool) -> Self {
        Self { before: run.clone(), after: run, members: Vec::new(), told: followed.then(Vec::new) }
    }

    /// Nothing is unwritten, and the run was read again.
    fn go_on_from(self, run: Run) -> Self {
        Self { told: self.told, ..Self::new(run, false) }
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
        let members = apply(conn, run_id, &self.before, &self.after, &self.members, now, self.told.is_some()).await?;
        if let Some(told) = &mut self.told {
            told.extend(rollout::changes(&self.before, &self.after, members));
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
    let now_are = if indices.is_empty() { Vec::new() } else { members::by_index(conn, run_id, &indices).await? };
    for event in events {
        if let Some(member) = member_of(event) {
            match now_are.iter().find(|is| is.index == member.index) {
                Some(is) => *member = is.clone(),
                None => *event = Event::Continue,
            }
        }
        if let Event::Skip { targets, members } = event {
            let names: Vec<&str> = targets.iter().filter_map(member_name).collect();
            *members = if names.is_empty() { Vec::new() } else { members::named(conn, run_id, &names).await? };
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

/// Writes what steps changed: at most one statement a table, and one more for changes of whole groups. Answers the members
/// that changed, in order, where somebody wants to know.
async fn apply(
    conn: &mut Connection,
    run_id: Uuid,
    before: &Run,
    after: &Run,
    members: &[MemberChange],
    now: Timestamp,
    followed: bool,
) -> Result<Vec<ChangedMember>, StoreError> {
    if (&before.status, before.stop_requested, before.starting) != (&after.status, after.stop_requested, after.starting)
    {
        let row = json!({
            "state": after.status.state,
            "start_time": after.status.start_time,
            "completed_time": after.status.completed_time,
            "error": after.status.error,
            "stop_requested": after.stop_requested,
            "starting": after.starting,
        });
        write(conn, run_id, RUN, &[row], now).await?;
    }
    let (mut stages, mut groups, mut gates) = (Vec::new(), Vec::new(), Vec::new());
    for (was, is) in before.stages.iter().zip(&after.stages) {
        if (&was.status, &was.wait) != (&is.status, &is.wait) {
            stages.push(json!(StageRow::of(is)));
        }
        changed_gates(&was.before, &is.before, &mut gates);
        changed_gates(&was.after, &is.after, &mut gates);
        for (was, of) in was.groups.iter().zip(&is.groups) {
            if (&was.status, was.tally) != (&of.status, of.tally) {
                groups.push(json!(GroupRow::of(of, is.index)));
            }
            changed_gates(&was.before, &of.before, &mut gates);
            changed_gates(&was.after, &of.after, &mut gates);
        }
    }
    let (mut all, mut one) = (Vec::new(), Vec::new());
    for change in members {
        match change {
            MemberChange::All { group, from, to, message } => {
                all.push(json!({"group_index": group, "from_state": from, "to_state": to, "message": message}));
            }
            MemberChange::One { member, to, error, message } => {
                one.push(json!({"member_index": member, "to_state": to, "error": error, "message": message}));
            }
        }
    }
    for (statement, rows) in [(STAGES, stages), (GROUPS, groups), (GATES, gates)] {
        if !rows.is_empty() {
            write(conn, run_id, statement, &rows, now).await?;
        }
    }
    let mut changed = Vec::new();
    for (silent, telling, rows) in [(ALL, ALL_TELLING, all), (ONE, ONE_TELLING, one)] {
        match (rows.is_empty(), followed) {
            (true, _) => {}
            (false, true) => changed.extend(write_and_tell(conn, run_id, telling, &rows, now).await?),
            (false, false) => write(conn, run_id, silent, &rows, now).await?,
        }
    }
    changed.sort_by_key(|row| row.member_index);
    Ok(changed.into_iter().map(ChangedRow::into_member).collect())
}

/// A member after a change.
#[derive(Deserialize)]
struct ChangedRow {
    member_index: u32,
    attempt: u32,
    #[serde(flatten)]
    row: StatusRow,
}

impl ChangedRow {
    fn into_member(self) -> ChangedMember {
        ChangedMember { group: self.row.group_index, attempt: self.attempt, status: self.row.into() }
    }
}

fn changed_gates(before: &[Gate], after: &[Gate], changed: &mut Vec<Value>) {
    let differing = before.iter().zip(after).filter(|(was, is)| was.status != is.status);
    changed.extend(differing.map(|(_, is)| {
        json!({
            "gate_id": is.id,
            "state": is.status.state,
            "start_time": is.status.start_time,
            "completed_time": is.status.completed_time,
        })
    }));
}

async fn write(
    conn: &mut Connection,
    run_id: Uuid,
    statement: &'static str,
    rows: &[Value],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(statement)
        .bind(run_id)
        .bind(rows)
        .bind(now.to_sqlx())
        .execute(conn)
        .await
        .map_err(StoreError::while_("storing a step of an update run"))?;
    Ok(())
}

/// [`write()`], answering the members that changed.
async fn write_and_tell(
    conn: &mut Connection,
    run_id: Uuid,
    statement: &'static str,
    rows: &[Value],
    now: Timestamp,
) -> Result<Vec<ChangedRow>, StoreError> {
    let changed: Vec<Json<ChangedRow>> = sqlx::query_scalar(statement)
        .bind(run_id)
        .bind(rows)
        .bind(now.to_sqlx())
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("storing a step of an update run"))?;
    Ok(changed.into_iter().map(|Json(row)| row).collect())
}

// All statements take the run, the changed rows and the time, whether they need it or not. The planner knows the length of
// an array, but takes a `jsonb_to_recordset` for a hundred rows, and would read the whole run to change one of its members.

pub(super) const RUN: &str = "UPDATE update_runs r SET state = c.state, start_time = c.start_time,
         completed_time = c.completed_time, error = c.error, stop_requested = c.stop_requested, starting = c.starting
     FROM unnest($2) AS u (change), jsonb_to_record(u.change) AS c(state text, start_time timestamptz, completed_time timestamptz, error jsonb,
         stop_requested boolean, starting boolean)
     WHERE r.run_id = $1 AND $3::timestamptz IS NOT NULL";

pub(super) const STAGES: &str = "UPDATE run_stages s SET state = c.state, start_time = c.start_time,
         completed_time = c.completed_time, error = c.error, wait_state = c.wait_state,
         wait_start_time = c.wait_start_time, wait_completed_time = c.wait_completed_time
     FROM unnest($2) AS u (change), jsonb_to_record(u.change) AS c(stage_index integer, state text, start_time timestamptz,
         completed_time timestamptz, error jsonb, wait_state text, wait_start_time timestamptz,
         wait_completed_time timestamptz)
     WHERE s.run_id = $1 AND s.stage_index = c.stage_index AND $3::timestamptz IS NOT NULL";

pub(super) const GROUPS: &str = "UPDATE run_groups g SET state = c.state, start_time = c.start_time,
         completed_time = c.completed_time, error = c.error, not_started = c.not_started, running = c.running,
         pending = c.pending, stopped = c.stopped, skipped = c.skipped, failed = c.failed, completed = c.completed
     FROM unnest($2) AS u (change), jsonb_to_record(u.change) AS c(group_index integer, state text, start_time timestamptz,
         completed_time timestamptz, error jsonb, not_started integer, running integer, pending integer,
         stopped integer, skipped integer, failed integer, completed integer)
     WHERE g.run_id = $1 AND g.group_index = c.group_index AND $3::timestamptz IS NOT NULL";

pub(super) const GATES: &str = "UPDATE run_gates t SET state = c.state, start_time = c.start_time,
         completed_time = c.completed_time
     FROM unnest($2) AS u (change), jsonb_to_record(u.change) AS c(gate_id uuid, state text, start_time timestamptz, completed_time timestamptz)
     WHERE t.run_id = $1 AND t.gate_id = c.gate_id AND $3::timestamptz IS NOT NULL";

/// Has a change of members answer them.
macro_rules! tell {
    () => {
        " RETURNING to_jsonb(m) - 'upgrade'"
    };
}

/// See [`MemberChange`] for what becomes of the other columns.
macro_rules! all {
    () => {
        "UPDATE run_members m SET state = c.to_state,
         start_time = CASE WHEN c.to_state = 'Stopped' THEN m.start_time END,
         completed_time = CASE WHEN c.to_state = 'Skipped' THEN $3::timestamptz END,
         error = CASE WHEN c.to_state = 'Stopped' THEN m.error END,
         message = CASE WHEN c.to_state = 'Stopped' THEN m.message ELSE c.message END,
         upgrade = CASE WHEN c.to_state <> 'NotStarted' THEN m.upgrade END
     FROM unnest($2) AS u (change), jsonb_to_record(u.change) AS c(group_index integer, from_state text, to_state text, message text)
     WHERE m.run_id = $1 AND m.group_index = c.group_index AND m.state = c.from_state"
    };
}
pub(super) const ALL: &str = all!();
const ALL_TELLING: &str = concat!(all!(), tell!());

/// See [`MemberChange`] for what becomes of the other columns.
macro_rules! one {
    () => {
        "UPDATE run_members m SET state = c.to_state, error = c.error, message = c.message,
         start_time = CASE WHEN c.to_state = 'Running' THEN $3::timestamptz
                           WHEN c.to_state = 'NotStarted' OR (c.to_state = 'Skipped' AND m.state <> 'Running') THEN NULL
                           ELSE m.start_time END,
         completed_time = CASE WHEN c.to_state IN ('Completed', 'Failed', 'Skipped') THEN $3::timestamptz END,
         attempt = m.attempt + (c.to_state = 'Running')::integer,
         upgrade = CASE WHEN c.to_state <> 'Running' THEN m.upgrade END,
         window_rank = CASE WHEN m.state = 'Pending' AND c.to_state = 'NotStarted' THEN 0 ELSE m.window_rank END,
         window_ranked_until = CASE WHEN c.to_state = 'NotStarted' THEN '-infinity' ELSE m.window_ranked_until END
     FROM unnest($2) AS u (change), jsonb_to_record(u.change) AS c(member_index integer, to_state text, error jsonb, message text)
     WHERE m.run_id = $1 AND m.member_index = c.member_index"
    };
}
pub(super) const ONE: &str = one!();
const ONE_TELLING: &str = concat!(one!(), tell!());
