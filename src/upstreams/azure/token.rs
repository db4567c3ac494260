//! Where bearer tokens for ARM come from.

use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::UpstreamError;

/// A source of bearer tokens for ARM. Caches and refreshes as it sees fit; asked before every request.
pub trait TokenSource: Send + Sync {
    /// A token that is valid now.
    fn token(&self) -> BoxFuture<'_, Result<SecretString, UpstreamError>>;

    /// ARM refused this token (401), however long it says that it is valid.
    fn refused(&self, token: &SecretString);
}

/// One token for ever: for the emulator.
pub struct StaticToken(SecretString);

impl StaticToken {
    /// This token.
    #[must_use]
    pub fn new(token: SecretString) -> Self {
        Self(token)
    }
}

impl TokenSource for StaticToken {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, UpstreamError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn refused(&self, _: &SecretString) {
        // There is no other.
    }
}
