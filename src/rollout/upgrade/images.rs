//! Which node image a pool is to have.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    ImageGoal,
    plan::{Stop, ended_badly},
};
use crate::{
    arm::ErrorDetail,
    model::{
        managed_cluster::{AgentPool, Catalogue, NodeImage},
        update_run::NodeImageVersion,
    },
};

/// How long AKS supports an image after its publication (product documentation, node image versions).
const VALID: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The images of a `Consistent` run: per family, the newest that is published in every region where the family occurs
/// ("latest common"). `observed` are the (region, family) pairs of all pools of the run, `latest` the newest image by
/// (region, family). A family of which some region names no image has none.
#[must_use]
pub fn consistent_images(
    observed: &BTreeSet<(String, String)>,
    latest: &BTreeMap<(String, String), NodeImage>,
) -> Vec<NodeImageVersion> {
    let mut chosen: BTreeMap<&str, Option<&NodeImage>> = BTreeMap::new();
    for pair in observed {
        let here = latest.get(pair);
        chosen
            .entry(&pair.1)
            .and_modify(|common| {
                *common = common.zip(here).map(|(a, b)| if a.version() <= b.version() { a } else { b });
            })
            .or_insert(here);
    }
    chosen.into_values().flatten().map(|image| NodeImageVersion { version: image.to_string() }).collect()
}

/// What is to become of a pool's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The pool is not touched at all, with the reason.
    Leave(&'static str),
    /// Its image may stay. `pin` keeps it where a change of version would bring a newer one than wanted.
    Stay { pin: Option<NodeImage> },
    /// AKS does not say what is the newest.
    Unknown,
    /// The newest, by AKS's own call.
    Newest(NodeImage),
    /// This one, which is not the newest.
    Chosen(NodeImage),
    /// `Consistent`: the run chose none for the family.
    NoneForFamily(String),
}

pub(super) fn wanted(
    goal: &ImageGoal,
    pool: &AgentPool,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Result<Wanted, Stop> {
    let Some(current) = &pool.image else { return Ok(Wanted::Unknown) };
    let latest = catalogue.latest.get(current.family());
    let in_family = |images: &[NodeImage]| images.iter().find(|image| image.family() == current.family()).cloned();
    // What reads as the target after a failed operation may not be it.
    let is_there = |target: &NodeImage| {
        current.is_at_least(target) && !(current == target && ended_badly(&pool.provisioning_state))
    };
    let target = match goal {
        ImageGoal::Latest if pool.from_snapshot => {
            return Ok(Wanted::Leave(
                "is bound to a node pool snapshot (node image selection Latest does not upgrade it)",
            ));
        }
        ImageGoal::Latest => {
            return Ok(match latest {
                None => Wanted::Unknown,
                Some(latest) if is_there(latest) => Wanted::Stay { pin: None },
                Some(latest) => Wanted::Newest(latest.clone()),
            });
        }
        ImageGoal::Consistent(images) => match in_family(images) {
            Some(image) => image,
            None => return Ok(Wanted::NoneForFamily(current.family().to_owned())),
        },
        ImageGoal::Custom(images) | ImageGoal::AtLeast(images) => match in_family(images) {
            Some(image) => image,
            None => return Ok(Wanted::Leave("has a node image family that is not listed")),
        },
    };
    let is_newest = latest.is_some_and(|latest| target.is_at_least(latest));
    let used = catalogue.recently_used.get(&pool.name).is_some_and(|used| used.contains(&target));
    let settable = catalogue.accepts_any_image || used || current == &target;
    if is_there(&target) {
        let pin = (current == &target && !is_newest && settable).then_some(target);
        return Ok(Wanted::Stay { pin });
    }
    let Some(latest) = latest.filter(|latest| latest.is_at_least(&target)) else {
        return Err(Stop::Pending(ErrorDetail::new(
            "NodeImageVersionNotAvailable",
            format!("Node image {target} for agent pool '{}' is not published in the cluster's region yet.", pool.name),
        )));
    };
    let expired = target.published().is_some_and(|day| today(latest, now).duration_since(day) > VALID);
    // A gate or a maintenance window may well outlast a publication, which comes every week.
    if matches!(goal, ImageGoal::AtLeast(_)) && (expired || !settable) {
        return Ok(Wanted::Newest(latest.clone()));
    }
    if expired {
        return Err(Stop::Failed(ErrorDetail::new(
            "NodeImageVersionExpired",
            format!(
                "Node image {target} for agent pool '{}' was published more than 90 days ago; AKS no longer supports it. Create a run with newer images.",
                pool.name
            ),
        )));
    }
    // AKS's own call keeps a pool bound to its snapshot; setting the image releases it.
    if is_newest && !(pool.from_snapshot && settable) {
        return Ok(Wanted::Newest(target));
    }
    if settable {
        return Ok(Wanted::Chosen(target));
    }
    Err(Stop::Failed(ErrorDetail::new(
        "NodeImageVersionNotAvailable",
        format!(
            "Agent pool '{}' cannot be moved to node image {target}: AKS offers the newest image only, and images that the pool ran before.",
            pool.name
        ),
    )))
}

/// What the age of an image is counted to: the region's newest image, as AKS publishes weekly, so that where publication
/// has come to a rest (air-gapped regions, the emulator) images do not all expire.
fn today(latest: &NodeImage, now: Timestamp) -> Timestamp {
    latest.published().map_or(now, |newest| newest.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_common_over_the_regions_where_a_family_occurs() {
        let pair = |region: &str, family: &str| (region.to_owned(), family.to_owned());
        let image = |region: &str, family: &str, version: &str| {
            (pair(region, family), NodeImage::new(format!("{family}-{version}")))
        };
        let latest = BTreeMap::from([
            image("x", "U", "2021.10.12"),
            image("y", "U", "2021.10.17"),
            image("z", "U", "2021.09.01"),
            image("x", "W", "20348.1.250101"),
            image("y", "only-y", "202508.9.0"),
        ]);
        let observed =
            BTreeSet::from([pair("x", "U"), pair("y", "U"), pair("x", "W"), pair("y", "W"), pair("y", "only-y")]);
        let chosen: Vec<_> = consistent_images(&observed, &latest).into_iter().map(|image| image.version).collect();
        assert_eq!(chosen, ["U-2021.10.12", "only-y-202508.9.0"], "z has no pool; y knows no W");
    }
}
