//! The `resources` table: the ARM envelope of every type.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow};
use uuid::Uuid;

use super::{StoreError, operations::NewOperation};
use crate::arm::{
    ErrorDetail, Etag, Precondition, ResourceId,
    envelope::{SystemData, Tags},
    page::Page,
};
use crate::database::Connection;
use crate::identity::{Action, Authorized, ChangeAction};
use crate::model::provisioning_state::{ProvisioningState, UnknownProvisioningState};

/// A resource as stored.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Row ID; never shown.
    pub id: Uuid,
    /// The resource ID in the spelling of its creation.
    pub arm_id: String,
    /// Full type in canonical case.
    pub resource_type: String,
    /// The last segment.
    pub name: String,
    /// The containing resource's row.
    pub parent_id: Option<Uuid>,
    /// Of tracked types.
    pub location: Option<String>,
    /// Of tracked types.
    pub tags: Option<Tags>,
    /// Managed identity, where the type has one.
    pub identity: Option<Value>,
    /// The body's `properties`, without what is computed on read.
    pub properties: Value,
    /// Facts the service keeps for itself.
    pub observed: Value,
    /// Whether an operation is in progress, and how the latest one ended.
    pub provisioning_state: ProvisioningState,
    /// Version.
    pub etag: Etag,
    /// Of the latest asynchronous operation.
    pub last_operation_id: Option<Uuid>,
    /// Why that one failed.
    pub last_operation_error: Option<ErrorDetail>,
    /// Who and when.
    pub system_data: SystemData,
}

impl Resource {
    /// Whether no operation is in progress on the resource.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.provisioning_state.is_settled()
    }

    /// The parsed resource ID.
    ///
    /// # Errors
    /// When the row was damaged by hand.
    pub fn resource_id(&self) -> Result<ResourceId, StoreError> {
        self.arm_id.parse().map_err(|e: crate::arm::ResourceIdError| StoreError {
            doing: "reading a stored resource ID",
            source: sqlx::Error::Decode(Box::new(e)),
        })
    }
}

impl FromRow<'_, PgRow> for Resource {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        fn json<T: serde::de::DeserializeOwned>(row: &PgRow, column: &str) -> Result<Option<T>, sqlx::Error> {
            let value: Option<Value> = row.try_get(column)?;
            value.map(serde_json::from_value).transpose().map_err(|e| sqlx::Error::Decode(Box::new(e)))
        }
        let time = |column| row.try_get::<SqlTimestamp, _>(column).map(|t| t.to_jiff());
        Ok(Self {
            id: row.try_get("id")?,
            arm_id: row.try_get("arm_id")?,
            resource_type: row.try_get("type")?,
            name: row.try_get("name")?,
            parent_id: row.try_get("parent_id")?,
            location: row.try_get("location")?,
            tags: json(row, "tags")?,
            identity: row.try_get("identity")?,
            properties: row.try_get("properties")?,
            observed: row.try_get("observed")?,
            provisioning_state: provisioning_state(row.try_get("provisioning_state")?)?,
            etag: Etag(row.try_get("etag")?),
            last_operation_id: row.try_get("last_operation_id")?,
            last_operation_error: json(row, "last_operation_error")?,
            system_data: SystemData {
                created_by: row.try_get("created_by")?,
                created_by_type: row.try_get("created_by_type")?,
                created_at: time("created_at")?,
                last_modified_by: row.try_get("modified_by")?,
                last_modified_by_type: row.try_get("modified_by_type")?,
                last_modified_at: time("modified_at")?,
            },
        })
    }
}

/// The provisioning state in a column. An unknown one is a decoding error.
pub(super) fn provisioning_state(text: &str) -> Result<ProvisioningState, sqlx::Error> {
    text.parse().map_err(|error: UnknownProvisioningState| sqlx::Error::Decode(Box::new(error)))
}

/// Who changes a resource, for `systemData`.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// Name.
    pub name: &'a str,
    /// Kind of identity.
    pub kind: &'a str,
}

