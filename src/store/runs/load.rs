//! Reads the snapshot of a run for [`crate::rollout::advance`].

use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    members,
    rows::{GateRow, GroupRow, RunRow, StageRow, take_gates},
};
use crate::{
    database::Connection,
    model::{gate::Timing, update_run::UpdateState},
    rollout::{Group, Member, Run, Stage},
    store::StoreError,
};

/// The run, its stages, groups and gates in order, as JSON; for use in a `SELECT` over `update_runs r`.
macro_rules! nodes {
    () => {
        "'run', json_build_object('state', r.state, 'start_time', r.start_time, 'completed_time', r.completed_time,
              'error', r.error, 'stop_requested', r.stop_requested,
              'starting', r.starting, 'selected_images', r.selected_images),
         'stages', (SELECT coalesce(json_agg(s ORDER BY s.stage_index), '[]') FROM run_stages s
              WHERE s.run_id = r.run_id),
         'groups', (SELECT coalesce(json_agg(g ORDER BY g.group_index), '[]') FROM run_groups g
              WHERE g.run_id = r.run_id),
         'gates', (SELECT coalesce(json_agg(t ORDER BY t.gate_index), '[]') FROM run_gates t
              WHERE t.run_id = r.run_id)"
    };
}
pub(super) use nodes;

#[derive(Deserialize)]
struct Snapshot {
    run: RunRow,
    stages: Vec<StageRow>,
    groups: Vec<GroupRow>,
    gates: Vec<GateRow>,
    queue: Vec<QueuedRow>,
    audience: Option<Audience>,
}

/// The webhooks that get events of a run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Audience {
    /// The run's resource ID.
    pub run: String,
    /// All webhooks.
    pub webhooks: Vec<Listener>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The types of events that it gets; absent: all.
    pub types: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct QueuedRow {
    member_index: u32,
    group_index: u32,
    name: String,
    attempt: u32,
}

const LOCK: &str = "SELECT run_id FROM update_runs WHERE run_id = $1 FOR UPDATE";

/// What [`crate::rollout::advance`] needs, and the webhooks: all stages and groups, and of the current stage the members that can be
/// started next, at most as many as have a slot or get one by $2 events. Reads one index range a group, however many members there
/// are.
pub(super) const SNAPSHOT: &str = concat!(
    "SELECT json_build_object(",
    nodes!(),
    ",
         'audience', (SELECT json_build_object(
                 'run', (SELECT arm_id FROM resources WHERE id = r.run_id),
                 'webhooks', json_agg(json_build_object('name', w.name, 'types', w.types)))
             FROM webhooks w HAVING count(*) > 0),
         'queue', (SELECT coalesce(json_agg(m ORDER BY m.window_rank, m.member_index), '[]') FROM run_groups g,
             LATERAL (SELECT member_index, group_index, name, attempt, window_rank FROM run_members
                 WHERE run_id = g.run_id AND group_index = g.group_index AND state = 'NotStarted'
                 ORDER BY window_rank, member_index LIMIT g.max_concurrency - g.running + $2) m
             WHERE g.run_id = r.run_id AND g.not_started > 0 AND g.stage_index =
                 (SELECT min(stage_index) FROM run_stages
                  WHERE run_id = r.run_id AND state NOT IN ('Completed', 'Skipped'))))
     FROM update_runs r WHERE r.run_id = $1"
);

/// Locks a run for the rest of the transaction, and returns whether it exists. Locked before the rows of its jobs, as in transactions
/// that cancel them.
pub async fn lock(conn: &mut Connection, run_id: Uuid) -> Result<bool, StoreError> {
    let locked = sqlx::query(LOCK).bind(run_id).fetch_optional(conn).await;
    Ok(locked.map_err(StoreError::while_("locking an update run"))?.is_some())
}

/// The state of a run, which no step can change before the transaction ends. `None` when there is no such run.
pub async fn hold(conn: &mut Connection, run_id: Uuid) -> Result<Option<UpdateState>, StoreError> {
    let failed = "reading the state of an update run";
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM update_runs WHERE run_id = $1 FOR SHARE")
        .bind(run_id)
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_(failed))?;
    state.map(members::read_state).transpose().map_err(StoreError::while_(failed))
}

/// Whether the first start of a run was asked for and its members are not chosen yet.
pub async fn is_starting(conn: &mut Connection, run_id: Uuid) -> Result<bool, StoreError> {
    let starting: Option<bool> = sqlx::query_scalar("SELECT starting FROM update_runs WHERE run_id = $1")
        .bind(run_id)
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading whether an update run is being started"))?;
    Ok(starting.unwrap_or(false))
}

/// Locks a run for the rest of the transaction and reads it for one event. `None` when there is no such run.
pub async fn load_for_update(conn: &mut Connection, run_id: Uuid) -> Result<Option<Run>, StoreError> {
    Ok(load_for_events(conn, run_id, 1).await?.map(|(run, _)| run))
}

/// [`load_for_update`] for a number of events, with the webhooks that get events of the changes.
pub async fn load_for_events(
    conn: &mut Connection,
    run_id: Uuid,
    events: usize,
) -> Result<Option<(Run, Option<Audience>)>, StoreError> {
    let failed = "loading an update run";
    // A statement of its own: the next one then sees the changes of the transaction that held the lock.
    if !lock(conn, run_id).await? {
        return Ok(None);
    }
    let Json(mut snapshot): Json<Snapshot> = sqlx::query_scalar(SNAPSHOT)
        .bind(run_id)
        .bind(i32::try_from(events).unwrap_or(i32::MAX / 2))
        .fetch_one(conn)
        .await
        .map_err(StoreError::while_(failed))?;
    let audience = snapshot.audience.take();
    Ok(Some((snapshot.into(), audience)))
}

impl From<Snapshot> for Run {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { run, stages, mut groups, mut gates, mut queue, .. } = snapshot;
        let mut gates_at =
            |stage, group, timing| take_gates(&mut gates, stage, group, timing).into_iter().map(Into::into).collect();
        let stages = stages.into_iter().map(|row| {
            let stage = row.stage_index;
            let of_stage = groups.extract_if(.., |group| group.stage_index == stage);
            let groups = of_stage.map(|row| {
                let index = row.group_index;
                let member = |queued: QueuedRow| Member {
                    index: queued.member_index,
                    name: queued.name,
                    group: queued.group_index,
                    state: UpdateState::NotStarted,
                    attempt: queued.attempt,
                };
                Group {
                    index,
                    max_concurrency: row.max_concurrency,
                    max_allowed_failures: row.max_allowed_failures,
                    before: gates_at(stage, Some(index), Timing::Before),
                    after: gates_at(stage, Some(index), Timing::After),
                    tally: row.tally(),
                    queue: queue.extract_if(.., |queued| queued.group_index == index).map(member).collect(),
                    name: row.name,
                    status: row.node.into(),
                }
            });
            let groups = groups.collect();
            Stage {
                index: stage,
                max_concurrency: row.max_concurrency,
                max_allowed_failures: row.max_allowed_failures,
                before: gates_at(stage, None, Timing::Before),
                after: gates_at(stage, None, Timing::After),
                wait: row.wait(),
                groups,
                name: row.name,
                status: row.node.into(),
            }
        });
        let stages = stages.collect();
        Self { status: run.node.into(), stop_requested: run.stop_requested, starting: run.starting, stages }
    }
}
