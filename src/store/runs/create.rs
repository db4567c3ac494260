//! A run's rows before its start.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::ranks;
use crate::{
    database::Connection,
    model::{gate::Timing, strategy::GateConfiguration, update_run::UpdateState},
    rollout::Plan,
    store::StoreError,
};

const INSERT_RUN: &str = "INSERT INTO update_runs (run_id, fleet_id, state) VALUES ($1, $2, 'NotStarted')";

const DELETE_STAGES: &str = "DELETE FROM run_stages WHERE run_id = $1";

const INSERT_STAGES: &str = "INSERT INTO run_stages
         (run_id, stage_index, name, max_concurrency, max_allowed_failures, state, wait_seconds, wait_state)
     SELECT $1, stage_index, name, max_concurrency, max_allowed_failures, 'NotStarted', wait_seconds,
         CASE WHEN wait_seconds IS NOT NULL THEN 'NotStarted' END
     FROM jsonb_to_recordset($2) AS c(stage_index integer, name text, max_concurrency integer,
         max_allowed_failures integer, wait_seconds integer)";

const INSERT_GROUPS: &str = "INSERT INTO run_groups
         (run_id, group_index, stage_index, name, max_concurrency, max_allowed_failures, state,
          not_started, running, pending, stopped, skipped, failed, completed)
     SELECT $1, group_index, stage_index, name, max_concurrency, max_allowed_failures, 'NotStarted',
         not_started, 0, 0, 0, skipped, 0, 0
     FROM jsonb_to_recordset($2) AS c(group_index integer, stage_index integer, name text, max_concurrency integer,
         max_allowed_failures integer, not_started integer, skipped integer)";

const INSERT_GATES: &str = "INSERT INTO run_gates
         (run_id, stage_index, group_index, timing, gate_index, display_name, gate_type, schedule, state)
     SELECT $1, stage_index, group_index, timing, gate_index, display_name, gate_type, schedule, 'NotStarted'
     FROM jsonb_to_recordset($2) AS c(stage_index integer, group_index integer, timing text, gate_index integer,
         display_name text, gate_type text, schedule jsonb)";

const INSERT_MEMBERS: &str = "INSERT INTO run_members
         (run_id, member_index, group_index, name, cluster_resource_id, state, completed_time, message, window_rank,
          window_ranked_until)
     SELECT $1, member_index, group_index, name, cluster_resource_id, state, completed_time, message, window_rank,
         coalesce(window_ranked_until, '-infinity')
     FROM jsonb_to_recordset($2) AS c(member_index integer, group_index integer, name text, cluster_resource_id text,
         state text, completed_time timestamptz, message text, window_rank smallint, window_ranked_until timestamptz)";

/// Inserts the rows of a run whose resource was just created. A few statements, whatever the number of members.
pub async fn create_rows(
    conn: &mut Connection,
    run_id: Uuid,
    fleet_id: Uuid,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(INSERT_RUN)
        .bind(run_id)
        .bind(fleet_id)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_("creating an update run"))?;
    insert(conn, run_id, plan, now).await
}

/// Limits a run to these members of its fleet, in this and later plans.
pub async fn limit_to(conn: &mut Connection, run_id: Uuid, members: &BTreeSet<String>) -> Result<(), StoreError> {
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    sqlx::query("UPDATE update_runs SET only_members = $2 WHERE run_id = $1")
        .bind(run_id)
        .bind(names)
        .execute(conn)
        .await
        .map_err(StoreError::while_("limiting an update run to members"))?;
    Ok(())
}

/// Replaces the plan of a run by another. The caller has locked the run, and has seen that it has not begun.
pub async fn replace_rows(conn: &mut Connection, run_id: Uuid, plan: &Plan, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(DELETE_STAGES)
        .bind(run_id)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_("replacing the plan of an update run"))?;
    insert(conn, run_id, plan, now).await
}

async fn insert(conn: &mut Connection, run_id: Uuid, plan: &Plan, now: Timestamp) -> Result<(), StoreError> {
    let (mut stages, mut groups, mut gates, mut members) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (stage_index, stage) in plan.stages.iter().enumerate() {
        stages.push(json!({
            "stage_index": stage_index,
            "name": stage.name,
            "max_concurrency": stage.max_concurrency,
            "max_allowed_failures": count(stage.max_allowed_failures),
            "wait_seconds": stage.wait_seconds,
        }));
        gates_of(&mut gates, stage_index, None, &stage.before_gates, &stage.after_gates);
        for group in &stage.groups {
            let group_index = groups.len();
            groups.push(json!({
                "group_index": group_index,
                "stage_index": stage_index,
                "name": group.name,
                "max_concurrency": group.max_concurrency,
                "max_allowed_failures": count(group.max_allowed_failures),
                "not_started": group.members.iter().filter(|member| member.repeats.is_none()).count(),
                "skipped": group.members.iter().filter(|member| member.repeats.is_some()).count(),
            }));
            gates_of(&mut gates, stage_index, Some(group_index), &group.before_gates, &group.after_gates);
            for member in &group.members {
                let skipped = member.repeats.is_some();
                members.push(json!({
                    "member_index": members.len(),
                    "group_index": group_index,
                    "name": member.name,
                    "cluster_resource_id": member.cluster_resource_id,
                    "state": if skipped { UpdateState::Skipped } else { UpdateState::NotStarted },
                    "completed_time": skipped.then_some(now),
                    "message": member.repeats,
                    "window_rank": ranks::number(member.window.rank),
                    "window_ranked_until": member.window.until,
                }));
            }
        }
    }
    let tables = [(INSERT_STAGES, stages), (INSERT_GROUPS, groups), (INSERT_GATES, gates), (INSERT_MEMBERS, members)];
    for (statement, rows) in tables {
        if !rows.is_empty() {
            sqlx::query(statement)
                .bind(run_id)
                .bind(Json(Value::Array(rows)))
                .execute(&mut *conn)
                .await
                .map_err(StoreError::while_("storing the plan of an update run"))?;
        }
    }
    Ok(())
}

fn gates_of(
    rows: &mut Vec<Value>,
    stage_index: usize,
    group_index: Option<usize>,
    before: &[GateConfiguration],
    after: &[GateConfiguration],
) {
    for (timing, gates) in [(Timing::Before, before), (Timing::After, after)] {
        for (gate_index, gate) in gates.iter().enumerate() {
            rows.push(json!({
                "stage_index": stage_index,
                "group_index": group_index,
                "timing": timing,
                "gate_index": gate_index,
                "display_name": gate.display_name,
                "gate_type": gate.gate_type,
                "schedule": gate.scheduled_start_configuration,
            }));
        }
    }
}

/// A tolerance as the column holds it. The largest value is more than any fleet has members.
fn count(tolerance: u32) -> i32 {
    i32::try_from(tolerance).unwrap_or(i32::MAX)
}
