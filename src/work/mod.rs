//! A durable job engine on PostgreSQL: a queue, leases and a pool of workers.
//!
//! It knows nothing of what the jobs are about. A job is a row, named by its *kind* (which handler) and its *subject*
//! (what about), and there is never more than one row of that name:
//!
//! - [`enqueue`] runs in the caller's transaction, so the job exists exactly if the change that needs it does. Enqueuing
//!   it again is the same job: it goes at the earlier of both times, and once more if it is being executed already.
//! - [`Workers`] claim what is due (`FOR UPDATE SKIP LOCKED`, as many as there are free slots in one statement) and hand
//!   an [`Attempt`] to the [`Handler`] of its kind. The answer, an [`Outcome`], costs one statement. A job that waits is
//!   a row with a later `run_at`: no memory, no connection.
//! - Workers sleep until the next job is due, and are woken by `NOTIFY` when something earlier arrives; a slow poll is
//!   only the safety net below. Nothing polls busily.
//!
//! # Who may write
//!
//! An attempt holds a lease: a name that no other claim ever has (`lease_owner`) and an end by the database's clock. The
//! heartbeat renews all leases of a worker in one statement at a third of their length. When that fails, the handler is
//! dropped *before* the lease ends. Should a worker stall and be replaced regardless, the name protects the rows: a
//! transaction from [`Attempt::begin`], or a statement by [`Ticket::execute_fenced`], first locks the job row under that name, and
//! no row means [`FenceError::LeaseLost`]. The fence protects this database only. Before an effect elsewhere: look first, and commit the
//! intent.
//!
//! An attempt that vanishes (crash, `kill -9`) is delivered again when its lease ends, and counts as a failure. A job that ends its
//! process again and again is quarantined (`quarantine.rs`): it is not claimed any more, its row and [`Handler::quarantine`] say
//! so, and enqueuing it again ends the quarantine. Delivery is thus at least once; [`Attempt::settle`] inside the
//! handler's own transaction makes the effects on this database exactly once.
//!
//! # Who may not wait
//!
//! No slot is held by what waits. A refusal by [`Limits`], a `Retry-After` or a closed window is [`Outcome::Again`] or
//! [`Outcome::Retry`], and the slot is free for others. Only a short wait may be an [`Attempt::pause`], which costs no statement, and
//! only as long as half of the slots are left for others.
//!
//! # Example
//!
//! ```ignore
//! use work::{Attempt, Handler, NewJob, Outcome, Settings, Workers, enqueue};
//! use futures_util::future::BoxFuture;
//! use std::sync::Arc;
//! use tokio_util::sync::CancellationToken;
//!
//! struct Greet;
//!
//! impl Handler for Greet {
//!     fn kind(&self) -> &'static str {
//!         "greet"
//!     }
//!
//!     fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
//!         Box::pin(async move {
//!             tracing::info!("hello {}", attempt.subject);
//!             Outcome::Done
//!         })
//!     }
//! }
//!
//! let mut tx = pool.begin().await?;
//! enqueue(&mut tx, NewJob::new("greet", "world")).await?;
//! tx.commit().await?;
//!
//! let workers = Workers::new(pool, Settings::new("replica-1"), vec![Arc::new(Greet)])?;
//! workers.run(stop).await;
//! ```

mod attempt;
mod backoff;
mod bucket;
mod claim;
mod limits;
mod listen;
mod outcome;
mod quarantine;
mod queue;
mod settings;
mod settle;
mod worker;

pub use attempt::{Attempt, FenceError};
pub use backoff::Backoff;
pub(crate) use bucket::TokenBucket;
pub use claim::CLAIM;
pub use limits::{LimitSettings, Limits, Permit, RetryAfter};
pub use listen::{Heard, listen};
pub use outcome::{Outcome, Ticket};
pub use queue::{CHANNEL, NewJob, cancel, cancel_prefix, enqueue, enqueue_all, hold, is_queued};
pub use settings::{Settings, SettingsError};
pub use settle::finish_all;
pub use worker::{Handler, Workers};
