//! The status document, assembled on read.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use sqlx::{Row, types::Json};
use uuid::Uuid;

use super::{
    load::nodes,
    rows::{GateRow, GroupRow, RunRow, StageRow, take_gates},
};
use crate::{
    arm::{ErrorDetail, ResourceId},
    database::Connection,
    model::{
        gate::Timing,
        update_run::{
            MemberUpdateStatus, NodeImageSelectionStatus, NodeImageVersion, UpdateGroupStatus, UpdateRunGateStatus,
            UpdateRunStatus, UpdateStageStatus, UpdateState, UpdateStatus, WaitStatus,
        },
    },
    rollout::{Gate, Waits},
    store::StoreError,
};

/// Everything about some runs, each in one row: one statement sees one moment.
pub(super) const STATUS: &str = concat!(
    "SELECT r.run_id, json_build_object(",
    nodes!(),
    ",
         'members', (SELECT coalesce(json_agg(m ORDER BY m.member_index), '[]')
              FROM (SELECT member_index, group_index, name, cluster_resource_id, state, start_time, completed_time,
                        error, message, operation_id FROM run_members WHERE run_id = r.run_id) m))
         AS document
     FROM update_runs r WHERE r.run_id = ANY($1)"
);

const SELECTED: &str = "SELECT selected_images FROM update_runs WHERE run_id = $1";

const SELECT: &str = "UPDATE update_runs SET selected_images = $2,
         error = CASE WHEN state <> 'NotStarted' THEN error END
     WHERE run_id = $1";

const EXPLAIN: &str = "UPDATE update_runs SET error = $2 WHERE run_id = $1 AND state = 'NotStarted'";

#[derive(Deserialize)]
struct Document {
    run: RunRow,
    stages: Vec<StageRow>,
    groups: Vec<GroupRow>,
    gates: Vec<GateRow>,
    members: Vec<StatusRow>,
}

#[derive(Deserialize)]
pub(super) struct StatusRow {
    pub(super) group_index: u32,
    name: String,
    cluster_resource_id: String,
    state: UpdateState,
    start_time: Option<Timestamp>,
    completed_time: Option<Timestamp>,
    error: Option<ErrorDetail>,
    message: Option<String>,
    operation_id: Option<String>,
}

/// The status of a run of this fleet (whose ID the gates' begin with). `None` when there is no such run.
pub async fn status(
    conn: &mut Connection,
    run_id: Uuid,
    fleet: &ResourceId,
) -> Result<Option<UpdateRunStatus>, StoreError> {
    Ok(statuses(conn, &[run_id], fleet).await?.remove(&run_id))
}

/// The status of several runs of a fleet, by run; those that do not exist are missing.
pub async fn statuses(
    conn: &mut Connection,
    run_ids: &[Uuid],
    fleet: &ResourceId,
) -> Result<HashMap<Uuid, UpdateRunStatus>, StoreError> {
    let documents = documents(conn, run_ids).await?;
    Ok(documents.into_iter().map(|(run, document)| (run, document.into_status(Some(fleet)))).collect())
}

/// How many members runs have, by run.
pub async fn member_counts(conn: &mut Connection, run_ids: &[Uuid]) -> Result<HashMap<Uuid, u64>, StoreError> {
    let counts: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT run_id, sum(not_started + running + pending + stopped + skipped + failed + completed)
         FROM run_groups WHERE run_id = ANY($1) GROUP BY run_id",
    )
    .bind(run_ids)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("counting the members of update runs"))?;
    Ok(counts.into_iter().map(|(run, members)| (run, members.unsigned_abs())).collect())
}

/// The status of a run without the IDs of its gates.
pub async fn status_without_gates(conn: &mut Connection, run_id: Uuid) -> Result<Option<UpdateRunStatus>, StoreError> {
    Ok(documents(conn, &[run_id]).await?.pop().map(|(_, document)| document.into_status(None)))
}

async fn documents(conn: &mut Connection, run_ids: &[Uuid]) -> Result<Vec<(Uuid, Document)>, StoreError> {
    let failed = "reading the status of update runs";
    let rows = sqlx::query(STATUS).bind(run_ids).fetch_all(conn).await.map_err(StoreError::while_(failed))?;
    rows.into_iter()
        .map(|row| Ok((row.try_get("run_id")?, row.try_get::<Json<Document>, _>("document")?.0)))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(StoreError::while_(failed))
}

/// The node images chosen for the whole run; empty when none are.
pub async fn selected_images(conn: &mut Connection, run_id: Uuid) -> Result<Vec<NodeImageVersion>, StoreError> {
    let images: Option<Json<Vec<NodeImageVersion>>> = sqlx::query_scalar(SELECTED)
        .bind(run_id)
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading the images of an update run"))?;
    Ok(images.map(|Json(images)| images).unwrap_or_default())
}

/// Stores why a run whose start was requested has not begun. The start, and the choice of images, remove the reason.
pub async fn explain_wait(conn: &mut Connection, run_id: Uuid, reason: &ErrorDetail) -> Result<(), StoreError> {
    sqlx::query(EXPLAIN)
        .bind(run_id)
        .bind(Json(reason))
        .execute(conn)
        .await
        .map_err(StoreError::while_("explaining why an update run waits"))?;
    Ok(())
}

