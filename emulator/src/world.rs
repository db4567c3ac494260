//! The emulated part of Azure: clusters, offered versions and images, operations, faults, throttles and the log. It is a state machine
//! that maps a request and a time to a response.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::http::StatusCode;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use uuid::Uuid;

use crate::aks;
use crate::call::{Body, Call, Note, Reply};
use crate::catalogue::Catalogue;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::errors::ArmError;
use crate::faults::{Action, Cut, Faults};
use crate::log::Log;
use crate::operations::Operation;
use crate::seed;
use crate::snapshot::Snapshot;
use crate::throttle::Throttle;
use crate::tokens::{Endpoint, Known, Tokens};

/// Settings that can be changed while the emulator runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) upgrade_seconds: f64,
    pub(crate) enforce_throttles: bool,
    pub(crate) require_token: bool,
    pub(crate) require_issued_tokens: bool,
    pub(crate) token_seconds: u64,
    /// Sent as `Retry-After` with operations; AKS mostly sends none.
    pub(crate) retry_after_seconds: Option<u64>,
    /// Object IDs of callers with read-only permission.
    pub(crate) readers: Vec<String>,
}

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) catalogue: Catalogue,
    /// Clusters by lower-case resource ID, which sorts them by subscription and resource group.
    pub(crate) clusters: BTreeMap<String, Cluster>,
    /// Node pool snapshots, likewise.
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    /// Subscription and lower-cased name of each resource group, and the name as first given.
    pub(crate) groups: BTreeMap<(String, String), String>,
    pub(crate) operations: HashMap<Uuid, Operation>,
    /// Operations with a time of end, earliest first.
    pub(crate) due: BTreeSet<(Timestamp, Uuid)>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) tokens: Tokens,
    /// Number of reads of maintenance configurations.
    pub(crate) maintenance_reads: u64,
    throttle: Throttle,
    /// Number of throttled requests (429).
    throttled: u64,
    fresh: StdRng,
}

/// How a request is answered after it was executed.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Reply),
    /// Respond after this many seconds.
    Late(Reply, f64),
    /// Close the connection after this many seconds without a response.
    Cut(f64),
}

impl World {
    /// Returns a world. `now` makes operation IDs differ between two starts of the same configuration.
    pub(crate) fn new(config: &Config, now: Timestamp) -> Self {
        let mut world = Self {
            settings: Settings {
                upgrade_seconds: config.upgrade_seconds,
                enforce_throttles: config.enforce_throttles,
                require_token: config.require_token,
                require_issued_tokens: config.require_issued_tokens,
                token_seconds: config.token_seconds,
                retry_after_seconds: None,
                readers: Vec::new(),
            },
            catalogue: Catalogue::new(),
            clusters: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            groups: BTreeMap::new(),
            operations: HashMap::new(),
            due: BTreeSet::new(),
            faults: Faults::default(),
            log: Log::default(),
            tokens: Tokens::new(config.identity.clone()),
            maintenance_reads: 0,
            throttle: Throttle::default(),
            throttled: 0,
            fresh: StdRng::seed_from_u64(config.seed ^ (now.as_nanosecond() as u64)),
        };
        for subscription in seed::SUBSCRIPTIONS {
            for group in ["rg1", "rg2"] {
                world.add_group(subscription, group);
            }
        }
        for mut cluster in seed::clusters(config) {
            cluster.json();
            world.add(cluster);
        }
        world
    }

    pub(crate) fn add_group(&mut self, subscription: &str, group: &str) {
        self.groups.entry((subscription.to_lowercase(), group.to_lowercase())).or_insert_with(|| group.to_owned());
    }

    pub(crate) fn add(&mut self, cluster: Cluster) {
        self.add_group(&cluster.subscription, &cluster.group);
        self.clusters.insert(cluster.key(), cluster);
    }

