//! In which order the members of a group get free slots.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::members::index;
use crate::{
    database::Connection, model::update_run::ManagedClusterUpgradeType, rollout::upgrade::WindowRank, store::StoreError,
};

/// Most members of a group that are ranked at a time.
const BATCH: i32 = 50;

/// A member that queues for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMember {
    /// [`crate::rollout::Member::index`].
    pub index: u32,
    /// Its cluster, as the member spells it.
    pub cluster_resource_id: String,
    /// What the run does.
    pub upgrade_type: ManagedClusterUpgradeType,
    /// When its rank is to be looked at again.
    pub ranked_until: Timestamp,
}

/// A member's place in the queue of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankedMember {
    /// [`crate::rollout::Member::index`].
    pub index: u32,
    /// Members of a lower rank get free slots first.
    pub rank: WindowRank,
    /// When the rank is to be looked at again.
    pub until: Timestamp,
}

#[derive(Deserialize)]
struct Row {
    member_index: u32,
    cluster_resource_id: String,
    upgrade_type: ManagedClusterUpgradeType,
    /// In seconds.
    due_in: f64,
}

const TO_RANK: &str =
    "SELECT json_build_object('member_index', m.member_index, 'cluster_resource_id', m.cluster_resource_id,
         'upgrade_type', s.properties #>> '{managedClusterUpdate,upgrade,type}',
         'due_in', CASE WHEN m.window_ranked_until <= now() THEN -1
             ELSE extract(epoch FROM m.window_ranked_until - now()) END)
     FROM update_runs r JOIN resources s ON s.id = r.run_id JOIN run_groups g USING (run_id),
         LATERAL (SELECT member_index, cluster_resource_id, window_ranked_until FROM run_members
             WHERE run_id = g.run_id AND group_index = g.group_index AND state = 'NotStarted'
             ORDER BY window_ranked_until LIMIT $2) m
     WHERE r.run_id = $1 AND r.state IN ('Running', 'Pending') AND g.not_started > 1 AND g.stage_index =
         (SELECT min(stage_index) FROM run_stages WHERE run_id = $1 AND state NOT IN ('Completed', 'Skipped'))";

/// The members that queue with others in the stage whose turn it is, those whose rank is to be looked at first of each group.
/// Empty when the run is not in progress.
pub async fn members_to_rank(conn: &mut Connection, run_id: Uuid) -> Result<Vec<QueuedMember>, StoreError> {
    let rows: Vec<Json<Row>> = sqlx::query_scalar(TO_RANK)
        .bind(run_id)
        .bind(BATCH)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("reading the members of an update run that queue"))?;
    let now = Timestamp::now();
    let member = |Json(row): Json<Row>| QueuedMember {
        index: row.member_index,
        cluster_resource_id: row.cluster_resource_id,
        upgrade_type: row.upgrade_type,
        ranked_until: now.saturating_add(SignedDuration::from_secs_f64(row.due_in)).unwrap_or(Timestamp::MAX),
    };
    Ok(rows.into_iter().map(member).collect())
}

/// Keeps the ranks of members.
pub async fn rank_members(conn: &mut Connection, run_id: Uuid, ranked: &[RankedMember]) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE run_members m SET window_rank = u.rank, window_ranked_until = u.until
         FROM unnest($2::integer[], $3::smallint[], $4::timestamptz[]) AS u (member_index, rank, until)
         WHERE m.run_id = $1 AND m.member_index = u.member_index AND m.state = 'NotStarted'",
    )
    .bind(run_id)
    .bind(ranked.iter().map(|member| index(member.index)).collect::<Vec<_>>())
    .bind(ranked.iter().map(|member| number(member.rank)).collect::<Vec<_>>())
    .bind(ranked.iter().map(|member| jiff_sqlx::ToSqlx::to_sqlx(member.until)).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map_err(StoreError::while_("ranking the members of an update run"))?;
    Ok(())
}

/// A rank as the column holds it.
pub(super) const fn number(rank: WindowRank) -> i16 {
    match rank {
        WindowRank::Open => 0,
        WindowRank::OpensSoon => 1,
        WindowRank::NoWindow => 2,
        WindowRank::Closed => 3,
    }
}
