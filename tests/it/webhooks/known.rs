//! Registered webhooks when the processes' configurations differ.

use fleet_manager::database::Pool;
use fleet_manager::{jobs::webhook_registry, webhooks::Webhooks};

use crate::harness::postgres::database;

fn known(names: &[&str]) -> Webhooks {
    let entry = |name: &&str| format!("{{\"name\": \"{name}\", \"url\": \"https://h.example\", \"secretEnv\": \"S\"}}");
    let entries: Vec<String> = names.iter().map(entry).collect();
    Webhooks::parse(&format!("[{}]", entries.join(","))).unwrap()
}

async fn registered(pool: &Pool) -> Vec<String> {
    sqlx::query_scalar("SELECT name FROM webhooks ORDER BY name").fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn a_webhook_stays_while_a_process_confirms_it() {
    let db = database().await;
    let pool = &db.pool;
    // One process already has the new configuration. Another process starts with the old one.
    webhook_registry::register(pool, &known(&["old", "new"])).await.unwrap();
    webhook_registry::register(pool, &known(&["old"])).await.unwrap();
    webhook_registry::forget(pool).await.unwrap();
    assert_eq!(registered(pool).await, ["new", "old"]);

    for statement in [
        "UPDATE webhooks SET seen_at = now() - interval '11 minutes', types = '{t}'",
        "INSERT INTO jobs (kind, subject, run_at) SELECT 'events.deliver', name || '/r', now() FROM webhooks",
    ] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
    webhook_registry::refresh(pool, &known(&["new"])).await.unwrap();
    webhook_registry::forget(pool).await.unwrap();
    assert_eq!(registered(pool).await, ["new"], "nobody knows the other");
    let left: Vec<(String, Vec<String>)> =
        sqlx::query_as("SELECT j.subject, w.types FROM jobs j CROSS JOIN webhooks w").fetch_all(pool).await.unwrap();
    assert_eq!(left, [("new/r".to_owned(), vec!["t".to_owned()])], "its types are as they were registered");

    // A process that continues after a long pause registers its webhooks again.
    webhook_registry::refresh(pool, &known(&["old"])).await.unwrap();
    assert_eq!(registered(pool).await, ["new", "old"]);
}