    pub(crate) fn fresh_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.fresh.random()).into_uuid()
    }

    pub(crate) fn fresh_etag(&mut self) -> String {
        self.fresh_id().to_string()
    }

    /// Handles a request: throttles, faults, resource provider, log.
    pub(crate) fn apply(&mut self, call: &Call, now: Timestamp) -> Outcome {
        self.settle(now);
        let mut note = Note::of(call);
        let endpoint = Endpoint::of(call);
        let outcome = self.outcome(call, endpoint.as_ref(), &mut note, now);
        // Token requests change no resource and are not logged.
        if call.is_mutating() && endpoint.is_none() {
            let status = match &outcome {
                Outcome::Answer(reply) | Outcome::Late(reply, _) => Some(reply.status.as_u16()),
                Outcome::Cut(_) => None,
            };
            self.log.add(call, note, status, now);
        }
        outcome
    }

    fn outcome(&mut self, call: &Call, endpoint: Option<&Endpoint>, note: &mut Note, now: Timestamp) -> Outcome {
        if endpoint.is_none()
            && let Err((code, message)) = self.authenticate(call, now)
        {
            let error = ArmError::new(StatusCode::UNAUTHORIZED, code, message);
            let challenge = format!(
                "Bearer authorization_uri=\"{}/{}\", error=\"invalid_token\", error_description=\"{message}\"",
                call.base,
                seed::TENANT
            );
            return Outcome::Answer(Reply::from(error).with("www-authenticate", challenge));
        }
        if self.settings.enforce_throttles
            && endpoint.is_none()
            && let Err(error) = self.throttle.take(call, now)
        {
            self.throttled += 1;
            return Outcome::Answer(error.into());
        }
        let about = note.cluster.clone().or_else(|| self.cluster_of_operation(call));
        match self.faults.take_request(call, about.as_deref()) {
            None | Some(Action::FailOperation { .. } | Action::HangOperation { .. }) => {
                Outcome::Answer(self.carry_out(call, endpoint, note, now))
            }
            Some(Action::Status { status, code, message, retry_after }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let code = code.unwrap_or_else(|| default_code(status).to_owned());
                let mut error = ArmError::new(
                    status,
                    code,
                    message.unwrap_or_else(|| "Injected by the emulator's control API.".into()),
                );
                error.retry_after = retry_after;
                Outcome::Answer(error.into())
            }
            Some(Action::Timeout { timeout }) => Outcome::Cut(timeout),
            Some(Action::Cut { cut: Cut::Before }) => Outcome::Cut(0.0),
            Some(Action::Cut { cut: Cut::After }) => {
                self.carry_out(call, endpoint, note, now);
                Outcome::Cut(0.0)
            }
            Some(Action::Delay { delay }) => Outcome::Late(self.carry_out(call, endpoint, note, now), delay),
            Some(Action::Garbage { .. }) => Outcome::Answer(Reply::new(StatusCode::OK, Body::Garbage)),
        }
    }

    /// Returns code and message if the token of a request is missing or invalid.
    fn authenticate(&self, call: &Call, now: Timestamp) -> Result<(), (&'static str, &'static str)> {
        let (required, issued) = (self.settings.require_token, self.settings.require_issued_tokens);
        let known = call.token.as_deref().map(|token| self.tokens.known(token, now));
        match known {
            None if required || issued => {
                Err(("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."))
            }
            Some(Known::Expired) if issued => Err((
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time is earlier than current UTC time.",
            )),
            Some(Known::Unknown) if issued => Err(("InvalidAuthenticationToken", "The access token is invalid.")),
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, call: &Call, endpoint: Option<&Endpoint>, note: &mut Note, now: Timestamp) -> Reply {
        if let Some(endpoint) = endpoint {
            let fresh = format!("emulated-{}{}", self.fresh_id().simple(), self.fresh_id().simple());
            return self.tokens.answer(endpoint, call, self.settings.token_seconds, fresh, now);
        }
        let reply = aks::route(self, call, note, now).unwrap_or_else(Reply::from);
        if let Some(id) = note.operation {
            match self.faults.take_operation(call, note.cluster.as_deref()) {
                Some(Action::FailOperation { fail_operation }) => {
                    self.fail_operation(id, fail_operation.code, fail_operation.message)
                }
                Some(Action::HangOperation { .. }) => self.hang_operation(id),
                _ => {}
            }
        }
        reply
    }

    /// Returns the cluster whose operation a request polls.
    fn cluster_of_operation(&self, call: &Call) -> Option<String> {
        let id = call.segments.last()?.parse().ok()?;
        Some(self.operations.get(&id)?.cluster_name.clone())
    }

    /// Returns the counts of `/emulator/state`.
    pub(crate) fn counts(&self) -> serde_json::Value {
        let running = self.operations.values().filter(|operation| operation.ended.is_none());
        let mut states = BTreeMap::<&str, usize>::new();
        for cluster in self.clusters.values() {
            *states.entry(&cluster.state).or_default() += 1;
        }
        json!({
            "clusters": self.clusters.len(), "clusterStates": states, "operations": self.operations.len(),
            "operationsRunning": running.clone().count(), "operationsHanging": running.filter(|operation| operation.is_hanging()).count(),
            "faults": self.faults.all().len(), "logEntries": self.log.len(), "throttled": self.throttled,
            "maintenanceReads": self.maintenance_reads,
        })
    }
}

fn default_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "BadRequest",
        401 => "InvalidAuthenticationToken",
        403 => "AuthorizationFailed",
        404 => "ResourceNotFound",
        409 => "OperationNotAllowed",
        412 => "EtagMismatch",
        429 => "Throttled",
        503 => "ServiceUnavailable",
        504 => "GatewayTimeout",
        _ => "InternalServerError",
    }
}
