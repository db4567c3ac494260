//! Why a run and its parts wait, and for what, in sentences for people. Functions of the status document: nothing is stored.

use jiff::{SignedDuration, Timestamp, Unit};

use super::waits::Waits;
use crate::{
    arm::ErrorDetail,
    model::update_run::{
        MemberUpdateStatus, UpdateGroupStatus, UpdateRunGateStatus, UpdateRunStatus, UpdateStageStatus, UpdateState,
        WaitStatus,
    },
};

/// How many failed members a sentence names.
const NAMED: usize = 5;

const LEFT_FOR_NEXT_START: &str = "Left for the next start of the update run.";

/// Fills in the explanations of a run, its stages, groups and members.
pub fn explain(run: &mut UpdateRunStatus) {
    let state = run.status.state;
    let mut before: Option<String> = None;
    for stage in &mut run.stages {
        explain_stage(stage, state, before.as_deref());
        if before.is_none() && !stage.status.state.is_finished() {
            before = Some(stage.name.clone());
        }
    }
    let error = run.status.error.as_ref().map(|error| error.message.clone());
    let current = run.stages.iter().find(|stage| !stage.status.state.is_finished());
    run.explanation = match state {
        UpdateState::NotStarted => {
            let begins = "The update run begins when somebody starts it.";
            Some(error.map_or_else(|| begins.to_owned(), |error| format!("{error} {begins}")))
        }
        UpdateState::Stopped => Some("The update run is stopped. Start it again to go on.".to_owned()),
        UpdateState::Stopping => {
            let failed = current.and_then(|stage| stage.status.error.as_ref());
            let why = failed.map_or_else(
                || "The update run is stopping.".to_owned(),
                |failed| format!("The update run is stopping, since too many members failed. {}", failed.message),
            );
            Some(format!(
                "{why} Upgrades in progress go on to their end; no other member begins. If an upgrade never ends, skip its member as a target of type 'RunningMember'."
            ))
        }
        UpdateState::Running | UpdateState::Pending => match current.filter(|stage| is_reached(stage)) {
            Some(stage) => Some(format!("Stage '{}': {}", stage.name, explained(stage))),
            None => {
                error.or_else(|| Some("The members and node images of the update run are being chosen.".to_owned()))
            }
        },
        UpdateState::Failed => match current.filter(|stage| stage.status.state == UpdateState::Failed) {
            Some(stage) => stage.explanation.clone(),
            None => error,
        },
        UpdateState::Skipped | UpdateState::Completed => None,
    };
}

fn explained(stage: &UpdateStageStatus) -> &str {
    stage.explanation.as_deref().unwrap_or("in progress.")
}

fn explain_stage(stage: &mut UpdateStageStatus, run: UpdateState, before: Option<&str>) {
    let shared = stage.groups.len() > 1;
    for group in &mut stage.groups {
        explain_group(group, run, &stage.name, stage.max_concurrency, shared);
    }
    stage.explanation = match stage.status.state {
        state if state.is_finished() => None,
        UpdateState::Failed => {
            let members = stage.groups.iter().flat_map(|group| &group.members);
            Some(with_failures(stage.status.error.as_ref(), members))
        }
        _ if !is_reached(stage) => Some(match (before, run) {
            (Some(before), _) => format!("Begins when stage '{before}' has finished."),
            (None, UpdateState::NotStarted) => "Begins when the update run is started.".to_owned(),
            (None, UpdateState::Running | UpdateState::Pending | UpdateState::Stopping) => {
                "Begins when the members and node images of the update run are chosen.".to_owned()
            }
            (None, UpdateState::Stopped | UpdateState::Failed | UpdateState::Skipped | UpdateState::Completed) => {
                "Begins when the update run is started again.".to_owned()
            }
        }),
        _ => {
            let mut parts: Vec<String> = gates(&stage.before_gates, run).collect();
            if parts.is_empty() {
                let groups = stage.groups.iter();
                parts.extend(
                    groups.filter_map(|group| Some(format!("Group '{}': {}", group.name, group.explanation.as_ref()?))),
                );
            }
            parts.extend(gates(&stage.after_gates, run));
            parts.extend(stage.after_stage_wait_status.as_ref().and_then(wait));
            (!parts.is_empty()).then(|| parts.join(" "))
        }
    };
}

