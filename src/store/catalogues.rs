//! What AKS offers in each region, and what was seen of members' clusters: found by one look for all profiles.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use serde_json::{Value, json};
use sqlx::{Row, types::Json};
use uuid::Uuid;

use super::StoreError;
use crate::{
    arm::ErrorDetail,
    autoupgrade::{ClusterFacts, FleetOffers, RegionOffers},
    database::Connection,
    model::managed_cluster::NodeImage,
};

/// The `NOTIFY` channel that reports each read of what AKS offers. The payload is the subscription.
pub const CHANNEL: &str = "catalogues";

/// What a look at a subscription is for.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The database's time.
    pub now: Timestamp,
    /// When the latest look began.
    pub looked_at: Option<Timestamp>,
    /// Lower-cased IDs of the members' clusters, of all fleets that have profiles.
    pub clusters: Vec<String>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Findings {
    /// By location: what each region that was read offers.
    pub regions: BTreeMap<String, RegionOffers>,
    /// Locations that members are in, read or not: others are forgotten.
    pub locations: Vec<String>,
    /// By lower-cased ID.
    pub clusters: Vec<(String, ClusterFacts)>,
}

/// Why a subscription's catalogues cannot be read.
#[derive(Debug, Clone)]
pub struct Outage {
    /// The subscription.
    pub subscription: String,
    /// Since when.
    pub since: Timestamp,
    /// What happened at the latest look.
    pub error: ErrorDetail,
}

/// A member's cluster as it was seen last.
#[derive(Debug, Clone)]
pub struct SeenMember {
    /// The member's name.
    pub name: String,
    /// The cluster's subscription, in lower case.
    pub subscription: String,
    /// The cluster.
    pub facts: ClusterFacts,
}

/// What the look at a subscription (in lower case) is for.
pub async fn watched(conn: &mut Connection, subscription: &str) -> Result<Watched, StoreError> {
    let failed = "reading whose catalogues are watched";
    let (now, looked_at): (SqlTimestamp, Option<SqlTimestamp>) =
        sqlx::query_as("SELECT now(), (SELECT looked_at FROM catalogue_watches WHERE subscription = $1)")
            .bind(subscription)
            .fetch_one(&mut *conn)
            .await
            .map_err(StoreError::while_(failed))?;
    let clusters = sqlx::query_scalar(
        "SELECT cluster_key FROM memberships WHERE fleet_id IN (SELECT fleet_id FROM auto_upgrade_profiles)
             AND starts_with(cluster_key, '/subscriptions/' || $1 || '/') ORDER BY cluster_key",
    )
    .bind(subscription)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    Ok(Watched { now: now.to_jiff(), looked_at: looked_at.map(SqlTimestamp::to_jiff), clusters })
}

/// Subscriptions (in lower case) of a fleet's members that nobody looks at yet, if the fleet has profiles.
pub async fn unwatched(conn: &mut Connection, fleet: Uuid) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT DISTINCT split_part(cluster_key, '/', 3) FROM memberships
         WHERE fleet_id = $1 AND EXISTS (SELECT FROM auto_upgrade_profiles WHERE fleet_id = $1)
           AND split_part(cluster_key, '/', 3) NOT IN (SELECT subscription FROM catalogue_watches)",
    )
    .bind(fleet)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("reading whose catalogues are not watched"))
}

/// The subscription (in lower case) of a member's cluster, if its fleet has profiles and nobody looks at the subscription yet.
pub async fn unwatched_of_member(conn: &mut Connection, member: Uuid) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT split_part(cluster_key, '/', 3) FROM memberships m
         WHERE member_id = $1 AND EXISTS (SELECT FROM auto_upgrade_profiles p WHERE p.fleet_id = m.fleet_id)
           AND NOT EXISTS (SELECT FROM catalogue_watches w WHERE w.subscription = split_part(m.cluster_key, '/', 3))",
    )
    .bind(member)
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_("reading whether the catalogues of a member are watched"))
}

/// Subscriptions (in lower case) of a fleet's members.
pub async fn subscriptions(conn: &mut Connection, fleet: Uuid) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar("SELECT DISTINCT split_part(cluster_key, '/', 3) FROM memberships WHERE fleet_id = $1")
        .bind(fleet)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("reading the subscriptions of a fleet's members"))
}

