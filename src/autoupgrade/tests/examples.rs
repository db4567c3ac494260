//! The documented examples, one by one.

use std::collections::BTreeSet;

use super::*;

#[test]
fn channels_as_documented() {
    let offers = fleet(&[("1.17.9 1.18.4 1.18.6 1.19.1", "")]);
    assert_eq!(leads_to(&profile("Stable"), &offers), ["1.18.6"]);
    assert_eq!(leads_to(&profile("Rapid"), &offers), ["1.19.1"]);

    // "1.31 becomes generally available": both channels move on by themselves.
    let mut offers = fleet(&[("1.29.1 1.29.4 1.30.0 1.30.3 1.31.0!", "")]);
    let past = Past { armed_at: day(0), target: None };
    assert_eq!(leads_to(&profile("Rapid"), &offers), ["1.30.3"]);
    assert_eq!(leads_to(&profile("Stable"), &offers), ["1.29.4"]);
    assert_eq!(news(&profile("Rapid"), &offers, &past), None, "a new profile is told of nothing");
    look(&mut offers, "r0", "1.29.1 1.29.4 1.30.0 1.30.3 1.31.0", "", day(1));
    assert_eq!(news(&profile("Rapid"), &offers, &past), Some(Target::Kubernetes(v("1.31.0"))));
    assert_eq!(news(&profile("Stable"), &offers, &past), Some(Target::Kubernetes(v("1.30.3"))));
    let told = Past { armed_at: day(0), target: Some(Target::Kubernetes(v("1.30.3"))) };
    assert_eq!(news(&profile("Stable"), &offers, &told), None, "once");
    look(&mut offers, "r0", "1.29.4 1.30.0 1.30.3 1.30.4 1.31.0", "", day(2));
    assert_eq!(news(&profile("Stable"), &offers, &told), Some(Target::Kubernetes(v("1.30.4"))));
}

#[test]
fn released_anywhere_is_released() {
    let mut offers = fleet(&[("1.32.7 1.33.2", ""), ("1.32.7 1.33.2", "")]);
    let past = Past { armed_at: day(0), target: None };
    look(&mut offers, "r1", "1.32.7 1.33.2 1.33.5", "", day(1));
    assert_eq!(news(&profile("Rapid"), &offers, &past), Some(Target::Kubernetes(v("1.33.5"))));
    look(&mut offers, "r0", "1.32.7 1.33.2 1.33.5", "", day(2));
    let told = Past { armed_at: day(0), target: Some(Target::Kubernetes(v("1.33.5"))) };
    assert_eq!(news(&profile("Rapid"), &offers, &told), None, "its arrival in another region is not a release");
    let late = Past { armed_at: day(1) + SignedDuration::from_hours(1), target: None };
    assert_eq!(news(&profile("Rapid"), &offers, &late), None, "not even to a profile that was made in between");
}

#[test]
fn what_comes_and_goes_with_members_is_no_release() {
    let mut offers = fleet(&[("1.32.7 1.33.2", "")]);
    let past = Past { armed_at: day(0), target: None };
    let ahead = RegionOffers::first(&offered("1.33.2 1.33.5 1.34.0"), &[]);
    offers.regions.insert(("s".to_owned(), "ahead".to_owned()), ahead);
    assert_eq!(leads_to(&profile("Rapid"), &offers), ["1.34.0"]);
    for channel in ["Rapid", "Stable"] {
        assert_eq!(news(&profile(channel), &offers, &past), None);
    }
    look(&mut offers, "ahead", "1.33.2 1.34.0 1.34.1", "", day(3));
    let told = news(&profile("Rapid"), &offers, &past);
    assert_eq!(told, Some(Target::Kubernetes(v("1.34.1"))));
    offers.regions.remove(&("s".to_owned(), "ahead".to_owned()));
    assert_eq!(news(&profile("Rapid"), &offers, &Past { target: told, ..past }), None);
}

