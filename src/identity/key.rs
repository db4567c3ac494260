//! Public keys that verify tokens.

use jsonwebtoken::{Algorithm, DecodingKey};

/// A public key with the one algorithm that it verifies. The `alg` of a token does not select the algorithm.
#[derive(Clone, Debug)]
pub struct VerificationKey {
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl VerificationKey {
    /// Returns an asymmetric public key with its ID and its algorithm.
    #[must_use]
    pub fn new(kid: impl Into<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        Self { kid: kid.into(), algorithm, key }
    }
}