/// What a subscription's regions offered when they were seen last, by location.
pub async fn known(conn: &mut Connection, subscription: &str) -> Result<BTreeMap<String, RegionOffers>, StoreError> {
    let rows: Vec<(String, Json<RegionOffers>)> =
        sqlx::query_as("SELECT location, offers FROM catalogues WHERE subscription = $1")
            .bind(subscription)
            .fetch_all(conn)
            .await
            .map_err(StoreError::while_("reading what regions offer"))?;
    Ok(rows.into_iter().map(|(location, Json(offers))| (location, offers)).collect())
}

/// Keeps what a look at `now` has found.
pub async fn keep(
    conn: &mut Connection,
    subscription: &str,
    findings: &Findings,
    now: Timestamp,
) -> Result<(), StoreError> {
    let failed = "keeping what regions offer";
    let regions: Vec<Value> =
        findings.regions.iter().map(|(location, offers)| json!({"location": location, "offers": offers})).collect();
    sqlx::query(
        "INSERT INTO catalogues AS known (subscription, location, offers, seen_at)
         SELECT $1, location, offers, $3 FROM jsonb_to_recordset($2) AS found (location text, offers jsonb)
         ON CONFLICT (subscription, location) DO UPDATE SET offers = excluded.offers, seen_at = excluded.seen_at",
    )
    .bind(subscription)
    .bind(Json(regions))
    .bind(now.to_sqlx())
    .execute(&mut *conn)
    .await
    .map_err(StoreError::while_(failed))?;
    sqlx::query("DELETE FROM catalogues WHERE subscription = $1 AND location <> ALL ($2)")
        .bind(subscription)
        .bind(&findings.locations)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_(failed))?;
    let clusters: Vec<Value> =
        findings.clusters.iter().map(|(key, facts)| json!({"cluster_key": key, "seen": facts})).collect();
    sqlx::query(
        "UPDATE memberships m SET seen = found.seen
         FROM jsonb_to_recordset($1) AS found (cluster_key text, seen jsonb)
         WHERE m.cluster_key = found.cluster_key AND m.seen IS DISTINCT FROM found.seen",
    )
    .bind(Json(clusters))
    .execute(conn)
    .await
    .map_err(StoreError::while_("keeping what was seen of clusters"))?;
    Ok(())
}

