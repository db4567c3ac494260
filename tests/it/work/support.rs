//! Worker pools and handlers for tests.

use fleet_manager::database::Pool;
use fleet_manager::work::{Attempt, Backoff, Handler, NewJob, Outcome, Settings, Ticket, Workers, enqueue};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub const KIND: &str = "test";

struct On<F>(F);

impl<F> Handler for On<F>
where
    F: for<'a> Fn(&'a Attempt) -> BoxFuture<'a, Outcome> + Send + Sync + 'static,
{
    fn kind(&self) -> &'static str {
        KIND
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        (self.0)(attempt)
    }
}

/// A handler of [`KIND`] from a closure.
pub fn on<F>(handle: F) -> Arc<dyn Handler>
where
    F: for<'a> Fn(&'a Attempt) -> BoxFuture<'a, Outcome> + Send + Sync + 'static,
{
    Arc::new(On(handle))
}

/// Settings with a very slow fallback poll, so that tests pass only if workers are woken.
pub fn settings() -> Settings {
    Settings {
        concurrency: 8,
        lease: Duration::from_secs(2),
        poll: Duration::from_secs(60),
        drain: Duration::from_secs(5),
        backoff: Backoff { base: Duration::from_millis(20), max: Duration::from_millis(100) },
        max_failures: 3,
        ..Settings::new("test")
    }
}

pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub fn run(pool: &Pool, settings: Settings, handler: Arc<dyn Handler>) -> Running {
    let workers = Workers::new(pool.clone(), settings, vec![handler]).unwrap();
    let stop = CancellationToken::new();
    Running { task: tokio::spawn(workers.run(stop.clone())), stop }
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Stops the workers as `kill -9` does.
    pub async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Workers that hold the lease of a job until they are stopped, and the name of their attempt.
pub async fn leased(pool: &Pool) -> (Running, Ticket) {
    put(pool, "leased").await;
    let (sender, mut tickets) = mpsc::unbounded_channel();
    let workers = run(
        pool,
        settings(),
        on(move |attempt| {
            let sender = sender.clone();
            Box::pin(async move {
                sender.send(attempt.ticket()).unwrap();
                std::future::pending().await
            })
        }),
    );
    let ticket = tickets.recv().await.unwrap();
    (workers, ticket)
}

pub async fn put(pool: &Pool, subject: &str) {
    enqueue(&mut pool.acquire().await.unwrap(), NewJob::new(KIND, subject)).await.unwrap();
}

#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    pub subject: String,
    pub attempt: i64,
    pub failures: i32,
    pub last_error: Option<String>,
    pub leased: bool,
    pub failed: bool,
    pub cancelled: bool,
    /// Seconds until the job is due.
    pub goes_in: Option<f64>,
}

pub async fn rows(pool: &Pool) -> Vec<Row> {
    sqlx::query_as(
        "SELECT subject, attempt, failures, last_error, lease_until IS NOT NULL AS leased, failed_at IS NOT NULL AS failed,
                cancelled, extract(epoch FROM run_at - clock_timestamp())::float8 AS goes_in
           FROM jobs ORDER BY subject",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

pub async fn row(pool: &Pool) -> Row {
    let rows = rows(pool).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}
