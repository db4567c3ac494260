//! Which node image a pool is to have, and how AKS brings it there.
//!
//! AKS sets three kinds of images (product documentation, node image upgrade, rollback and node pool snapshots): the newest of
//! the region, one that the pool ran lately with the same Kubernetes version, and one that a node pool snapshot holds.

use jiff::{SignedDuration, Timestamp};

use super::{Goal, ImageGoal, stop::Stop};
use crate::{
    arm::ErrorDetail,
    model::{
        managed_cluster::{AgentPool, Catalogue, NodeImage, NodePoolSnapshot, RecentlyUsed},
        update_run::WhenImageUnavailable,
        version::KubernetesVersion,
    },
};

/// How long AKS supports an image after its publication (product documentation, node image versions).
const VALID: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What is to become of a pool's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The pool is not touched at all, with the reason.
    Leave(&'static str),
    /// Its image may stay.
    Stay,
    /// AKS does not say what is the newest.
    Unknown,
    /// The newest, by AKS's own call.
    Newest(NodeImage),
    /// This one, which is not the newest, by the snapshot with this resource ID or by writing it.
    Chosen(NodeImage, Option<String>),
    /// `Consistent`: the run chose none for the family.
    NoneForFamily(String),
}

/// How AKS brings a pool to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Means<'a> {
    /// The pool has it, and keeps it.
    Stay,
    /// It is the region's newest.
    Newest,
    /// The pool ran it lately.
    RecentlyUsed,
    /// A snapshot holds it.
    Snapshot(&'a NodePoolSnapshot),
}

/// A pool at its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolAt<'a> {
    pub(super) pool: &'a AgentPool,
    /// The Kubernetes version that the pool ends with, where it is known.
    pub(super) version: Option<KubernetesVersion>,
    /// The pool is moved to that version, or again to the version it has after an operation that failed: it keeps no image by
    /// itself.
    pub(super) moves: bool,
}

/// How AKS brings a pool to an image of its family; `None`: not at all. An older image is never brought. `latest` is the newest image
/// of the region.
pub(super) fn means<'a>(
    image: &NodeImage,
    at: PoolAt<'_>,
    latest: Option<&NodeImage>,
    used: &[RecentlyUsed],
    snapshots: &'a [NodePoolSnapshot],
) -> Option<Means<'a>> {
    let PoolAt { pool, version, moves } = at;
    let current = pool.image.as_ref().filter(|current| image.is_at_least(current))?;
    if current == image && !moves && !pool.provisioning_state.has_failed() {
        return Some(Means::Stay);
    }
    if latest == Some(image) {
        return Some(Means::Newest);
    }
    let version = version?;
    if used.iter().any(|used| used.image == *image && used.kubernetes_version == Some(version)) {
        return Some(Means::RecentlyUsed);
    }
    let snapshot = snapshots.iter().find(|snapshot| snapshot.image == *image && snapshot.fits(pool, version))?;
    Some(Means::Snapshot(snapshot))
}

pub(super) fn wanted(goal: &Goal, at: PoolAt<'_>, catalogue: &Catalogue, now: Timestamp) -> Result<Wanted, Stop> {
    let pool = at.pool;
    let Some(current) = &pool.image else { return Ok(Wanted::Unknown) };
    let latest = catalogue.latest.get(current.family());
    let in_family = |images: &[NodeImage]| images.iter().find(|image| image.family() == current.family()).cloned();
    // What reads as the target after a failed operation may not be it.
    let is_there = |target: &NodeImage| {
        current.is_at_least(target) && !(current == target && pool.provisioning_state.has_failed())
    };
    let target = match &goal.images {
        ImageGoal::Latest if pool.from_snapshot => {
            return Ok(Wanted::Leave(
                "is bound to a node pool snapshot (node image selection Latest does not upgrade it)",
            ));
        }
        ImageGoal::Latest => {
            return Ok(match latest {
                None => Wanted::Unknown,
                Some(latest) if is_there(latest) => Wanted::Stay,
                Some(latest) => Wanted::Newest(latest.clone()),
            });
        }
        ImageGoal::Consistent(images) => match in_family(images) {
            Some(image) => image,
            None => return Ok(Wanted::NoneForFamily(current.family().to_owned())),
        },
        ImageGoal::Custom(images) => match in_family(images) {
            Some(image) => image,
            None => return Ok(Wanted::Leave("has a node image family that is not listed")),
        },
    };
    // A newer image is not pulled back. With another Kubernetes version comes the newest.
    if current != &target && is_there(&target) {
        return Ok(Wanted::Stay);
    }
    let used = catalogue.recently_used.get(&pool.name).map_or(&[][..], Vec::as_slice);
    let means = means(&target, at, latest, used, &catalogue.snapshots);
    if means == Some(Means::Stay) {
        return Ok(Wanted::Stay);
    }
    let published = latest.filter(|latest| latest.is_at_least(&target));
    let expired = published.is_some_and(|latest| is_expired(&target, latest, now));
    match (means, published) {
        (Some(Means::Newest), _) if !expired => Ok(Wanted::Newest(target)),
        (Some(Means::RecentlyUsed), _) if !expired => Ok(Wanted::Chosen(target, None)),
        (Some(Means::Snapshot(snapshot)), _) if !expired => Ok(Wanted::Chosen(target, Some(snapshot.id.clone()))),
        (_, None) => Err(Stop::Pending(ErrorDetail::new(
            "NodeImageVersionNotAvailable",
            format!("Node image {target} for agent pool '{}' is not published in the cluster's region yet.", pool.name),
        ))),
        (_, Some(latest)) if goal.when_image_unavailable == WhenImageUnavailable::Newest => {
            Ok(Wanted::Newest(latest.clone()))
        }
        (_, Some(latest)) => Err(Stop::Failed(unavailable(&target, latest, expired, pool))),
    }
}

fn unavailable(target: &NodeImage, latest: &NodeImage, expired: bool, pool: &AgentPool) -> ErrorDetail {
    if expired {
        return ErrorDetail::new(
            "NodeImageVersionExpired",
            format!(
                "Node image {target} for agent pool '{}' was published more than 90 days ago; AKS no longer supports the image. Create an update run with newer images.",
                pool.name
            ),
        );
    }
    ErrorDetail::new(
        "NodeImageVersionUnavailable",
        format!(
            "Agent pool '{}' cannot be moved to node image {target}: its region's newest image is {latest}, the pool did not run {target} lately with the Kubernetes version it is to have, and no node pool snapshot holds it. Create an update run with newer images, or one with whenImageUnavailable set to Newest.",
            pool.name
        ),
    )
}

/// Whether AKS no longer supports an image. `latest` is the region's newest: AKS publishes weekly, so that where publication has
/// come to a rest (air-gapped regions, the emulator) images do not all expire.
pub(super) fn is_expired(image: &NodeImage, latest: &NodeImage, now: Timestamp) -> bool {
    let today = latest.published().map_or(now, |newest| newest.min(now));
    image.published().is_some_and(|day| today.duration_since(day) > VALID)
}
