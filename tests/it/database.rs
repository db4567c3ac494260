//! Connections that are never answered, and locks of a holder that vanished.

use std::time::{Duration, Instant};

use fleet_manager::database::{Limits, Pool};

use crate::harness::{
    eventually,
    postgres::database,
    proxy::{Proxy, Swallow},
};

const ANSWER: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { answer: ANSWER };
/// Generous: the machine may be busy.
const LATE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_session_has_limits() {
    let db = database().await;
    let pool = Pool::new(db.options.clone(), 1, Limits { answer: Duration::from_secs(7) });
    let mut conn = pool.acquire().await.unwrap();
    for (setting, wanted) in [
        ("statement_timeout", "7s"),
        ("lock_timeout", "3500ms"),
        ("idle_in_transaction_session_timeout", "7s"),
        ("tcp_user_timeout", "7s"),
        ("client_connection_check_interval", "1s"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
    ] {
        let value: String = sqlx::query_scalar("SELECT setting || coalesce(unit, '') FROM pg_settings WHERE name = $1")
            .bind(setting)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        let millis = |text: &str| -> Option<f64> {
            let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
            let number: f64 = number.parse().ok()?;
            Some(if unit == "s" && wanted.ends_with('s') { number * 1000.0 } else { number })
        };
        // Over a Unix socket PostgreSQL shows the TCP settings as 0.
        let local = setting.starts_with("tcp_") && value.starts_with('0');
        assert!(local || millis(&value) == millis(wanted), "{setting} is {value}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_until_a_statement_fails() {
    let db = database().await;
    // Long enough for the connection to be used without a test during the whole of this one.
    let pool = Pool::new(db.options.clone(), 1, Limits { answer: Duration::from_secs(1200) });
    let session = async || sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(&pool).await;
    let first = session().await.unwrap();
    assert_eq!(session().await.unwrap(), first);
    sqlx::query("SELECT pg_terminate_backend($1)").bind(first).execute(&db.pool).await.unwrap();
    eventually("the session has ended", async || {
        let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_stat_activity WHERE pid = $1");
        left.bind(first).fetch_one(&db.pool).await.unwrap() == 0
    })
    .await;
    assert!(session().await.is_err(), "nothing was tested");
    assert_ne!(session().await.unwrap(), first);
    assert!(sqlx::query("SELECT 1/0").execute(&pool).await.is_err());
    assert!(session().await.is_ok(), "an error of a statement does not end the session");
    pool.close().await;
    assert!(matches!(session().await, Err(sqlx::Error::PoolClosed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_vanished_in_a_transaction_loses_its_lock() {
    let db = database().await;
    let proxy = Proxy::start(&db.options).await;
    sqlx::query("CREATE TABLE locked AS SELECT 1 AS id").execute(&db.pool).await.unwrap();
    let vanishing = Pool::new(proxy.options(), 1, LIMITS);
    let mut tx = vanishing.begin().await.unwrap();
    sqlx::query("SELECT FROM locked FOR UPDATE").execute(&mut *tx).await.unwrap();
    proxy.swallow(Swallow::Everything);
    // The holder of the lock sends nothing more, and its connection stays open.
    let began = Instant::now();
    sqlx::query("SELECT FROM locked FOR UPDATE").execute(&db.pool).await.unwrap();
    assert!(began.elapsed() < LATE, "{:?}", began.elapsed());
    drop(tx);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_not_answered_fails_in_time_and_costs_no_slot() {
    let db = database().await;
    let proxy = Proxy::start(&db.options).await;
    let pool = Pool::new(proxy.options(), 2, LIMITS);
    let statements = ["BEGIN", "SELECT 41", "COMMIT"];
    for moment in statements.into_iter().flat_map(|text| [Swallow::From(text), Swallow::After(text)]) {
        proxy.swallow(moment);
        let began = Instant::now();
        let failed = async {
            let mut tx = pool.begin().await?;
            sqlx::query("SELECT 41 + 1").execute(&mut *tx).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(())
        };
        let error = failed.await.unwrap_err();
        assert!(
            matches!(&error, sqlx::Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut),
            "{moment:?}: {error}"
        );
        assert!(began.elapsed() < LATE, "{moment:?}: {:?}", began.elapsed());
        assert!(proxy.has_swallowed(), "{moment:?}");
        // The pool has both connections again, at the same time.
        eventually("both slots are free", async || {
            let both = tokio::join!(pool.acquire(), pool.acquire());
            matches!(both, (Ok(_), Ok(_)))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_went_silent_is_replaced() {
    let db = database().await;
    let proxy = Proxy::start(&db.options).await;
    let pool = Pool::new(proxy.options(), 3, LIMITS);
    drop(tokio::join!(pool.acquire(), pool.acquire(), pool.acquire()));
    // Connections that were idle for so long are tested before they are used again.
    eventually("all are idle for a second", async || {
        let all: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
                 AND state_change < clock_timestamp() - interval '1 s'",
        )
        .fetch_one(&db.pool)
        .await
        .unwrap();
        all >= 3
    })
    .await;
    // Open connections get no more answers. New connections work.
    proxy.swallow(Swallow::OpenConnections);
    for _ in 0..3 {
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut conn).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_wait_for_one_lock_leave_connections_to_others() {
    let db = database().await;
    let pool = Pool::new(db.options.clone(), 4, Limits { answer: Duration::from_secs(30) });
    sqlx::query("CREATE TABLE locked AS SELECT 1 AS id").execute(&db.pool).await.unwrap();
    let mut holder = db.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM locked FOR UPDATE").execute(&mut *holder).await.unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut tx = pool.begin_locking("the row").await?;
                sqlx::query("SELECT FROM locked FOR UPDATE").execute(&mut *tx).await?;
                tx.commit().await?;
                Ok::<_, sqlx::Error>(())
            })
        })
        .collect();
    eventually("one waits", async || {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&db.pool).await.unwrap() == 1
    })
    .await;
    for n in 0..3 {
        let answer = sqlx::query_scalar::<_, i32>("SELECT $1::integer").bind(n).fetch_one(&pool);
        assert_eq!(tokio::time::timeout(LATE, answer).await.unwrap().unwrap(), n);
    }
    holder.commit().await.unwrap();
    for waited in waiting {
        waited.await.unwrap().unwrap();
    }
}