#[test]
fn withdrawn_and_back_is_no_release() {
    let mut offers = fleet(&[("1.32.7 1.33.2 1.33.5", "U-202508.20.1")]);
    let past = Past { armed_at: day(0), target: None };
    look(&mut offers, "r0", "1.32.7 1.33.2", "U-202508.10.1", day(1));
    assert_eq!(leads_to(&profile("Rapid"), &offers), ["1.33.2"]);
    look(&mut offers, "r0", "1.32.7 1.33.2 1.33.5", "U-202508.20.1", day(2));
    assert_eq!(news(&profile("Rapid"), &offers, &past), None);
    assert_eq!(news(&profile("NodeImage"), &offers, &past), None);
}

#[test]
fn previews_never() {
    let mut offers = fleet(&[("1.33.2 1.34.0 1.35.0!", "")]);
    assert_eq!(leads_to(&profile("Rapid"), &offers), ["1.34.0"]);
    assert_eq!(target(&staying_in("1.35", false), &offers), Err(NoTarget::PreviewOnly("1.35".parse().unwrap())));
    look(&mut offers, "r0", "1.33.2 1.34.0 1.34.1! 1.35.0!", "", day(1));
    assert_eq!(leads_to(&profile("Rapid"), &offers), ["1.34.0"]);
    look(&mut offers, "r0", "1.33.2 1.34.0 1.34.1! 1.35.0", "", day(2));
    let past = Past { armed_at: day(1), target: None };
    assert_eq!(news(&staying_in("1.35", false), &offers, &past), Some(Target::Kubernetes(v("1.35.0"))));
}

#[test]
fn a_target_version_is_never_left() {
    let mut offers = fleet(&[("1.30.0 1.30.3 1.31.0 1.32.1", "")]);
    let past = Past { armed_at: day(0), target: None };
    let stays = staying_in("1.30", false);
    assert_eq!(leads_to(&stays, &offers), ["1.30.3"]);
    look(&mut offers, "r0", "1.30.3 1.31.0 1.32.1 1.32.2", "", day(1));
    assert_eq!(news(&stays, &offers, &past), None);
    look(&mut offers, "r0", "1.30.3 1.30.4 1.31.0 1.32.1 1.32.2", "", day(2));
    assert_eq!(news(&stays, &offers, &past), Some(Target::Kubernetes(v("1.30.4"))));
    let newest = newest_minor(&offers);
    let unheard = "1.40".parse().unwrap();
    assert_eq!(target(&staying_in("1.40", false), &offers), Err(NoTarget::NotReleased(unheard, newest)));
    assert_eq!(target(&staying_in("1.20", true), &offers), Err(NoTarget::Retired("1.20".parse().unwrap())));
}

