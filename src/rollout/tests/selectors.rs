//! Membership by labels: documented rules, and a model that looks at every member for every selector.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    model::{
        label::Labels,
        selector::{Condition, LabelSelector, MemberSelector},
        strategy::{UpdateGroup, UpdateRunStrategy, UpdateStage},
    },
    rollout::{FleetMember, plan::*, select::Index},
};

fn selector(text: &str) -> Option<MemberSelector> {
    Some(MemberSelector { by_label: text.to_owned() })
}

fn group(name: &str, chosen: Option<&str>) -> UpdateGroup {
    UpdateGroup { name: name.to_owned(), member_selector: chosen.and_then(selector), ..UpdateGroup::default() }
}

fn stage(name: &str, chosen: Option<&str>, groups: Vec<UpdateGroup>) -> UpdateStage {
    UpdateStage { name: name.to_owned(), member_selector: chosen.and_then(selector), groups, ..UpdateStage::default() }
}

fn member(name: &str, group: Option<&str>, labels: &[(&str, &str)]) -> FleetMember {
    FleetMember {
        name: name.to_owned(),
        group: group.map(str::to_owned),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..FleetMember::default()
    }
}

/// Stage, group, and its members, with `-` in front of those that are skipped as part of another.
fn shown(stages: Vec<UpdateStage>, members: &[FleetMember]) -> Vec<String> {
    let plan = plan(Some(&UpdateRunStrategy { stages }), members).unwrap();
    let mut lines = Vec::new();
    for stage in &plan.stages {
        for group in &stage.groups {
            let sign = |member: &PlannedMember| if member.repeats.is_some() { "-" } else { "" };
            let names: Vec<_> = group.members.iter().map(|m| format!("{}{}", sign(m), m.name)).collect();
            lines.push(format!("{}/{}: {}", stage.name, group.name, names.join(" ")));
        }
    }
    lines
}

fn fleet() -> Vec<FleetMember> {
    vec![
        member("m1", Some("a"), &[("env", "prod"), ("fleet.azure.com/location", "eastus")]),
        member("m2", Some("a"), &[("env", "test"), ("fleet.azure.com/location", "westus")]),
        member("m3", Some("b"), &[("env", "prod"), ("fleet.azure.com/location", "westus")]),
        member("m4", None, &[("fleet.azure.com/location", "eastus")]),
    ]
}

#[test]
fn a_stage_without_groups_is_one_group_under_the_stages_limits_alone() {
    assert_eq!(shown(vec![stage("s", Some("env=prod"), vec![])], &fleet()), ["s/s: m1 m3"]);
    let limited = UpdateStage {
        max_concurrency: Some("2".to_owned()),
        max_allowed_failures: Some("1".to_owned()),
        ..stage("s", Some("fleet.azure.com/location"), vec![])
    };
    let limits = |stage: UpdateStage| {
        let plan = plan(Some(&UpdateRunStrategy { stages: vec![stage] }), &fleet()).unwrap();
        let stage = &plan.stages[0];
        (stage.groups[0].max_concurrency, stage.groups[0].max_allowed_failures, stage.groups[0].members.len())
    };
    assert_eq!(limits(limited.clone()), (2, 1, 4));
    assert_eq!(limits(UpdateStage { max_concurrency: None, max_allowed_failures: None, ..limited }), (50, 0, 4));
}

#[test]
fn a_stages_selector_comes_before_its_groups() {
    let groups = || vec![group("a", None), group("x", Some("env"))];
    assert_eq!(
        shown(vec![stage("s", Some("fleet.azure.com/location=westus"), groups())], &fleet()),
        ["s/a: m2", "s/x: -m2 m3"]
    );
    assert_eq!(shown(vec![stage("s", None, groups())], &fleet()), ["s/a: m1 m2", "s/x: -m1 -m2 m3"]);
    // With a selector the name is no more than a name.
    assert_eq!(shown(vec![stage("s", None, vec![group("a", Some("!env"))])], &fleet()), ["s/a: m4"]);
}

#[test]
fn a_member_is_part_of_the_first_group_that_chooses_it() {
    let stages = vec![stage("one", Some("env=prod"), vec![]), stage("two", Some("fleet.azure.com/location"), vec![])];
    assert_eq!(shown(stages.clone(), &fleet()), ["one/one: m1 m3", "two/two: -m1 m2 -m3 m4"]);
    let planned = plan(Some(&UpdateRunStrategy { stages }), &fleet()).unwrap();
    assert_eq!(planned.stages[1].groups[0].members[0].repeats.as_deref(), Some("skipped: already part of one/one."));
    // Percentages are of those that are to be updated.
    let half = UpdateStage { max_concurrency: Some("50%".to_owned()), ..stage("two", Some("env"), vec![]) };
    let first = stage("one", Some("env=test"), vec![]);
    let both = plan(Some(&UpdateRunStrategy { stages: vec![first, half] }), &fleet()).unwrap();
    assert_eq!((both.stages[1].max_concurrency, both.stages[1].groups[0].members.len()), (1, 3));
}

#[test]
fn a_selector_that_is_none_is_an_error_and_not_nobody() {
    let stages = vec![stage("s", None, vec![group("g", Some("env in prod"))])];
    let error = plan(Some(&UpdateRunStrategy { stages }), &fleet()).unwrap_err();
    assert_eq!((error.of.as_str(), error.error.at), ("g", 8));
}

