//! Auto-upgrade profiles: one look at AKS's catalogues for all of them (`watch`), and a job for each profile that has something to
//! do (`trigger`).

mod trigger;
mod watch;

use std::{sync::Arc, time::Duration};

use super::upstream::Upstream;
use crate::{database::Pool, upstreams::azure::ManagedClusters, work::Handler};

/// The handlers of this room.
pub(super) fn handlers<C: ManagedClusters>(
    pool: &Pool,
    upstream: &Upstream<C>,
    interval: Duration,
) -> Vec<Arc<dyn Handler>> {
    vec![
        Arc::new(watch::Watch::new(pool.clone(), Arc::clone(&upstream.catalogue), interval)),
        Arc::new(trigger::Trigger { pool: pool.clone() }),
    ]
}
