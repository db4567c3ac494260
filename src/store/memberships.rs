//! Which cluster belongs to which fleet: at most one, once.

use sqlx::{Row, types::Json};
use uuid::Uuid;

use super::StoreError;
use crate::{
    arm::ResourceId,
    database::Connection,
    model::{member::MemberProperties, types},
    rollout::FleetMember,
};

/// Who holds a cluster already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The fleet's row.
    pub fleet: Uuid,
    /// The member's resource ID.
    pub member_arm_id: String,
}

/// Takes a cluster for a member. `Some` names the other member that has it, and then nothing changed.
///
/// # Errors
/// When the database fails.
pub async fn take(
    conn: &mut Connection,
    cluster: &ResourceId,
    fleet: Uuid,
    member: Uuid,
) -> Result<Option<Holder>, StoreError> {
    let failed = "taking a cluster for a member";
    let taken = sqlx::query(
        "INSERT INTO memberships (cluster_key, fleet_id, member_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(cluster.key())
    .bind(fleet)
    .bind(member)
    .execute(&mut *conn)
    .await
    .map_err(StoreError::while_(failed))?;
    if taken.rows_affected() == 1 {
        return Ok(None);
    }
    // A statement of its own: its snapshot sees the row that was in the way.
    let row = sqlx::query(
        "SELECT m.fleet_id, r.arm_id FROM memberships m JOIN resources r ON r.id = m.member_id
         WHERE m.cluster_key = $1 AND m.member_id <> $2",
    )
    .bind(cluster.key())
    .bind(member)
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    row.map(|row| Ok(Holder { fleet: row.try_get("fleet_id")?, member_arm_id: row.try_get("arm_id")? }))
        .transpose()
        .map_err(StoreError::while_(failed))
}

/// Gives a member's cluster free, for a join that failed.
///
/// # Errors
/// When the database fails.
pub async fn release(conn: &mut Connection, member: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM memberships WHERE member_id = $1")
        .bind(member)
        .execute(conn)
        .await
        .map_err(StoreError::while_("releasing a cluster"))?;
    Ok(())
}

/// The members of a fleet for a rollout, by name, with all of their labels; those that are leaving are not.
///
/// # Errors
/// When the database fails.
pub async fn fleet_members(conn: &mut Connection, fleet: Uuid) -> Result<Vec<FleetMember>, StoreError> {
    read_members(conn, fleet, None).await
}

/// [`fleet_members`] as far as this run is for them: all, unless it was made for some only.
///
/// # Errors
/// When the database fails.
pub async fn members_of_run(conn: &mut Connection, fleet: Uuid, run: Uuid) -> Result<Vec<FleetMember>, StoreError> {
    read_members(conn, fleet, Some(run)).await
}

async fn read_members(conn: &mut Connection, fleet: Uuid, run: Option<Uuid>) -> Result<Vec<FleetMember>, StoreError> {
    let failed = "reading the members of a fleet";
    let rows = sqlx::query(
        "SELECT name, properties, observed ->> 'location' AS location
         FROM resources WHERE parent_id = $1 AND type = $2 AND provisioning_state <> 'Leaving'
             AND coalesce(name = ANY ((SELECT only_members FROM update_runs WHERE run_id = $3)::text[]), true)
         ORDER BY key",
    )
    .bind(fleet)
    .bind(types::MEMBERS)
    .bind(run)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    rows.into_iter()
        .map(|row| {
            let name: String = row.try_get("name")?;
            let Json(properties): Json<MemberProperties> = row.try_get("properties")?;
            let labels = properties.all_labels(&name, row.try_get("location")?);
            Ok(FleetMember {
                name,
                cluster_resource_id: properties.cluster_resource_id,
                group: properties.group,
                labels,
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .map_err(StoreError::while_(failed))
}
