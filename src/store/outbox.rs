//! The outbox: events of update runs, recorded with the changes that they tell of, and who wants them.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{StoreError, runs::Listener};
use crate::database::Connection;
use crate::webhooks::{NewEvent, Webhook};

/// Records events, in this order, in the caller's transaction, which holds the locks of their runs. One statement.
pub async fn record(conn: &mut Connection, events: &[(Uuid, NewEvent)], now: Timestamp) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH new AS (
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) WITH ORDINALITY
                 AS n (run_id, type, subject, data, ord)),
         streams AS (
             INSERT INTO event_streams AS s (run_id, last_sequence)
             SELECT run_id, count(*) FROM new GROUP BY run_id ORDER BY run_id
             ON CONFLICT (run_id) DO UPDATE
                 SET last_sequence = s.last_sequence + excluded.last_sequence, last_at = excluded.last_at
             RETURNING run_id, last_sequence)
         INSERT INTO events (run_id, sequence, type, subject, at, data)
         SELECT run_id,
             last_sequence - count(*) OVER (PARTITION BY run_id) + row_number() OVER (PARTITION BY run_id ORDER BY ord),
             type, subject, $5, data
         FROM new JOIN streams USING (run_id)",
    )
    .bind(events.iter().map(|(run, _)| *run).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.kind).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.subject.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| &event.data).collect::<Vec<_>>())
    .bind(now.to_sqlx())
    .execute(conn)
    .await
    .map_err(StoreError::while_("recording events"))?;
    Ok(())
}

/// Registers webhooks with the types that they want now.
pub async fn register(conn: &mut Connection, webhooks: &[Webhook]) -> Result<(), StoreError> {
    for webhook in webhooks {
        sqlx::query(
            "INSERT INTO webhooks (name, types) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET types = excluded.types, seen_at = excluded.seen_at",
        )
        .bind(&webhook.name)
        .bind(&webhook.types)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_("registering webhooks"))?;
    }
    Ok(())
}

/// Keeps that somebody knows these webhooks. Their types stay: another process may know better.
pub async fn seen(conn: &mut Connection, webhooks: &[Webhook]) -> Result<(), StoreError> {
    for webhook in webhooks {
        sqlx::query(
            "INSERT INTO webhooks (name, types) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind(&webhook.name)
        .bind(&webhook.types)
        .execute(&mut *conn)
        .await
        .map_err(StoreError::while_("keeping that webhooks are known"))?;
    }
    Ok(())
}

/// Removes the webhooks that nobody has known for so long. Answers their names.
pub async fn forget(conn: &mut Connection, unseen: Duration) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar("DELETE FROM webhooks WHERE seen_at < now() - make_interval(secs => $1) RETURNING name")
        .bind(unseen.as_secs_f64())
        .fetch_all(conn)
        .await
        .map_err(StoreError::while_("removing webhooks"))
}

/// All webhooks.
pub async fn listeners(conn: &mut Connection) -> Result<Vec<Listener>, StoreError> {
    let failed = "reading webhooks";
    let rows =
        sqlx::query("SELECT name, types FROM webhooks").fetch_all(conn).await.map_err(StoreError::while_(failed))?;
    let read = |row: PgRow| Ok(Listener { name: row.try_get("name")?, types: row.try_get("types")? });
    rows.into_iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(StoreError::while_(failed))
}