/// What a write sets.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Of tracked types.
    pub location: Option<String>,
    /// Of tracked types.
    pub tags: Option<Tags>,
    /// Managed identity.
    pub identity: Option<Value>,
    /// Body.
    pub properties: Value,
    /// State after the write.
    pub provisioning_state: ProvisioningState,
    /// The operation that the write begins, and records, where it begins one.
    pub operation: Option<NewOperation>,
}

impl Draft {
    /// Whether a resource that an operation is changing becomes what the draft asks for.
    #[must_use]
    pub fn is_goal_of(&self, resource: &Resource) -> bool {
        resource.properties == self.properties && resource.tags == self.tags && resource.identity == self.identity
    }
}

/// The right to load the resource with an ID: the proof that a caller is authorised, or [`ByService`].
pub trait MayLoad {
    /// The resource.
    fn id(&self) -> &ResourceId;
}

/// The right to change the resource with an ID.
pub trait MayChange: MayLoad {}

/// The service itself acts: a job, or a request that looks at a resource which its caller needs no right on, such as what a
/// resource is in. The caller of a request gets nothing shown or changed by it.
#[derive(Debug, Clone, Copy)]
pub struct ByService<'a>(pub &'a ResourceId);

impl<A: Action> MayLoad for Authorized<A> {
    fn id(&self) -> &ResourceId {
        self.id()
    }
}

impl<A: ChangeAction> MayChange for Authorized<A> {}

impl MayLoad for ByService<'_> {
    fn id(&self) -> &ResourceId {
        self.0
    }
}

impl MayChange for ByService<'_> {}

/// The right to the resource in a row: a [`Resource`], which was loaded by a right of its own, or [`RowByService`].
pub trait AtRow {
    /// The row.
    fn row(&self) -> Uuid;
}

/// [`ByService`] for the resource in a row. Jobs know resources by their rows; requests never use it.
#[derive(Debug, Clone, Copy)]
pub struct RowByService(pub Uuid);

impl AtRow for Resource {
    fn row(&self) -> Uuid {
        self.id
    }
}

impl AtRow for RowByService {
    fn row(&self) -> Uuid {
        self.0
    }
}

/// What a new resource is in.
#[derive(Debug, Clone, Copy)]
pub struct Parent {
    /// Its row.
    pub row: Uuid,
    /// How many resources of the new one's type may be in it. Concurrent creations may exceed it by as many as there are.
    pub most: Option<i64>,
}

impl Parent {
    /// A parent of any number of resources.
    #[must_use]
    pub fn of(row: Uuid) -> Self {
        Self { row, most: None }
    }
}

/// How a conditional write went.
#[derive(Debug)]
pub enum Written {
    /// As wished.
    Done(Box<Resource>),
    /// The condition did not hold; the version that is there, if any.
    Refused(Option<Etag>),
}

/// The resource with this ID.
pub async fn get(conn: &mut Connection, at: &impl MayLoad) -> Result<Option<Resource>, StoreError> {
    sqlx::query_as("SELECT * FROM resources WHERE key = $1")
        .bind(at.id().key())
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading a resource"))
}

/// The resource in this row.
pub async fn get_by_row(conn: &mut Connection, at: RowByService) -> Result<Option<Resource>, StoreError> {
    sqlx::query_as("SELECT * FROM resources WHERE id = $1")
        .bind(at.row())
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading a resource"))
}

/// The resource that a resource is in.
pub async fn get_parent(conn: &mut Connection, child: &Resource) -> Result<Option<Resource>, StoreError> {
    match child.parent_id {
        Some(parent) => get_by_row(conn, RowByService(parent)).await,
        None => Ok(None),
    }
}

