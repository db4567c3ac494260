//! Settings of an emulator.

/// Settings of an [`Emulator`](crate::Emulator). Those of the rules can be changed while it runs (`PATCH /emulator/settings`).
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of clusters `aks-1…aks-N` at start, in addition to `aks-sub2-1` and `aks-sub2-2`.
    pub clusters: usize,
    /// Duration of each long-running operation, in seconds.
    pub upgrade_seconds: f64,
    /// Seed for versions and agent pools of the generated clusters. The same seed gives the same clusters.
    pub seed: u64,
    /// Whether requests beyond AKS's documented limits get 429.
    pub enforce_throttles: bool,
    /// Whether requests without a bearer token get 401. Any non-empty token is accepted; tokens are not verified.
    pub require_token: bool,
    /// Whether only unexpired tokens of the emulator's own token endpoints are accepted.
    pub require_issued_tokens: bool,
    /// Lifetime of issued tokens, in seconds.
    pub token_seconds: u64,
    /// The identity that gets tokens.
    pub identity: Identity,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clusters: 12,
            upgrade_seconds: 5.0,
            seed: 0,
            enforce_throttles: false,
            require_token: false,
            require_issued_tokens: false,
            token_seconds: 3600,
            identity: Identity::default(),
        }
    }
}

/// The identity that gets tokens, and its credentials. Its tenant is `11111111-1111-1111-1111-111111111111`.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Application (client) ID, of the service principal and of the managed identity.
    pub client_id: String,
    /// Secret of the service principal.
    pub client_secret: String,
    /// Federated token that authenticates the service principal (workload identity).
    pub federated_token: String,
    /// `IDENTITY_HEADER` of the App Service shape of managed identity.
    pub identity_header: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            client_id: "33333333-3333-3333-3333-333333333333".into(),
            client_secret: "secret".into(),
            federated_token: "federated-token".into(),
            identity_header: "identity-header".into(),
        }
    }
}
