//! Validation of strategies.

use std::collections::HashSet;

use super::{
    limit::{Limit, STAGE_CONCURRENCY},
    name,
    selector::{self, LabelSelector, MemberSelector},
    strategy::{
        GateConfiguration, GateType, MAX_GROUPS_PER_STAGE, MAX_STAGE_WAIT_SECONDS, MAX_STAGES, UpdateGroup,
        UpdateRunStrategy, UpdateStage,
    },
};
use crate::arm::Problems;

impl UpdateRunStrategy {
    /// Checks names, uniqueness, waits and limits. `at` is the path of the strategy in the body.
    pub fn check(&self, at: &str, problems: &mut Problems) {
        if self.stages.is_empty() {
            problems.add(&format!("{at}.stages"), "A strategy needs at least one stage.");
        }
        if self.stages.len() > MAX_STAGES {
            problems.add(&format!("{at}.stages"), format!("A strategy has at most {MAX_STAGES} stages."));
            return;
        }
        let (mut stages, mut groups) = (HashSet::new(), HashSet::new());
        for (index, stage) in self.stages.iter().enumerate() {
            let at = format!("{at}.stages[{index}]");
            if !stages.insert(stage.name.as_str()) {
                problems.add(&format!("{at}.name"), format!("There is more than one stage named '{}'.", stage.name));
            }
            stage.check(&at, problems);
            if stage.groups.is_empty() && stage.member_selector.is_some() && !groups.insert(stage.name.as_str()) {
                problems.add(
                    &format!("{at}.name"),
                    format!(
                        "The stage's implicit group is named like the stage, and there is a group '{}' already.",
                        stage.name
                    ),
                );
            }
            for (index, group) in stage.groups.iter().enumerate().take(MAX_GROUPS_PER_STAGE) {
                let at = format!("{at}.groups[{index}]");
                if !groups.insert(group.name.as_str()) {
                    problems.add(
                        &format!("{at}.name"),
                        format!(
                            "The group '{}' is already part of this strategy: a group is updated once.",
                            group.name
                        ),
                    );
                }
                group.check(&at, problems);
            }
        }
    }
}

impl UpdateStage {
    fn check(&self, at: &str, problems: &mut Problems) {
        check_name("stage", &self.name, at, problems);
        if self.groups.is_empty() && self.member_selector.is_none() {
            problems.add(&format!("{at}.groups"), "A stage needs at least one group, or a memberSelector.");
        }
        if self.groups.len() > MAX_GROUPS_PER_STAGE {
            problems.add(&format!("{at}.groups"), format!("A stage has at most {MAX_GROUPS_PER_STAGE} groups."));
        }
        if self.after_stage_wait_in_seconds.is_some_and(|wait| !(0..=MAX_STAGE_WAIT_SECONDS).contains(&wait)) {
            problems.add(
                &format!("{at}.afterStageWaitInSeconds"),
                format!("A wait has 0 to {MAX_STAGE_WAIT_SECONDS} seconds."),
            );
        }
        check_selector(self.member_selector.as_ref(), at, problems);
        check_concurrency(self.max_concurrency.as_deref(), at, problems);
        if let Some(Limit::Count(n)) = self.max_concurrency.as_deref().and_then(Limit::concurrency)
            && n > STAGE_CONCURRENCY
        {
            problems.add(
                &format!("{at}.maxConcurrency"),
                format!("A stage updates at most {STAGE_CONCURRENCY} clusters at once."),
            );
        }
        check_failures(self.max_allowed_failures.as_deref(), at, problems);
        check_gates(&self.before_gates, &self.after_gates, at, problems);
    }
}

impl UpdateGroup {
    fn check(&self, at: &str, problems: &mut Problems) {
        check_name("group", &self.name, at, problems);
        check_selector(self.member_selector.as_ref(), at, problems);
        check_concurrency(self.max_concurrency.as_deref(), at, problems);
        check_failures(self.max_allowed_failures.as_deref(), at, problems);
        check_gates(&self.before_gates, &self.after_gates, at, problems);
    }
}

fn check_name(what: &str, text: &str, at: &str, problems: &mut Problems) {
    if !name::is_valid(text, name::MAX_PROXY) {
        problems.add(&format!("{at}.name"), format!("A {what}'s name has {}.", name::rule(name::MAX_PROXY)));
    }
}

fn check_selector(selector: Option<&MemberSelector>, at: &str, problems: &mut Problems) {
    let Some(MemberSelector { by_label }) = selector else { return };
    let at = format!("{at}.memberSelector.byLabel");
    let length = by_label.chars().count();
    if length > selector::MAX_LENGTH {
        problems
            .add(&at, format!("A selector has at most {} characters; this one has {length}.", selector::MAX_LENGTH));
    } else if let Err(error) = LabelSelector::parse(by_label) {
        problems.add(
            &at,
            format!("The label selector is not understood {error}. It has requirements such as 'env=production', 'tier in (web,api)' or '!retired', joined by ','."),
        );
    }
}

fn check_concurrency(text: Option<&str>, at: &str, problems: &mut Problems) {
    if text.is_some_and(|text| Limit::concurrency(text).is_none()) {
        problems.add(
            &format!("{at}.maxConcurrency"),
            "maxConcurrency is a whole number from 1 on, or a percentage from '1%' to '100%', as a string.",
        );
    }
}

fn check_failures(text: Option<&str>, at: &str, problems: &mut Problems) {
    if text.is_some_and(|text| !text.is_empty() && Limit::failures(text).is_none()) {
        problems.add(
            &format!("{at}.maxAllowedFailures"),
            "maxAllowedFailures is a whole number from 0 on, or a percentage from '0%' to '100%', as a string.",
        );
    }
}

