//! Node pool snapshots: one job that looks, again and again, at what the members' pools run, and keeps a snapshot of each image as
//! long as AKS supports it. Only where `FLEET_NODE_IMAGE_SNAPSHOTS` says in which resource group.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::outcome::{JobError, outcome};
use crate::{
    arm::ResourceId,
    database::Pool,
    rollout::upgrade::{expired_snapshots, missing_snapshots},
    store::memberships,
    upstreams::{Upstreams, azure::UpstreamError},
    work::{self, Attempt, Handler, NewJob, Outcome},
};

const KIND: &str = "images.snapshots";

/// Most snapshots to take in one subscription at one look: upgrades have the same budget of calls.
const MOST_TAKEN: usize = 10;

/// Adds the job, if it is not there.
pub async fn begin(pool: &Pool) -> Result<(), sqlx::Error> {
    let mut conn = pool.acquire().await?;
    work::enqueue(&mut conn, NewJob::new(KIND, "all")).await
}

/// The handler. `group`: where snapshots are kept; `None`: the job ends. `interval`: time between two looks.
#[must_use]
pub fn handler(pool: &Pool, upstreams: &Upstreams, group: Option<String>, interval: Duration) -> Arc<dyn Handler> {
    Arc::new(KeepSnapshots { pool: pool.clone(), upstreams: upstreams.clone(), group, interval })
}

struct KeepSnapshots {
    pool: Pool,
    upstreams: Upstreams,
    group: Option<String>,
    interval: Duration,
}

impl Handler for KeepSnapshots {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn handle<'a>(&'a self, _attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run().await) })
    }
}

impl KeepSnapshots {
    async fn run(&self) -> Result<Outcome, JobError> {
        let Some(group) = &self.group else { return Ok(Outcome::Done) };
        let members: HashSet<String> =
            memberships::clusters(&mut self.pool.acquire().await?).await?.into_iter().collect();
        let subscriptions: BTreeSet<&str> = members.iter().filter_map(|key| key.split('/').nth(2)).collect();
        for subscription in subscriptions {
            // What fails in one subscription is tried again at the next look, and keeps no other from its own.
            if let Err(error) = self.keep(subscription, group, |id| members.contains(id.key())).await {
                tracing::warn!(subscription, group, "node pool snapshots cannot be kept: {error}");
            }
        }
        Ok(Outcome::AgainAfter { delay: self.interval })
    }

    async fn keep(
        &self,
        subscription: &str,
        group: &str,
        is_member: impl Fn(&ResourceId) -> bool,
    ) -> Result<(), UpstreamError> {
        let client = &self.upstreams.azure.clusters;
        let clusters: Vec<_> = client
            .list(subscription)
            .await?
            .into_iter()
            .filter_map(|cluster| Some((cluster.id.parse::<ResourceId>().ok()?, cluster)))
            .filter(|(id, _)| is_member(id))
            .collect();
        let existing = client.snapshots(subscription).await?;
        let provider = "Microsoft.ContainerService";
        for missing in missing_snapshots(&clusters, &existing).into_iter().take(MOST_TAKEN) {
            let snapshot = ResourceId::in_group(subscription, group, provider, "snapshots", &missing.name);
            match client.take_snapshot(&snapshot, &missing.location, &missing.pool).await {
                Ok(()) => tracing::info!(%snapshot, pool = %missing.pool, "node pool snapshot taken"),
                // Busy now, or gone since it was listed: there is a next look.
                Err(UpstreamError::Busy(_) | UpstreamError::Changed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for expired in expired_snapshots(&clusters, &existing, Timestamp::now()) {
            let Ok(snapshot) = expired.id.parse::<ResourceId>() else { continue };
            client.delete_snapshot(&snapshot).await?;
            tracing::info!(%snapshot, "node pool snapshot deleted: AKS no longer supports its image");
        }
        Ok(())
    }
}
