//! What the explanations of a run say in each state of the run.

use serde_json::{Value, json};

use crate::{model::update_run::UpdateRunStatus, rollout::explain};

const BEGUN: &str = "2026-03-01T02:00:00Z";

fn member(name: &str, state: &str, error: Value, message: Value) -> Value {
    json!({"name": name, "clusterResourceId": "/c", "status": {"state": state, "error": error}, "message": message})
}

fn not_started(name: &str) -> Value {
    member(name, "NotStarted", Value::Null, Value::Null)
}

fn error(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// A run with the stages `first`, with the group `a` of these members, and `second`, which was not reached.
fn explained(state: &str, stage_error: Value, members: &[Value]) -> UpdateRunStatus {
    let begun = |error: &Value| json!({"state": state, "startTime": BEGUN, "error": error});
    let later = json!({"name": "second", "status": {"state": "NotStarted"},
        "groups": [{"name": "b", "status": {"state": "NotStarted"}, "members": [not_started("z")]}]});
    let first = json!({"name": "first", "status": begun(&stage_error), "maxConcurrency": 3,
        "groups": [{"name": "a", "status": begun(&stage_error), "maxConcurrency": 2, "members": members}]});
    let mut run = serde_json::from_value(json!({"status": begun(&stage_error), "stages": [first, later]})).unwrap();
    explain(&mut run);
    run
}

fn of_member(run: &UpdateRunStatus, index: usize) -> &str {
    run.stages[0].groups[0].members[index].explanation.as_deref().unwrap_or_default()
}

fn of_group(run: &UpdateRunStatus) -> &str {
    run.stages[0].groups[0].explanation.as_deref().unwrap_or_default()
}

fn of_run(run: &UpdateRunStatus) -> &str {
    run.explanation.as_deref().unwrap_or_default()
}

#[test]
fn a_member_waits_for_a_slot_only_while_the_run_goes_on() {
    let members = [member("m", "Running", Value::Null, json!("Step 1 of 1.")), not_started("n")];
    let run = explained("Running", Value::Null, &members);
    let limit = "at most 2 members of the group are updated at the same time.";
    assert_eq!(of_member(&run, 1), format!("Waits for a free slot: {limit}"));
    assert_eq!(of_group(&run), format!("1 member is in progress. 1 member waits for a free slot: {limit}"));
    assert_eq!(run.stages[1].explanation.as_deref(), Some("Begins when stage 'first' has finished."));
    for state in ["Stopping", "Stopped", "Failed"] {
        let run = explained(state, Value::Null, &members[1..]);
        assert_eq!(of_member(&run, 0), "Left for the next start of the update run.", "{state}");
        assert!(!of_group(&run).contains("slot") && !of_run(&run).contains("slot"), "{state}: {run:?}");
    }
}

#[test]
fn the_limit_of_a_stage_is_named_where_its_groups_share_it() {
    let group = |name: &str| json!({"name": name, "status": {"state": "Running", "startTime": BEGUN}, "maxConcurrency": 1, "members": [not_started(name)]});
    let stage = json!({"name": "first", "status": {"state": "Running", "startTime": BEGUN}, "maxConcurrency": 2, "groups": [group("a"), group("b")]});
    let mut run: UpdateRunStatus =
        serde_json::from_value(json!({"status": {"state": "Running"}, "stages": [stage]})).unwrap();
    explain(&mut run);
    let limit = "at most 1 member of the group and 2 members of the stage are updated at the same time";
    assert_eq!(of_member(&run, 0), format!("Waits for a free slot: {limit}."));
}

#[test]
fn a_stopped_run_counts_the_members_that_are_left_and_promises_nothing() {
    let waited = error("ClusterOperationInProgress", "The upgrade begins when the cluster is free.");
    let message = json!("The upgrade begins when the cluster is free.");
    let run = explained("Stopped", Value::Null, &[not_started("n"), member("m", "Stopped", waited, message)]);
    assert_eq!(of_group(&run), "2 members are left for the next start of the update run.");
    assert!(of_member(&run, 1).contains("(ClusterOperationInProgress)") && !of_member(&run, 1).contains("begins when"));
    assert_eq!(of_run(&run), "The update run is stopped. Start it again to go on.");
}

#[test]
fn a_failed_run_names_the_members_that_failed() {
    let failed = |name: &str| member(name, "Failed", error("ClusterStopped", "The cluster is stopped."), Value::Null);
    let exceeded = error("MaxAllowedFailuresExceeded", "6 of 7 members failed.");
    let members: Vec<Value> = ["a", "b", "c", "d", "e", "f"].map(failed).to_vec();
    let run = explained("Failed", exceeded, &members);
    let named = "6 of 7 members failed. Failed: a (ClusterStopped), b (ClusterStopped), c (ClusterStopped), d (ClusterStopped), e (ClusterStopped) and 1 more.";
    assert_eq!([of_run(&run), of_group(&run), run.stages[0].explanation.as_deref().unwrap()], [named; 3]);
}

#[test]
fn a_run_that_stops_says_whether_failures_are_the_cause() {
    let members = [member("m", "Running", Value::Null, Value::Null)];
    let run = explained("Stopping", error("MaxAllowedFailuresExceeded", "1 of 2 members failed."), &members);
    assert!(of_run(&run).contains("too many members failed. 1 of 2 members failed."), "{}", of_run(&run));
    let run = explained("Stopping", Value::Null, &members);
    assert!(!of_run(&run).contains("failed") && of_run(&run).contains("RunningMember"), "{}", of_run(&run));
    assert!(of_member(&run, 0).contains("limit on calls"), "no message yet: {}", of_member(&run, 0));
}

#[test]
fn a_run_whose_images_cannot_be_chosen_says_why() {
    let run = |state: &str, error: Value| {
        let stage = json!({"name": "first", "status": {"state": "NotStarted"}, "groups": []});
        let mut run: UpdateRunStatus =
            serde_json::from_value(json!({"status": {"state": state, "error": error}, "stages": [stage]})).unwrap();
        explain(&mut run);
        (of_run(&run).to_owned(), run.stages[0].explanation.clone().unwrap())
    };
    let cause = || error("NodeImageVersionNotAvailable", "The node images cannot be chosen yet.");
    let (said, stage) = run("Pending", cause());
    assert_eq!(said, "The node images cannot be chosen yet.");
    assert_eq!(stage, "Begins when the members and node images of the update run are chosen.");
    let (said, _) = run("Running", Value::Null);
    assert_eq!(said, "The members and node images of the update run are being chosen.");
    let (said, stage) = run("NotStarted", cause());
    assert_eq!(said, "The node images cannot be chosen yet. The update run begins when somebody starts it.");
    assert_eq!(stage, "Begins when the update run is started.");
    assert_eq!(run("Failed", cause()).1, "Begins when the update run is started again.");
}

#[test]
fn a_pending_member_tells_the_latest_outage_and_never_loses_its_reason() {
    let first = error("UpstreamUnavailable", "AKS cannot be called: CredentialUnavailable.");
    let window = error("MaintenanceWindowClosed", "The window is closed.");
    let now = || json!("AKS cannot be called: CredentialFailed.");
    let members = [
        member("m", "Pending", first, now()),
        member("n", "Pending", window.clone(), now()),
        member("o", "Pending", window, json!("The window is closed.")),
    ];
    let run = explained("Pending", Value::Null, &members);
    assert_eq!(of_member(&run, 0), "AKS cannot be called: CredentialFailed.");
    assert_eq!(of_member(&run, 1), "The window is closed. AKS cannot be called: CredentialFailed.");
    assert_eq!(of_member(&run, 2), "The window is closed.");
}

#[test]
fn a_gate_says_which_it_is_since_when_it_waits_and_what_opens_it() {
    let gate = json!({"displayName": "go?", "status": {"state": "Pending", "startTime": BEGUN},
        "gateId": "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/fleets/f/gates/1b"});
    let said = |state: &str| {
        let stage = json!({"name": "first", "status": {"state": state}, "beforeGates": [gate], "groups": []});
        let mut run: UpdateRunStatus =
            serde_json::from_value(json!({"status": {"state": state}, "stages": [stage]})).unwrap();
        explain(&mut run);
        run.stages[0].explanation.clone().unwrap()
    };
    assert_eq!(
        said("Pending"),
        format!(
            "Waits since {BEGUN} for the approval of gate 'go?' (1b). Set the state of the gate to Completed to go on."
        )
    );
    assert!(said("Stopped").ends_with("Start the update run again to go on."), "{}", said("Stopped"));
}

#[test]
fn the_wait_after_a_stage_says_when_it_ends() {
    let wait =
        json!({"status": {"state": "Running", "startTime": "2026-03-01T02:00:00.25Z"}, "waitDurationInSeconds": 60});
    let stage = json!({"name": "first", "status": {"state": "Running", "startTime": BEGUN}, "groups": [], "afterStageWaitStatus": wait});
    let mut run: UpdateRunStatus =
        serde_json::from_value(json!({"status": {"state": "Running"}, "stages": [stage]})).unwrap();
    explain(&mut run);
    let said = run.stages[0].explanation.as_deref().unwrap();
    assert!(said.contains("the wait of 60 s that follows ends at 2026-03-01T02:01:00Z"), "{said}");
}
