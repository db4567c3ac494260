//! What only a local world needs.

pub mod postgres;
