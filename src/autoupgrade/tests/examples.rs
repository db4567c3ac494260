//! The examples of the product's documentation.

use std::collections::BTreeSet;

use super::*;

#[test]
fn channels_lead_to_the_documented_versions() {
    let offers = fleet(&[("1.17.9 1.18.4 1.18.6 1.19.1", "")]);
    assert_eq!(target_versions(&profile("Stable"), &offers), ["1.18.6"]);
    assert_eq!(target_versions(&profile("Rapid"), &offers), ["1.19.1"]);

    // "1.31 becomes generally available": the target of both channels changes.
    let mut offers = fleet(&[("1.29.1 1.29.4 1.30.0 1.30.3 1.31.0!", "")]);
    let history = TriggerHistory { armed_at: day(0), last_target: None };
    assert_eq!(target_versions(&profile("Rapid"), &offers), ["1.30.3"]);
    assert_eq!(target_versions(&profile("Stable"), &offers), ["1.29.4"]);
    assert_eq!(new_release(&profile("Rapid"), &offers, &history), None, "a new profile ignores earlier releases");
    read_region(&mut offers, "r0", "1.29.1 1.29.4 1.30.0 1.30.3 1.31.0", "", day(1));
    assert_eq!(new_release(&profile("Rapid"), &offers, &history), Some(Target::Kubernetes(v("1.31.0"))));
    assert_eq!(new_release(&profile("Stable"), &offers, &history), Some(Target::Kubernetes(v("1.30.3"))));
    let triggered = TriggerHistory { armed_at: day(0), last_target: Some(Target::Kubernetes(v("1.30.3"))) };
    assert_eq!(new_release(&profile("Stable"), &offers, &triggered), None, "a release triggers once");
    read_region(&mut offers, "r0", "1.29.4 1.30.0 1.30.3 1.30.4 1.31.0", "", day(2));
    assert_eq!(new_release(&profile("Stable"), &offers, &triggered), Some(Target::Kubernetes(v("1.30.4"))));
}

#[test]
fn a_version_released_in_one_region_is_released() {
    let mut offers = fleet(&[("1.32.7 1.33.2", ""), ("1.32.7 1.33.2", "")]);
    let history = TriggerHistory { armed_at: day(0), last_target: None };
    read_region(&mut offers, "r1", "1.32.7 1.33.2 1.33.5", "", day(1));
    assert_eq!(new_release(&profile("Rapid"), &offers, &history), Some(Target::Kubernetes(v("1.33.5"))));
    read_region(&mut offers, "r0", "1.32.7 1.33.2 1.33.5", "", day(2));
    let triggered = TriggerHistory { armed_at: day(0), last_target: Some(Target::Kubernetes(v("1.33.5"))) };
    assert_eq!(
        new_release(&profile("Rapid"), &offers, &triggered),
        None,
        "its arrival in another region is not a release"
    );
    let late = TriggerHistory { armed_at: day(1) + SignedDuration::from_hours(1), last_target: None };
    assert_eq!(
        new_release(&profile("Rapid"), &offers, &late),
        None,
        "nor for a profile that was created after the release in the first region"
    );
}

#[test]
fn members_that_join_and_leave_cause_no_release() {
    let mut offers = fleet(&[("1.32.7 1.33.2", "")]);
    let history = TriggerHistory { armed_at: day(0), last_target: None };
    let ahead = RegionOffers::initial(&offered("1.33.2 1.33.5 1.34.0"), &[]);
    offers.regions.insert(("s".to_owned(), "ahead".to_owned()), ahead);
    assert_eq!(target_versions(&profile("Rapid"), &offers), ["1.34.0"]);
    for channel in ["Rapid", "Stable"] {
        assert_eq!(new_release(&profile(channel), &offers, &history), None);
    }
    read_region(&mut offers, "ahead", "1.33.2 1.34.0 1.34.1", "", day(3));
    let triggered = new_release(&profile("Rapid"), &offers, &history);
    assert_eq!(triggered, Some(Target::Kubernetes(v("1.34.1"))));
    offers.regions.remove(&("s".to_owned(), "ahead".to_owned()));
    assert_eq!(new_release(&profile("Rapid"), &offers, &TriggerHistory { last_target: triggered, ..history }), None);
}

#[test]
fn a_version_that_is_withdrawn_and_returns_is_no_release() {
    let mut offers = fleet(&[("1.32.7 1.33.2 1.33.5", "U-202508.20.1")]);
    let history = TriggerHistory { armed_at: day(0), last_target: None };
    read_region(&mut offers, "r0", "1.32.7 1.33.2", "U-202508.10.1", day(1));
    assert_eq!(target_versions(&profile("Rapid"), &offers), ["1.33.2"]);
    read_region(&mut offers, "r0", "1.32.7 1.33.2 1.33.5", "U-202508.20.1", day(2));
    assert_eq!(new_release(&profile("Rapid"), &offers, &history), None);
    assert_eq!(new_release(&profile("NodeImage"), &offers, &history), None);
}