/// Freezes the node images of a run.
pub async fn select_images(conn: &mut Connection, run_id: Uuid, images: &[NodeImageVersion]) -> Result<(), StoreError> {
    sqlx::query(SELECT)
        .bind(run_id)
        .bind(Json(images))
        .execute(conn)
        .await
        .map_err(StoreError::while_("choosing the images of an update run"))?;
    Ok(())
}

impl Document {
    fn into_status(self, fleet: Option<&ResourceId>) -> UpdateRunStatus {
        let Self { run, stages, groups, mut gates, members } = self;
        let mut by_group: HashMap<u32, Vec<MemberUpdateStatus>> = HashMap::new();
        for member in members {
            by_group.entry(member.group_index).or_default().push(member.into());
        }
        let mut gates_at = |stage, group, timing| -> Vec<UpdateRunGateStatus> {
            take_gates(&mut gates, stage, group, timing).into_iter().map(|gate| gate_status(gate, fleet)).collect()
        };
        let mut by_stage: HashMap<u32, (u32, Vec<UpdateGroupStatus>)> = HashMap::new();
        let mut waits_of: HashMap<u32, Waits> = HashMap::new();
        for group in groups {
            let index = Some(group.group_index);
            let failed = group.tally().failed;
            let (failures, of_stage) = by_stage.entry(group.stage_index).or_default();
            *failures += failed;
            let before_gates = gates_at(group.stage_index, index, Timing::Before);
            let members = by_group.remove(&group.group_index).unwrap_or_default();
            let mut waits = Waits::default();
            members.iter().for_each(|member| waits.add(member.status.state, member.status.error.as_ref()));
            waits_of.entry(group.stage_index).or_default().merge(&waits);
            of_stage.push(UpdateGroupStatus {
                status: waiting(begun_behind(&before_gates, group.node.into()), &waits),
                members,
                before_gates,
                after_gates: gates_at(group.stage_index, index, Timing::After),
                max_concurrency: Some(group.max_concurrency),
                max_allowed_failures: Some(group.max_allowed_failures),
                failure_count: Some(failed),
                name: group.name,
                explanation: None,
            });
        }
        let failures = by_stage.values().map(|(failed, _)| failed).sum();
        let mut all_waits = Waits::default();
        waits_of.values().for_each(|waits| all_waits.merge(waits));
        let stages = stages.into_iter().map(|stage| {
            let waits = waits_of.remove(&stage.stage_index).unwrap_or_default();
            let (failed, groups) = by_stage.remove(&stage.stage_index).unwrap_or_default();
            let before_gates = gates_at(stage.stage_index, None, Timing::Before);
            let wait = stage.wait();
            UpdateStageStatus {
                status: waiting(begun_behind(&before_gates, stage.node.into()), &waits),
                groups,
                before_gates,
                after_gates: gates_at(stage.stage_index, None, Timing::After),
                after_stage_wait_status: wait.map(|wait| WaitStatus {
                    status: wait.status,
                    wait_duration_in_seconds: i32::try_from(wait.seconds).unwrap_or(i32::MAX),
                }),
                max_concurrency: Some(stage.max_concurrency),
                max_allowed_failures: Some(stage.max_allowed_failures),
                failure_count: Some(failed),
                name: stage.name,
                explanation: None,
            }
        });
        UpdateRunStatus {
            stages: stages.collect(),
            status: waiting(run.node.into(), &all_waits),
            node_image_selection: NodeImageSelectionStatus { selected_node_image_versions: run.selected_images },
            failure_count: Some(failures),
            explanation: None,
            actions: Vec::new(),
        }
    }
}

/// Adds to a Pending node what its members wait for.
fn waiting(mut status: UpdateStatus, waits: &Waits) -> UpdateStatus {
    if status.state == UpdateState::Pending && status.error.is_none() {
        status.error = waits.error();
    }
    status
}

/// A stage or group is reached when its gates are, and has begun when the last of them was passed: as Azure shows it.
fn begun_behind(gates: &[UpdateRunGateStatus], mut status: UpdateStatus) -> UpdateStatus {
    let held = gates.iter().any(|gate| !gate.status.state.is_finished());
    let passed = gates.iter().filter_map(|gate| gate.status.completed_time).max();
    status.start_time = status.start_time.filter(|_| !held).map(|reached| passed.map_or(reached, |at| at.max(reached)));
    status
}

/// A gate has an ID from the moment the run reaches it.
fn gate_status(gate: GateRow, fleet: Option<&ResourceId>) -> UpdateRunGateStatus {
    let gate = Gate::from(gate);
    let reached = fleet.filter(|_| gate.status.start_time.is_some());
    UpdateRunGateStatus {
        opens_at: gate.due(),
        gate_id: reached.map(|fleet| fleet.child("gates", &gate.id.to_string())),
        display_name: gate.display_name,
        status: gate.status,
    }
}

impl From<StatusRow> for MemberUpdateStatus {
    fn from(row: StatusRow) -> Self {
        Self {
            status: UpdateStatus {
                start_time: row.start_time,
                completed_time: row.completed_time,
                state: row.state,
                error: row.error,
            },
            name: row.name,
            cluster_resource_id: row.cluster_resource_id,
            operation_id: row.operation_id,
            message: row.message,
            explanation: None,
        }
    }
}
