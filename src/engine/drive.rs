//! Events of a run: take its steps, and carry out their effects as jobs, gates and webhook events. All in the caller's transaction,
//! so that an event and its consequences are one.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{
    EngineError, deliveries, gates,
    queue::{self, GateJob, MemberJob, StageJob},
    steps::{Advanced, advance_all},
};
use crate::{
    arm::ResourceId,
    database::Connection,
    rollout::{Change, Effect, Event, Run, SkipTarget},
    store::{
        StoreError, outbox,
        resources::{self, Author, Resource, RowByService},
        runs::{self, Holder},
    },
    webhooks,
    work::{self, NewJob},
};

/// When the windows of members that queue are looked at after a step, unless that is due sooner.
const FIRST_RANKING: SignedDuration = SignedDuration::from_secs(60);

/// What a person, or an auto-upgrade profile, does with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// Starts or restarts the run.
    Start,
    /// Stops the run.
    Stop,
    /// Skips parts of the run: all of them, or none.
    Skip(Vec<SkipTarget>),
    /// Completes the gate with this name.
    CompleteGate(Uuid),
}

impl RunCommand {
    /// The name that is recorded.
    const fn name(&self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Skip(_) => "Skip",
            Self::CompleteGate(_) => "CompleteGate",
        }
    }

    /// The names of the parts of the run that the command is about.
    fn targets(&self) -> Vec<String> {
        match self {
            Self::Start | Self::Stop => Vec::new(),
            Self::Skip(targets) => targets.iter().map(|target| target.name().to_owned()).collect(),
            Self::CompleteGate(gate) => vec![gate.to_string()],
        }
    }
}

