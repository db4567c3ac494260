//! The job engine against a real PostgreSQL.

mod leases;
mod outcomes;
mod quarantine;
mod queue;
mod scheduling;
pub mod support;
mod together;
