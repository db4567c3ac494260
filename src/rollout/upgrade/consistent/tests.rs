use proptest::prelude::*;

use super::{
    super::simulation::{at, catalogue, cluster, pool},
    *,
};
use crate::{
    model::update_run::{ManagedClusterUpgradeType, WhenImageUnavailable},
    rollout::upgrade::ImageGoal,
};

const VERSIONS: [&str; 4] = ["202508.20.1", "202509.11.0", "202510.03.0", "202510.29.0"];
const REGIONS: [&str; 3] = ["eastus", "swedencentral", "westeurope"];

fn image(family: &str, version: usize) -> NodeImage {
    NodeImage::new(format!("{family}-{}", VERSIONS[version]))
}

fn snapshot(version: &str, image: NodeImage) -> NodePoolSnapshot {
    NodePoolSnapshot {
        id: format!("/snapshots/fleet-manager-{image}-{version}"),
        kubernetes_version: version.parse().unwrap(),
        image,
        vm_size: "Standard_D2s_v5".to_owned(),
    }
}

/// A pool of a cluster of its own: at an image, in a region with a newest image, moved to another Kubernetes version or not.
fn one(family: &str, region: usize, current: usize, latest: usize, moves: bool) -> ConsistentPool {
    let (from, to) = if moves { ("1.32.7", "1.33.2") } else { ("1.33.2", "1.33.2") };
    ConsistentPool {
        cluster: format!("aks-{region}"),
        location: REGIONS[region].to_owned(),
        pool: pool("p", from, image(family, current).as_str()),
        latest: Some(image(family, latest)),
        recently_used: None,
        snapshots: Arc::default(),
        version: to.parse().ok(),
        moves,
    }
}

/// Chooses; what pools ran lately is `answers`, by their index.
fn choose_with(pools: &[ConsistentPool], answers: &[Vec<RecentlyUsed>]) -> (ImageChoice, Vec<ConsistentPool>, usize) {
    let (mut pools, mut asked) = (pools.to_vec(), 0);
    loop {
        match choose_images(&pools, at()) {
            ImageChoice::Ask(index) => {
                assert!(pools[index].recently_used.is_none(), "asked twice");
                pools[index].recently_used = Some(answers.get(index).cloned().unwrap_or_default());
                asked += 1;
            }
            end => return (end, pools, asked),
        }
    }
}

fn chosen(pools: &[ConsistentPool]) -> Result<Vec<String>, String> {
    match choose_with(pools, &[]).0 {
        ImageChoice::Chosen(images) => Ok(images.into_iter().map(|image| image.version).collect()),
        ImageChoice::Impossible(error) => Err(error.message),
        ImageChoice::Ask(_) => unreachable!(),
    }
}

#[test]
fn regions_with_the_same_newest_image_get_it() {
    let pools = [one("U", 0, 0, 3, false), one("U", 1, 3, 3, true), one("W", 1, 1, 2, false)];
    assert_eq!(chosen(&pools), Ok(vec![image("U", 3).to_string(), image("W", 2).to_string()]));
}

#[test]
fn a_pool_that_has_the_image_keeps_it_where_its_region_is_ahead() {
    assert_eq!(chosen(&[one("U", 0, 1, 3, false), one("U", 1, 0, 1, false)]), Ok(vec![image("U", 1).to_string()]));
    let moved = chosen(&[one("U", 0, 1, 3, true), one("U", 1, 0, 1, false)]);
    assert!(moved.unwrap_err().contains("aks-0/p in eastus"), "another Kubernetes version brings the newest image");
}

#[test]
fn the_refusal_names_regions_and_pools_once() {
    let pools: Vec<_> = (0..12).map(|_| one("U", 0, 0, 3, false)).chain([one("U", 1, 0, 1, false)]).collect();
    let said = chosen(&pools).unwrap_err();
    assert!(said.contains("eastus 202510.29.0, swedencentral 202509.11.0"), "{said}");
    assert!(said.contains("202509.11.0 cannot be set on agent pools aks-0/p in eastus."), "{said}");
    assert!(!said.contains("aks-1"), "its region has it: {said}");
    let ahead = chosen(&[one("U", 0, 3, 3, false), one("U", 1, 0, 1, false)]).unwrap_err();
    assert!(ahead.contains("aks-0/p in eastus"), "a newer image is not pulled back: {ahead}");
}

#[test]
fn keeping_what_all_have_is_no_choice_while_there_is_something_newer() {
    assert!(chosen(&[one("U", 0, 1, 3, false), one("U", 1, 1, 2, false)]).is_err());
    assert_eq!(chosen(&[one("U", 0, 2, 2, false), one("U", 1, 2, 2, false)]), Ok(vec![image("U", 2).to_string()]));
}

#[test]
fn snapshots_and_recent_images_bring_what_is_no_longer_the_newest() {
    let mut ahead = one("U", 0, 0, 3, true);
    let behind = one("U", 1, 0, 1, false);
    assert!(chosen(&[ahead.clone(), behind.clone()]).is_err());
    ahead.snapshots = Arc::new(vec![snapshot("1.32.7", image("U", 1))]);
    assert!(chosen(&[ahead.clone(), behind.clone()]).is_err(), "the pool ends with another Kubernetes version");
    ahead.snapshots = Arc::new(vec![snapshot("1.33.2", image("U", 1))]);
    assert_eq!(chosen(&[ahead, behind.clone()]), Ok(vec![image("U", 1).to_string()]));

    let ran = |version: &str| vec![RecentlyUsed { kubernetes_version: version.parse().ok(), image: image("U", 1) }];
    let rolled_back = one("U", 0, 0, 3, false);
    let pools = [rolled_back, behind];
    let (choice, ..) = choose_with(&pools, &[ran("1.33.2")]);
    assert_eq!(choice, ImageChoice::Chosen(vec![NodeImageVersion { version: image("U", 1).to_string() }]));
    assert!(matches!(choose_with(&pools, &[ran("1.32.7")]).0, ImageChoice::Impossible(_)));
}

