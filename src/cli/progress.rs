//! A run's progress in the terminal: bars per stage and group where there is one, else a line for each change.

use std::{
    collections::{HashMap, HashSet},
    io::{IsTerminal, stdout},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arm::ResourceId;
use crate::model::update_run::{
    MemberUpdateStatus, UpdateGroupStatus, UpdateRunGateStatus, UpdateRunStatus, UpdateStageStatus, UpdateState,
    UpdateStatus,
};

/// Shows statuses of one run, as they come.
pub(super) struct Progress {
    form: Form,
    approvals: Approvals,
}

enum Form {
    Bars(Bars),
    Lines(Lines),
}

impl Progress {
    /// Bars on a terminal, lines elsewhere. `approve` makes the command with which a person completes a gate.
    pub(super) fn new(approve: impl Fn(&ResourceId) -> String + Send + 'static) -> Self {
        let form = if stdout().is_terminal() { Form::Bars(Bars::new()) } else { Form::Lines(Lines::default()) };
        Self { form, approvals: Approvals { approve: Box::new(approve), shown: HashSet::new() } }
    }

    pub(super) fn show(&mut self, run: &UpdateRunStatus) {
        match &mut self.form {
            Form::Bars(bars) => {
                // Lines about gates stay above the bars.
                self.approvals.new_lines(run).iter().for_each(|line| bars.screen.println(line).unwrap_or_default());
                bars.show(run);
            }
            Form::Lines(lines) => {
                let approvals = self.approvals.new_lines(run);
                lines.changes(run).iter().chain(&approvals).for_each(|line| println!("{line}"));
            }
        }
    }

    /// Keeps the bars on the screen, and prints why members failed, for which a bar has no room.
    pub(super) fn finish(self) {
        if let Form::Bars(bars) = self.form {
            bars.bars.values().for_each(ProgressBar::abandon);
            bars.failures.iter().for_each(|line| println!("{line}"));
        }
    }
}

/// Gates that wait for approval. Each is shown once, with the command that completes the gate.
struct Approvals {
    approve: Box<dyn Fn(&ResourceId) -> String + Send>,
    shown: HashSet<ResourceId>,
}

impl Approvals {
    /// Returns the lines about gates that have not been shown yet.
    fn new_lines(&mut self, run: &UpdateRunStatus) -> Vec<String> {
        let gates = run.stages.iter().flat_map(|stage| {
            let in_groups = stage.groups.iter().flat_map(|group| group.before_gates.iter().chain(&group.after_gates));
            stage.before_gates.iter().chain(&stage.after_gates).chain(in_groups)
        });
        let waiting = gates.filter(|gate| gate.status.state == UpdateState::Pending);
        let mut lines = Vec::new();
        for gate in waiting {
            if let Some(id) = gate.gate_id.as_ref().filter(|id| !self.shown.contains(*id)) {
                self.shown.insert(id.clone());
                lines.push(format!("\nThe gate '{}' waits for your approval. In another terminal:\n", gate_name(gate)));
                lines.push((self.approve)(id));
                lines.push(String::new());
            }
        }
        lines
    }
}

fn gate_name(gate: &UpdateRunGateStatus) -> &str {
    gate.display_name.as_deref().unwrap_or("without a name")
}

/// A line for each node whose state or reason changed.
#[derive(Default)]
pub(super) struct Lines {
    shown: HashMap<String, String>,
}

impl Lines {
    fn changes(&mut self, run: &UpdateRunStatus) -> Vec<String> {
        let mut lines = Vec::new();
        let mut note = |what: String, status: &UpdateStatus, message: Option<&str>| {
            let now = state_and_reason(status, message);
            let before = self.shown.insert(what.clone(), now.clone());
            // A part that has not begun is not shown.
            let shown = before.is_some() || status.state != UpdateState::NotStarted;
            if shown && before.as_ref() != Some(&now) {
                lines.push(format!("{what}: {now}"));
            }
        };
        note("run".to_owned(), &run.status, None);
        for stage in &run.stages {
            let name = format!("stage {}", stage.name);
            note(name.clone(), &stage.status, None);
            for gate in stage.before_gates.iter().chain(&stage.after_gates) {
                note(format!("{name}, gate {}", gate_name(gate)), &gate.status, None);
            }
            for group in &stage.groups {
                let name = format!("{name}, group {}", group.name);
                note(name.clone(), &group.status, None);
                for member in &group.members {
                    note(format!("{name}, member {}", member.name), &member.status, member.message.as_deref());
                }
            }
            if let Some(wait) = &stage.after_stage_wait_status {
                note(format!("{name}, wait of {} s", wait.wait_duration_in_seconds), &wait.status, None);
            }
        }
        lines
    }
}

/// A bar per stage and group, by index.
pub(super) struct Bars {
    screen: MultiProgress,
    bars: HashMap<(usize, Option<usize>), ProgressBar>,
    failures: Vec<String>,
}

impl Bars {
    fn new() -> Self {
        Self {
            screen: MultiProgress::with_draw_target(ProgressDrawTarget::stdout()),
            bars: HashMap::new(),
            failures: Vec::new(),
        }
    }

    fn show(&mut self, run: &UpdateRunStatus) {
        let members = run.stages.iter().flat_map(|stage| &stage.groups).flat_map(|group| &group.members);
        let failed = members.filter(|member| member.status.state == UpdateState::Failed);
        self.failures = failed.map(|member| format!("{}: {}", member.name, member_state(member))).collect();
        for (s, stage) in run.stages.iter().enumerate() {
            let members = || stage.groups.iter().flat_map(|group| &group.members);
            let bar = self.bar((s, None), stage.name.clone());
            draw(&bar, members(), stage_message(stage));
            for (g, group) in stage.groups.iter().enumerate() {
                let bar = self.bar((s, Some(g)), format!("  {}", group.name));
                draw(&bar, group.members.iter(), group_message(group));
            }
        }
    }

    fn bar(&mut self, at: (usize, Option<usize>), name: String) -> ProgressBar {
        self.bars
            .entry(at)
            .or_insert_with(|| {
                // The template is fixed; should it not parse, the library's own bar will do.
                let style = ProgressStyle::with_template("{prefix:26} {bar:24} {pos:>3}/{len:3} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                self.screen.add(ProgressBar::new(0).with_style(style).with_prefix(name))
            })
            .clone()
    }
}

fn draw<'a>(bar: &ProgressBar, members: impl Iterator<Item = &'a MemberUpdateStatus>, message: String) {
    let (mut done, mut all) = (0, 0);
    for member in members {
        all += 1;
        done += u64::from(matches!(member.status.state, UpdateState::Completed | UpdateState::Skipped));
    }
    bar.set_length(all);
    bar.set_position(done);
    bar.set_message(message);
    bar.tick();
}

fn stage_message(stage: &UpdateStageStatus) -> String {
    match &stage.after_stage_wait_status {
        Some(wait) if matches!(wait.status.state, UpdateState::Running | UpdateState::Pending) => {
            format!("waits {} s", wait.wait_duration_in_seconds)
        }
        _ => {
            let mut gates = stage.before_gates.iter().chain(&stage.after_gates);
            match gates.find(|gate| gate.status.state == UpdateState::Pending) {
                Some(gate) => format!("waits for '{}'", gate_name(gate)),
                None => state_and_reason(&stage.status, None),
            }
        }
    }
}

/// The group's state, the members in progress, and the members that failed or wait, with their reasons.
fn group_message(group: &UpdateGroupStatus) -> String {
    let mut parts = vec![state_and_reason(&group.status, None)];
    let running: Vec<&str> = group
        .members
        .iter()
        .filter(|member| member.status.state == UpdateState::Running)
        .map(|member| member.name.as_str())
        .collect();
    if !running.is_empty() {
        parts.push(running.join(" "));
    }
    let stuck =
        group.members.iter().filter(|member| matches!(member.status.state, UpdateState::Failed | UpdateState::Pending));
    parts.extend(stuck.map(|member| format!("{}: {}", member.name, member_state(member))));
    parts.join(" · ")
}

fn member_state(member: &MemberUpdateStatus) -> String {
    state_and_reason(&member.status, member.message.as_deref())
}

/// The state, with the reason in parentheses.
fn state_and_reason(status: &UpdateStatus, message: Option<&str>) -> String {
    let state = format!("{:?}", status.state);
    match (&status.error, message) {
        (Some(error), _) => format!("{state} ({}: {})", error.code, error.message),
        (None, Some(message)) => format!("{state} ({message})"),
        (None, None) => state,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(state: &str, member: serde_json::Value) -> UpdateRunStatus {
        serde_json::from_value(json!({
            "status": {"state": state},
            "nodeImageSelection": {},
            "stages": [{
                "status": {"state": state}, "name": "canary",
                "groups": [{"status": {"state": state}, "name": "g", "members": [
                    {"status": member, "name": "aks-1", "clusterResourceId": "/subscriptions/s", "message": null},
                ]}],
                "afterStageWaitStatus": {"status": {"state": "NotStarted"}, "waitDurationInSeconds": 5},
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_line_for_each_change_and_none_without() {
        let mut lines = Lines::default();
        assert!(lines.changes(&run("NotStarted", json!({"state": "NotStarted"}))).is_empty());
        let started = run("Running", json!({"state": "Running"}));
        assert_eq!(
            lines.changes(&started),
            [
                "run: Running",
                "stage canary: Running",
                "stage canary, group g: Running",
                "stage canary, group g, member aks-1: Running"
            ]
        );
        assert!(lines.changes(&started).is_empty());
        let pending = json!({"state": "Pending", "error": {"code": "ClusterStopped", "message": "start it"}});
        assert_eq!(
            lines.changes(&run("Running", pending.clone())),
            ["stage canary, group g, member aks-1: Pending (ClusterStopped: start it)"]
        );
        let status = run("Running", pending);
        assert_eq!(group_message(&status.stages[0].groups[0]), "Running · aks-1: Pending (ClusterStopped: start it)");
    }

    #[test]
    fn bars_count_what_is_done() {
        let mut bars = Bars::new();
        bars.screen.set_draw_target(ProgressDrawTarget::hidden());
        bars.show(&run("Running", json!({"state": "Running"})));
        assert_eq!((bars.bars.len(), bars.bars[&(0, Some(0))].position()), (2, 0));
        bars.show(&run("Completed", json!({"state": "Completed"})));
        assert_eq!((bars.bars[&(0, None)].position(), bars.bars[&(0, None)].length()), (1, Some(1)));
        assert!(bars.failures.is_empty());
        let error = json!({"code": "UpgradeFailed", "message": "no quota"});
        bars.show(&run("Failed", json!({"state": "Failed", "error": error})));
        assert_eq!(bars.failures, ["aks-1: Failed (UpgradeFailed: no quota)"]);
    }
}
