//! What a strategy must be like.

use std::collections::HashSet;

use super::{
    limit::{Limit, STAGE_CONCURRENCY},
    name,
    strategy::{
        GateConfiguration, MAX_GROUPS_PER_STAGE, MAX_STAGE_WAIT_SECONDS, MAX_STAGES, UpdateGroup, UpdateRunStrategy,
        UpdateStage,
    },
};
use crate::arm::Problems;

impl UpdateRunStrategy {
    /// Checks names, uniqueness, waits and limits; `at` is the strategy's own path in the body.
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
        if self.groups.is_empty() {
            problems.add(&format!("{at}.groups"), "A stage needs at least one group.");
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
        check_gates(&self.before_gates, &format!("{at}.beforeGates"), problems);
        check_gates(&self.after_gates, &format!("{at}.afterGates"), problems);
    }
}

impl UpdateGroup {
    fn check(&self, at: &str, problems: &mut Problems) {
        check_name("group", &self.name, at, problems);
        check_concurrency(self.max_concurrency.as_deref(), at, problems);
        check_failures(self.max_allowed_failures.as_deref(), at, problems);
        check_gates(&self.before_gates, &format!("{at}.beforeGates"), problems);
        check_gates(&self.after_gates, &format!("{at}.afterGates"), problems);
    }
}

fn check_name(what: &str, text: &str, at: &str, problems: &mut Problems) {
    if !name::is_valid(text, name::MAX_PROXY) {
        problems.add(&format!("{at}.name"), format!("A {what}'s name has {}.", name::rule(name::MAX_PROXY)));
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

fn check_gates(gates: &[GateConfiguration], at: &str, problems: &mut Problems) {
    if gates.len() > 1 {
        problems.add(at, "There is at most one gate of a type in a position.");
    }
    for (index, gate) in gates.iter().enumerate() {
        let length = gate.display_name.as_ref().map_or(1, |text| text.chars().count());
        if !(1..=100).contains(&length) {
            problems.add(&format!("{at}[{index}].displayName"), "A gate's displayName has 1 to 100 characters.");
        }
    }
}
