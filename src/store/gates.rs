//! Gate resources: rows of `resources` whose parent is their run, so that they go with it.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    StoreError,
    resources::{Author, Resource},
};
use crate::{
    arm::{ResourceId, page::Page},
    database::Connection,
    model::{
        gate::{GateProperties, GateState},
        types,
    },
};

/// Creates a gate resource; one that exists stays as it is.
pub async fn open(
    conn: &mut Connection,
    id: &ResourceId,
    run: Uuid,
    properties: &GateProperties,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO resources (id, key, arm_id, type, name, parent_id, subscription, resource_group, properties,
             provisioning_state, etag, created_at, created_by, created_by_type, modified_at, modified_by,
             modified_by_type)
         VALUES ($1, $2, $3, $4, $5, $6, lower($7), lower($8), $9, 'Succeeded', $10, $11, '', '', $11, '', '')
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(Uuid::now_v7())
    .bind(id.key())
    .bind(id.to_string())
    .bind(types::GATES)
    .bind(id.name())
    .bind(run)
    .bind(id.subscription())
    .bind(id.resource_group().unwrap_or_default())
    .bind(Json(properties))
    .bind(Uuid::new_v4())
    .bind(now.to_sqlx())
    .execute(conn)
    .await
    .map_err(StoreError::while_("opening a gate"))?;
    Ok(())
}

/// Sets a pending gate to `Skipped`.
pub async fn skip(conn: &mut Connection, id: &ResourceId, now: Timestamp) -> Result<(), StoreError> {
    close(conn, id, GateState::Skipped, None, now).await
}

/// Sets a pending gate to `Completed`, and records who did; `None`: its time had come.
pub async fn complete(
    conn: &mut Connection,
    id: &ResourceId,
    author: Option<Author<'_>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    close(conn, id, GateState::Completed, author, now).await
}

async fn close(
    conn: &mut Connection,
    id: &ResourceId,
    state: GateState,
    author: Option<Author<'_>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    // A gate has no author until a person touches it, and is then that person's as if made by it.
    sqlx::query(
        "UPDATE resources SET properties = jsonb_set(properties, '{state}', to_jsonb($2::text)), etag = $3, modified_at = $4,
             created_at = CASE WHEN $5::text IS NULL THEN created_at ELSE $4 END,
             created_by = coalesce($5, created_by), created_by_type = coalesce($6, created_by_type),
             modified_by = coalesce($5, modified_by), modified_by_type = coalesce($6, modified_by_type)
         WHERE key = $1 AND properties ->> 'state' = $7",
    )
    .bind(id.key())
    .bind(state.as_str())
    .bind(Uuid::new_v4())
    .bind(now.to_sqlx())
    .bind(author.map(|author| author.name))
    .bind(author.map(|author| author.kind))
    .bind(GateState::Pending.as_str())
    .execute(conn)
    .await
    .map_err(StoreError::while_("closing a gate"))?;
    Ok(())
}

/// Deletes the gates of a run, and returns them.
pub async fn delete_of_run(conn: &mut Connection, run: Uuid) -> Result<Vec<Resource>, StoreError> {
    sqlx::query_as("DELETE FROM resources WHERE parent_id = $1 AND type = $2 RETURNING *")
        .bind(run)
        .bind(types::GATES)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("deleting gates"))
}

/// A page of a fleet's gates, and whether there are more.
pub async fn list(
    conn: &mut Connection,
    fleet: &ResourceId,
    state: Option<&str>,
    gate_type: Option<&str>,
    page: &Page,
) -> Result<(Vec<Resource>, bool), StoreError> {
    // Keys between the collection's first and the first that is not in it: '0' follows '/'.
    let (from, to) = (format!("{}/gates/", fleet.key()), format!("{}/gates0", fleet.key()));
    let rows = sqlx::query_as(
        "SELECT * FROM resources WHERE key > $1 AND key < $2
             AND ($3::text IS NULL OR lower(properties ->> 'state') = lower($3))
             AND ($4::text IS NULL OR lower(properties ->> 'gateType') = lower($4))
         ORDER BY key LIMIT $5",
    )
    .bind(page.after.as_deref().unwrap_or(&from))
    .bind(to)
    .bind(state)
    .bind(gate_type)
    .bind(i64::from(page.limit) + 1)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("listing gates"))?;
    Ok(super::resources::cut(rows, page))
}