#[test]
fn a_preview_is_never_a_target() {
    let mut offers = fleet(&[("1.33.2 1.34.0 1.35.0!", "")]);
    assert_eq!(target_versions(&profile("Rapid"), &offers), ["1.34.0"]);
    assert_eq!(target(&following_minor("1.35", false), &offers), Err(NoTarget::PreviewOnly("1.35".parse().unwrap())));
    read_region(&mut offers, "r0", "1.33.2 1.34.0 1.34.1! 1.35.0!", "", day(1));
    assert_eq!(target_versions(&profile("Rapid"), &offers), ["1.34.0"]);
    read_region(&mut offers, "r0", "1.33.2 1.34.0 1.34.1! 1.35.0", "", day(2));
    let history = TriggerHistory { armed_at: day(1), last_target: None };
    assert_eq!(new_release(&following_minor("1.35", false), &offers, &history), Some(Target::Kubernetes(v("1.35.0"))));
}

#[test]
fn a_profile_stays_in_its_target_minor_version() {
    let mut offers = fleet(&[("1.30.0 1.30.3 1.31.0 1.32.1", "")]);
    let history = TriggerHistory { armed_at: day(0), last_target: None };
    let stays = following_minor("1.30", false);
    assert_eq!(target_versions(&stays, &offers), ["1.30.3"]);
    read_region(&mut offers, "r0", "1.30.3 1.31.0 1.32.1 1.32.2", "", day(1));
    assert_eq!(new_release(&stays, &offers, &history), None);
    read_region(&mut offers, "r0", "1.30.3 1.30.4 1.31.0 1.32.1 1.32.2", "", day(2));
    assert_eq!(new_release(&stays, &offers, &history), Some(Target::Kubernetes(v("1.30.4"))));
    let newest = newest_minor(&offers);
    let unreleased = "1.40".parse().unwrap();
    assert_eq!(target(&following_minor("1.40", false), &offers), Err(NoTarget::NotReleased(unreleased, newest)));
    assert_eq!(target(&following_minor("1.20", true), &offers), Err(NoTarget::Retired("1.20".parse().unwrap())));
}

#[test]
fn versions_out_of_community_support_need_long_term_support() {
    // N is 1.33: 1.31 is N-2, 1.30 is older.
    let offers = fleet(&[("1.28.9 1.30.9* 1.31.4 1.32.7 1.33.2 1.29.9**", "")]);
    let says = |minor: &str, long_term| {
        let profile = following_minor(minor, long_term);
        let target = target(&profile, &offers).unwrap();
        check(&profile, &target, &offers).map_err(|error| error.code.into_owned())
    };
    assert_eq!(says("1.31", false), Ok(()));
    assert_eq!(says("1.31", true), Ok(()));
    for minor in ["1.30", "1.29"] {
        assert_eq!(says(minor, false), Err("LongTermSupportRequired".to_owned()));
        assert_eq!(says(minor, true), Ok(()));
    }
    assert_eq!(says("1.28", true), Err("KubernetesVersionNotSupported".to_owned()));
}

#[test]
fn node_images_are_released_by_family() {
    let mut offers =
        fleet(&[("1.33.2", "U-202508.20.1 W-20348.1.250805"), ("1.33.2", "U-202508.9.1 W-20348.1.250805")]);
    let history = TriggerHistory { armed_at: day(0), last_target: None };
    assert_eq!(target_versions(&profile("NodeImage"), &offers), ["U-202508.20.1", "W-20348.1.250805"]);
    assert_eq!(target_versions(&profile("SecurityPatch"), &offers), ["U-202508.20.1"]);
    read_region(&mut offers, "r1", "1.33.2", "U-202508.20.1 W-20348.1.250805", day(1));
    assert_eq!(new_release(&profile("NodeImage"), &offers, &history), None, "another region had the image before");
    read_region(&mut offers, "r1", "1.33.2", "U-202508.20.1 W-20348.2.250912", day(2));
    let triggered = new_release(&profile("NodeImage"), &offers, &history);
    assert_eq!(triggered.as_ref().unwrap().versions(), ["U-202508.20.1", "W-20348.2.250912"]);
    assert_eq!(new_release(&profile("SecurityPatch"), &offers, &history), None);
    assert_eq!(
        new_release(&profile("NodeImage"), &offers, &TriggerHistory { last_target: triggered, ..history.clone() }),
        None
    );
    // A pool of another family joins: its image is no release, and is part of the next target.
    read_region(&mut offers, "r0", "1.33.2", "U-202508.20.1 A-202508.20.1 W-20348.1.250805", day(3));
    offers.families.insert("A".to_owned(), true);
    assert_eq!(new_release(&profile("SecurityPatch"), &offers, &history), None);
    read_region(&mut offers, "r0", "1.33.2", "U-202509.1.0 A-202508.20.1 W-20348.1.250805", day(4));
    let triggered = new_release(&profile("SecurityPatch"), &offers, &history).unwrap();
    assert_eq!(triggered.versions(), ["A-202508.20.1", "U-202509.1.0"]);
}