/// Carries out an event, and returns the run after it; `None` when there is no such run.
pub async fn drive(
    tx: &mut Connection,
    run_id: Uuid,
    event: Event,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, EngineError> {
    drive_all(tx, run_id, vec![event], now, trace).await
}

/// [`drive`] for many events, in this order.
pub async fn drive_all(
    tx: &mut Connection,
    run_id: Uuid,
    events: Vec<Event>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, EngineError> {
    hold_jobs_to_cancel(tx, run_id, &events).await?;
    carry_out(tx, run_id, events, None, now, trace).await
}

/// Carries out a command on a run, and records who gave it. Returns the run after it; `None` when there is no such run.
pub async fn command(
    tx: &mut Connection,
    run_id: Uuid,
    command: RunCommand,
    author: Author<'_>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, EngineError> {
    let (name, targets) = (command.name(), command.targets());
    let (event, gate_author) = match command {
        RunCommand::Start => (Event::Start, None),
        RunCommand::Stop => (Event::Stop, None),
        RunCommand::Skip(targets) => (Event::Skip { targets, members: Vec::new() }, None),
        RunCommand::CompleteGate(gate) => (Event::GateCompleted { gate }, Some(author)),
    };
    let events = vec![event];
    hold_jobs_to_cancel(tx, run_id, &events).await?;
    runs::record_action(tx, run_id, author, name, &targets, now).await?;
    carry_out(tx, run_id, events, gate_author, now, trace).await
}

/// Locks the run and the jobs that events may cancel, before a member's row is written: a job that records how far its member is
/// locks itself before that row.
async fn hold_jobs_to_cancel(tx: &mut Connection, run: Uuid, events: &[Event]) -> Result<(), EngineError> {
    let mut subjects = Vec::new();
    for event in events {
        match event {
            Event::MemberLeft { member } => subjects.push(MemberJob { run, member: member.index }.to_string()),
            Event::Skip { targets, .. } => {
                let running = targets.iter().filter(|target| matches!(target, SkipTarget::RunningMember(_)));
                let names: Vec<&str> = running.map(SkipTarget::name).collect();
                if !names.is_empty() {
                    let members = runs::members_by_name(tx, run, &names).await?;
                    subjects.extend(members.iter().map(|member| MemberJob { run, member: member.index }.to_string()));
                }
            }
            _ => {}
        }
    }
    if !subjects.is_empty() {
        runs::lock(tx, run).await?;
        work::hold(tx, queue::UPGRADE, &subjects).await?;
    }
    Ok(())
}

async fn carry_out(
    tx: &mut Connection,
    run_id: Uuid,
    events: Vec<Event>,
    author: Option<Author<'_>>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Option<Run>, EngineError> {
    let Some(advanced) = advance_all(tx, run_id, events, now).await? else { return Ok(None) };
    carry_on(tx, run_id, &advanced, author, now, trace).await?;
    Ok(Some(advanced.after))
}

/// Whether other members queue than before in the stage whose turn it is, so that somebody must watch their windows.
fn queue_has_changed(before: &Run, after: &Run) -> bool {
    let queue = |run: &Run| -> Vec<u32> {
        let groups = run.current().into_iter().flat_map(|stage| &stage.groups);
        groups.map(|group| group.tally.not_started).collect()
    };
    let now = queue(after);
    after.in_progress() && now.iter().any(|members| *members > 1) && queue(before) != now
}

async fn carry_on(
    tx: &mut Connection,
    run_id: Uuid,
    advanced: &Advanced,
    author: Option<Author<'_>>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<(), EngineError> {
    let mut queued = Vec::new();
    let mut resource = None;
    for effect in &advanced.effects {
        match effect {
            Effect::Plan => queued.push(queue::plan(run_id, trace)),
            Effect::Upgrade { member, .. } => {
                queued.push(queue::upgrade(&MemberJob { run: run_id, member: *member }, trace))
            }
            Effect::Timer { stage, at } => {
                queued.push(queue::wait(&StageJob { run: run_id, stage: *stage }, *at, trace))
            }
            Effect::GateTimer { gate, at } => {
                queued.push(queue::gate(&GateJob { run: run_id, gate: *gate }, *at, trace))
            }
            Effect::OpenGate { gate } => {
                if let Some(owner) = owner(tx, run_id, &mut resource).await? {
                    gates::open(tx, owner, &advanced.after, *gate, now).await?;
                }
            }
            Effect::CompleteGate { gate } => {
                if let Some(owner) = owner(tx, run_id, &mut resource).await? {
                    gates::complete(tx, owner, *gate, author, now).await?;
                }
            }
            Effect::SkipGate { gate } => {
                if let Some(owner) = owner(tx, run_id, &mut resource).await? {
                    gates::skip(tx, owner, *gate, now).await?;
                }
            }
            Effect::Abandon { member } => abandon(tx, run_id, *member).await?,
        }
    }
    if queue_has_changed(&advanced.before, &advanced.after) {
        let soon = now.saturating_add(FIRST_RANKING).unwrap_or(Timestamp::MAX);
        queued.push(queue::windows(run_id, soon));
    }
    queued.extend(record_changes(tx, run_id, advanced, &mut resource, now, trace).await?);
    work::enqueue_all(tx, &queued).await?;
    Ok(())
}

/// Records events of what has changed, and answers the jobs that deliver them. One statement, and one more for gates.
async fn record_changes(
    tx: &mut Connection,
    run_id: Uuid,
    advanced: &Advanced,
    resource: &mut Option<Resource>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<Vec<NewJob>, StoreError> {
    let Some(audience) = &advanced.audience else { return Ok(Vec::new()) };
    let mut recorded = Vec::with_capacity(advanced.changes.len());
    for change in &advanced.changes {
        if let Change::Gate { was, gate, .. } = change
            && let Some(owner) = owner(tx, run_id, resource).await?
            && let Some((id, properties)) = gates::described(owner, &advanced.after, gate.id)
        {
            let of_gate = webhooks::gate_events(&id.to_string(), *was, Some(&gate.status), &json!(properties), now);
            recorded.extend(of_gate.into_iter().map(|event| (run_id, event)));
        }
        recorded.push((run_id, webhooks::describe(&audience.run, change, now)));
    }
    outbox::record(tx, &recorded, now).await?;
    Ok(deliveries::deliveries_of(run_id, &recorded, &audience.webhooks, trace).collect())
}

/// The run's resource, read at most once a step.
async fn owner<'a>(
    tx: &mut Connection,
    run_id: Uuid,
    known: &'a mut Option<Resource>,
) -> Result<Option<&'a Resource>, StoreError> {
    if known.is_none() {
        *known = resources::get_by_row(tx, RowByService(run_id)).await?;
    }
    Ok(known.as_ref())
}

/// Cancels the job of a member in flight, and releases its cluster.
async fn abandon(tx: &mut Connection, run: Uuid, member: u32) -> Result<(), EngineError> {
    work::cancel(tx, queue::UPGRADE, &MemberJob { run, member }.to_string()).await?;
    let cluster =
        runs::member(tx, run, member).await?.and_then(|row| row.cluster_resource_id.parse::<ResourceId>().ok());
    if let Some(cluster) = cluster {
        runs::unlock_cluster(tx, &cluster, Holder { run_id: run, member }).await?;
    }
    Ok(())
}
