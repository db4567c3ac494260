//! PostgreSQL: one file an aggregate. All SQL about resources is here, constant and bound.
//!
//! Functions take a connection, so that the caller decides what belongs to one transaction.
//!
//! Every function fails with a [`StoreError`] when the database does; a function's documentation names only further errors.

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
