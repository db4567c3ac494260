//! What only a local world needs: a private PostgreSQL, keys that sign its tokens, and a sample fleet.

pub mod ca;
pub mod database;
pub mod keys;
pub mod postgres;
pub mod sample;
pub mod token_service;
