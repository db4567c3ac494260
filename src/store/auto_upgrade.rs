//! The past of auto-upgrade profiles: from when on releases concern them, and what they have triggered.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use sqlx::{FromRow, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::StoreError;
use crate::{
    arm::ErrorDetail,
    autoupgrade::{Target, TriggerHistory},
    database::Connection,
    model::auto_upgrade_profile::{
        AutoUpgradeLastTriggerStatus, AutoUpgradeProfileProperties, AutoUpgradeProfileStatus,
    },
};

/// A profile with what decides whether a target is a new release for it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its row.
    pub profile: Uuid,
    /// The fleet's row.
    pub fleet: Uuid,
    /// What it follows.
    pub properties: AutoUpgradeProfileProperties,
    /// Which releases it has handled.
    pub history: TriggerHistory,
    /// Why the last trigger failed.
    pub error: Option<ErrorDetail>,
}

impl FromRow<'_, PgRow> for Candidate {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            profile: row.try_get("profile_id")?,
            fleet: row.try_get("fleet_id")?,
            properties: row.try_get::<Json<_>, _>("properties")?.0,
            history: TriggerHistory {
                armed_at: row.try_get::<SqlTimestamp, _>("armed_at")?.to_jiff(),
                last_target: row.try_get::<Option<Json<Target>>, _>("target")?.map(|json| json.0),
            },
            error: row.try_get::<Option<Json<ErrorDetail>>, _>("error")?.map(|json| json.0),
        })
    }
}

/// A trigger, well or badly ended.
#[derive(Debug, Clone)]
pub struct Trigger<'a> {
    /// What was to be reached. `None`: nothing that a profile could lead to.
    pub target: Option<&'a Target>,
    /// Whether the trigger is complete: the same target does not trigger again.
    pub settled: bool,
    /// Why there is no run.
    pub error: Option<&'a ErrorDetail>,
    /// For people.
    pub message: Option<&'a str>,
}

/// Makes the past of a new profile.
pub async fn create(conn: &mut Connection, profile: Uuid, fleet: Uuid) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO auto_upgrade_profiles (profile_id, fleet_id, armed_at) VALUES ($1, $2, now())")
        .bind(profile)
        .bind(fleet)
        .execute(conn)
        .await
        .map_err(StoreError::while_("creating an auto-upgrade profile"))?;
    Ok(())
}

/// Arms the profile: releases from now on concern it. `reset_baseline`: the profile follows another channel or version, so that the
/// target of its last trigger is forgotten.
pub async fn arm(conn: &mut Connection, profile: Uuid, reset_baseline: bool) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE auto_upgrade_profiles SET armed_at = now(), target = CASE WHEN $2 THEN NULL ELSE target END
         WHERE profile_id = $1",
    )
    .bind(profile)
    .bind(reset_baseline)
    .execute(conn)
    .await
    .map_err(StoreError::while_("arming an auto-upgrade profile"))?;
    Ok(())
}

/// Returns a profile's trigger history, locked until the transaction ends.
pub async fn get_for_update(conn: &mut Connection, profile: Uuid) -> Result<Option<Candidate>, StoreError> {
    sqlx::query_as(
        "SELECT p.*, r.properties FROM auto_upgrade_profiles p JOIN resources r ON r.id = p.profile_id
         WHERE p.profile_id = $1 FOR NO KEY UPDATE OF p",
    )
    .bind(profile)
    .fetch_optional(conn)
    .await
    .map_err(StoreError::while_("locking an auto-upgrade profile"))
}

/// All enabled profiles of fleets that have members in a subscription (in lower case).
pub async fn candidates(conn: &mut Connection, subscription: &str) -> Result<Vec<Candidate>, StoreError> {
    sqlx::query_as(
        "SELECT p.*, r.properties FROM auto_upgrade_profiles p JOIN resources r ON r.id = p.profile_id
         WHERE r.properties -> 'disabled' IS DISTINCT FROM 'true' AND p.fleet_id IN
             (SELECT fleet_id FROM memberships WHERE starts_with(cluster_key, '/subscriptions/' || $1 || '/'))",
    )
    .bind(subscription)
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("reading auto-upgrade profiles"))
}

