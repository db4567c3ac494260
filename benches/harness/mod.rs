//! What the benchmarks share: a private PostgreSQL with counted statements, and judging of targets.

#![allow(dead_code, reason = "every benchmark uses its part")]

use std::time::Duration;

use anyhow::Context;
use fleet_manager::database::{Limits, Pool};
use fleet_manager::local::postgres::{PostgresSettings, PrivatePostgres};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};

/// A private PostgreSQL that counts statements; commits are durable, as in production.
pub(crate) struct Database {
    server: PrivatePostgres,
    admin: PgConnection,
    _directory: tempfile::TempDir,
}

impl Database {
    /// Starts it in a temporary directory.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let server = PrivatePostgres::start_with(directory.path(), &PostgresSettings::default()).await?;
        let mut admin = server.options().connect().await?;
        admin
            .execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            .await
            .context("pg_stat_statements comes with PostgreSQL's contributed modules")?;
        Ok(Self { server, admin, _directory: directory })
    }

    /// An empty database.
    pub(crate) async fn create(&mut self, name: &str) -> anyhow::Result<PgConnectOptions> {
        self.admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        Ok(self.server.options().database(name))
    }

    /// An empty database with the service's tables.
    pub(crate) async fn migrated(&mut self, name: &str, connections: u32) -> anyhow::Result<Pool> {
        let options = self.create(name).await?.disable_statement_logging();
        fleet_manager::store::schema::migrate(&options).await?;
        let pool = Pool::new(options, connections, Limits::default());
        Ok(pool)
    }

    /// Counts from zero.
    pub(crate) async fn reset_statements(&mut self) -> anyhow::Result<()> {
        self.admin.execute("SELECT pg_stat_statements_reset()").await?;
        Ok(())
    }

    /// Statements in a database since the last reset, with BEGIN and COMMIT: text, count, and total milliseconds. The benchmark's own
    /// statements, which carry a mark, are left out.
    pub(crate) async fn statements(&mut self, database: &str) -> anyhow::Result<Vec<(String, i64, f64)>> {
        Ok(sqlx::query_as(
            "SELECT query, sum(calls)::bigint, sum(total_exec_time) FROM pg_stat_statements s
               JOIN pg_database d ON d.oid = s.dbid
              WHERE d.datname = $1 AND query NOT LIKE '%/* benchmark */%'
              GROUP BY query ORDER BY 2 DESC",
        )
        .bind(database)
        .fetch_all(&mut self.admin)
        .await?)
    }

    /// Shuts it down.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.admin.close().await?;
        self.server.stop().await?;
        Ok(())
    }
}

/// Compares measurements with targets. With `--check` on the command line, a missed target fails the process.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    missed: bool,
}

impl Verdict {
    /// `measured` should be at most `target`; a value up to `noise` times the target is not a failure.
    pub(crate) fn at_most(&mut self, what: &str, measured: f64, target: f64, noise: f64) {
        self.judge(what, measured, "≤", target, measured <= target, measured <= target * noise);
    }

    /// `measured` should be at least `target`; a value down to a `noise`-th of the target is not a failure.
    pub(crate) fn at_least(&mut self, what: &str, measured: f64, target: f64, noise: f64) {
        self.judge(what, measured, "≥", target, measured >= target, measured * noise >= target);
    }

    fn judge(&mut self, what: &str, measured: f64, relation: &str, target: f64, met: bool, excused: bool) {
        let verdict = match (met, excused) {
            (true, _) => "met",
            (false, true) => "missed within noise",
            (false, false) => "MISSED",
        };
        println!("  {what:<58} {measured:>9.3}   target {relation} {target:<7} {verdict}");
        self.missed |= !excused;
    }

    /// The process's exit code.
    pub(crate) fn end(self) -> std::process::ExitCode {
        let check = std::env::args().any(|arg| arg == "--check");
        std::process::ExitCode::from(u8::from(check && self.missed))
    }
}

/// The p-th percentile (0–100) of some spans, in milliseconds; 0 of none.
pub(crate) fn percentile(spans: &mut [f64], p: f64) -> f64 {
    spans.sort_by(f64::total_cmp);
    let rank = (p / 100.0 * spans.len() as f64).ceil() as usize;
    spans.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Runs a future for at most this long.
pub(crate) async fn within<T>(
    patience: Duration,
    what: &str,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::time::timeout(patience, future).await.map_err(|_| anyhow::anyhow!("{what} took too long"))?
}

/// Most memory that this process has had, in MiB; 0 where the system does not tell.
pub(crate) fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
