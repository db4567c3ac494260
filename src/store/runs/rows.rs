//! Rows as JSON: what `json_agg` gives and `json_to_recordset` takes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    arm::ErrorDetail,
    model::{
        gate::Timing,
        scheduled_start::ScheduledStartConfiguration,
        strategy::GateType,
        update_run::{NodeImageVersion, UpdateState, UpdateStatus},
    },
    rollout::{Gate, Group, Stage, Tally, Wait},
};

/// State, times and error of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Node {
    state: UpdateState,
    start_time: Option<Timestamp>,
    completed_time: Option<Timestamp>,
    #[serde(default)]
    error: Option<ErrorDetail>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunRow {
    #[serde(flatten)]
    pub(super) node: Node,
    pub(super) stop_requested: bool,
    pub(super) starting: bool,
    pub(super) selected_images: Vec<NodeImageVersion>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StageRow {
    pub(super) stage_index: u32,
    pub(super) name: String,
    pub(super) max_concurrency: u32,
    pub(super) max_allowed_failures: u32,
    #[serde(flatten)]
    pub(super) node: Node,
    pub(super) wait_seconds: Option<u32>,
    pub(super) wait_state: Option<UpdateState>,
    pub(super) wait_start_time: Option<Timestamp>,
    pub(super) wait_completed_time: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GroupRow {
    pub(super) group_index: u32,
    pub(super) stage_index: u32,
    pub(super) name: String,
    pub(super) max_concurrency: u32,
    pub(super) max_allowed_failures: u32,
    #[serde(flatten)]
    pub(super) node: Node,
    not_started: u32,
    running: u32,
    pending: u32,
    stopped: u32,
    skipped: u32,
    failed: u32,
    completed: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GateRow {
    pub(super) gate_id: Uuid,
    pub(super) stage_index: u32,
    pub(super) group_index: Option<u32>,
    pub(super) timing: Timing,
    pub(super) display_name: Option<String>,
    pub(super) gate_type: GateType,
    pub(super) schedule: Option<ScheduledStartConfiguration>,
    #[serde(flatten)]
    pub(super) node: Node,
}

impl From<Node> for UpdateStatus {
    fn from(node: Node) -> Self {
        Self { start_time: node.start_time, completed_time: node.completed_time, state: node.state, error: node.error }
    }
}

impl From<&UpdateStatus> for Node {
    fn from(status: &UpdateStatus) -> Self {
        Self {
            state: status.state,
            start_time: status.start_time,
            completed_time: status.completed_time,
            error: status.error.clone(),
        }
    }
}

impl StageRow {
    pub(super) fn of(stage: &Stage) -> Self {
        let wait = stage.wait.as_ref();
        Self {
            stage_index: stage.index,
            name: stage.name.clone(),
            max_concurrency: stage.max_concurrency,
            max_allowed_failures: stage.max_allowed_failures,
            node: (&stage.status).into(),
            wait_seconds: wait.map(|wait| wait.seconds),
            wait_state: wait.map(|wait| wait.status.state),
            wait_start_time: wait.and_then(|wait| wait.status.start_time),
            wait_completed_time: wait.and_then(|wait| wait.status.completed_time),
        }
    }

    pub(super) fn wait(&self) -> Option<Wait> {
        let (start_time, completed_time) = (self.wait_start_time, self.wait_completed_time);
        let status = UpdateStatus { start_time, completed_time, state: self.wait_state?, error: None };
        Some(Wait { seconds: self.wait_seconds?, status })
    }
}

impl GroupRow {
    pub(super) fn of(group: &Group, stage_index: u32) -> Self {
        let tally = group.tally;
        Self {
            group_index: group.index,
            stage_index,
            name: group.name.clone(),
            max_concurrency: group.max_concurrency,
            max_allowed_failures: group.max_allowed_failures,
            node: (&group.status).into(),
            not_started: tally.not_started,
            running: tally.running,
            pending: tally.pending,
            stopped: tally.stopped,
            skipped: tally.skipped,
            failed: tally.failed,
            completed: tally.completed,
        }
    }

    pub(super) fn tally(&self) -> Tally {
        Tally {
            not_started: self.not_started,
            running: self.running,
            pending: self.pending,
            stopped: self.stopped,
            skipped: self.skipped,
            failed: self.failed,
            completed: self.completed,
        }
    }
}

impl From<GateRow> for Gate {
    fn from(row: GateRow) -> Self {
        Self {
            id: row.gate_id,
            display_name: row.display_name,
            gate_type: row.gate_type,
            schedule: row.schedule,
            status: row.node.into(),
        }
    }
}

/// Gates of a stage (`group` absent) or group at one position, taken out of those of the run.
pub(super) fn take_gates(from: &mut Vec<GateRow>, stage: u32, group: Option<u32>, timing: Timing) -> Vec<GateRow> {
    from.extract_if(.., |gate| gate.stage_index == stage && gate.group_index == group && gate.timing == timing)
        .collect()
}