#[test]
fn pools_that_the_run_does_not_move_count_for_nothing() {
    let goal = |upgrade_type| Goal {
        upgrade_type,
        version: Some("1.33.2".parse().unwrap()),
        images: ImageGoal::Consistent(Vec::new()),
        when_image_unavailable: WhenImageUnavailable::Fail,
        skips_far_clusters: false,
    };
    let full = goal(ManagedClusterUpgradeType::Full);
    let mut seen = cluster("1.32.7", vec![pool("a", "1.32.7", "U-202508.20.1"), pool("b", "1.33.2", "U-202508.20.1")]);
    let of = |seen: &ManagedCluster, goal: &Goal| ConsistentPool::of(seen, goal, &catalogue(), &Arc::default());
    assert_eq!(of(&seen, &full).iter().map(|pool| pool.moves).collect::<Vec<_>>(), [true, false]);
    let images = Goal { version: None, ..goal(ManagedClusterUpgradeType::NodeImageOnly) };
    assert!(of(&seen, &images).iter().all(|pool| !pool.moves && pool.version == pool.pool.version()));
    assert!(of(&seen, &goal(ManagedClusterUpgradeType::ControlPlaneOnly)).is_empty());
    seen.pools[0].stopped = true;
    assert_eq!(of(&seen, &full).len(), 1);
    seen.stopped = true;
    assert!(of(&seen, &full).is_empty());
}

fn any_pool() -> impl Strategy<Value = (ConsistentPool, Vec<RecentlyUsed>)> {
    let ran = prop::collection::vec((0..4_usize, any::<bool>()), 0..3);
    let kept = prop::collection::vec((0..4_usize, any::<bool>()), 0..2);
    let version = |old: bool| if old { "1.32.7" } else { "1.33.2" };
    (any::<bool>(), 0..3_usize, 0..4_usize, any::<bool>(), ran, kept, prop::bool::weighted(0.1)).prop_map(
        move |(windows, region, current, moves, ran, kept, failed)| {
            let family = if windows { "W" } else { "U" };
            // Regions differ in their newest image; no pool is ahead of its region.
            let mut pool = one(family, region, current.min(region + 1), region + 1, moves);
            if failed {
                pool.pool.provisioning_state = "Failed".to_owned().into();
                pool.moves = true;
            }
            let snapshots = kept.into_iter().map(|(at, old)| snapshot(version(old), image(family, at)));
            pool.snapshots = Arc::new(snapshots.collect());
            let used = ran.into_iter().map(|(at, old)| RecentlyUsed {
                kubernetes_version: version(old).parse().ok(),
                image: image(family, at.min(region + 1)),
            });
            let used = used.collect();
            (pool, used)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_choice_is_the_newest_that_can_be_set_everywhere(world in prop::collection::vec(any_pool(), 0..7)) {
        let (pools, answers): (Vec<_>, Vec<_>) = world.into_iter().unzip();
        let (choice, _, asked) = choose_with(&pools, &answers);
        prop_assert!(asked <= pools.len());
        // All that there is to know, found by trying everything.
        let known: Vec<_> = pools.iter().zip(&answers).map(|(pool, used)| ConsistentPool { recently_used: Some(used.clone()), ..pool.clone() }).collect();
        let settable = |family: &str| {
            let of: Vec<_> = known.iter().filter(|pool| pool.pool.image.as_ref().unwrap().family() == family).collect();
            let newest = (0..4).rev().find(|at| of.iter().all(|pool| pool.means(&image(family, *at)).is_some()));
            let newest = newest.filter(|at| {
                of.iter().any(|pool| pool.means(&image(family, *at)) != Some(Means::Stay))
                    || of.iter().all(|pool| pool.latest.as_ref().unwrap().version() <= image(family, *at).version())
            });
            (!of.is_empty()).then_some(newest)
        };
        let wanted: Vec<_> = ["U", "W"].iter().filter_map(|family| Some((*family, settable(family)?))).collect();
        match choice {
            ImageChoice::Chosen(images) => {
                let expected: Vec<_> = wanted.iter().map(|(family, at)| image(family, at.expect("there is one")).to_string()).collect();
                prop_assert_eq!(images.into_iter().map(|image| image.version).collect::<Vec<_>>(), expected);
            }
            ImageChoice::Impossible(error) => {
                prop_assert!(wanted.iter().any(|(_, at)| at.is_none()), "{}", error.message);
                prop_assert_eq!(error.details.len(), wanted.iter().filter(|(_, at)| at.is_none()).count());
            }
            ImageChoice::Ask(_) => unreachable!(),
        }
    }

    #[test]
    fn the_order_of_pools_does_not_matter(world in prop::collection::vec(any_pool(), 0..6)) {
        let (pools, answers): (Vec<_>, Vec<_>) = world.into_iter().unzip();
        let (back, answers_back): (Vec<_>, Vec<_>) = pools.iter().cloned().zip(answers.iter().cloned()).rev().unzip();
        let (one, other) = (choose_with(&pools, &answers).0, choose_with(&back, &answers_back).0);
        prop_assert_eq!(std::mem::discriminant(&one), std::mem::discriminant(&other));
        if let ImageChoice::Chosen(_) = one {
            prop_assert_eq!(one, other);
        }
    }
}
