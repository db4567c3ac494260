//! Connections to PostgreSQL on which nothing waits for ever.
//!
//! A host that vanishes, a firewall that forgets a connection and a proxy that swallows bytes all look alike: no error, no
//! answer. So every statement runs under a deadline at both ends, and there is no way to run one without: [`Connection`]
//! and [`Transaction`] are the only connections that `store` and `work` take.
//!
//! With `T` = [`Limits::answer`]:
//!
//! | what | limit | where |
//! |---|---|---|
//! | waiting for a connection of the pool, opening one included | `T` | here |
//! | a statement | `T` | server: `statement_timeout` |
//! | waiting for a lock | `T`/2 | server: `lock_timeout` |
//! | a transaction in which nothing is asked | `T` | server: `idle_in_transaction_session_timeout` |
//! | sent bytes that nobody acknowledges | `T` | server: `tcp_user_timeout` |
//! | a client that closed its connection during a statement | 1 s | server: `client_connection_check_interval` |
//! | the answer to a statement | 5`T`/4, so that the server's own error comes first | here |
//! | a transaction, from its begin to its commit | 2`T` | here |
//! | testing a connection that was last tested `T`/10 ago, or whose statement failed | `T`/5 | here |
//!
//! A connection whose statement was not answered is closed, never returned to the pool: nobody knows what it would say next.
//! Its session ends at the server by the limits above, and with it the locks that it holds.

mod connection;
mod limits;
mod lock_queue;
mod pool;
mod spare;

pub use connection::{CommitError, Connection, Transaction};
pub use limits::Limits;
pub use pool::Pool;