fn check_gates(before: &[GateConfiguration], after: &[GateConfiguration], at: &str, problems: &mut Problems) {
    for (gates, position) in [(before, "beforeGates"), (after, "afterGates")] {
        let at = format!("{at}.{position}");
        for (index, gate) in gates.iter().enumerate() {
            let at = format!("{at}[{index}]");
            if gates.iter().take(index).any(|other| other.gate_type == gate.gate_type) {
                let problem = format!("There is at most one gate of the type {:?} in a position.", gate.gate_type);
                problems.add(&at, problem);
            }
            let length = gate.display_name.as_ref().map_or(1, |text| text.chars().count());
            if !(1..=100).contains(&length) {
                problems.add(&format!("{at}.displayName"), "A gate's displayName has 1 to 100 characters.");
            }
            if gate.gate_type == GateType::ScheduledStart && position == "afterGates" {
                problems.add(&at, "A gate of the type ScheduledStart stands before a stage or group, never after: put it before the next one, or use a wait after the stage.");
            }
            check_schedule(gate, &format!("{at}.scheduledStartConfiguration"), problems);
        }
    }
}

fn check_schedule(gate: &GateConfiguration, at: &str, problems: &mut Problems) {
    match (gate.gate_type, &gate.scheduled_start_configuration) {
        (GateType::Approval, None) => {}
        (GateType::ScheduledStart, Some(schedule)) => schedule.check(at, problems),
        (GateType::Approval, Some(_)) => {
            problems.add(at, "A gate of the type Approval has no schedule: leave it out, or use the type ScheduledStart.");
        }
        (GateType::ScheduledStart, None) => problems.add(
            at,
            "A gate of the type ScheduledStart needs startDay, startTime and utcOffset, which API versions before 2026-05-01-preview, and stable ones, do not have.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the paths of all errors in a strategy with these stages.
    fn wrong(stages: Value) -> Vec<String> {
        let strategy: UpdateRunStrategy = serde_json::from_value(json!({"stages": stages})).unwrap();
        let mut problems = Problems::default();
        strategy.check("s", &mut problems);
        let Err(error) = problems.into_result() else { return Vec::new() };
        let detail = error.detail();
        let all = if detail.details.is_empty() { std::slice::from_ref(detail) } else { &detail.details };
        all.iter().filter_map(|detail| detail.target.clone()).collect()
    }

    #[test]
    fn gate_types_and_their_properties() {
        let at = json!({"startDay": "Friday", "startTime": "18:00", "utcOffset": "-05:00"});
        let timed = json!({"type": "ScheduledStart", "scheduledStartConfiguration": at});
        let stage = |group: Value, before: Value, after: Value| {
            let mut group = group;
            group["name"] = json!("g");
            wrong(json!([{"name": "a", "groups": [group], "beforeGates": before, "afterGates": after}]))
        };
        let none = || json!([]);
        let asked = json!({"type": "Approval", "displayName": "go"});
        assert!(stage(json!({"beforeGates": [asked, timed]}), json!([timed, asked]), json!([asked])).is_empty());
        assert_eq!(stage(json!({}), json!([asked, asked]), none()), ["s.stages[0].beforeGates[1]"]);
        assert_eq!(stage(json!({}), json!([timed, asked, timed]), none()), ["s.stages[0].beforeGates[2]"]);
        assert_eq!(stage(json!({}), none(), json!([timed])), ["s.stages[0].afterGates[0]"]);
        assert_eq!(stage(json!({"afterGates": [timed]}), none(), none()), ["s.stages[0].groups[0].afterGates[0]"]);
        let schedule = "s.stages[0].beforeGates[0].scheduledStartConfiguration";
        assert_eq!(stage(json!({}), json!([{"type": "ScheduledStart"}]), none()), [schedule]);
        assert_eq!(
            stage(json!({}), json!([{"type": "Approval", "scheduledStartConfiguration": at}]), none()),
            [schedule]
        );
        let bad = json!({"startDay": "Friday", "startTime": "6pm", "utcOffset": "EST"});
        assert_eq!(
            stage(json!({}), json!([{"type": "ScheduledStart", "scheduledStartConfiguration": bad}]), none()),
            [format!("{schedule}.startTime"), format!("{schedule}.utcOffset")]
        );
    }

    #[test]
    fn a_stage_has_groups_or_a_selector() {
        let all = json!({"byLabel": "env=prod"});
        assert!(wrong(json!([{"name": "a", "memberSelector": all}])).is_empty());
        assert!(
            wrong(json!([{"name": "a", "memberSelector": all, "groups": [{"name": "g", "memberSelector": all}]}]))
                .is_empty()
        );
        assert_eq!(wrong(json!([{"name": "a"}])), ["s.stages[0].groups"]);
        // The implicit group needs its name.
        let explicit = json!({"name": "b", "groups": [{"name": "a"}]});
        assert_eq!(wrong(json!([{"name": "a", "memberSelector": all}, explicit])), ["s.stages[1].groups[0].name"]);
        assert_eq!(wrong(json!([explicit, {"name": "a", "memberSelector": all}])), ["s.stages[1].name"]);
        let of = |text: &str| wrong(json!([{"name": "a", "memberSelector": {"byLabel": text}}]));
        assert_eq!(of(""), ["s.stages[0].memberSelector.byLabel"]);
        assert_eq!(of(&format!("a={}", "x".repeat(63))), [""; 0]);
        assert_eq!(of(&"a,".repeat(300)), ["s.stages[0].memberSelector.byLabel"]);
        let group = json!({"name": "g", "memberSelector": {"byLabel": "a in b"}});
        assert_eq!(wrong(json!([{"name": "a", "groups": [group]}])), ["s.stages[0].groups[0].memberSelector.byLabel"]);
    }
}
