//! In which order the members of a run get free slots: by their maintenance windows, as they are when the run starts and while its
//! members queue.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::outcome::{JobError, begin, outcome, subject};
use crate::{
    arm::ResourceId,
    database::Pool,
    engine::{self, queue},
    model::update_run::{ManagedClusterUpgradeType, UpdateRunProperties},
    rollout::upgrade::{WindowStanding, window_standing},
    store::{
        memberships,
        runs::{self, RankedMember},
    },
    upstreams::{Upstreams, azure::Freshness},
    work::{Attempt, Handler, Outcome},
};

/// Questions about windows at the same time, and how long they may take in all.
const AT_ONCE: usize = 16;
const LONGEST_RANKING: Duration = Duration::from_secs(5);
/// After so long a rank is looked at again, as the window may have been changed: as often as the product looks.
const RECHECK: SignedDuration = SignedDuration::from_hours(1);
/// Until the next look, when AKS could not be asked about all members.
const AGAIN: Duration = Duration::from_secs(10);

/// The windows of the members whose order among others makes a difference, by their clusters as the members spell them. Of members
/// that are missing nothing is known: an order is worth neither AKS's limits, which are for members that begin, nor a late start.
pub(super) async fn window_standings(
    pool: &Pool,
    upstreams: &Upstreams,
    (fleet, run): (Uuid, Uuid),
    properties: &UpdateRunProperties,
) -> Result<HashMap<String, WindowStanding>, JobError> {
    let members = {
        let mut conn = pool.acquire().await?;
        memberships::members_of_run(&mut conn, fleet, run).await?
    };
    let plan = engine::plan(properties, &members)?;
    let clusters = plan.contenders().map(|member| (member.cluster_resource_id.clone(), &member.cluster_resource_id));
    Ok(ask(upstreams, clusters, properties.managed_cluster_update.upgrade.upgrade_type).await)
}

/// The windows of clusters, by key, as far as AKS has answers to spare and gives them in time.
async fn ask<K>(
    upstreams: &Upstreams,
    clusters: impl Iterator<Item = (K, impl AsRef<str>)>,
    upgrade_type: ManagedClusterUpgradeType,
) -> HashMap<K, WindowStanding>
where
    K: Eq + std::hash::Hash,
{
    let mut asked: HashMap<String, usize> = HashMap::new();
    let mut questions: Vec<(K, ResourceId)> = Vec::new();
    for (key, cluster) in clusters {
        let Ok(cluster) = cluster.as_ref().parse::<ResourceId>() else { continue };
        let asked = asked.entry(cluster.subscription().to_owned()).or_default();
        if *asked < upstreams.azure.maintenance.to_spare(cluster.subscription()) {
            *asked += 1;
            questions.push((key, cluster));
        }
    }
    let ask = |(key, cluster): (K, ResourceId)| async move {
        let configurations = upstreams.azure.maintenance.of(&cluster, Freshness::Relaxed).await.ok()?;
        Some((key, window_standing(&configurations, upgrade_type, Timestamp::now())))
    };
    let answers = stream::iter(questions).map(ask).buffer_unordered(AT_ONCE);
    answers.take_until(Box::pin(tokio::time::sleep(LONGEST_RANKING))).filter_map(std::future::ready).collect().await
}

/// Keeps the ranks of the members that queue in the stage whose turn it is.
struct RankWindows {
    /// The database.
    pool: Pool,
    /// AKS.
    upstreams: Upstreams,
}

impl Handler for RankWindows {
    fn kind(&self) -> &'static str {
        queue::WINDOWS
    }

    fn handle<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { outcome(self.run(attempt).await) })
    }
}

impl RankWindows {
    async fn run(&self, attempt: &Attempt) -> Result<Outcome, JobError> {
        let run = subject(attempt)?;
        let queued = {
            let mut conn = self.pool.acquire().await?;
            runs::members_to_rank(&mut conn, run).await?
        };
        // Members that queue enqueue the job again when the run goes on.
        let Some(first) = queued.iter().map(|member| member.ranked_until).min() else { return Ok(Outcome::Done) };
        let now = Timestamp::now();
        if first > now {
            return Ok(Outcome::AgainAfter { delay: until(now, first) });
        }
        let due = queued.iter().filter(|member| member.ranked_until <= now);
        let clusters = due.map(|member| (member.index, &member.cluster_resource_id));
        let Some(upgrade_type) = queued.first().map(|member| member.upgrade_type) else { return Ok(Outcome::Done) };
        let standings = ask(&self.upstreams, clusters, upgrade_type).await;
        let recheck = now.saturating_add(RECHECK).unwrap_or(Timestamp::MAX);
        let ranked: Vec<RankedMember> = standings
            .into_iter()
            .map(|(index, WindowStanding { rank, until })| RankedMember {
                index,
                rank,
                until: until.map_or(recheck, |until| until.min(recheck)),
            })
            .collect();
        // Members that AKS was not asked about are still due.
        let all = queued.iter().filter(|member| member.ranked_until <= now).count() == ranked.len();
        let next = ranked.iter().map(|member| member.until).min().filter(|_| all);
        let delay = next.map_or(AGAIN, |next| until(now, next)).max(Duration::from_secs(1));
        let mut tx = begin(attempt, &self.pool, run).await?;
        runs::rank_members(&mut tx, run, &ranked).await?;
        attempt.settle(&mut tx, Outcome::AgainAfter { delay }).await?;
        tx.commit().await?;
        Ok(Outcome::Settled)
    }
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

/// The handler of this file.
pub(super) fn handler(pool: &Pool, upstreams: &Upstreams) -> Arc<dyn Handler> {
    Arc::new(RankWindows { pool: pool.clone(), upstreams: upstreams.clone() })
}
