//! One file a job kind: one upstream call, then a use case of the engine.

use std::{sync::Arc, time::Duration};

use crate::{database::Pool, upstreams::Upstreams, work::Handler};

pub mod auto_upgrade;
pub mod fleets;
pub mod gates;
pub mod housekeeping;
mod images;
pub mod members;
pub mod outcome;
mod quarantine;
mod reports;
pub mod resource_groups;
pub mod runs;
pub mod snapshots;
pub mod upgrade;
pub mod webhook_deliveries;
pub mod webhook_registry;
mod window_ranks;

/// The handlers of all job kinds. `catalogue_watch`: time between two looks at what AKS has released.
#[must_use]
pub fn handlers(
    pool: &Pool,
    upstreams: &Upstreams,
    policy: upgrade::Policy,
    catalogue_watch: Duration,
) -> Vec<Arc<dyn Handler>> {
    let mut handlers: Vec<Arc<dyn Handler>> = vec![
        Arc::new(fleets::Provision { pool: pool.clone() }),
        Arc::new(fleets::Delete { pool: pool.clone() }),
        Arc::new(resource_groups::Delete { pool: pool.clone() }),
        Arc::new(members::Join { pool: pool.clone(), upstreams: upstreams.clone() }),
        Arc::new(members::Leave { pool: pool.clone() }),
        Arc::new(upgrade::UpgradeMember::new(pool, upstreams, policy)),
    ];
    handlers.extend(runs::handlers(pool, upstreams));
    handlers.extend(auto_upgrade::handlers(pool, upstreams, catalogue_watch));
    handlers.extend(gates::handlers(pool));
    handlers.push(window_ranks::handler(pool, upstreams));
    handlers
}
