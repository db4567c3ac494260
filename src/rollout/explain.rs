//! Why a run and its parts wait, and for what, in sentences for people. Functions of the status document: nothing is stored.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::upgrade::opening;
use crate::{
    arm::ErrorDetail,
    model::update_run::{
        MemberUpdateStatus, UpdateGroupStatus, UpdateRunGateStatus, UpdateRunStatus, UpdateStageStatus, UpdateState,
    },
};

/// Code of a Pending group, stage or run whose members wait.
const MEMBERS_PENDING: &str = "MembersPending";

/// How many members wait, by what they wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    by_reason: BTreeMap<Reason, u32>,
    /// The first opening of a maintenance window that somebody waits for.
    opens: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Window,
    Cluster,
    Offer,
    Azure,
    Other(String),
}

impl Waits {
    /// Counts a member, if it is Pending.
    pub fn add(&mut self, state: UpdateState, error: Option<&ErrorDetail>) {
        let (UpdateState::Pending, Some(error)) = (state, error) else { return };
        let reason = match error.code.as_ref() {
            code if code.starts_with("Maintenance") => {
                self.opens = [self.opens, opening(error)].into_iter().flatten().min();
                Reason::Window
            }
            "ClusterOperationInProgress" => Reason::Cluster,
            "KubernetesVersionNotAvailable" | "NodeImageVersionNotAvailable" => Reason::Offer,
            "UpstreamUnavailable" | "CredentialRefused" | "TooManyRequests" => Reason::Azure,
            code => Reason::Other(code.to_owned()),
        };
        *self.by_reason.entry(reason).or_default() += 1;
    }

    /// Adds the members of another part.
    pub fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.by_reason {
            *self.by_reason.entry(reason.clone()).or_default() += count;
        }
        self.opens = [self.opens, other.opens].into_iter().flatten().min();
    }

    /// One sentence a reason; empty when nobody waits.
    #[must_use]
    pub fn sentences(&self) -> String {
        let one = |(reason, count): (&Reason, &u32)| {
            let who = if *count == 1 { "1 member waits".to_owned() } else { format!("{count} members wait") };
            match reason {
                Reason::Window => {
                    let opens = self.opens.map_or_else(String::new, |opens| format!("; the next opens at {opens}"));
                    format!("{who} for a maintenance window{opens}.")
                }
                Reason::Cluster => format!("{who} for another operation on the cluster to end."),
                Reason::Offer => format!("{who} for the region to offer the Kubernetes version or node image."),
                Reason::Azure => format!("{who} until Azure answers again."),
                Reason::Other(code) => format!("{who} ({code})."),
            }
        };
        self.by_reason.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// The error of a part that is Pending for its members; `None` when none of them waits.
    #[must_use]
    pub fn error(&self) -> Option<ErrorDetail> {
        (!self.by_reason.is_empty()).then(|| {
            let message = format!(
                "{} The update run goes on by itself. Skip the members to go on without them.",
                self.sentences()
            );
            ErrorDetail::new(MEMBERS_PENDING, message)
        })
    }
}

/// Fills in the explanations of a run, its stages, groups, gates' owners and members.
pub fn explain(run: &mut UpdateRunStatus) {
    let mut before: Option<String> = None;
    let started = run.status.start_time.is_some();
    for stage in &mut run.stages {
        explain_stage(stage, started, before.as_deref());
        if !stage.status.state.is_finished() && before.is_none() {
            before = Some(stage.name.clone());
        }
    }
    run.explanation = match run.status.state {
        UpdateState::NotStarted => Some(match &run.status.error {
            Some(error) => error.message.clone(),
            None => "The update run begins when somebody starts it.".to_owned(),
        }),
        UpdateState::Stopped => Some("The update run was stopped. Start it to go on.".to_owned()),
        UpdateState::Stopping => Some("Members in progress are finished; no other member is started.".to_owned()),
        UpdateState::Running | UpdateState::Pending => {
            let current = run.stages.iter().find(|stage| !stage.status.state.is_finished());
            current.map(|stage| {
                format!("Stage '{}': {}", stage.name, stage.explanation.as_deref().unwrap_or("in progress."))
            })
        }
        UpdateState::Failed => run.status.error.as_ref().map(|error| error.message.clone()),
        UpdateState::Skipped | UpdateState::Completed => None,
    };
}

fn explain_stage(stage: &mut UpdateStageStatus, run_started: bool, before: Option<&str>) {
    let reached = stage.status.start_time.is_some() || stage.before_gates.iter().any(is_reached);
    for group in &mut stage.groups {
        explain_group(group, stage.max_concurrency);
    }
    stage.explanation = match (stage.status.state, before) {
        (state, _) if state.is_finished() => None,
        (UpdateState::Failed, _) => stage.status.error.as_ref().map(|error| error.message.clone()),
        _ if !reached => Some(match (run_started, before) {
            (true, Some(before)) => format!("Begins when stage '{before}' has finished."),
            _ => "Begins when the update run is started.".to_owned(),
        }),
        _ => {
            let mut parts: Vec<String> = gates(&stage.before_gates).collect();
            if parts.is_empty() {
                parts.extend(
                    stage
                        .groups
                        .iter()
                        .filter_map(|group| Some(format!("Group '{}': {}", group.name, group.explanation.as_ref()?))),
                );
            }
            parts.extend(gates(&stage.after_gates));
            let waiting = stage.after_stage_wait_status.as_ref();
            if let Some(wait) = waiting.filter(|wait| wait.status.state == UpdateState::Running) {
                let seconds = i64::from(wait.wait_duration_in_seconds);
                let ends = wait.status.start_time.map(|begun| begun + jiff::SignedDuration::from_secs(seconds));
                parts.extend(ends.map(|ends| format!("The wait of {seconds} s after the stage ends at {ends}.")));
            }
            (!parts.is_empty()).then(|| parts.join(" "))
        }
    };
}