/// The resource with this ID, its row locked until the transaction ends. Rows that refer to it may be added meanwhile: a
/// step of a run holds the run's own lock when it adds gates, and must not wait here for somebody who waits for that one.
pub async fn get_for_update(conn: &mut Connection, at: &impl MayChange) -> Result<Option<Resource>, StoreError> {
    sqlx::query_as("SELECT * FROM resources WHERE key = $1 FOR NO KEY UPDATE")
        .bind(at.id().key())
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("locking a resource"))
}

/// [`get_for_update`] for the resource in this row.
pub async fn get_by_row_for_update(conn: &mut Connection, at: RowByService) -> Result<Option<Resource>, StoreError> {
    sqlx::query_as("SELECT * FROM resources WHERE id = $1 FOR NO KEY UPDATE")
        .bind(at.row())
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("locking a resource"))
}

/// The row of a parent, held against deletion until the transaction ends.
pub async fn get_for_share(conn: &mut Connection, at: &impl MayLoad) -> Result<Option<Resource>, StoreError> {
    sqlx::query_as("SELECT * FROM resources WHERE key = $1 FOR SHARE")
        .bind(at.id().key())
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading a parent resource"))
}

/// What a resource is in, held as [`get_for_share`] does, and then the resource, locked as [`get_for_update`] does.
///
/// A resource that is created while the lock of what it is in is waited for is not seen: [`insert`] finds it.
pub async fn get_in_parent_for_update(
    conn: &mut Connection,
    at: &impl MayChange,
) -> Result<(Option<Resource>, Option<Resource>), StoreError> {
    let (id, parent) = (at.id(), at.id().parent());
    let rows: Vec<Resource> = sqlx::query_as(
        "WITH parent AS MATERIALIZED (SELECT * FROM resources WHERE key = $1 FOR SHARE),
              own AS MATERIALIZED (SELECT * FROM resources WHERE key = $2 FOR NO KEY UPDATE)
         SELECT * FROM parent UNION ALL SELECT * FROM own",
    )
    .bind(parent.as_ref().map(ResourceId::key))
    .bind(id.key())
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("locking a resource and its parent"))?;
    let (mut found, mut own) = (None, None);
    for row in rows {
        if row.arm_id.to_lowercase() == id.key() { own = Some(row) } else { found = Some(row) }
    }
    Ok((found, own))
}

/// Inserts a resource; `None` when one with this ID exists, or its parent has as many as it may have.
pub async fn insert(
    conn: &mut Connection,
    at: &impl MayChange,
    resource_type: &str,
    parent: Option<Parent>,
    draft: &Draft,
    author: Author<'_>,
    now: Timestamp,
) -> Result<Option<Resource>, StoreError> {
    let operation = draft.operation.as_ref();
    sqlx::query_as(
        "WITH created AS (
             INSERT INTO resources (id, key, arm_id, type, name, parent_id, subscription, resource_group, location, tags,
                 identity, properties, provisioning_state, etag, last_operation_id, created_at, created_by,
                 created_by_type, modified_at, modified_by, modified_by_type)
             SELECT $1, $2, $3, $4, $5, $6, lower($7), lower($8), $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $16,
                 $17, $18
             WHERE $22::bigint IS NULL
                OR $22 > (SELECT count(*) FROM (SELECT FROM resources WHERE parent_id = $6 AND type = $4 LIMIT $22) few)
             ON CONFLICT (key) DO NOTHING RETURNING *),
         begun AS (
             INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time, begun_by)
             SELECT $15, lower($7), $19, $3, $20, 'InProgress', $16, $21 FROM created WHERE $15 IS NOT NULL)
         SELECT * FROM created",
    )
    .bind(Uuid::now_v7())
    .bind(at.id().key())
    .bind(at.id().to_string())
    .bind(resource_type)
    .bind(at.id().name())
    .bind(parent.map(|parent| parent.row))
    .bind(at.id().subscription())
    .bind(at.id().resource_group().unwrap_or_default())
    .bind(&draft.location)
    .bind(draft.tags.as_ref().map(sqlx::types::Json))
    .bind(&draft.identity)
    .bind(&draft.properties)
    .bind(draft.provisioning_state.as_str())
    .bind(Uuid::new_v4())
    .bind(operation.map(|new| new.id))
    .bind(now.to_sqlx())
    .bind(author.name)
    .bind(author.kind)
    .bind(operation.map(|new| &new.location))
    .bind(operation.map(|new| new.verb))
    .bind(operation.map(|new| new.begun_by))
    .bind(parent.and_then(|parent| parent.most))
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_("creating a resource"))
}

