//! The services that the fleet manager calls, one module each.

pub mod azure;

use std::sync::Arc;

use azure::Azure;

/// All upstreams, as jobs use them. A new upstream is a new field, and changes no signature.
#[derive(Clone)]
pub struct Upstreams {
    /// ARM and AKS.
    pub azure: Arc<Azure>,
}

impl Upstreams {
    /// With AKS.
    #[must_use]
    pub fn new(azure: Azure) -> Self {
        Self { azure: Arc::new(azure) }
    }
}
