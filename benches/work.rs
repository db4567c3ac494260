//! The job engine against the floor: as many bare loops as it has connections, each of which locks a due job with
//! `FOR UPDATE SKIP LOCKED`, removes it, and commits. Unlike the floor, the engine holds a lease that outlives a transaction.

mod harness;

use std::{
    process::ExitCode,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use fleet_manager::database::Pool;
use fleet_manager::work::{self, Attempt, Handler, NewJob, Outcome, Workers};
use futures_util::future::{BoxFuture, try_join_all};
use harness::{Database, Verdict, percentile, within};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const JOBS: usize = 5_000;
const CONNECTIONS: u32 = 10;
const ROUNDS: usize = 3;
const WAKE_UPS: usize = 200;

/// Counts its calls and does nothing else.
struct Nothing {
    done: AtomicUsize,
    changed: Notify,
}

impl Handler for Nothing {
    fn kind(&self) -> &'static str {
        "bench"
    }

    fn handle<'a>(&'a self, _: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            self.done.fetch_add(1, Relaxed);
            self.changed.notify_one();
            Outcome::Done
        })
    }
}

fn main() -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> anyhow::Result<ExitCode> {
    let mut database = Database::start().await?;
    let pool = database.migrated("work", CONNECTIONS).await?;
    let (mut of_engine, mut of_floor) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        of_floor += floor(&pool).await?;
        of_engine += engine(&pool).await?;
    }
    let (of_engine, of_floor) = (of_engine / ROUNDS as f64, of_floor / ROUNDS as f64);
    println!("{JOBS} jobs that do nothing, {CONNECTIONS} connections:");
    println!("  engine {of_engine:.0} jobs/s, bare loop {of_floor:.0} jobs/s");
    let mut verdict = Verdict::default();
    verdict.at_least("engine ÷ bare loop, jobs/s", of_engine / of_floor, 0.6, 1.15);
    let mut waits = wake_ups(&pool).await?;
    let (p50, p99) = (percentile(&mut waits, 50.0), percentile(&mut waits, 99.0));
    println!("  from the commit of an enqueue to the handler, idle engine: p50 {p50:.2} ms, p99 {p99:.2} ms");
    pool.close().await;
    database.stop().await?;
    Ok(verdict.end())
}

async fn fill(pool: &Pool) -> anyhow::Result<()> {
    let jobs: Vec<NewJob> = (0..JOBS).map(|n| NewJob::new("bench", n.to_string())).collect();
    work::enqueue_all(&mut pool.acquire().await?, &jobs).await?;
    sqlx::query("VACUUM ANALYZE jobs").execute(pool).await?;
    Ok(())
}

/// Jobs a second without an engine.
async fn floor(pool: &Pool) -> anyhow::Result<f64> {
    fill(pool).await?;
    let began = Instant::now();
    try_join_all((0..CONNECTIONS).map(|_| async {
        loop {
            let mut tx = pool.begin().await?;
            let job: Option<i64> = sqlx::query_scalar(
                "SELECT id FROM jobs WHERE failed_at IS NULL AND due_at <= now() AND kind = 'bench'
                  ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED",
            )
            .fetch_optional(&mut *tx)
            .await?;
            let Some(job) = job else { return Ok::<_, sqlx::Error>(()) };
            sqlx::query("DELETE FROM jobs WHERE id = $1").bind(job).execute(&mut *tx).await?;
            tx.commit().await?;
        }
    }))
    .await?;
    Ok(JOBS as f64 / began.elapsed().as_secs_f64())
}

/// Runs an engine while a future runs.
async fn with_engine<T>(pool: &Pool, during: impl AsyncFnOnce(&Nothing) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let handler = Arc::new(Nothing { done: AtomicUsize::new(0), changed: Notify::new() });
    let handlers: Vec<Arc<dyn Handler>> = vec![Arc::<Nothing>::clone(&handler)];
    let workers = Workers::new(pool.clone(), work::Settings::new("bench"), handlers)?;
    let stop = CancellationToken::new();
    let working = tokio::spawn(workers.run(stop.clone()));
    let outcome = within(Duration::from_secs(120), "the jobs", during(&handler)).await;
    stop.cancel();
    working.await?;
    outcome
}

/// Jobs a second with the engine, its start included.
async fn engine(pool: &Pool) -> anyhow::Result<f64> {
    fill(pool).await?;
    with_engine(pool, async |_| {
        let began = Instant::now();
        // Measured until the last row is removed, as for the floor.
        loop {
            let left: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM jobs)").fetch_one(pool).await?;
            if !left {
                return Ok(JOBS as f64 / began.elapsed().as_secs_f64());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Milliseconds from a commit to the handler when the engine is idle.
async fn wake_ups(pool: &Pool) -> anyhow::Result<Vec<f64>> {
    with_engine(pool, async |handler| {
        let mut waits = Vec::new();
        for n in 0..=WAKE_UPS {
            work::enqueue(&mut pool.acquire().await?, NewJob::new("bench", format!("wake-up/{n}"))).await?;
            let committed = Instant::now();
            while handler.done.load(Relaxed) <= n {
                handler.changed.notified().await;
            }
            // The first sample contains the engine's start.
            if n > 0 {
                waits.push(committed.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(waits)
    })
    .await
}