/// Keeps how a look went, and notifies [`CHANNEL`] on commit. Returns since when looks had failed before this one.
pub async fn keep_outcome(
    conn: &mut Connection,
    subscription: &str,
    error: Option<&ErrorDetail>,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let failed = "keeping how a look at a catalogue went";
    let before: Option<Option<SqlTimestamp>> =
        sqlx::query_scalar("SELECT failing_since FROM catalogue_watches WHERE subscription = $1")
            .bind(subscription)
            .fetch_optional(&mut *conn)
            .await
            .map_err(StoreError::while_(failed))?;
    sqlx::query(
        "INSERT INTO catalogue_watches AS w (subscription, looked_at, failing_since, error)
         VALUES ($1, $2, CASE WHEN $3::jsonb IS NOT NULL THEN $2 END, $3)
         ON CONFLICT (subscription) DO UPDATE SET looked_at = excluded.looked_at, error = excluded.error,
             failing_since = CASE WHEN excluded.error IS NOT NULL THEN coalesce(w.failing_since, excluded.looked_at) END
         RETURNING pg_notify($4, subscription)",
    )
    .bind(subscription)
    .bind(now.to_sqlx())
    .bind(error.map(Json))
    .bind(CHANNEL)
    .execute(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    Ok(before.flatten().map(SqlTimestamp::to_jiff))
}

/// Forgets a subscription that nobody needs to look at: what is known of it would be out of date when somebody does.
pub async fn forget(conn: &mut Connection, subscription: &str) -> Result<(), StoreError> {
    for statement in
        ["DELETE FROM catalogues WHERE subscription = $1", "DELETE FROM catalogue_watches WHERE subscription = $1"]
    {
        sqlx::query(statement)
            .bind(subscription)
            .execute(&mut *conn)
            .await
            .map_err(StoreError::while_("forgetting a catalogue"))?;
    }
    Ok(())
}

/// What concerns each of these fleets, in three statements for any number of them.
pub async fn of_fleets(conn: &mut Connection, fleets: &[Uuid]) -> Result<HashMap<Uuid, FleetOffers>, StoreError> {
    let failed = "reading what the regions of a fleet offer";
    let places: Vec<(Uuid, String, String)> = sqlx::query_as(
        "SELECT DISTINCT fleet_id, split_part(cluster_key, '/', 3), seen ->> 'location' FROM memberships
         WHERE fleet_id = ANY ($1) AND seen IS NOT NULL",
    )
    .bind(fleets)
    .fetch_all(&mut *conn)
    .await
    .map_err(StoreError::while_(failed))?;
    let images: Vec<(Uuid, String, bool)> = sqlx::query_as(
        "SELECT DISTINCT fleet_id, pool ->> 'image', (pool ->> 'linux')::boolean
         FROM memberships, jsonb_array_elements(seen -> 'pools') pool
         WHERE fleet_id = ANY ($1) AND pool ->> 'image' IS NOT NULL",
    )
    .bind(fleets)
    .fetch_all(&mut *conn)
    .await
    .map_err(StoreError::while_(failed))?;
    let known: Vec<(String, String, Json<RegionOffers>)> = sqlx::query_as(
        "SELECT subscription, location, offers FROM catalogues WHERE (subscription, location) IN
             (SELECT split_part(cluster_key, '/', 3), seen ->> 'location' FROM memberships WHERE fleet_id = ANY ($1))",
    )
    .bind(fleets)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    let known: HashMap<(String, String), RegionOffers> =
        known.into_iter().map(|(subscription, location, Json(offers))| ((subscription, location), offers)).collect();
    let mut of_fleets: HashMap<Uuid, FleetOffers> =
        fleets.iter().map(|fleet| (*fleet, FleetOffers::default())).collect();
    for (fleet, subscription, location) in places {
        let place = (subscription, location);
        if let (Some(of_fleet), Some(offers)) = (of_fleets.get_mut(&fleet), known.get(&place)) {
            of_fleet.regions.insert(place, offers.clone());
        }
    }
    for (fleet, image, linux) in images {
        if let Some(of_fleet) = of_fleets.get_mut(&fleet) {
            of_fleet.families.insert(NodeImage::new(image).family().to_owned(), linux);
        }
    }
    Ok(of_fleets)
}

/// What concerns a fleet.
pub async fn of_fleet(conn: &mut Connection, fleet: Uuid) -> Result<FleetOffers, StoreError> {
    Ok(of_fleets(conn, &[fleet]).await?.remove(&fleet).unwrap_or_default())
}

/// The members of a fleet whose clusters have been seen, by name; those that are leaving are not.
pub async fn seen_members(conn: &mut Connection, fleet: Uuid) -> Result<Vec<SeenMember>, StoreError> {
    let failed = "reading what was seen of a fleet's clusters";
    let rows = sqlx::query(
        "SELECT r.name, split_part(m.cluster_key, '/', 3) AS subscription, m.seen
         FROM memberships m JOIN resources r ON r.id = m.member_id
         WHERE m.fleet_id = $1 AND m.seen IS NOT NULL AND r.provisioning_state = 'Succeeded' ORDER BY r.key",
    )
    .bind(fleet)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_(failed))?;
    rows.into_iter()
        .map(|row| {
            Ok(SeenMember {
                name: row.try_get("name")?,
                subscription: row.try_get("subscription")?,
                facts: row.try_get::<Json<_>, _>("seen")?.0,
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .map_err(StoreError::while_(failed))
}

/// Which of the catalogues of a fleet's members cannot be read now.
pub async fn outages(conn: &mut Connection, fleet: Uuid) -> Result<Vec<Outage>, StoreError> {
    let rows: Vec<(String, SqlTimestamp, Json<ErrorDetail>)> = sqlx::query_as(
        "SELECT subscription, failing_since, error FROM catalogue_watches WHERE failing_since IS NOT NULL
             AND subscription IN (SELECT split_part(cluster_key, '/', 3) FROM memberships WHERE fleet_id = $1)
         ORDER BY subscription",
    )
    .bind(fleet)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("reading which catalogues cannot be read"))?;
    let outage = |(subscription, since, Json(error)): (String, SqlTimestamp, Json<ErrorDetail>)| Outage {
        subscription,
        since: since.to_jiff(),
        error,
    };
    Ok(rows.into_iter().map(outage).collect())
}
