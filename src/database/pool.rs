//! A pool of connections that have the limits of the room.

use futures_util::{StreamExt as _, TryFutureExt as _, future::BoxFuture, stream, stream::BoxStream};
use sqlx::{
    ConnectOptions as _, Connection as _, Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{
    Connection, Limits, Transaction,
    connection::{not_answered, return_tested},
    lock_queue::LockQueue,
    spare::{Spare, Spares},
};

/// Statements slower than this are logged.
const SLOW: Duration = Duration::from_secs(1);

/// A pool of connections to one database. Clones share it.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: PgPool,
    /// Without the limits.
    options: Arc<PgConnectOptions>,
    limits: Limits,
    lock_queue: Arc<LockQueue>,
    spares: Arc<Spares>,
    /// A place for each connection that may be in use. Whoever has one need not wait in the library's pool.
    places: Arc<Semaphore>,
}

impl Pool {
    /// A pool that connects when it is first used.
    #[must_use]
    pub fn new(options: PgConnectOptions, connections: u32, limits: Limits) -> Self {
        let (test, trusted) = (limits.test(), limits.trusted());
        let inner = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(limits.answer)
            // The pool's own test has no deadline.
            .test_before_acquire(false)
            .before_acquire(move |conn, meta| {
                Box::pin(async move { if meta.idle_for < trusted { Ok(true) } else { is_alive(conn, test).await } })
            })
            .connect_lazy_with(
                options.clone().options(limits.session()).log_slow_statements(log::LevelFilter::Warn, SLOW),
            );
        let waiting_for_locks = usize::try_from(connections / 2).unwrap_or(usize::MAX);
        Self {
            inner,
            options: Arc::new(options),
            limits,
            lock_queue: Arc::new(LockQueue::new(waiting_for_locks)),
            spares: Arc::new(Spares::new(trusted)),
            places: Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS))),
        }
    }

    /// Another pool to the same database, whose connections nobody else can use up.
    #[must_use]
    pub fn separate(&self, connections: u32) -> Self {
        Self::new(self.options.as_ref().clone(), connections, self.limits)
    }

    /// A connection, after at most [`Limits::answer`].
    ///
    /// # Errors
    /// `PoolTimedOut` when none is free in time or the server does not answer.
    pub async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        let acquiring = async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
            let (spare, to_test) = self.spares.take();
            for pooled in to_test {
                return_tested(pooled, self.limits);
            }
            let spare = match spare {
                Some(spare) => spare,
                None => Spare { pooled: self.inner.acquire().await?, since: Instant::now() },
            };
            Ok(Connection::new(spare, Arc::clone(&self.spares), place, self.limits))
        };
        timeout(self.limits.answer, acquiring).await.map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    /// A transaction that takes no lock which others hold for long: whoever needs one uses [`Pool::begin_locking`].
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        Transaction::begin(self.acquire().await?, None).await
    }

    /// A transaction that locks what `key` names. The transactions of this process that lock the same wait for each other
    /// without a connection, so that one lock which is held for long does not use up the pool.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    pub async fn begin_locking(&self, key: impl ToString) -> Result<Transaction, sqlx::Error> {
        let entering = timeout(self.limits.answer, async { self.lock_queue.enter(&key.to_string()).await });
        let place = entering.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Transaction::begin(self.acquire().await?, Some(place)).await
    }

    /// How the pool connects, limits included.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.inner.connect_options().as_ref().clone()
    }

    /// Closes all connections once they are returned.
    pub async fn close(&self) {
        self.places.close();
        drop(self.spares.close());
        self.inner.close().await;
    }
}

/// `true`, or the error of a connection that does not answer.
async fn is_alive(conn: &mut PgConnection, within: Duration) -> Result<bool, sqlx::Error> {
    timeout(within, conn.ping()).await.map_err(|_| not_answered())?.map(|()| true)
}

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            let mut conn = pool.acquire().await?;
            let steps: Vec<_> = conn.fetch_many(query).collect().await;
            Ok(stream::iter(steps))
        };
        all.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.describe(sql).await })
    }
}
