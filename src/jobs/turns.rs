//! In which order the members of a run are tried: by their maintenance windows, as far as that can be told at its start.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use uuid::Uuid;

use super::outcome::JobError;
use crate::{
    arm::ResourceId,
    database::Pool,
    engine,
    model::update_run::UpdateRunProperties,
    rollout::{self, upgrade::Turn},
    store::memberships,
    upstreams::{Upstreams, azure::Freshness},
};

/// Questions about windows at the same time, and how long they may take in all.
const AT_ONCE: usize = 16;
const LONGEST_ORDERING: Duration = Duration::from_secs(5);

/// When each member is tried, by its cluster as the member spells it. Of members that are not in it nothing is known: an
/// order is worth neither AKS's limits, which are for those who begin, nor a late start.
pub(super) async fn turns(
    pool: &Pool,
    upstreams: &Upstreams,
    (fleet, run): (Uuid, Uuid),
    properties: &UpdateRunProperties,
) -> Result<HashMap<String, Turn>, JobError> {
    let members = {
        let mut conn = pool.acquire().await?;
        memberships::members_of_run(&mut conn, fleet, run).await?
    };
    let plan = engine::plan(properties, &members)?;
    let mut asked: HashMap<String, usize> = HashMap::new();
    let mut questions: Vec<(String, ResourceId)> = Vec::new();
    for member in plan.contenders() {
        let Ok(cluster) = member.cluster_resource_id.parse::<ResourceId>() else { continue };
        let asked = asked.entry(cluster.subscription().to_owned()).or_default();
        if *asked < upstreams.azure.maintenance.to_spare(cluster.subscription()) {
            *asked += 1;
            questions.push((member.cluster_resource_id.clone(), cluster));
        }
    }
    let upgrade_type = properties.managed_cluster_update.upgrade.upgrade_type;
    let ask = |(spelled, cluster): (String, ResourceId)| async move {
        let configurations = upstreams.azure.maintenance.of(&cluster, Freshness::Relaxed).await.ok()?;
        Some((spelled, rollout::upgrade::turn(&configurations, upgrade_type, Timestamp::now())))
    };
    let answers = stream::iter(questions).map(ask).buffer_unordered(AT_ONCE);
    Ok(answers
        .take_until(Box::pin(tokio::time::sleep(LONGEST_ORDERING)))
        .filter_map(std::future::ready)
        .collect()
        .await)
}