/// Keeps how a trigger went: the status that the profile shows.
pub async fn triggered(
    conn: &mut Connection,
    profile: Uuid,
    trigger: &Trigger<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let versions = trigger.target.map(Target::versions).unwrap_or_default();
    sqlx::query(
        "UPDATE auto_upgrade_profiles SET triggered_at = $2, status = $3, error = $4, versions = $5, message = $6,
             target = coalesce($7, target) WHERE profile_id = $1",
    )
    .bind(profile)
    .bind(now.to_sqlx())
    .bind(if trigger.error.is_some() { "Failed" } else { "Succeeded" })
    .bind(trigger.error.map(Json))
    .bind(Json(versions))
    .bind(trigger.message)
    .bind(trigger.target.filter(|_| trigger.settled).map(Json))
    .execute(conn)
    .await
    .map_err(StoreError::while_("keeping a trigger"))?;
    Ok(())
}

/// Records that a profile has started a run; false when it has once already.
pub async fn record_run(
    conn: &mut Connection,
    profile: Uuid,
    run_name: &str,
    run: Uuid,
    target: &Target,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO auto_upgrade_triggers (profile_id, run_name, run_id, target, triggered_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(profile)
    .bind(run_name)
    .bind(run)
    .bind(Json(target))
    .bind(now.to_sqlx())
    .execute(conn)
    .await
    .map_err(StoreError::while_("recording the run of an auto-upgrade profile"))?;
    Ok(done.rows_affected() == 1)
}

/// Whether a profile has started a run of this name once.
pub async fn has_started(conn: &mut Connection, profile: Uuid, run_name: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM auto_upgrade_triggers WHERE profile_id = $1 AND run_name = $2)")
        .bind(profile)
        .bind(run_name)
        .fetch_one(conn)
        .await
        .map_err(StoreError::while_("reading the runs of an auto-upgrade profile"))
}

/// Names of members in runs that the profile has started for this target and that are not over: going on with those is for
/// the runs themselves, or for a person.
pub async fn members_under_way(
    conn: &mut Connection,
    profile: Uuid,
    target: &Target,
) -> Result<BTreeSet<String>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT m.name FROM auto_upgrade_triggers t JOIN update_runs u USING (run_id)
             JOIN run_members m USING (run_id)
         WHERE t.profile_id = $1 AND t.target = $2 AND u.state NOT IN ('Completed', 'Skipped')",
    )
    .bind(profile)
    .bind(Json(target))
    .fetch_all(conn)
    .await
    .map_err(StoreError::while_("reading members of the runs of an auto-upgrade profile"))?;
    Ok(names.into_iter().collect())
}

/// What profiles show of their last trigger; those that have triggered nothing are missing.
pub async fn statuses(
    conn: &mut Connection,
    profiles: &[Uuid],
) -> Result<HashMap<Uuid, AutoUpgradeProfileStatus>, StoreError> {
    let failed = "reading the status of auto-upgrade profiles";
    let rows = sqlx::query("SELECT * FROM auto_upgrade_profiles WHERE profile_id = ANY ($1) AND status IS NOT NULL")
        .bind(profiles)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_(failed))?;
    let status = |row: PgRow| -> Result<_, sqlx::Error> {
        let status = match row.try_get::<&str, _>("status")? {
            "Failed" => AutoUpgradeLastTriggerStatus::Failed,
            _ => AutoUpgradeLastTriggerStatus::Succeeded,
        };
        let shown = AutoUpgradeProfileStatus {
            last_triggered_at: row.try_get::<Option<SqlTimestamp>, _>("triggered_at")?.map(SqlTimestamp::to_jiff),
            last_trigger_status: Some(status),
            last_trigger_error: row.try_get::<Option<Json<ErrorDetail>>, _>("error")?.map(|json| json.0),
            last_trigger_upgrade_versions: row.try_get::<Json<_>, _>("versions")?.0,
            last_trigger_message: row.try_get("message")?,
        };
        Ok((row.try_get("profile_id")?, shown))
    };
    rows.into_iter().map(status).collect::<Result<_, _>>().map_err(StoreError::while_(failed))
}
