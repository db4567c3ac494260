//! Every event that is given up becomes a dead letter.

use std::time::Duration;

use fleet_manager::store::deliveries::{self, GivenUp};
use uuid::Uuid;

use crate::harness::postgres::database;

const RUN: Uuid = Uuid::from_u128(10);

#[tokio::test]
async fn events_skipped_by_the_cursor_become_dead_letters() {
    let db = database().await;
    // The times of the events are not in the order of their sequence, as with clocks that differ. The first event was delivered.
    for statement in [
        "INSERT INTO webhooks (name, since) VALUES ('ops', now() - interval '1 day')",
        "INSERT INTO event_streams (run_id, last_sequence) VALUES ('00000000-0000-0000-0000-00000000000a', 5)",
        "INSERT INTO event_deliveries (run_id, webhook, delivered) VALUES ('00000000-0000-0000-0000-00000000000a', 'ops', 1)",
        "INSERT INTO events (run_id, sequence, type, subject, at, recorded_at, data)
             SELECT '00000000-0000-0000-0000-00000000000a', n, 't', '/', now(), now() - make_interval(secs => age), '{}'
             FROM (VALUES (1, 100), (2, 50), (3, 70), (4, 50), (5, 0)) AS e (n, age)",
    ] {
        sqlx::query(statement).execute(&db.pool).await.unwrap();
    }
    let mut conn = db.pool.acquire().await.unwrap();
    let minute = GivenUp::OlderThan(Duration::from_secs(60));
    assert_eq!(deliveries::give_up(&mut conn, "ops", RUN, minute, 3, "e").await.unwrap(), 2);
    let dead: Vec<i64> = sqlx::query_scalar("SELECT sequence FROM event_dead_letters ORDER BY sequence")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(dead, [2, 3]);
    let backlog = deliveries::backlog(&mut conn, "ops", RUN, 10).await.unwrap().unwrap();
    assert_eq!(backlog.events.iter().map(|queued| queued.event.sequence).collect::<Vec<_>>(), [4, 5]);
    drop(conn);

    // Sequence and time are in the order of writing, however long ago the transaction began.
    let mut tx = db.pool.begin().await.unwrap();
    sqlx::query("SELECT now()").execute(&mut *tx).await.unwrap();
    sqlx::query("INSERT INTO events (run_id, sequence, type, subject, at, data) VALUES ($1, 6, 't', '/', now(), '{}')")
        .bind(RUN)
        .execute(&mut *tx)
        .await
        .unwrap();
    let later: bool = sqlx::query_scalar("SELECT recorded_at > now() FROM events WHERE sequence = 6")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert!(later);
}