#[test]
fn a_run_has_the_update_of_its_channel() {
    let offers = fleet(&[("1.32.7 1.33.2", "U-202508.20.1 W-20348.1.250805")]);
    let run = |profile: &AutoUpgradeProfileProperties| {
        serde_json::to_value(update(profile, &target(profile, &offers).unwrap())).unwrap()
    };
    let full = serde_json::json!({"upgrade": {"type": "Full", "kubernetesVersion": "1.33.2"}, "nodeImageSelection": {"type": "Latest"}});
    assert_eq!(run(&profile("Rapid")), full);
    let mut consistent = profile("Rapid");
    consistent.node_image_selection = serde_json::from_value(serde_json::json!({"type": "Consistent"})).unwrap();
    assert_eq!(run(&consistent)["nodeImageSelection"]["type"], "Consistent");
    let custom = serde_json::json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Custom",
        "customNodeImageVersions": [{"version": "U-202508.20.1"}]}});
    assert_eq!(run(&profile("SecurityPatch")), custom);
}

#[test]
fn run_names() {
    let target = Target::Kubernetes(v("1.33.2"));
    let name = run_name("aup-000006", &profile("Rapid"), &target, None);
    assert!(name.starts_with("auto-aup-000006-rapid-1-33-2-"), "{name}");
    assert_eq!(name.len(), "auto-aup-000006-rapid-1-33-2-1cnmmzn".len());
    assert_eq!(name, run_name("aup-000006", &profile("Rapid"), &target, None));
    let mut consistent = profile("Rapid");
    consistent.node_image_selection = serde_json::from_value(serde_json::json!({"type": "Consistent"})).unwrap();
    let some = BTreeSet::from(["m1".to_owned()]);
    let long = "a".repeat(49);
    let images = Target::Images([("U".to_owned(), NodeImage::new("U-202508.20.1"))].into());
    let names = BTreeSet::from([
        name,
        run_name("aup-000006", &consistent, &target, None),
        run_name("aup-000006", &profile("Rapid"), &target, Some(&some)),
        run_name("aup-000006", &profile("Rapid"), &Target::Kubernetes(v("1.33.3")), None),
        run_name(&format!("{long}b"), &following_minor("1.33", false), &target, None),
        run_name(&format!("{long}c"), &following_minor("1.33", false), &target, None),
        run_name("aup-000006", &profile("NodeImage"), &images, None),
    ]);
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("auto-aup-000006-nodeimage-")), "{names:?}");
}

#[test]
fn clusters_behind_a_target() {
    let region = RegionOffers::initial(&offered("1.32.7 1.33.2 1.33.5 1.28.9**"), &images("U-202508.20.1"));
    let cluster = |version: &str, pool: &str, image: &str| ClusterFacts {
        location: "r".to_owned(),
        version: Some(v(version)),
        long_term_support: false,
        is_excluded: false,
        pools: vec![PoolFacts {
            name: "p".to_owned(),
            version: Some(v(pool)),
            image: Some(NodeImage::new(image)),
            linux: true,
            stopped: false,
        }],
    };
    let behind = |wanted: &str, facts: &ClusterFacts| is_behind(&Target::Kubernetes(v(wanted)), facts, &region);
    let old = "U-202508.9.1";
    assert!(behind("1.33.5", &cluster("1.32.7", "1.32.7", old)));
    assert!(behind("1.33.5", &cluster("1.33.5", "1.33.2", old)), "an agent pool is behind");
    assert!(!behind("1.33.5", &cluster("1.33.5", "1.33.5", old)));
    assert!(!behind("1.33.5", &cluster("1.34.0", "1.33.2", old)), "the control plane is ahead");
    assert!(!behind("1.33.5", &cluster("1.31.4", "1.31.4", old)), "two minor versions behind");
    assert!(!behind("1.33.9", &cluster("1.33.2", "1.33.2", old)), "its region does not offer the target");
    assert!(!behind("1.28.9", &cluster("1.28.1", "1.28.1", old)), "the cluster has no long-term support");
    let mut supported = cluster("1.28.1", "1.28.1", old);
    supported.long_term_support = true;
    assert!(behind("1.28.9", &supported));
    supported.is_excluded = true;
    assert!(!behind("1.28.9", &supported));

    let of = |image: &str| Target::Images([("U".to_owned(), NodeImage::new(image))].into());
    assert!(is_behind(&of("U-202508.20.1"), &cluster("1.33.2", "1.33.2", old), &region));
    assert!(!is_behind(&of("U-202508.20.1"), &cluster("1.33.2", "1.33.2", "U-202508.20.1"), &region));
    assert!(
        !is_behind(&of("U-202509.1.0"), &cluster("1.33.2", "1.33.2", old), &region),
        "its region does not offer the target"
    );
    assert!(!is_behind(&of("U-202508.20.1"), &cluster("1.33.2", "1.33.2", "V-202501.1.0"), &region));
}
