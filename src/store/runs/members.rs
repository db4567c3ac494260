//! Single members of runs.

use std::collections::HashSet;

use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::database::Connection;
use crate::{
    arm::{ErrorDetail, ResourceId},
    model::update_run::UpdateState,
    rollout::Member,
    store::StoreError,
    work::{FenceError, Ticket, finish_all},
};

/// A member of a run, as its job sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMember {
    /// What orchestration knows of it.
    pub member: Member,
    /// Its cluster, as the member spells it.
    pub cluster_resource_id: String,
    /// The AKS operation of the latest attempt.
    pub operation_id: Option<String>,
    /// Why it failed or waits.
    pub error: Option<ErrorDetail>,
    /// What a person should know beyond the state.
    pub message: Option<String>,
    /// How far the job is with the cluster in this attempt; absent at its beginning.
    pub upgrade: Option<Value>,
}

const MEMBER: &str = "SELECT * FROM run_members WHERE run_id = $1 AND member_index = $2";

const BY_INDEX: &str = "SELECT * FROM run_members WHERE run_id = $1 AND member_index = ANY($2)";

const NAMED: &str = "SELECT * FROM run_members WHERE run_id = $1 AND name = ANY($2) ORDER BY member_index";

/// If several groups have a member of the same name, its first row counts.
const SKIPPED: &str = "SELECT name FROM run_members WHERE run_id = $1 GROUP BY name HAVING bool_and(state = 'Skipped')";

const RUNNING: &str = "SELECT coalesce(sum(running), 0) FROM run_groups WHERE run_id = $1";

const FLEET_RUNNING: &str = "SELECT EXISTS (SELECT FROM update_runs r
     WHERE r.fleet_id = $1 AND (r.starting OR r.state IN ('Running', 'Stopping')
         AND EXISTS (SELECT FROM run_groups g WHERE g.run_id = r.run_id AND g.running > 0)))";

const RUNS_OF_MEMBER: &str = "SELECT m.* FROM run_members m JOIN update_runs r USING (run_id)
     WHERE m.name = $2 AND r.fleet_id = $1 AND m.state IN ('NotStarted', 'Running', 'Pending', 'Stopped') ORDER BY run_id";

/// Names of the members that a run leaves out.
pub async fn skipped_members(conn: &mut Connection, run_id: Uuid) -> Result<HashSet<String>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(SKIPPED)
        .bind(run_id)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("reading the skipped members of an update run"))?;
    Ok(names.into_iter().collect())
}

/// Reads a member by its index.
pub async fn member(conn: &mut Connection, run_id: Uuid, member: u32) -> Result<Option<RunMember>, StoreError> {
    sqlx::query_as(MEMBER)
        .bind(run_id)
        .bind(index(member))
        .fetch_optional(conn)
        .await
        .map_err(StoreError::while_("reading a member of an update run"))
}

/// Members by index, in any order.
pub async fn members_by_index(conn: &mut Connection, run_id: Uuid, members: &[u32]) -> Result<Vec<Member>, StoreError> {
    let rows: Vec<RunMember> = sqlx::query_as(BY_INDEX)
        .bind(run_id)
        .bind(members.iter().copied().map(index).collect::<Vec<_>>())
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("reading members of an update run"))?;
    Ok(rows.into_iter().map(|row| row.member).collect())
}

/// Members by name.
pub async fn members_by_name(conn: &mut Connection, run_id: Uuid, names: &[&str]) -> Result<Vec<Member>, StoreError> {
    let rows: Vec<RunMember> = sqlx::query_as(NAMED)
        .bind(run_id)
        .bind(names)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("reading members of an update run"))?;
    Ok(rows.into_iter().map(|row| row.member).collect())
}

/// How far the upgrade of a member is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The record of the member's job.
    pub upgrade: &'a Value,
    /// The AKS operation, if there is a new one.
    pub operation_id: Option<&'a str>,
    /// What a person should know beyond the state. A member that is Pending keeps its message when there is none.
    pub message: Option<&'a str>,
}

/// Stores how far a member in flight is, under the lease of its job, in one statement. Changes nothing when the member is in another
/// attempt by now.
///
/// # Errors
/// [`FenceError::LeaseLost`] if the job may not write any more.
pub async fn save_upgrade(
    conn: &mut Connection,
    job: &Ticket,
    run_id: Uuid,
    member: &Member,
    progress: Progress<'_>,
) -> Result<(), FenceError> {
    let Progress { upgrade, operation_id, message } = progress;
    let states = if message.is_some() { "'Running', 'Pending'" } else { "'Running'" };
    job.execute_fenced(conn, |statement| {
        statement.push("UPDATE run_members SET upgrade = ").push_bind(upgrade.clone());
        statement.push(", operation_id = coalesce(").push_bind(operation_id.map(str::to_owned));
        statement.push(", operation_id), message = ").push_bind(message.map(str::to_owned));
        statement.push(" WHERE run_id = ").push_bind(run_id);
        statement.push(" AND member_index = ").push_bind(index(member.index));
        statement.push(" AND attempt = ").push_bind(index(member.attempt));
        statement.push(" AND state IN (").push(states).push(") AND EXISTS (SELECT FROM held)");
    })
    .await
}

