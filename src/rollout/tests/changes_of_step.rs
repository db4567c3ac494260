//! The changes of a step, applied to the states before it, give the states after it.

use std::collections::HashMap;

use crate::{
    model::update_run::{UpdateState, UpdateStatus},
    rollout::*,
};

/// Kind, stage, and name within the stage of a run, stage, wait, group, gate or member.
type Name = (&'static str, String, String);

fn statuses(run: &Run) -> HashMap<Name, UpdateStatus> {
    let mut statuses = HashMap::new();
    let mut add = |kind, stage: &str, name: String, status: &UpdateStatus| {
        statuses.insert((kind, stage.to_owned(), name), status.clone());
    };
    add("run", "", String::new(), &run.status);
    for stage in &run.stages {
        add("stage", &stage.name, String::new(), &stage.status);
        let of_groups = stage.groups.iter().flat_map(|group| group.before.iter().chain(&group.after));
        for gate in stage.before.iter().chain(&stage.after).chain(of_groups) {
            add("gate", &stage.name, gate.id.to_string(), &gate.status);
        }
        if let Some(wait) = &stage.wait {
            add("wait", &stage.name, String::new(), &wait.status);
        }
        for group in &stage.groups {
            add("group", &stage.name, group.name.clone(), &group.status);
        }
    }
    statuses
}

fn named(change: &Change) -> (Name, UpdateStatus) {
    let name = |kind, stage: &str, name: String| (kind, stage.to_owned(), name);
    match change {
        Change::Run { status } => (name("run", "", String::new()), status.clone()),
        Change::Stage { stage, status } => (name("stage", stage, String::new()), status.clone()),
        Change::Wait { stage, status, .. } => (name("wait", stage, String::new()), status.clone()),
        Change::Group { stage, group, status } => (name("group", stage, group.clone()), status.clone()),
        Change::Gate { stage, gate, .. } => (name("gate", stage, gate.id.to_string()), gate.status.clone()),
        Change::Member { stage, member, .. } => (name("member", stage, member.name.clone()), member.status.clone()),
    }
}

/// Checks that a step has one change for each part whose state or error differs and none for others, and that a part's end comes after
/// the changes inside the part.
pub(super) fn check(before: &Run, after: &Run) {
    let changed: Vec<(Name, UpdateStatus)> = changes(before, after, Vec::new()).iter().map(named).collect();
    let (mut followed, actual) = (statuses(before), statuses(after));
    for (name, status) in &changed {
        let old = followed.insert(name.clone(), status.clone()).unwrap();
        assert_ne!((old.state, old.error), (status.state, status.error.clone()), "{name:?} has not changed");
    }
    for (name, status) in &actual {
        let followed = &followed[name];
        assert_eq!(
            (followed.state, &followed.error),
            (status.state, &status.error),
            "the change of {name:?} is missing"
        );
    }
    let ended = |state| matches!(state, UpdateState::Completed | UpdateState::Skipped);
    for (at, (name, status)) in changed.iter().enumerate() {
        let later = &changed[at + 1..];
        match name.0 {
            "run" if ended(status.state) => assert!(later.is_empty(), "{later:?} after the end of the run"),
            "stage" if ended(status.state) => {
                assert!(later.iter().all(|((_, stage, _), _)| *stage != name.1), "{later:?} after the end of {name:?}");
            }
            "stage" => {
                let position = |stage: &str| after.stages.iter().position(|of| of.name == stage);
                let earlier = later.iter().filter(|((kind, ..), _)| *kind != "run");
                assert!(earlier.into_iter().all(|((_, stage, _), _)| position(stage) >= position(&name.1)));
            }
            _ => {}
        }
    }
}

#[test]
fn members_end_before_others_take_their_slots() {
    let plan = plan(None, &super::examples::fleet(&[("g", 2)])).unwrap();
    let run = super::sim::Sim::new(&plan, 2).run;
    let member = |name: &str, state| ChangedMember {
        group: 0,
        attempt: 1,
        status: crate::model::update_run::MemberUpdateStatus {
            status: UpdateStatus { state, ..not_started() },
            name: name.to_owned(),
            cluster_resource_id: format!("/c/{name}"),
            operation_id: None,
            message: None,
            explanation: None,
        },
    };
    let both = vec![member("a", UpdateState::Running), member("b", UpdateState::Completed)];
    let names: Vec<String> = changes(&run, &run, both).iter().map(|change| named(change).0.2).collect();
    assert_eq!(names, ["b", "a"]);
}
