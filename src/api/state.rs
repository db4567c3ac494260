//! What every request handler shares.

use std::{ops::Deref, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    api::{AccessCache, CatalogueChanges, PassThrough, RequestBudgets},
    arm::{Origins, page::TokenSealer},
    database::Pool,
    identity::Verifier,
    model::subscription::Subscription,
};

/// What every request handler shares. Cloned by each layer that a request goes through, so cheaply.
#[derive(Clone)]
pub struct App(Arc<AppState>);

impl From<AppState> for App {
    fn from(state: AppState) -> Self {
        Self(Arc::new(state))
    }
}

impl Deref for App {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

/// What every request handler shares.
pub struct AppState {
    /// The database.
    pub pool: Pool,
    /// Cancelled when the process begins to stop.
    pub stopping: CancellationToken,
    /// Judges bearer tokens.
    pub verifier: Arc<Verifier>,
    /// What callers may do.
    pub access: Arc<AccessCache>,
    /// Notifies of reads of what AKS offers.
    pub catalogues: Arc<CatalogueChanges>,
    /// Seals the tokens of pages.
    pub sealer: TokenSealer,
    /// Hosts that the service answers to, and the origins of its links.
    pub origins: Origins,
    /// Where callers get their tokens; absent: from this service itself.
    pub login_endpoint: Option<String>,
    /// The tenant that callers belong to.
    pub tenant: Uuid,
    /// The subscriptions that are served.
    pub subscriptions: Arc<[Subscription]>,
    /// The way to the upstream for what is not this provider's, where there is one.
    pub pass_through: Option<PassThrough>,
    /// Whether the upstream alone decides what callers may do with what is passed on, by their tokens. Else, in a local world
    /// whose emulator takes everybody for an owner, the assignments here must allow it, too.
    pub upstream_decides: bool,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Time within which the body of a request must arrive.
    pub body_deadline: Duration,
    /// How many requests principals may send.
    pub budgets: RequestBudgets,
}

impl AppState {
    /// The subscription with this ID, if it is served.
    #[must_use]
    pub fn subscription(&self, id: &str) -> Option<&Subscription> {
        let id = Uuid::try_parse(id).ok()?;
        self.subscriptions.iter().find(|subscription| subscription.id == id)
    }
}