fn explain_group(group: &mut UpdateGroupStatus, stage_max: Option<u32>) {
    let count = |state| group.members.iter().filter(|member| member.status.state == state).count();
    let (running, queued) = (count(UpdateState::Running), count(UpdateState::NotStarted));
    let mut waits = Waits::default();
    for member in &group.members {
        waits.add(member.status.state, member.status.error.as_ref());
    }
    let most = [group.max_concurrency, stage_max].into_iter().flatten().min().unwrap_or(1);
    let begun = group.status.start_time.is_some();
    group.explanation = match group.status.state {
        state if state.is_finished() => None,
        UpdateState::Failed => group.status.error.as_ref().map(|error| error.message.clone()),
        UpdateState::Stopped => Some(format!("{queued} members are left for the next start of the run.")),
        _ if gates(&group.before_gates).next().is_some() => {
            Some(gates(&group.before_gates).collect::<Vec<_>>().join(" "))
        }
        UpdateState::NotStarted => Some("Begins when its stage does.".to_owned()),
        UpdateState::Running
        | UpdateState::Pending
        | UpdateState::Stopping
        | UpdateState::Skipped
        | UpdateState::Completed => {
            let mut parts = vec![format!("{running} in progress.")];
            if queued > 0 {
                parts.push(format!("{queued} wait for a free slot (at most {most} at the same time)."));
            }
            parts.push(waits.sentences());
            parts.extend(gates(&group.after_gates));
            parts.retain(|part| !part.is_empty());
            Some(parts.join(" "))
        }
    };
    for member in &mut group.members {
        explain_member(member, begun, most);
    }
}

fn explain_member(member: &mut MemberUpdateStatus, group_begun: bool, most: u32) {
    member.explanation = match member.status.state {
        UpdateState::NotStarted if group_begun => {
            Some(format!("Waits for a free slot: at most {most} members of the group are updated at the same time."))
        }
        UpdateState::NotStarted => Some("Begins when its group does.".to_owned()),
        UpdateState::Stopped => Some("Left for the next start of the update run.".to_owned()),
        UpdateState::Running | UpdateState::Stopping => {
            Some(member.message.clone().unwrap_or_else(|| "The cluster is being read.".to_owned()))
        }
        UpdateState::Pending | UpdateState::Failed => member.status.error.as_ref().map(|error| error.message.clone()),
        UpdateState::Skipped | UpdateState::Completed => member.message.clone(),
    };
}

fn is_reached(gate: &UpdateRunGateStatus) -> bool {
    gate.status.start_time.is_some()
}

/// One sentence for each gate that is Pending.
fn gates(gates: &[UpdateRunGateStatus]) -> impl Iterator<Item = String> + '_ {
    gates.iter().filter(|gate| gate.status.state == UpdateState::Pending).map(|gate| {
        let name = gate.display_name.as_deref().map_or_else(String::new, |name| format!(" '{name}'"));
        match gate.opens_at {
            Some(opens) => {
                format!("Waits for gate{name}, which opens by itself at {opens}; complete the gate to go on sooner.")
            }
            None => format!("Waits for the approval of gate{name}: set its state to Completed to go on."),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(code: &'static str, message: &str) -> Waits {
        let mut waits = Waits::default();
        waits.add(UpdateState::Pending, Some(&ErrorDetail::new(code, message)));
        waits
    }

    #[test]
    fn members_that_wait_are_counted_by_reason_with_the_first_opening() {
        let mut all = Waits::default();
        assert_eq!((all.sentences(), all.error()), (String::new(), None));
        for opens in ["2026-03-02T02:00:00Z", "2026-03-01T02:00:00Z"] {
            let message = format!("The cluster's maintenance window 'w' is closed; it opens next at {opens}.");
            all.merge(&waiting("MaintenanceWindowClosed", &message));
        }
        all.merge(&waiting("KubernetesVersionNotAvailable", ""));
        all.add(UpdateState::Running, Some(&ErrorDetail::new("ClusterOperationInProgress", "")));
        assert_eq!(
            all.sentences(),
            "2 members wait for a maintenance window; the next opens at 2026-03-01T02:00:00Z. 1 member waits for the region to offer the Kubernetes version or node image."
        );
        let error = all.error().unwrap();
        assert!(error.code == "MembersPending" && error.message.contains("Skip the members"), "{error:?}");
    }
}
