//! Auto-upgrade profiles: one look at AKS's catalogues for all of them (`watch`), and a job for each profile that has something to
//! do (`trigger`).

mod trigger;
mod watch;

use std::{sync::Arc, time::Duration};

use crate::{database::Pool, upstreams::Upstreams, work::Handler};

/// The handlers of this room.
pub(super) fn handlers(pool: &Pool, upstreams: &Upstreams, interval: Duration) -> Vec<Arc<dyn Handler>> {
    vec![
        Arc::new(watch::Watch::new(pool.clone(), upstreams.clone(), interval)),
        Arc::new(trigger::Trigger { pool: pool.clone() }),
    ]
}
