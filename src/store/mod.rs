//! PostgreSQL: one file an aggregate. All SQL about resources is here, constant and bound.
//!
//! Functions take a connection, so that the caller decides what belongs to one transaction.
//!
//! Every function fails with a [`StoreError`] when the database does; a function's documentation names only further errors.
//!
//! # The order of locks
//!
//! Whoever locks rows of several of these kinds in one transaction locks them in this order, so that no two transactions
//! wait for each other:
//!
//! 1. `resources`: resource groups, fleets and their children, except gates. Parents before children, siblings by key.
//!    `FOR NO KEY UPDATE` for a change or a deletion, `FOR SHARE` for a parent that must stay. Neither conflicts with the
//!    `KEY SHARE` that a foreign key takes, so that a step of a run, which begins with 2, may add gates.
//! 2. `update_runs`, by `run_id`: [`runs::lock`]. Whoever holds a run alone changes its stages, groups, members and gates.
//! 3. `jobs`: the fence of the own job first, then jobs that are cancelled or enqueued, by subject.
//! 4. The run's own rows (`run_stages`, `run_groups`, `run_members`, `run_gates`) and the gates of the run in `resources`.
//! 5. `cluster_locks`, `memberships`, `operations`, `events` and all others, each by its key.
//!
//! A `DELETE` of a resource comes last, when all that it takes along is locked. A transaction that needs no run may fence
//! its job first and change one resource then: nobody who holds that resource waits for a job of that kind. The transaction that
//! records the intent of an upgrade locks its run and then the member's resource (`FOR SHARE`): nobody who holds the resource of a
//! member waits for a run.
//! `tests/it/lock_order.rs` runs against each other what once waited for each other.

pub mod audit;
pub mod auto_upgrade;
pub mod catalogues;
pub mod deliveries;
pub mod error;
pub mod gates;
pub mod housekeeping;
pub mod keys;
pub mod memberships;
pub mod operations;
pub mod outbox;
pub mod resources;
pub mod role_assignments;
pub mod runs;
pub mod schema;
pub mod tracked;

pub use error::StoreError;
