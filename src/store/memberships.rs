//! Which cluster belongs to which fleet: at most one, once.

use sqlx::{Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{StoreError, resources};
use crate::{
    arm::ResourceId,
    database::Connection,
    model::{member::MemberProperties, provisioning_state::ProvisioningState, types},
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

/// Whether a member of a run may be upgraded by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// The cluster belongs to the run's fleet under the member's name.
    Joined,
    /// The member exists, but its cluster was never accepted, or was released when it joined again and that failed.
    NotJoined {
        /// The state of the member.
        provisioning_state: ProvisioningState,
    },
    /// The member is leaving the fleet, has left it, or stands for another cluster now.
    Left,
}

/// The query whose row is a [`Membership`], of a fleet's row, a member's name and a cluster's key. No row: [`Membership::Left`].
macro_rules! membership {
    ($fleet:literal, $name:literal, $cluster:literal) => {
        concat!(
            "SELECT r.provisioning_state, lower(r.properties ->> 'clusterResourceId') = ",
            $cluster,
            " AS is_same_cluster, jsonb_exists(r.observed, 'location') AND EXISTS (SELECT FROM memberships
                 WHERE member_id = r.id AND cluster_key = ",
            $cluster,
            ") AS is_joined
             FROM resources f JOIN resources r ON r.key = f.key || '/members/' || lower(",
            $name,
            ") WHERE f.id = ",
            $fleet
        )
    };
}
pub(super) use membership;

impl Membership {
    /// Reads the columns of the query, which are NULL where it has no row.
    pub(super) fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let Some(state) = row.try_get::<Option<String>, _>("provisioning_state")? else { return Ok(Self::Left) };
        let is = |column| row.try_get::<Option<bool>, _>(column).map(Option::unwrap_or_default);
        Ok(match (resources::provisioning_state(&state)?, is("is_joined")?, is("is_same_cluster")?) {
            (ProvisioningState::Succeeded | ProvisioningState::Updating, true, true) => Self::Joined,
            (ProvisioningState::Leaving, ..) | (_, _, false) => Self::Left,
            (provisioning_state, _, true) => Self::NotJoined { provisioning_state },
        })
    }
}

/// The membership of a run's member. It cannot change before the transaction ends.
pub async fn of_run_member(
    conn: &mut Connection,
    run: Uuid,
    name: &str,
    cluster: &ResourceId,
) -> Result<Membership, StoreError> {
    // Of rows that changed while the lock was waited for, only the member's own is read again: hence the states.
    const MEMBERSHIP: &str =
        concat!(membership!("(SELECT fleet_id FROM update_runs WHERE run_id = $1)", "$2", "$3"), " FOR SHARE OF r");
    let failed = "checking the membership of a run's member";
    let row = sqlx::query(MEMBERSHIP)
        .bind(run)
        .bind(name)
        .bind(cluster.key())
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_(failed))?;
    row.map_or(Ok(Membership::Left), |row| Membership::from_row(&row)).map_err(StoreError::while_(failed))
}

/// Makes a cluster a member's. `Some` names the other member that has it, and then nothing changed.
pub async fn take(
    conn: &mut Connection,
    cluster: &ResourceId,
    fleet: Uuid,
    member: Uuid,
) -> Result<Option<Holder>, StoreError> {
    let failed = "taking a cluster for a member";
    // The holder's deletion may commit between the INSERT, which sees its row, and the SELECT, which does not.
    loop {
        let inserted = sqlx::query(
            "INSERT INTO memberships (cluster_key, fleet_id, member_id) VALUES ($1, $2, $3)
             ON CONFLICT (cluster_key) DO NOTHING",
        )
        .bind(cluster.key())
        .bind(fleet)
        .bind(member)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_(failed))?;
        if inserted.rows_affected() == 1 {
            return Ok(None);
        }
        // A statement of its own, so that its snapshot sees the row that the INSERT found.
        let holder: Option<(Uuid, Uuid, String)> = sqlx::query_as(
            "SELECT m.member_id, m.fleet_id, r.arm_id FROM memberships m JOIN resources r ON r.id = m.member_id
             WHERE m.cluster_key = $1",
        )
        .bind(cluster.key())
        .fetch_optional(&mut *conn)
        .await
        .map_err(StoreError::while_(failed))?;
        if let Some((holder, fleet, member_arm_id)) = holder {
            return Ok((holder != member).then_some(Holder { fleet, member_arm_id }));
        }
    }
}

/// Gives a member's cluster free, for a join that failed.
pub async fn release(conn: &mut Connection, member: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM memberships WHERE member_id = $1")
        .bind(member)
        .execute(conn)
        .await
        .map_err(StoreError::while_("releasing a cluster"))?;
    Ok(())
}

/// Keys of all clusters that are members of some fleet.
pub async fn clusters(conn: &mut Connection) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar("SELECT cluster_key FROM memberships ORDER BY cluster_key")
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("reading the clusters of all members"))
}

/// The members of a fleet for a rollout, by name, with all of their labels; those that are leaving are not.
pub async fn fleet_members(conn: &mut Connection, fleet: Uuid) -> Result<Vec<FleetMember>, StoreError> {
    read_members(conn, fleet, None).await
}

/// [`fleet_members`] as far as this run is for them: all, unless it was made for some only.
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
