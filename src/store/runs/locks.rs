//! One active member upgrade per cluster, across runs and replicas.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::Row;
use uuid::Uuid;

use crate::database::Connection;
use crate::{arm::ResourceId, store::StoreError};

/// Who holds a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The run's row.
    pub run_id: Uuid,
    /// [`crate::rollout::Member::index`] in that run.
    pub member: u32,
}

/// Locks a cluster for a member of a run. Returns the other member that holds it, in which case nothing changed. Locking again changes
/// nothing.
pub async fn try_lock_cluster(
    conn: &mut Connection,
    cluster: &ResourceId,
    by: Holder,
    now: Timestamp,
) -> Result<Option<Holder>, StoreError> {
    let failed = "locking a cluster";
    // The no-op update makes the row visible to RETURNING, whoever put it there and whenever.
    let row = sqlx::query(
        "INSERT INTO cluster_locks AS l (cluster_key, run_id, member_index, acquired_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (cluster_key) DO UPDATE SET acquired_at = l.acquired_at RETURNING run_id, member_index",
    )
    .bind(cluster.key())
    .bind(by.run_id)
    .bind(super::members::index(by.member))
    .bind(now.to_sqlx())
    .fetch_one(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    let read = || -> Result<Holder, sqlx::Error> {
        let member: i32 = row.try_get("member_index")?;
        Ok(Holder { run_id: row.try_get("run_id")?, member: member.unsigned_abs() })
    };
    let holder = read().map_err(StoreError::while_(failed))?;
    Ok((holder != by).then_some(holder))
}

/// Releases a cluster, if this member holds it.
pub async fn unlock_cluster(conn: &mut Connection, cluster: &ResourceId, by: Holder) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM cluster_locks WHERE cluster_key = $1 AND run_id = $2 AND member_index = $3")
        .bind(cluster.key())
        .bind(by.run_id)
        .bind(super::members::index(by.member))
        .execute(conn)
        .await
        .map_err(StoreError::while_("unlocking a cluster"))?;
    Ok(())
}
