//! What the job of a member needs: the member, what its run wants, and what a person reads meanwhile.

use sqlx::{FromRow, Row, types::Json};
use uuid::Uuid;

use super::{
    locks::Holder,
    members::{RunMember, index, read_state},
};
use crate::{
    arm::ResourceId,
    database::Connection,
    model::update_run::{ManagedClusterUpdate, NodeImageVersion, UpdateState},
    rollout::Member,
    store::StoreError,
};

/// A member to upgrade, and what to.
#[derive(Debug, Clone)]
pub struct Task {
    /// The member.
    pub member: RunMember,
    /// The run's state.
    pub run_state: UpdateState,
    /// The member holds its cluster: no other run upgrades it.
    pub holds_cluster: bool,
    /// What the run wants.
    pub update: ManagedClusterUpdate,
    /// An auto-upgrade profile made the run.
    pub auto_upgrade: bool,
    /// Node images chosen for the whole run.
    pub selected_images: Vec<NodeImageVersion>,
}

/// Reads a member by its index, with what its run wants, in one statement.
pub async fn task(conn: &mut Connection, run_id: Uuid, member: u32) -> Result<Option<Task>, StoreError> {
    let failed = "reading what a member's upgrade needs";
    let row = sqlx::query(
        "SELECT m.*, r.properties -> 'managedClusterUpdate' AS managed_cluster_update, u.selected_images, u.state AS run_state,
             jsonb_exists(r.properties, 'autoUpgradeProfileId') AS auto_upgrade,
             EXISTS (SELECT FROM cluster_locks l WHERE l.cluster_key = lower(m.cluster_resource_id)
                 AND l.run_id = m.run_id AND l.member_index = m.member_index) AS holds_cluster
         FROM run_members m JOIN update_runs u USING (run_id) JOIN resources r ON r.id = m.run_id
         WHERE m.run_id = $1 AND m.member_index = $2",
    )
    .bind(run_id)
    .bind(index(member))
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    row.map(|row| {
        Ok(Task {
            member: RunMember::from_row(&row)?,
            run_state: read_state(row.try_get("run_state")?)?,
            holds_cluster: row.try_get("holds_cluster")?,
            update: row.try_get::<Json<_>, _>("managed_cluster_update")?.0,
            auto_upgrade: row.try_get("auto_upgrade")?,
            selected_images: row.try_get::<Json<_>, _>("selected_images")?.0,
        })
    })
    .transpose()
    .map_err(StoreError::while_(failed))
}

/// The member of a run that holds a cluster. Locks nothing.
pub async fn cluster_holder(conn: &mut Connection, cluster: &ResourceId) -> Result<Option<Holder>, StoreError> {
    let failed = "looking who holds a cluster";
    let row = sqlx::query("SELECT run_id, member_index FROM cluster_locks WHERE cluster_key = $1")
        .bind(cluster.key())
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_(failed))?;
    row.map(|row| {
        let member: i32 = row.try_get("member_index")?;
        Ok(Holder { run_id: row.try_get("run_id")?, member: member.unsigned_abs() })
    })
    .transpose()
    .map_err(StoreError::while_(failed))
}

/// Sets the message of a member in flight. Its state stays.
pub async fn set_message(
    conn: &mut Connection,
    run_id: Uuid,
    member: &Member,
    message: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE run_members SET message = $4
         WHERE run_id = $1 AND member_index = $2 AND attempt = $3 AND state IN ('Running', 'Pending')",
    )
    .bind(run_id)
    .bind(index(member.index))
    .bind(index(member.attempt))
    .bind(message)
    .execute(conn)
    .await
    .map_err(StoreError::while_("keeping a member's message"))?;
    Ok(())
}
