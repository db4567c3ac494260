//! Whoever follows a run by its changes alone knows what it is.

use std::collections::HashMap;

use crate::{
    model::update_run::{UpdateState, UpdateStatus},
    rollout::*,
};

/// A node, as somebody who follows the run names it.
type Name = (&'static str, String, String);

fn statuses(run: &Run) -> HashMap<Name, UpdateStatus> {
    let mut known = HashMap::new();
    let mut know = |kind, a: &str, b: String, status: &UpdateStatus| {
        known.insert((kind, a.to_owned(), b), status.clone());
    };
    know("run", "", String::new(), &run.status);
    for stage in &run.stages {
        know("stage", &stage.name, String::new(), &stage.status);
        let of_groups = stage.groups.iter().flat_map(|group| group.before.iter().chain(&group.after));
        for gate in stage.before.iter().chain(&stage.after).chain(of_groups) {
            know("gate", &stage.name, gate.id.to_string(), &gate.status);
        }
        if let Some(wait) = &stage.wait {
            know("wait", &stage.name, String::new(), &wait.status);
        }
        for group in &stage.groups {
            know("group", &stage.name, group.name.clone(), &group.status);
        }
    }
    known
}

fn named(change: &Change) -> (Name, UpdateStatus) {
    let name = |kind, a: &str, b: String| (kind, a.to_owned(), b);
    match change {
        Change::Run { status } => (name("run", "", String::new()), status.clone()),
        Change::Stage { stage, status } => (name("stage", stage, String::new()), status.clone()),
        Change::Wait { stage, status, .. } => (name("wait", stage, String::new()), status.clone()),
        Change::Group { stage, group, status } => (name("group", stage, group.clone()), status.clone()),
        Change::Gate { stage, gate, .. } => (name("gate", stage, gate.id.to_string()), gate.status.clone()),
        Change::Member { stage, member, .. } => (name("member", stage, member.name.clone()), member.status.clone()),
    }
}

/// Each node whose state or reason has changed is told once and no other, and in an order that makes sense.
pub(super) fn of_step(before: &Run, after: &Run) {
    let told: Vec<(Name, UpdateStatus)> = changes(before, after, Vec::new()).iter().map(named).collect();
    let (mut known, is) = (statuses(before), statuses(after));
    for (name, status) in &told {
        let was = known.insert(name.clone(), status.clone()).unwrap();
        assert_ne!((was.state, was.error), (status.state, status.error.clone()), "{name:?} is no news");
    }
    for (name, status) in &is {
        let known = &known[name];
        assert_eq!((known.state, &known.error), (status.state, &status.error), "{name:?} is not told");
    }
    let ended = |state| matches!(state, UpdateState::Completed | UpdateState::Skipped);
    for (at, (name, status)) in told.iter().enumerate() {
        let later = &told[at + 1..];
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
    let changed = |name: &str, state| ChangedMember {
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
    let told = changes(&run, &run, vec![changed("a", UpdateState::Running), changed("b", UpdateState::Completed)]);
    let names: Vec<String> = told.iter().map(|change| named(change).0.2).collect();
    assert_eq!(names, ["b", "a"]);
}
