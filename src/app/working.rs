//! What a process does beside serving: jobs in one pool of workers, deliveries to webhooks in another, so that no receiver can
//! hold up a run.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::upstream;
use crate::{
    config::Settings,
    database::Pool,
    jobs::{self, housekeeping::Retention},
    upstreams::{
        Upstreams,
        azure::{Azure, AzureOptions},
    },
    webhooks::{Sender, SenderSettings, Webhooks},
    work::{self, Workers},
};

/// The pools of this process.
pub(super) struct Working {
    pool: Pool,
    webhooks: Webhooks,
    jobs: Workers,
    deliveries: Option<Workers>,
}

impl Working {
    /// Sets them up, and tells the database who wants events.
    pub(super) async fn new(pool: &Pool, settings: &Settings) -> anyhow::Result<Self> {
        let webhooks = settings.webhooks.webhooks()?;
        for webhook in &webhooks.0 {
            webhook
                .secrets()
                .with_context(|| format!("the secret of the webhook '{}' (FLEET_WEBHOOKS)", webhook.name))?;
        }
        let (workers, deliveries) = (jobs(pool, settings)?, deliveries(pool, settings, &webhooks)?);
        jobs::webhook_registry::register(pool, &webhooks).await.context("cannot register the webhooks")?;
        jobs::housekeeping::begin(pool).await.context("cannot enqueue the housekeeping")?;
        if settings.arm.snapshot_group.is_some() {
            jobs::snapshots::begin(pool).await.context("cannot enqueue the node pool snapshots")?;
        }
        Ok(Self { pool: pool.clone(), webhooks, jobs: workers, deliveries })
    }

    /// Works until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let deliveries = async {
            if let Some(deliveries) = self.deliveries {
                deliveries.run(stop.clone()).await;
            }
        };
        let webhooks = stop.run_until_cancelled(jobs::webhook_registry::watch(&self.pool, &self.webhooks));
        tokio::join!(self.jobs.run(stop.clone()), deliveries, webhooks);
    }
}

fn jobs(pool: &Pool, settings: &Settings) -> anyhow::Result<Workers> {
    let azure = Azure::new(
        Arc::new(upstream::client(&settings.arm)?),
        AzureOptions {
            // Half as old as the time between two looks: a look never sees what the last one saw.
            catalogue_age: settings.offer_recheck() / 2,
            maintenance_age: settings.window_recheck(),
        },
    );
    let upstreams = Upstreams::new(azure);
    let policy = jobs::upgrade::Policy {
        stopped: settings.stopped_clusters,
        offer_recheck: settings.offer_recheck(),
        window_recheck: settings.window_recheck(),
    };
    let mut handlers = jobs::handlers(pool, &upstreams, policy, settings.catalogue_watch());
    // Always there: the job ends where the setting is gone.
    let snapshot_group = settings.arm.snapshot_group.clone();
    handlers.push(jobs::snapshots::handler(pool, &upstreams, snapshot_group, settings.catalogue_watch()));
    let kept = &settings.retention;
    handlers.push(jobs::housekeeping::handler(
        pool,
        Retention {
            operations: kept.operation_days,
            audit: kept.audit_days,
            events: kept.event_days,
            dead_letters: kept.dead_letter_days,
        },
    ));
    Ok(Workers::new(pool.clone(), engine(settings, settings.worker_concurrency)?, handlers)?)
}

fn deliveries(pool: &Pool, settings: &Settings, webhooks: &Webhooks) -> anyhow::Result<Option<Workers>> {
    if webhooks.0.is_empty() {
        return Ok(None);
    }
    let events = &settings.webhooks;
    let ca = upstream::authorities(events.webhook_ca.as_deref(), "FLEET_WEBHOOK_CA")?;
    let sender = Sender::new(&SenderSettings { timeout: events.webhook_timeout(), ca })?;
    let handler = jobs::webhook_deliveries::handler(pool, webhooks.clone(), sender, events.webhook_retry());
    Ok(Some(Workers::new(pool.clone(), engine(settings, events.webhook_concurrency)?, vec![handler])?))
}

fn engine(settings: &Settings, concurrency: u32) -> anyhow::Result<work::Settings> {
    let mut engine = work::Settings::new(owner());
    engine.concurrency = usize::try_from(concurrency)?;
    engine.lease = Duration::from_secs(settings.lease_seconds.into());
    engine.backoff = work::Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) };
    // A job that gives up would leave its resource waiting for ever: handlers decide when enough is enough.
    engine.max_failures = u32::MAX;
    engine.drain = settings.shutdown_grace();
    Ok(engine)
}

/// Names this process in leases: unique among all that ever were.
fn owner() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{}/{}/{}", host.trim(), std::process::id(), uuid::Uuid::new_v4())
}