#[test]
fn repeats_are_not_listed_without_end() {
    let members: Vec<_> = (0..300).map(|n| member(&format!("m{n:03}"), None, &[("a", "")])).collect();
    let stages: Vec<_> = (0..50).map(|n| stage(&format!("s{n}"), Some("a"), vec![])).collect();
    let plan = plan(Some(&UpdateRunStrategy { stages }), &members).unwrap();
    let rows: usize = plan.stages.iter().flat_map(|stage| &stage.groups).map(|group| group.members.len()).sum();
    assert_eq!(rows, 300 + 10_000);
}

fn holds(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.requirements.iter().all(|requirement| match (labels.get(&requirement.key), &requirement.condition) {
        (value, Condition::In(values)) => value.is_some_and(|value| values.contains(value)),
        (value, Condition::NotIn(values)) => value.is_none_or(|value| !values.contains(value)),
        (value, Condition::Exists) => value.is_some(),
        (value, Condition::DoesNotExist) => value.is_none(),
    })
}

fn any_labels() -> impl Strategy<Value = Labels> {
    vec((select(vec!["a", "b", "c"]), select(vec!["", "x", "y", "z"])), 0..4)
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn any_selector() -> impl Strategy<Value = String> {
    let (key, value) = (select(vec!["a", "b", "c", "d"]), || select(vec!["", "x", "y", "none"]));
    let one = (key, value(), value(), 0..6_u8).prop_map(|(key, v, w, kind)| match kind {
        0 => format!("{key}={v}"),
        1 => format!("{key}!={v}"),
        2 => format!("{key} in ({v},{w})"),
        3 => format!("{key} notin ({v},{w})"),
        4 => key.to_owned(),
        _ => format!("!{key}"),
    });
    vec(one, 1..4).prop_map(|all| all.join(","))
}

fn any_strategy() -> impl Strategy<Value = UpdateRunStrategy> {
    let groups = vec(option::weighted(0.7, any_selector()), 0..4);
    vec((option::of(any_selector()), groups, any_selector()), 1..4).prop_map(|stages| {
        let stages = stages.into_iter().enumerate().map(|(s, (chosen, groups, instead))| {
            let chosen = if groups.is_empty() { Some(instead) } else { chosen };
            let groups = groups.iter().enumerate();
            let groups = groups.map(|(g, chosen)| group(&format!("s{s}g{g}"), chosen.as_deref())).collect();
            stage(&format!("s{s}"), chosen.as_deref(), groups)
        });
        UpdateRunStrategy { stages: stages.collect() }
    })
}

proptest! {
    #[test]
    fn the_index_selects_whom_a_look_at_each_selects(labels in vec(any_labels(), 0..200), text in any_selector()) {
        let members: Vec<_> =
            labels.into_iter().map(|labels| FleetMember { labels, ..FleetMember::default() }).collect();
        let selector = LabelSelector::parse(&text).unwrap();
        let chosen: Vec<_> = Index::new(&members.iter().collect::<Vec<_>>()).matching(&selector).positions().collect();
        let wanted: Vec<_> = (0..members.len()).filter(|n| holds(&selector, &members[*n].labels)).collect();
        prop_assert_eq!(chosen, wanted, "{}", text);
    }

    #[test]
    fn a_plan_is_what_the_rules_say(
        strategy in any_strategy(),
        fleet in vec((any_labels(), option::of(select(vec!["s0g0", "s0g1", "s1g0", "s2g2", "other"]))), 0..80),
    ) {
        let members: Vec<_> = fleet.into_iter().enumerate().map(|(n, (labels, group))| FleetMember {
            name: format!("m{:02}", 99 - n), group: group.map(str::to_owned), labels, ..FleetMember::default()
        }).collect();
        let plan = plan(Some(&strategy), &members).unwrap();
        let chooses = |chosen: &Option<MemberSelector>, member: &FleetMember| {
            chosen.as_ref().map(|s| holds(&LabelSelector::parse(&s.by_label).unwrap(), &member.labels))
        };
        let mut taken = BTreeSet::new();
        for (stage, planned) in strategy.stages.iter().zip(&plan.stages) {
            let whole = [group(&stage.name, Some("none"))];
            let groups = if stage.groups.is_empty() { &whole[..] } else { &stage.groups };
            prop_assert_eq!(groups.len(), planned.groups.len());
            for (group, planned) in groups.iter().zip(&planned.groups) {
                let mut wanted = BTreeSet::new();
                for member in &members {
                    let by_group = if stage.groups.is_empty() {
                        true
                    } else {
                        chooses(&group.member_selector, member).unwrap_or(member.group.as_ref() == Some(&group.name))
                    };
                    if by_group && chooses(&stage.member_selector, member).unwrap_or(true) {
                        wanted.insert((member.name.clone(), !taken.contains(&member.name)));
                    }
                }
                taken.extend(wanted.iter().map(|(name, _)| name.clone()));
                let found: Vec<_> = planned.members.iter().map(|m| (m.name.clone(), m.repeats.is_none())).collect();
                prop_assert_eq!(found, Vec::from_iter(wanted), "by name, first come");
            }
        }
    }
}