/// A member whose upgrade has ended.
#[derive(Debug, Clone)]
pub struct Ended<'a> {
    /// The member's job.
    pub job: Ticket,
    /// The member.
    pub member: &'a Member,
    /// The cluster that it holds.
    pub cluster: &'a ResourceId,
    /// The last record of the member's job.
    pub upgrade: &'a Value,
    /// The AKS operation, if there is a new one.
    pub operation_id: Option<&'a str>,
}

/// Finishes the jobs of members in flight, stores their records and releases their clusters, in one statement. Returns the jobs of
/// which that was done; see [`finish_all`].
pub async fn finish_upgrades(
    conn: &mut Connection,
    run_id: Uuid,
    ended: &[Ended<'_>],
) -> Result<HashSet<Ticket>, StoreError> {
    let jobs: Vec<Ticket> = ended.iter().map(|ended| ended.job.clone()).collect();
    finish_all(conn, &jobs, |statement| {
        statement.push(", ended AS (SELECT u.* FROM unnest(");
        statement.push_bind(ended.iter().map(|ended| index(ended.member.index)).collect::<Vec<_>>());
        statement.push("::integer[], ").push_bind(ended.iter().map(|e| index(e.member.attempt)).collect::<Vec<_>>());
        statement.push("::integer[], ").push_bind(ended.iter().map(|e| e.upgrade.clone()).collect::<Vec<_>>());
        statement.push("::jsonb[], ");
        statement.push_bind(ended.iter().map(|e| e.operation_id.map(str::to_owned)).collect::<Vec<_>>());
        statement.push("::text[], ").push_bind(ended.iter().map(|ended| ended.cluster.key()).collect::<Vec<_>>());
        statement.push(
            "::text[]) WITH ORDINALITY AS u (member_index, attempt, upgrade, operation_id, cluster_key, number)
                 JOIN finished USING (number)),
             saved AS (
                 UPDATE run_members m
                    SET upgrade = ended.upgrade, operation_id = coalesce(ended.operation_id, m.operation_id)
                   FROM ended
                  WHERE m.member_index = ended.member_index AND m.attempt = ended.attempt AND m.state = 'Running' AND m.run_id = ",
        );
        statement.push_bind(run_id);
        statement.push(
            "),
             released AS (
                 DELETE FROM cluster_locks l USING ended
                  WHERE l.cluster_key = ended.cluster_key AND l.member_index = ended.member_index AND l.run_id = ",
        );
        statement.push_bind(run_id).push(")");
    })
    .await
    .map_err(StoreError::while_("finishing the upgrades of members"))
}

/// Members of a run that are in flight.
pub async fn running_count(conn: &mut Connection, run_id: Uuid) -> Result<u32, StoreError> {
    let count: i64 = sqlx::query_scalar(RUNNING)
        .bind(run_id)
        .fetch_one(conn)
        .await
        .map_err(StoreError::while_("counting members in flight"))?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Whether any run of a fleet has a member in flight, or is about to choose its members.
pub async fn fleet_has_running_member(conn: &mut Connection, fleet_id: Uuid) -> Result<bool, StoreError> {
    sqlx::query_scalar(FLEET_RUNNING)
        .bind(fleet_id)
        .fetch_one(conn)
        .await
        .map_err(StoreError::while_("looking for members in flight"))
}

/// The runs of a fleet in which a member of this name has not ended, for when it leaves.
pub async fn runs_of_member(
    conn: &mut Connection,
    fleet_id: Uuid,
    name: &str,
) -> Result<Vec<(Uuid, Member)>, StoreError> {
    let failed = "looking for runs of a member";
    let rows = sqlx::query(RUNS_OF_MEMBER)
        .bind(fleet_id)
        .bind(name)
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_(failed))?;
    let read = |row: PgRow| Ok((row.try_get("run_id")?, RunMember::from_row(&row)?.member));
    rows.into_iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(StoreError::while_(failed))
}

/// An index or count as a column holds it.
pub(super) fn index(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl FromRow<'_, PgRow> for RunMember {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let number = |column| row.try_get::<i32, _>(column).map(i32::unsigned_abs);
        let state: String = row.try_get("state")?;
        Ok(Self {
            member: Member {
                index: number("member_index")?,
                name: row.try_get("name")?,
                group: number("group_index")?,
                state: read_state(state)?,
                attempt: number("attempt")?,
            },
            cluster_resource_id: row.try_get("cluster_resource_id")?,
            operation_id: row.try_get("operation_id")?,
            error: row.try_get::<Option<Json<ErrorDetail>>, _>("error")?.map(|Json(error)| error),
            message: row.try_get("message")?,
            upgrade: row.try_get("upgrade")?,
        })
    }
}

pub(super) fn read_state(text: String) -> Result<UpdateState, sqlx::Error> {
    serde_json::from_value(Value::String(text)).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}
