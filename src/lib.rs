//! Fleet Manager: an open, self-hosted implementation of the system that Azure calls
//! *Azure Kubernetes Fleet Manager*.
//!
//! The rooms of the house, and the direction in which they may use each other, top to bottom:
//!
//! - [`cli`]: the command line, one file a subcommand.
//! - [`local`]: what only a local world needs: a private PostgreSQL, keys, a sample fleet.
//! - [`app`]: wiring of pool, clock, clients and limits; the order of start and stop.
//! - [`api`]: HTTP: router, layers, one file a resource type, operations.
//! - [`jobs`]: one file a job kind: one upstream call, then a use case of the engine.
//! - [`engine`]: use cases that requests and jobs share, each part of one transaction.
//! - [`store`]: PostgreSQL, one file an aggregate; all SQL about resources is here.
//! - [`identity`]: bearer tokens, and who may do what.
//! - [`upstreams`]: the services that are called: ARM and AKS.
//! - [`webhooks`]: what changed, as CloudEvents, and how they are sent to receivers.
//! - [`work`]: the job engine: queue, leases, worker pool; knows nothing of fleets.
//! - [`transport`]: the set-up that all HTTP clients share.
//! - [`database`]: connections to PostgreSQL whose statements all end within a deadline.
//! - [`rollout`]: update runs: plan, advance, derive (pure).
//! - [`autoupgrade`]: auto-upgrade profiles: what releases lead to which runs (pure).
//! - [`model`]: the resource types: typed bodies, defaults, validation, API versions (pure).
//! - [`calendar`]: occurrences of maintenance windows: next opening after a time (pure).
//! - [`arm`]: the ARM protocol, knowing nothing of fleets (pure).
//! - [`config`], [`telemetry`]: every setting; logs.

pub mod api;
pub mod app;
pub mod arm;
pub mod autoupgrade;
pub mod calendar;
pub mod cli;
pub mod config;
pub mod database;
pub mod engine;
pub mod identity;
pub mod jobs;
pub mod local;
pub mod model;
pub mod rollout;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod upstreams;
pub mod webhooks;
pub mod work;

/// With the system's allocator, the hundred small allocations of a request take a tenth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
