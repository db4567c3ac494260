//! What people and auto-upgrade did to runs, and who it was.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::Row;
use uuid::Uuid;

use crate::{
    database::Connection,
    model::update_run::RunAction,
    store::{StoreError, resources::Author},
};

/// Most actions that are shown, the latest ones.
const SHOWN: i64 = 200;

const INSERT: &str = "INSERT INTO run_actions (run_id, at, action, principal, principal_type, targets)
     SELECT $1, $2, $3, $4, $5, $6 WHERE EXISTS (SELECT FROM update_runs WHERE run_id = $1)";

const SELECT: &str = "SELECT at, action, principal, principal_type, targets FROM run_actions
     WHERE run_id = $1 ORDER BY action_id DESC LIMIT $2";

/// Records an action on a run. `targets` are the names of the parts of the run that the action is about; none for the whole run.
pub async fn record_action(
    conn: &mut Connection,
    run_id: Uuid,
    author: Author<'_>,
    action: &str,
    targets: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(INSERT)
        .bind(run_id)
        .bind(now.to_sqlx())
        .bind(action)
        .bind(author.name)
        .bind(author.kind)
        .bind(targets)
        .execute(conn)
        .await
        .map_err(StoreError::while_("recording an action on an update run"))?;
    Ok(())
}

/// The latest actions on a run, in order.
pub async fn actions(conn: &mut Connection, run_id: Uuid) -> Result<Vec<RunAction>, StoreError> {
    let failed = "reading the actions on an update run";
    let rows =
        sqlx::query(SELECT).bind(run_id).bind(SHOWN).fetch_all(conn).await.map_err(StoreError::while_(failed))?;
    rows.into_iter()
        .rev()
        .map(|row| {
            Ok(RunAction {
                action: row.try_get("action")?,
                principal: row.try_get("principal")?,
                principal_type: row.try_get("principal_type")?,
                time: row.try_get::<jiff_sqlx::Timestamp, _>("at")?.to_jiff(),
                targets: row.try_get("targets")?,
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .map_err(StoreError::while_(failed))
}