fn is_reached(stage: &UpdateStageStatus) -> bool {
    let gate_reached = |gate: &UpdateRunGateStatus| gate.status.start_time.is_some();
    stage.status.start_time.is_some() || stage.before_gates.iter().any(gate_reached)
}

/// The wait after a stage, while it runs.
fn wait(wait: &WaitStatus) -> Option<String> {
    let begun = wait.status.start_time.filter(|_| wait.status.state == UpdateState::Running)?;
    let seconds = i64::from(wait.wait_duration_in_seconds);
    let ends = whole(begun.checked_add(SignedDuration::from_secs(seconds)).ok()?);
    Some(format!(
        "The stage's groups have finished, and the wait of {seconds} s that follows ends at {ends}; skip it as a target of type 'AfterStageWait' to go on sooner."
    ))
}

/// `stage_max` is how many members of the stage may be in progress at the same time; `shared` says that other groups of the stage
/// count towards that too.
fn explain_group(group: &mut UpdateGroupStatus, run: UpdateState, stage: &str, stage_max: Option<u32>, shared: bool) {
    let count = |state| group.members.iter().filter(|member| member.status.state == state).count();
    let (running, queued, stopped) =
        (count(UpdateState::Running), count(UpdateState::NotStarted), count(UpdateState::Stopped));
    let mut waits = Waits::default();
    for member in &group.members {
        waits.add(member.status.state, member.status.error.as_ref());
    }
    let goes_on = matches!(run, UpdateState::Running | UpdateState::Pending);
    let limit = limit(group.max_concurrency, stage_max, shared);
    let begun = group.status.start_time.is_some();
    group.explanation = match group.status.state {
        state if state.is_finished() => None,
        UpdateState::Failed => Some(with_failures(group.status.error.as_ref(), group.members.iter())),
        UpdateState::NotStarted => Some(format!("Begins when stage '{stage}' begins.")),
        _ if gates(&group.before_gates, run).next().is_some() => {
            Some(gates(&group.before_gates, run).collect::<Vec<_>>().join(" "))
        }
        UpdateState::Running
        | UpdateState::Pending
        | UpdateState::Stopping
        | UpdateState::Stopped
        | UpdateState::Skipped
        | UpdateState::Completed => {
            let mut parts = Vec::new();
            if running > 0 {
                parts.push(format!("{} in progress.", are(running)));
            }
            if goes_on && queued > 0 {
                let verb = if queued == 1 { "member waits" } else { "members wait" };
                parts.push(format!("{queued} {verb} for a free slot: {limit}."));
            }
            parts.push(waits.sentences());
            if !goes_on && queued + stopped > 0 {
                parts.push(format!("{} left for the next start of the update run.", are(queued + stopped)));
            }
            parts.extend(gates(&group.after_gates, run));
            parts.retain(|part| !part.is_empty());
            (!parts.is_empty()).then(|| parts.join(" "))
        }
    };
    let not_started = match (begun, goes_on) {
        (false, _) => format!("Begins when group '{}' begins.", group.name),
        (true, true) => format!("Waits for a free slot: {limit}."),
        (true, false) => LEFT_FOR_NEXT_START.to_owned(),
    };
    for member in &mut group.members {
        explain_member(member, &not_started);
    }
}

fn are(count: usize) -> String {
    if count == 1 { "1 member is".to_owned() } else { format!("{count} members are") }
}

