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
    /// Extension to AKS: let `nodeImageVersion` of an agent pool PUT be any image published in the region, not only one of
    /// the pool's `recentlyUsedVersions`.
    pub accept_any_published_image: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clusters: 12,
            upgrade_seconds: 5.0,
            seed: 0,
            enforce_throttles: false,
            require_token: false,
            accept_any_published_image: false,
        }
    }
}
