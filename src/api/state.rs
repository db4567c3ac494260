//! What every request handler shares.

use std::sync::Arc;

use sqlx::PgPool;

use crate::{arm::page::TokenSealer, identity::Verifier};

/// What every request handler shares.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub pool: PgPool,
    /// Judges bearer tokens.
    pub verifier: Arc<Verifier>,
    /// Seals the tokens of pages.
    pub sealer: TokenSealer,
    /// Of the URLs that the service hands out: `http` or `https`.
    pub scheme: &'static str,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
}
