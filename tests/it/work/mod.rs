//! The job engine against a real PostgreSQL.

mod leases;
mod outcomes;
mod quarantine;
mod queue;
mod scheduling;
mod support;
mod together;
