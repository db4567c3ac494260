//! The choice of a run's node images.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::outcome::JobError;
use crate::{
    arm::{ErrorDetail, ResourceId},
    database::Pool,
    engine,
    model::update_run::{NodeImageSelectionType, NodeImageVersion, UpdateRunProperties},
    rollout::upgrade::{self, ConsistentPool, Goal, ImageChoice},
    store::{memberships, runs},
    upstreams::{
        Upstreams,
        azure::{CatalogueNeeds, UpstreamError},
    },
};

/// What a run's node images are to be.
pub(super) enum RunImages {
    /// The newest of each region, whenever a cluster's turn comes.
    Latest,
    /// These.
    Chosen(Vec<NodeImageVersion>),
    /// `Consistent`, and nothing can be set on all pools: why.
    Impossible(ErrorDetail),
}

/// The node images of a run over the fleet's members as they are now, without those that were skipped. The inner error: AKS cannot be
/// asked.
pub(super) async fn choose(
    pool: &Pool,
    upstreams: &Upstreams,
    (fleet, run): (Uuid, Uuid),
    properties: &UpdateRunProperties,
) -> Result<Result<RunImages, UpstreamError>, JobError> {
    let selection = properties.managed_cluster_update.node_image_selection.as_ref();
    match selection.map(|selection| selection.selection_type) {
        Some(NodeImageSelectionType::Consistent) => {}
        Some(NodeImageSelectionType::Custom) => {
            let custom = selection.map(|selection| selection.custom_node_image_versions.clone());
            return Ok(Ok(RunImages::Chosen(custom.unwrap_or_default())));
        }
        Some(NodeImageSelectionType::Latest) | None => return Ok(Ok(RunImages::Latest)),
    }
    let goal = Goal::new(&properties.managed_cluster_update, &[]).map_err(|e| JobError::Unexpected(e.to_string()))?;
    let (members, skipped) = {
        let mut conn = pool.acquire().await?;
        (memberships::members_of_run(&mut conn, fleet, run).await?, runs::skipped_members(&mut conn, run).await?)
    };
    let clusters: BTreeSet<ResourceId> = engine::plan(properties, &members)?
        .stages
        .iter()
        .flat_map(|stage| &stage.groups)
        .flat_map(|group| &group.members)
        .filter(|member| !skipped.contains(&member.name))
        .filter_map(|member| member.cluster_resource_id.parse().ok())
        .collect();
    Ok(consistent(upstreams, &clusters, &goal).await)
}

/// One list of clusters and one of snapshots a subscription, one question for each family and each Kubernetes catalogue of a
/// region; and one question a pool where the choice depends on what it ran lately.
async fn consistent(
    upstreams: &Upstreams,
    clusters: &BTreeSet<ResourceId>,
    goal: &Goal,
) -> Result<RunImages, UpstreamError> {
    let subscriptions: BTreeSet<&str> = clusters.iter().map(ResourceId::subscription).collect();
    let needs = CatalogueNeeds { versions: goal.moves_version(), images: goal.moves_pools(), chosen_images: &[] };
    let (mut pools, mut owners) = (Vec::new(), Vec::new());
    for subscription in subscriptions {
        let snapshots = upstreams.azure.catalogue.snapshots(subscription).await?;
        for cluster in upstreams.azure.clusters.list(subscription).await? {
            let Ok(id) = cluster.id.parse::<ResourceId>() else { continue };
            if !clusters.contains(&id) {
                continue;
            }
            let catalogue = upstreams.azure.catalogue.of(&id, &cluster, needs).await?;
            let of_cluster = ConsistentPool::of(&cluster, goal, &catalogue, &snapshots);
            owners.extend(of_cluster.iter().map(|_| id.clone()));
            pools.extend(of_cluster);
        }
    }
    loop {
        match upgrade::choose_images(&pools, Timestamp::now()) {
            ImageChoice::Chosen(images) => return Ok(RunImages::Chosen(images)),
            ImageChoice::Impossible(error) => return Ok(RunImages::Impossible(error)),
            ImageChoice::Ask(index) => {
                let (Some(pool), Some(owner)) = (pools.get_mut(index), owners.get(index)) else {
                    return Err(UpstreamError::Garbage(
                        "the choice of images asks for a pool that is not there".to_owned(),
                    ));
                };
                pool.recently_used = Some(upstreams.azure.catalogue.recently_used(owner, &pool.pool.name).await?);
            }
        }
    }
}