#[test]
fn long_term_support_is_asked_for() {
    // N is 1.33: 1.31 is N-2, 1.30 is older.
    let offers = fleet(&[("1.28.9 1.30.9* 1.31.4 1.32.7 1.33.2 1.29.9**", "")]);
    let says = |minor: &str, long_term| {
        let profile = staying_in(minor, long_term);
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
fn images_by_family() {
    let mut offers =
        fleet(&[("1.33.2", "U-202508.20.1 W-20348.1.250805"), ("1.33.2", "U-202508.9.1 W-20348.1.250805")]);
    let past = Past { armed_at: day(0), target: None };
    assert_eq!(leads_to(&profile("NodeImage"), &offers), ["U-202508.20.1", "W-20348.1.250805"]);
    assert_eq!(leads_to(&profile("SecurityPatch"), &offers), ["U-202508.20.1"]);
    look(&mut offers, "r1", "1.33.2", "U-202508.20.1 W-20348.1.250805", day(1));
    assert_eq!(news(&profile("NodeImage"), &offers, &past), None, "it was in the other region before");
    look(&mut offers, "r1", "1.33.2", "U-202508.20.1 W-20348.2.250912", day(2));
    let told = news(&profile("NodeImage"), &offers, &past);
    assert_eq!(told.as_ref().unwrap().versions(), ["U-202508.20.1", "W-20348.2.250912"]);
    assert_eq!(news(&profile("SecurityPatch"), &offers, &past), None);
    assert_eq!(news(&profile("NodeImage"), &offers, &Past { target: told, ..past.clone() }), None);
    // A pool of another family joins: its image is of old, and goes along with the next release.
    look(&mut offers, "r0", "1.33.2", "U-202508.20.1 A-202508.20.1 W-20348.1.250805", day(3));
    offers.families.insert("A".to_owned(), true);
    assert_eq!(news(&profile("SecurityPatch"), &offers, &past), None);
    look(&mut offers, "r0", "1.33.2", "U-202509.1.0 A-202508.20.1 W-20348.1.250805", day(4));
    let told = news(&profile("SecurityPatch"), &offers, &past).unwrap();
    assert_eq!(told.versions(), ["A-202508.20.1", "U-202509.1.0"]);
}

#[test]
fn runs_upgrade_what_the_channel_says() {
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
fn names() {
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
        run_name(&format!("{long}b"), &staying_in("1.33", false), &target, None),
        run_name(&format!("{long}c"), &staying_in("1.33", false), &target, None),
        run_name("aup-000006", &profile("NodeImage"), &images, None),
    ]);
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("auto-aup-000006-nodeimage-")), "{names:?}");
}

#[test]
fn who_lags() {
    let region = RegionOffers::first(&offered("1.32.7 1.33.2 1.33.5 1.28.9**"), &images("U-202508.20.1"));
    let cluster = |version: &str, pool: &str, image: &str| ClusterFacts {
        location: "r".to_owned(),
        version: Some(v(version)),
        long_term_support: false,
        closed: false,
        pools: vec![PoolFacts {
            name: "p".to_owned(),
            version: Some(v(pool)),
            image: Some(NodeImage::new(image)),
            linux: true,
            stopped: false,
        }],
    };
    let lags_behind = |wanted: &str, facts: &ClusterFacts| lags(&Target::Kubernetes(v(wanted)), facts, &region);
    let old = "U-202508.9.1";
    assert!(lags_behind("1.33.5", &cluster("1.32.7", "1.32.7", old)));
    assert!(lags_behind("1.33.5", &cluster("1.33.5", "1.33.2", old)), "a pool");
    assert!(!lags_behind("1.33.5", &cluster("1.33.5", "1.33.5", old)));
    assert!(!lags_behind("1.33.5", &cluster("1.34.0", "1.33.2", old)), "ahead");
    assert!(!lags_behind("1.33.5", &cluster("1.31.4", "1.31.4", old)), "two minor versions");
    assert!(!lags_behind("1.33.9", &cluster("1.33.2", "1.33.2", old)), "not in its region");
    assert!(!lags_behind("1.28.9", &cluster("1.28.1", "1.28.1", old)), "no long-term support");
    let mut supported = cluster("1.28.1", "1.28.1", old);
    supported.long_term_support = true;
    assert!(lags_behind("1.28.9", &supported));
    supported.closed = true;
    assert!(!lags_behind("1.28.9", &supported));

    let of = |image: &str| Target::Images([("U".to_owned(), NodeImage::new(image))].into());
    assert!(lags(&of("U-202508.20.1"), &cluster("1.33.2", "1.33.2", old), &region));
    assert!(!lags(&of("U-202508.20.1"), &cluster("1.33.2", "1.33.2", "U-202508.20.1"), &region));
    assert!(!lags(&of("U-202509.1.0"), &cluster("1.33.2", "1.33.2", old), &region), "not in its region");
    assert!(!lags(&of("U-202508.20.1"), &cluster("1.33.2", "1.33.2", "V-202501.1.0"), &region));
}
