//! Jobs that end their process, and the jobs that are in the same process.

use super::support::*;
use crate::harness::{eventually, postgres::database};
use fleet_manager::work::{Attempt, Handler, NewJob, Outcome, Settings, Workers, enqueue, enqueue_all};
use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, Executor as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn hasty() -> Settings {
    Settings { lease: Duration::from_millis(500), max_failures: u32::MAX, ..settings() }
}

/// The job "killer" reports that its process ends. The other jobs take a while, and are executed again.
struct Mixed {
    kills: mpsc::UnboundedSender<u32>,
    reports: mpsc::UnboundedSender<String>,
}

impl Handler for Mixed {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            if attempt.subject == "killer" {
                // The process ends together with jobs that have begun.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = self.kills.send(attempt.vanished);
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
            Outcome::AgainAfter { delay: Duration::from_millis(10) }
        })
    }

    fn quarantine<'a>(&'a self, attempt: &'a Attempt, reason: String) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let _ = self.reports.send(attempt.subject.clone());
            Outcome::Fail { error: reason }
        })
    }
}

#[tokio::test]
async fn a_job_that_ends_each_process_is_quarantined_and_no_other() {
    let db = database().await;
    let subjects = ["a", "b", "c", "d", "e", "killer"];
    let jobs: Vec<_> = subjects.iter().map(|subject| NewJob::new(KIND, *subject)).collect();
    enqueue_all(&mut db.pool.acquire().await.unwrap(), &jobs).await.unwrap();
    let (kills, mut killed) = mpsc::unbounded_channel();
    let (reports, mut reported) = mpsc::unbounded_channel();
    let mut counts = Vec::new();
    loop {
        let handler = Mixed { kills: kills.clone(), reports: reports.clone() };
        let workers = run(&db.pool, hasty(), Arc::new(handler));
        tokio::select! {
            Some(vanished) = killed.recv() => counts.push(vanished),
            Some(subject) = reported.recv() => {
                assert_eq!(subject, "killer");
                eventually("given up", async || rows(&db.pool).await.iter().any(|row| row.failed)).await;
                workers.stop().await;
                break;
            }
        }
        workers.crash().await;
        assert!(counts.len() < 12, "executed for ever: {counts:?}");
    }
    assert_eq!(counts, (0..10).collect::<Vec<_>>());
    for row in rows(&db.pool).await {
        assert_eq!(row.failed, row.subject == "killer", "{row:?}");
    }
    let error = rows(&db.pool).await.pop().unwrap().last_error.unwrap();
    assert!(error.contains("10 times in a row"), "{error}");

    // Enqueuing the job again ends the quarantine.
    db.pool.execute("DELETE FROM jobs WHERE subject <> 'killer'").await.unwrap();
    put(&db.pool, "killer").await;
    let (seen, mut sees) = mpsc::unbounded_channel();
    let workers = run(
        &db.pool,
        hasty(),
        on(move |attempt| {
            seen.send(attempt.vanished).unwrap();
            Box::pin(async { Outcome::Done })
        }),
    );
    assert_eq!(sees.recv().await.unwrap(), 0);
    eventually("done", async || rows(&db.pool).await.is_empty()).await;
    workers.stop().await;
}

#[tokio::test]
async fn suspects_are_executed_one_at_a_time_and_an_answer_clears_them() {
    let db = database().await;
    let jobs: Vec<_> = (0..30).map(|n| NewJob::new(KIND, format!("{n:02}"))).collect();
    enqueue_all(&mut db.pool.acquire().await.unwrap(), &jobs).await.unwrap();
    db.pool.execute("UPDATE jobs SET vanished = 2 WHERE subject < '20'").await.unwrap();
    let together = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counting = Arc::clone(&together);
    let workers = run(
        &db.pool,
        settings(),
        on(move |attempt| {
            let counting = Arc::clone(&counting);
            Box::pin(async move {
                if attempt.vanished == 2 {
                    let (now, most) = &*counting;
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    assert!(!attempt.may_pause(Duration::ZERO), "a suspect answers at once");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                }
                Outcome::AgainAfter { delay: Duration::from_secs(600) }
            })
        }),
    );
    eventually("all wait", async || rows(&db.pool).await.iter().all(|row| row.goes_in > Some(100.0))).await;
    assert_eq!(together.1.load(Ordering::SeqCst), 1);
    let left = "SELECT count(*) FROM jobs WHERE vanished <> 0 OR attempt <> 1";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&db.pool).await.unwrap(), 0);
    workers.stop().await;
}

/// Answers reports of a quarantine one after the other.
struct Reporting(Mutex<Vec<Outcome>>);

impl Handler for Reporting {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn handle<'a>(&'a self, _attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        panic!("a job in quarantine must not be executed")
    }

    fn quarantine<'a>(&'a self, _attempt: &'a Attempt, _reason: String) -> BoxFuture<'a, Outcome> {
        let answer = self.0.lock().unwrap().pop().expect("reported once more");
        Box::pin(async { answer })
    }
}

#[tokio::test]
async fn a_report_that_fails_is_repeated_and_does_not_end_the_quarantine() {
    let db = database().await;
    put(&db.pool, "a").await;
    db.pool.execute("UPDATE jobs SET vanished = 10").await.unwrap();
    let answers = vec![
        Outcome::Fail { error: "reported".to_owned() },
        Outcome::Retry { error: "the database failed".to_owned(), after: None },
    ];
    let workers = Workers::new(db.pool.clone(), hasty(), vec![Arc::new(Reporting(Mutex::new(answers)))]).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(workers.run(stop.clone()));
    eventually("given up", async || row(&db.pool).await.failed).await;
    assert_eq!(row(&db.pool).await.last_error.as_deref(), Some("reported"));
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_report_that_ends_its_process_is_not_repeated_for_ever() {
    let db = database().await;
    enqueue(&mut db.pool.acquire().await.unwrap(), NewJob::new(KIND, "a")).await.unwrap();
    for (vanished, failed) in [(12, false), (13, true)] {
        db.pool
            .execute(AssertSqlSafe(format!(
                "UPDATE jobs SET vanished = {vanished}, run_at = now(), lease_owner = NULL, lease_until = NULL"
            )))
            .await
            .unwrap();
        let (began, mut begins) = mpsc::unbounded_channel();
        let workers = run(&db.pool, hasty(), Arc::new(Stuck(began)));
        if failed {
            eventually("given up", async || row(&db.pool).await.failed).await;
            assert!(begins.try_recv().is_err());
        } else {
            begins.recv().await.unwrap();
        }
        workers.crash().await;
    }
}

/// Ends its process while it reports a quarantine.
struct Stuck(mpsc::UnboundedSender<()>);

impl Handler for Stuck {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn handle<'a>(&'a self, _attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        panic!("a job in quarantine must not be executed")
    }

    fn quarantine<'a>(&'a self, _attempt: &'a Attempt, _reason: String) -> BoxFuture<'a, Outcome> {
        let _ = self.0.send(());
        Box::pin(std::future::pending())
    }
}
