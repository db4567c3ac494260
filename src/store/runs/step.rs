//! Writing what steps of a run changed.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    rows::{GroupRow, StageRow},
    status::StatusRow,
};
use crate::{
    database::Connection,
    rollout::{ChangedMember, Gate, MemberChange, Run},
    store::StoreError,
};

/// Writes what changed between two snapshots of a locked run, and its members' changes: at most one statement a table, and one
/// more for changes of whole groups. Returns the members that changed, in order, if `returning`; else none.
pub async fn write_step(
    conn: &mut Connection,
    run_id: Uuid,
    before: &Run,
    after: &Run,
    members: &[MemberChange],
    now: Timestamp,
    returning: bool,
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
    for (silent, returning_too, rows) in [(ALL, ALL_RETURNING, all), (ONE, ONE_RETURNING, one)] {
        match (rows.is_empty(), returning) {
            (true, _) => {}
            (false, true) => changed.extend(write_returning(conn, run_id, returning_too, &rows, now).await?),
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

/// [`write()`], which returns the members that changed.
async fn write_returning(
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

/// Makes a change of members return them.
macro_rules! returning {
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
const ALL_RETURNING: &str = concat!(all!(), returning!());

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
const ONE_RETURNING: &str = concat!(one!(), returning!());
