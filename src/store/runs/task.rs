//! What the job of a member needs: the member, what its run wants, and what a person reads meanwhile.

use sqlx::{FromRow, Row, types::Json};
use uuid::Uuid;

use super::{
    locks::Holder,
    members::{RunMember, index, read_state},
};
use crate::{
    database::Connection,
    model::update_run::{ManagedClusterUpdate, NodeImageVersion, UpdateState},
    store::{
        StoreError,
        memberships::{Membership, membership},
    },
};

/// A member to upgrade, and what to.
#[derive(Debug, Clone)]
pub struct Task {
    /// The member.
    pub member: RunMember,
    /// The run's state.
    pub run_state: UpdateState,
    /// Who holds the cluster, if anybody does.
    pub cluster_holder: Option<Holder>,
    /// Whether the member may be upgraded.
    pub membership: Membership,
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
    let row = sqlx::query(concat!(
        "SELECT m.*, r.properties -> 'managedClusterUpdate' AS managed_cluster_update, u.selected_images, u.state AS run_state,
             jsonb_exists(r.properties, 'autoUpgradeProfileId') AS auto_upgrade,
             l.run_id AS holder_run, l.member_index AS holder_member, f.provisioning_state, f.is_joined, f.is_same_cluster
         FROM run_members m JOIN update_runs u USING (run_id) JOIN resources r ON r.id = m.run_id
             LEFT JOIN cluster_locks l ON l.cluster_key = lower(m.cluster_resource_id)
             LEFT JOIN LATERAL (",
        membership!("u.fleet_id", "m.name", "lower(m.cluster_resource_id)"),
             ") f ON true
         WHERE m.run_id = $1 AND m.member_index = $2"
    ))
    .bind(run_id)
    .bind(index(member))
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    row.map(|row| {
        Ok(Task {
            member: RunMember::from_row(&row)?,
            run_state: read_state(row.try_get("run_state")?)?,
            cluster_holder: row
                .try_get::<Option<Uuid>, _>("holder_run")?
                .map(|run_id| {
                    Ok::<_, sqlx::Error>(Holder {
                        run_id,
                        member: row.try_get::<i32, _>("holder_member")?.unsigned_abs(),
                    })
                })
                .transpose()?,
            membership: Membership::from_row(&row)?,
            update: row.try_get::<Json<_>, _>("managed_cluster_update")?.0,
            auto_upgrade: row.try_get("auto_upgrade")?,
            selected_images: row.try_get::<Json<_>, _>("selected_images")?.0,
        })
    })
    .transpose()
    .map_err(StoreError::while_(failed))
}