/// Replaces body, tags and identity when the condition holds. The condition is part of the statement.
pub async fn update(
    conn: &mut Connection,
    at: &impl MayChange,
    precondition: Precondition,
    draft: &Draft,
    author: Author<'_>,
    now: Timestamp,
) -> Result<Written, StoreError> {
    let wanted = match precondition {
        Precondition::Absent | Precondition::Is(None) => Some(Uuid::nil()),
        Precondition::Is(Some(Etag(etag))) => Some(etag),
        Precondition::None | Precondition::Exists => None,
    };
    let operation = draft.operation.as_ref();
    let done: Option<Resource> = sqlx::query_as(
        "WITH changed AS (
             UPDATE resources SET tags = $3, identity = $4, properties = $5, provisioning_state = $6, etag = $7,
                 last_operation_id = coalesce($8, last_operation_id),
                 last_operation_error = CASE WHEN $8 IS NULL THEN last_operation_error END,
                 modified_at = $9, modified_by = $10, modified_by_type = $11
             WHERE key = $1 AND ($2::uuid IS NULL OR etag = $2) RETURNING *),
         begun AS (
             INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time, begun_by)
             SELECT $8, subscription, $12, $13, $14, 'InProgress', $9, $15 FROM changed WHERE $8 IS NOT NULL)
         SELECT * FROM changed",
    )
    .bind(at.id().key())
    .bind(wanted)
    .bind(draft.tags.as_ref().map(sqlx::types::Json))
    .bind(&draft.identity)
    .bind(&draft.properties)
    .bind(draft.provisioning_state.as_str())
    .bind(Uuid::new_v4())
    .bind(operation.map(|new| new.id))
    .bind(now.to_sqlx())
    .bind(author.name)
    .bind(author.kind)
    .bind(operation.map(|new| &new.location))
    .bind(at.id().to_string())
    .bind(operation.map(|new| new.verb))
    .bind(operation.map(|new| new.begun_by))
    .fetch_optional(&mut *conn)
    .await
    .map_err(StoreError::while_("changing a resource"))?;
    match done {
        Some(resource) => Ok(Written::Done(Box::new(resource))),
        None => Ok(Written::Refused(get(conn, at).await?.map(|resource| resource.etag))),
    }
}

/// Replaces the tags; `None` when the resource is gone.
pub async fn set_tags(
    conn: &mut Connection,
    at: &impl MayChange,
    tags: &Tags,
    author: Author<'_>,
    now: Timestamp,
) -> Result<Option<Resource>, StoreError> {
    sqlx::query_as(
        "UPDATE resources SET tags = $2, etag = $3, modified_at = $4, modified_by = $5, modified_by_type = $6
         WHERE key = $1 RETURNING *",
    )
    .bind(at.id().key())
    .bind(sqlx::types::Json(tags))
    .bind(Uuid::new_v4())
    .bind(now.to_sqlx())
    .bind(author.name)
    .bind(author.kind)
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_("changing tags"))
}

/// Sets the state at the beginning of an operation that changes no body, such as a deletion.
pub async fn begin_operation(
    conn: &mut Connection,
    resource: &Resource,
    state: ProvisioningState,
    operation: Uuid,
) -> Result<Option<Resource>, StoreError> {
    sqlx::query_as(
        "UPDATE resources SET provisioning_state = $2, last_operation_id = $3, last_operation_error = NULL, etag = $4
         WHERE id = $1 RETURNING *",
    )
    .bind(resource.id)
    .bind(state.as_str())
    .bind(operation)
    .bind(Uuid::new_v4())
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_("beginning an operation"))
}

