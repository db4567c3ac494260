//! A connection of a pool, and a transaction on one, whose statements end within their deadline.

use futures_util::{
    StreamExt as _, TryFutureExt as _, TryStreamExt as _, future::BoxFuture, stream, stream::BoxStream,
};
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::{
    Limits,
    lock_queue::Place,
    spare::{Spare, Spares},
};

/// A connection of a [`Pool`](super::Pool). Returns to the pool when it is dropped; a connection on which a statement was
/// sent and not answered is closed instead.
pub struct Connection {
    /// Absent only while the connection is dropped.
    held: Option<Spare>,
    spares: Arc<Spares>,
    /// Given back after the connection.
    _place: OwnedSemaphorePermit,
    limits: Limits,
    /// When the transaction that is open on the connection must be over.
    deadline: Option<Instant>,
    /// A statement was sent and its answer was not read to the end.
    unanswered: bool,
    /// A statement failed, so that the connection is tested before it is used again.
    failed: bool,
}

impl Connection {
    pub(super) fn new(held: Spare, spares: Arc<Spares>, place: OwnedSemaphorePermit, limits: Limits) -> Self {
        Self { held: Some(held), spares, _place: place, limits, deadline: None, unanswered: false, failed: false }
    }

    /// How long the next statement may take.
    fn statement_limit(&self) -> Duration {
        let limit = self.limits.statement();
        match self.deadline {
            Some(deadline) => limit.min(deadline.saturating_duration_since(Instant::now())),
            None => limit,
        }
    }

    /// The answer to a statement, if it comes in time.
    async fn answer<'c, T, F>(
        &'c mut self,
        ask: impl FnOnce(&'c mut PgConnection) -> F + Send,
    ) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'c,
    {
        let limit = self.statement_limit();
        let Some(held) = &mut self.held else { return Err(sqlx::Error::PoolClosed) };
        if limit.is_zero() {
            return Err(not_answered());
        }
        self.unanswered = true;
        let answer = timeout(limit, ask(&mut held.pooled)).await.map_err(|_| not_answered())?;
        self.unanswered = false;
        self.failed |= answer.is_err();
        answer
    }
}

pub(super) fn not_answered() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "PostgreSQL did not answer in time"))
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        if self.unanswered {
            held.pooled.close_on_drop();
            return;
        }
        if self.deadline.is_some() {
            let limit = self.limits.test();
            tokio::spawn(async move {
                let mut pooled = held.pooled;
                if matches!(timeout(limit, pooled.execute("ROLLBACK")).await, Ok(Ok(_))) {
                    answered_within(limit, pooled.return_to_pool()).await;
                } else {
                    pooled.close_on_drop();
                }
            });
            return;
        }
        let returned = if self.failed { Some(held.pooled) } else { self.spares.keep(held) };
        if let Some(pooled) = returned {
            return_tested(pooled, self.limits);
        }
    }
}

/// Returns a connection to the library's pool, which tests it.
pub(super) fn return_tested(mut pooled: PoolConnection<Postgres>, limits: Limits) {
    tokio::spawn(answered_within(limits.test(), pooled.return_to_pool()));
}

/// Returns a connection to the pool, which tests it without a deadline of its own. A connection that does not answer in time is
/// closed with the future that is dropped, and its place in the pool is free.
async fn answered_within(limit: Duration, returned: impl Future<Output = ()> + Send) {
    if timeout(limit, returned).await.is_err() {
        tracing::warn!("a connection did not answer when it was returned to the pool, and was closed");
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("unanswered", &self.unanswered).finish_non_exhaustive()
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    /// Reads the whole answer before it yields the first row: a caller that reads slowly cannot hold up the deadline.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let all = self.answer(move |conn| conn.fetch_many(query).try_collect::<Vec<_>>());
        all.map_ok(|steps| stream::iter(steps.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(self.answer(move |conn| conn.fetch_optional(query)))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(self.answer(move |conn| conn.prepare_with(sql, parameters)))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(self.answer(move |conn| conn.describe(sql)))
    }
}

/// A transaction. Rolls back when it is dropped without [`Transaction::commit`].
#[derive(Debug)]
pub struct Transaction {
    connection: Connection,
    /// Given back after the connection: until then its locks may be held.
    _place: Option<Place>,
}

impl Transaction {
    pub(super) async fn begin(mut connection: Connection, place: Option<Place>) -> Result<Self, sqlx::Error> {
        connection.deadline = Some(Instant::now() + connection.limits.transaction());
        connection.execute("BEGIN").await?;
        Ok(Self { connection, _place: place })
    }

    /// Makes the changes of the transaction durable and visible.
    ///
    /// # Errors
    /// [`CommitError`]: the changes may have been made nevertheless, see [`CommitError::is_undone`].
    pub async fn commit(mut self) -> Result<(), CommitError> {
        self.connection.execute("COMMIT").await.map_err(CommitError)?;
        self.connection.deadline = None;
        Ok(())
    }

    /// Undoes the changes of the transaction.
    ///
    /// # Errors
    /// When the database does not answer. The changes are undone in any case.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("ROLLBACK").await?;
        self.connection.deadline = None;
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// A COMMIT that was not confirmed.
#[derive(Debug, thiserror::Error)]
#[error("the database did not confirm a COMMIT")]
pub struct CommitError(
    #[source]
    #[from]
    sqlx::Error,
);

impl CommitError {
    /// Whether nothing was changed for certain. Otherwise the answer was lost, and the changes may have been made.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        // Class 23: a constraint that is checked at the end. Class 40: rolled back in favour of another transaction.
        let code = self.0.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| code.starts_with("23") || code.starts_with("40"))
    }
}

impl From<CommitError> for sqlx::Error {
    fn from(error: CommitError) -> Self {
        error.0
    }
}
