//! What an emulator is started with.

/// Settings of an [`Emulator`](crate::Emulator). Those of the rules can be changed while it runs (`PATCH /emulator/settings`).
#[derive(Clone, Debug)]
pub struct Config {
    /// How many clusters `aks-1…aks-N` the catalogue starts with (two more, `aks-sub2-1` and `-2`, are always there).
    pub clusters: usize,
    /// How long every long-running operation takes, in seconds of wall time.
    pub upgrade_seconds: f64,
    /// Chooses versions and agent pools of the generated clusters; the same seed gives the same clusters.
    pub seed: u64,
    /// Answer 429 as AKS's documented throttles would.
    pub enforce_throttles: bool,
    /// Answer 401 to requests without a bearer token. Any non-empty token is accepted, none is verified.
    pub require_token: bool,
    /// Answer 401 to all tokens but those that the emulator's own token endpoints have issued and that have not expired.
    pub require_issued_tokens: bool,
    /// How long issued tokens are valid, in seconds of wall time.
    pub token_seconds: u64,
    /// Who gets tokens.
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

/// The one identity that gets tokens, and how it proves itself. Its tenant is `11111111-1111-1111-1111-111111111111`.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Application (client) ID, of the service principal and of the managed identity.
    pub client_id: String,
    /// Secret of the service principal.
    pub client_secret: String,
    /// Kubernetes' token that is taken for the service principal (workload identity).
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
