//! Lists over resource types: tracked resources, and the resource groups that they are in.

use super::{
    StoreError,
    resources::{Resource, cut},
};
use crate::{
    arm::{ResourceId, page::Page},
    database::Connection,
    model::types,
};

/// Which resources are wanted; what is absent is not asked for. Names compare without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this resource group.
    pub group: Option<String>,
    /// Of this full type.
    pub resource_type: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// In this region.
    pub location: Option<String>,
    /// With this tag.
    pub tag_name: Option<String>,
    /// With this value of the tag.
    pub tag_value: Option<String>,
}

const IN_GROUP: &str = "SELECT * FROM resources
     WHERE subscription = lower($1) AND resource_group = lower($10) AND location IS NOT NULL
       AND type <> 'Microsoft.Resources/resourceGroups' AND key > $2
       AND ($4::text IS NULL OR lower(type) = lower($4)) AND ($5::text IS NULL OR lower(name) = lower($5))
       AND ($6::text IS NULL OR location = $6) AND ($7::text IS NULL OR jsonb_exists(tags, $7))
       AND ($8::text IS NULL OR tags ->> $7 = $8) AND ($9::text[] IS NULL OR within(key, $9))
     ORDER BY key LIMIT $3";

const IN_SUBSCRIPTION: &str = "SELECT * FROM resources
     WHERE subscription = lower($1) AND location IS NOT NULL
       AND type <> 'Microsoft.Resources/resourceGroups' AND key > $2
       AND ($4::text IS NULL OR lower(type) = lower($4)) AND ($5::text IS NULL OR lower(name) = lower($5))
       AND ($6::text IS NULL OR location = $6) AND ($7::text IS NULL OR jsonb_exists(tags, $7))
       AND ($8::text IS NULL OR tags ->> $7 = $8) AND ($9::text[] IS NULL OR within(key, $9))
     ORDER BY key LIMIT $3";

const GROUPS: &str = "SELECT * FROM resources
     WHERE subscription = lower($1) AND type = 'Microsoft.Resources/resourceGroups' AND key > $2
       AND ($4::text IS NULL OR lower(type) = lower($4)) AND ($5::text IS NULL OR lower(name) = lower($5))
       AND ($6::text IS NULL OR location = $6) AND ($7::text IS NULL OR jsonb_exists(tags, $7))
       AND ($8::text IS NULL OR tags ->> $7 = $8) AND ($9::text[] IS NULL OR within(key, $9))
     ORDER BY key LIMIT $3";

/// A page of the tracked resources of a subscription, and whether there are more; with `parts`, only of those in one of these
/// scopes (lower-cased IDs).
pub async fn list(
    conn: &mut Connection,
    subscription: &str,
    wanted: &Wanted,
    parts: Option<&[String]>,
    page: &Page,
) -> Result<(Vec<Resource>, bool), StoreError> {
    let statement = if wanted.group.is_some() { IN_GROUP } else { IN_SUBSCRIPTION };
    select(conn, statement, subscription, wanted, parts, page).await
}

/// A page of the resource groups of a subscription, and whether there are more; with `parts`, only of those in one of these
/// scopes (lower-cased IDs).
pub async fn groups(
    conn: &mut Connection,
    subscription: &str,
    wanted: &Wanted,
    parts: Option<&[String]>,
    page: &Page,
) -> Result<(Vec<Resource>, bool), StoreError> {
    select(conn, GROUPS, subscription, &Wanted { group: None, ..wanted.clone() }, parts, page).await
}

async fn select(
    conn: &mut Connection,
    statement: &'static str,
    subscription: &str,
    wanted: &Wanted,
    parts: Option<&[String]>,
    page: &Page,
) -> Result<(Vec<Resource>, bool), StoreError> {
    let mut query = sqlx::query_as(statement)
        .bind(subscription)
        .bind(page.after.as_deref().unwrap_or_default())
        .bind(i64::from(page.limit) + 1)
        .bind(&wanted.resource_type)
        .bind(&wanted.name)
        .bind(&wanted.location)
        .bind(&wanted.tag_name)
        .bind(&wanted.tag_value)
        .bind(parts);
    if let Some(group) = &wanted.group {
        query = query.bind(group);
    }
    let rows = query.fetch_all(conn).await.map_err(StoreError::while_("listing resources"))?;
    Ok(cut(rows, page))
}

/// Whether there is a resource group with this ID.
pub async fn group_exists(conn: &mut Connection, group: &ResourceId) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM resources WHERE key = $1)")
        .bind(group.key())
        .fetch_one(conn)
        .await
        .map_err(StoreError::while_("looking for a resource group"))
}

/// All fleets in a resource group, locked until the transaction ends, in the order of their keys.
pub async fn lock_fleets_of(conn: &mut Connection, group: &Resource) -> Result<Vec<Resource>, StoreError> {
    sqlx::query_as("SELECT * FROM resources WHERE parent_id = $1 AND type = $2 ORDER BY key FOR NO KEY UPDATE")
        .bind(group.id)
        .bind(types::FLEETS)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("locking the fleets of a resource group"))
}
