//! Role assignments: who may do what, where.

use crate::database::{Connection, Pool};
use std::collections::HashMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{FromRow, Row, postgres::PgRow};
use uuid::Uuid;

use super::StoreError;

/// The channel on which changes are told: the principal's ID.
pub const CHANNEL: &str = "role_assignments";

/// Most assignments in a subscription and what is in it, as in Azure.
pub const MOST_IN_SUBSCRIPTION: i64 = 4000;

/// A role assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleAssignment {
    /// Its resource ID.
    pub arm_id: String,
    /// Its name.
    pub name: Uuid,
    /// Where it holds, in the spelling of its creation; `/` for everything.
    pub scope: String,
    /// Whose it is.
    pub principal_id: Uuid,
    /// What the principal is: `User`, `Group`, `ServicePrincipal`, as the creator said.
    pub principal_type: String,
    /// Which role.
    pub role_id: Uuid,
    /// What for.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Uuid,
    /// When it was changed.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: Uuid,
}

impl FromRow<'_, PgRow> for RoleAssignment {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let time = |name: &str| row.try_get::<jiff_sqlx::Timestamp, _>(name).map(jiff_sqlx::Timestamp::to_jiff);
        Ok(Self {
            arm_id: row.try_get("arm_id")?,
            name: row.try_get("name")?,
            scope: row.try_get("scope_arm_id")?,
            principal_id: row.try_get("principal_id")?,
            principal_type: row.try_get("principal_type")?,
            role_id: row.try_get("role_id")?,
            description: row.try_get("description")?,
            created_at: time("created_at")?,
            created_by: row.try_get("created_by")?,
            updated_at: time("updated_at")?,
            updated_by: row.try_get("updated_by")?,
        })
    }
}

impl RoleAssignment {
    /// The lower-cased scope; empty for everything.
    #[must_use]
    pub fn scope_key(&self) -> String {
        scope_key(&self.scope)
    }
}

/// A scope as it is compared: lower-cased, empty for everything.
#[must_use]
pub fn scope_key(scope: &str) -> String {
    scope.trim_end_matches('/').to_lowercase()
}

/// Scope (lower-cased) and role of all assignments of these principals.
pub async fn of_principals(pool: &Pool, principals: &[Uuid]) -> Result<HashMap<Uuid, Vec<(String, Uuid)>>, StoreError> {
    let rows: Vec<(Uuid, String, Uuid)> =
        sqlx::query_as("SELECT principal_id, scope, role_id FROM role_assignments WHERE principal_id = ANY($1)")
            .bind(principals)
            .fetch_all(pool)
            .await
            .map_err(StoreError::while_("reading a caller's role assignments"))?;
    let mut found: HashMap<Uuid, Vec<(String, Uuid)>> = HashMap::new();
    for (principal, scope, role) in rows {
        found.entry(principal).or_default().push((scope, role));
    }
    Ok(found)
}

/// The assignment with this resource ID, locked until the transaction ends.
pub async fn get_for_update(conn: &mut Connection, arm_id: &str) -> Result<Option<RoleAssignment>, StoreError> {
    sqlx::query_as("SELECT * FROM role_assignments WHERE key = lower($1) FOR UPDATE")
        .bind(arm_id)
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading a role assignment"))
}

/// The assignment with this resource ID.
pub async fn get(conn: &mut Connection, arm_id: &str) -> Result<Option<RoleAssignment>, StoreError> {
    sqlx::query_as("SELECT * FROM role_assignments WHERE key = lower($1)")
        .bind(arm_id)
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading a role assignment"))
}

/// Makes an assignment. `Some` is the other one of the same principal, role and scope (or of the same ID), and then nothing
/// changed.
pub async fn insert(conn: &mut Connection, new: &RoleAssignment) -> Result<Option<RoleAssignment>, StoreError> {
    let failed = "making a role assignment";
    let made = sqlx::query(
        "INSERT INTO role_assignments (key, arm_id, name, scope, scope_arm_id, principal_id, principal_type, role_id,
             description, created_at, created_by, updated_at, updated_by)
         VALUES (lower($1), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(&new.arm_id)
    .bind(new.name)
    .bind(new.scope_key())
    .bind(&new.scope)
    .bind(new.principal_id)
    .bind(&new.principal_type)
    .bind(new.role_id)
    .bind(&new.description)
    .bind(new.created_at.to_sqlx())
    .bind(new.created_by)
    .bind(new.updated_at.to_sqlx())
    .bind(new.updated_by)
    .execute(&mut *conn)
    .await
    .map_err(StoreError::while_(failed))?;
    if made.rows_affected() == 1 {
        return Ok(None);
    }
    sqlx::query_as(
        "SELECT * FROM role_assignments
         WHERE key = lower($1) OR (scope = $2 AND principal_id = $3 AND role_id = $4) LIMIT 1",
    )
    .bind(&new.arm_id)
    .bind(new.scope_key())
    .bind(new.principal_id)
    .bind(new.role_id)
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_(failed))
}

/// Changes what an assignment is for.
pub async fn describe(conn: &mut Connection, changed: &RoleAssignment) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE role_assignments SET description = $2, principal_type = $3, updated_at = $4, updated_by = $5
         WHERE key = lower($1)",
    )
    .bind(&changed.arm_id)
    .bind(&changed.description)
    .bind(&changed.principal_type)
    .bind(changed.updated_at.to_sqlx())
    .bind(changed.updated_by)
    .execute(conn)
    .await
    .map_err(StoreError::while_("changing a role assignment"))?;
    Ok(())
}

/// Takes an assignment back.
pub async fn delete(conn: &mut Connection, arm_id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM role_assignments WHERE key = lower($1)")
        .bind(arm_id)
        .execute(conn)
        .await
        .map_err(StoreError::while_("deleting a role assignment"))?;
    Ok(())
}

/// How many assignments there are on a scope and in it.
pub async fn count_within(conn: &mut Connection, scope: &str) -> Result<i64, StoreError> {
    // '0' follows '/': the range is that of all longer paths.
    sqlx::query_scalar(
        "SELECT count(*) FROM role_assignments WHERE scope = $1 OR (scope > $1 || '/' AND scope < $1 || '0')",
    )
    .bind(scope_key(scope))
    .fetch_one(conn)
    .await
    .map_err(StoreError::while_("counting role assignments"))
}

/// Which assignments are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this principal.
    pub principal: Option<Uuid>,
    /// Of one of these principals.
    pub any_of: Option<Vec<Uuid>>,
    /// Not those further down than the scope.
    pub at_scope: bool,
}

/// Assignments that hold on a scope, on what it is in, and (unless not wanted) in it; at most [`MOST_IN_SUBSCRIPTION`], and
/// those of what it is in.
pub async fn list(conn: &mut Connection, scope: &str, wanted: &Wanted) -> Result<Vec<RoleAssignment>, StoreError> {
    let scope = scope_key(scope);
    let mut above = vec![String::new()];
    above.extend(scope.match_indices('/').skip(1).filter_map(|(at, _)| scope.get(..at).map(str::to_owned)));
    above.push(scope.clone());
    sqlx::query_as(
        "SELECT * FROM role_assignments
         WHERE (scope = ANY($1) OR ($3 AND scope > $2 || '/' AND scope < $2 || '0'))
           AND ($4::uuid IS NULL OR principal_id = $4) AND ($5::uuid[] IS NULL OR principal_id = ANY($5))
         ORDER BY key",
    )
    .bind(above)
    .bind(&scope)
    .bind(!wanted.at_scope)
    .bind(wanted.principal)
    .bind(&wanted.any_of)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("listing role assignments"))
}