/// Deletes a resource and everything in it.
pub async fn delete(conn: &mut Connection, at: &impl AtRow) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM resources WHERE id = $1")
        .bind(at.row())
        .execute(conn)
        .await
        .map_err(StoreError::while_("deleting a resource"))?;
    Ok(done.rows_affected() == 1)
}

/// Deletes at most `limit` children of a type, and returns how many there were.
pub async fn delete_children(
    conn: &mut Connection,
    parent: RowByService,
    resource_type: &str,
    limit: u32,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "DELETE FROM resources WHERE id = ANY (ARRAY(
             SELECT id FROM resources WHERE parent_id = $1 AND type = $2 ORDER BY key LIMIT $3))",
    )
    .bind(parent.row())
    .bind(resource_type)
    .bind(i64::from(limit))
    .execute(conn)
    .await
    .map_err(StoreError::while_("deleting resources"))?;
    Ok(done.rows_affected())
}

/// The rows of the children of a type, in the order of their keys.
pub async fn child_rows(
    conn: &mut Connection,
    parent: RowByService,
    resource_type: &str,
) -> Result<Vec<Uuid>, StoreError> {
    sqlx::query_scalar("SELECT id FROM resources WHERE parent_id = $1 AND type = $2 ORDER BY key")
        .bind(parent.row())
        .bind(resource_type)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("listing resources"))
}

/// A page of the children of a resource, and whether there are more.
pub async fn list_children(
    conn: &mut Connection,
    parent: &Resource,
    resource_type: &str,
    page: &Page,
) -> Result<(Vec<Resource>, bool), StoreError> {
    let rows =
        sqlx::query_as("SELECT * FROM resources WHERE parent_id = $1 AND type = $2 AND key > $3 ORDER BY key LIMIT $4")
            .bind(parent.id)
            .bind(resource_type)
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(i64::from(page.limit) + 1)
            .fetch_all(conn)
            .await
            .map_err(StoreError::while_("listing resources"))?;
    Ok(cut(rows, page))
}

/// A page of the resources of a type in a subscription, or in one of its resource groups, and whether there are more; with
/// `parts`, only of those in one of these scopes (lower-cased IDs).
pub async fn list_in_scope(
    conn: &mut Connection,
    subscription: &str,
    group: Option<&str>,
    resource_type: &str,
    parts: Option<&[String]>,
    page: &Page,
) -> Result<(Vec<Resource>, bool), StoreError> {
    let query = match group {
        Some(_) => sqlx::query_as(
            "SELECT * FROM resources WHERE subscription = lower($1) AND resource_group = lower($6) AND type = $2
                 AND key > $3 AND ($5::text[] IS NULL OR within(key, $5)) ORDER BY key LIMIT $4",
        ),
        None => sqlx::query_as(
            "SELECT * FROM resources WHERE subscription = lower($1) AND type = $2 AND key > $3 AND ($5::text[] IS NULL OR within(key, $5))
                 ORDER BY key LIMIT $4",
        ),
    };
    let mut query = query
        .bind(subscription)
        .bind(resource_type)
        .bind(page.after.as_deref().unwrap_or_default())
        .bind(i64::from(page.limit) + 1)
        .bind(parts);
    if let Some(group) = group {
        query = query.bind(group);
    }
    let rows = query.fetch_all(conn).await.map_err(StoreError::while_("listing resources"))?;
    Ok(cut(rows, page))
}

/// How many children of a type a resource has.
pub async fn count_children(conn: &mut Connection, parent: &Resource, resource_type: &str) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT count(*) FROM resources WHERE parent_id = $1 AND type = $2")
        .bind(parent.id)
        .bind(resource_type)
        .fetch_one(conn)
        .await
        .map_err(StoreError::while_("counting resources"))
}

pub(super) fn cut(mut rows: Vec<Resource>, page: &Page) -> (Vec<Resource>, bool) {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    (rows, more)
}