/// How many members are updated at the same time.
fn limit(group_max: Option<u32>, stage_max: Option<u32>, shared: bool) -> String {
    let members = |count: u32| if count == 1 { "1 member".to_owned() } else { format!("{count} members") };
    match (group_max, stage_max) {
        (Some(group), Some(stage)) if shared => {
            format!(
                "at most {} of the group and {} of the stage are updated at the same time",
                members(group),
                members(stage)
            )
        }
        (group, stage) => {
            let most = [group, stage].into_iter().flatten().min().unwrap_or(1);
            format!(
                "at most {} of the group {} updated at the same time",
                members(most),
                if most == 1 { "is" } else { "are" }
            )
        }
    }
}

/// `not_started` is the explanation of a member that is not started.
fn explain_member(member: &mut MemberUpdateStatus, not_started: &str) {
    let error = member.status.error.as_ref();
    member.explanation = match member.status.state {
        UpdateState::NotStarted => Some(not_started.to_owned()),
        UpdateState::Stopped => Some(match error {
            Some(error) if error.code == "UpdateRunStopping" => error.message.clone(),
            Some(error) => {
                format!("{LEFT_FOR_NEXT_START} When the update run stopped, the member waited ({}).", error.code)
            }
            None => LEFT_FOR_NEXT_START.to_owned(),
        }),
        UpdateState::Running | UpdateState::Stopping => Some(member.message.clone().unwrap_or_else(|| {
            "The service reads the cluster, or waits for AKS's limit on calls, before it begins the upgrade.".to_owned()
        })),
        // The message of an outage is that of the latest failure; the error is that of the first one.
        UpdateState::Pending if error.is_some_and(|error| error.code == "UpstreamUnavailable") => {
            member.message.clone()
        }
        UpdateState::Pending => {
            let reason = error.map(|error| error.message.clone());
            let message = member.message.clone().filter(|message| reason.as_ref() != Some(message));
            let parts: Vec<String> = reason.into_iter().chain(message).collect();
            (!parts.is_empty()).then(|| parts.join(" "))
        }
        UpdateState::Failed => error.map(|error| error.message.clone()),
        UpdateState::Skipped | UpdateState::Completed => member.message.clone(),
    };
}

/// The error of a part, and the members that failed with their codes.
fn with_failures<'a>(error: Option<&ErrorDetail>, members: impl Iterator<Item = &'a MemberUpdateStatus>) -> String {
    let failed: Vec<_> = members.filter(|member| member.status.state == UpdateState::Failed).collect();
    let named = failed.iter().take(NAMED).map(|member| match &member.status.error {
        Some(error) => format!("{} ({})", member.name, error.code),
        None => member.name.clone(),
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = failed.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let error = error.map_or("", |error| error.message.as_str());
    if named.is_empty() { error.to_owned() } else { format!("{error} Failed: {named}{more}.").trim_start().to_owned() }
}

/// Sentences about each gate that is Pending.
fn gates(gates: &[UpdateRunGateStatus], run: UpdateState) -> impl Iterator<Item = String> + '_ {
    let goes_on = matches!(run, UpdateState::Running | UpdateState::Pending);
    gates.iter().filter(|gate| gate.status.state == UpdateState::Pending).map(move |gate| {
        let gate_name = match (&gate.display_name, gate.gate_id.as_ref().map(|id| id.name())) {
            (Some(name), Some(id)) => format!("'{name}' ({id})"),
            (Some(name), None) => format!("'{name}'"),
            (None, id) => id.unwrap_or_default().to_owned(),
        };
        let since = gate.status.start_time.map_or_else(String::new, |since| format!(" since {}", whole(since)));
        let waits = match gate.opens_at {
            Some(opens) => format!("Waits{since} for gate {gate_name}, which opens by itself at {opens}."),
            None => format!("Waits{since} for the approval of gate {gate_name}."),
        };
        match (goes_on, gate.opens_at) {
            (false, _) => format!("{waits} Start the update run again to go on."),
            (true, Some(_)) => format!("{waits} Set the state of the gate to Completed to go on sooner."),
            (true, None) => format!("{waits} Set the state of the gate to Completed to go on."),
        }
    })
}

fn whole(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}
