//! Update runs of a fleet.

use std::collections::HashMap;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    at::{At, Write},
    handlers, linked_access,
    resource_type::{Change, Limit, Noun, Replace, ResourceAction, ResourceType, Scope, Verbs},
};
use crate::{
    api::{
        App,
        http::{
            body::{self, RawBody},
            error::{ApiError, ApiResult},
            refusals::not_found,
            request::ArmRequest,
        },
    },
    arm::{ArmError, Problems, ResourceId, page::Page},
    database::{Connection, Transaction},
    engine::{self, RunCommand, queue},
    model::{
        strategy::FleetUpdateStrategyProperties,
        types,
        update_run::{UpdateRunProperties, UpdateRunStatus, UpdateState},
        versions::{P2025_04_01, Since, V2024_04_01, since},
    },
    rollout::{self, SkipTarget},
    store::{
        memberships,
        resources::{self, ByService, Resource},
        runs,
    },
    work,
};

/// Most members of all runs in a page together, unless the first run alone has more.
const MAX_PAGE_MEMBERS: u64 = 10_000;
/// Reads of status trees at the same time, in this process: the tree of 10,000 members takes some 35 MB for a moment.
static STATUS_READS: Semaphore = Semaphore::const_new(4);
/// Most targets of one skip.
const MAX_SKIP_TARGETS: usize = 1000;

/// Update runs.
pub(super) struct UpdateRun;

impl ResourceType for UpdateRun {
    const TYPE: &'static str = types::UPDATE_RUNS;
    const SCOPE: Scope = Scope::Fleet;
    const SINCE: Since = Since::ALWAYS;
    const NOUN: Noun = Noun { article: "an", one: "update run", many: "update runs" };
    const VERBS: Verbs = Verbs { put: true, patch: false, delete: true };
    const NAME_PARAMETER: &'static str = "updateRunName";
    // Status trees are large.
    const MAX_PAGE: u32 = 20;
    const MOST: Limit = Limit::quota(10_000);
    const READ_SLOTS: Option<&'static Semaphore> = Some(&STATUS_READS);

    type Properties = UpdateRunProperties;
    type Extras = HashMap<Uuid, UpdateRunStatus>;

    async fn check_linked_access(app: &App, at: &At<Write<Self>>, properties: &Value) -> ApiResult<()> {
        linked_access::may_follow(app, at, properties).await
    }

    async fn check(
        change: &mut Change<'_>,
        new: &Self::Properties,
        stored: Option<&Self::Properties>,
        problems: &mut Problems,
    ) -> ApiResult<()> {
        new.check(&change.request.fleet(), stored.is_some_and(|stored| is_copy(new, stored)), problems);
        if let Some(position) = stray_gates(change.body) {
            problems.add(
                &format!("properties.{position}"),
                "Gates stand before and after the stages and groups of a strategy. A run without a strategy updates its members one by one and has no gates.",
            );
        }
        let images = |run: &UpdateRunProperties| run.managed_cluster_update.node_image_selection.clone();
        if stored.is_some_and(|stored| images(stored) != images(new)) && images(new).is_some() {
            problems.add_coded(
                "PropertyChangeNotAllowed",
                "properties.managedClusterUpdate.nodeImageSelection",
                "nodeImageSelection cannot be changed: send it as it is, or create another run.",
            );
        }
        Ok(())
    }

    async fn complete(
        change: &mut Change<'_>,
        given: Self::Properties,
        stored: Option<&Self::Properties>,
    ) -> ApiResult<Self::Properties> {
        let mut new = with_strategy(change.tx, given, stored).await?;
        new.auto_upgrade_profile_id = stored.and_then(|stored| stored.auto_upgrade_profile_id.clone());
        Ok(new)
    }

    async fn before_replace(
        change: &mut Change<'_>,
        row: &Resource,
        new: &Self::Properties,
        stored: &Self::Properties,
    ) -> ApiResult<Replace> {
        if stored == new {
            return Ok(Replace::Keep);
        }
        let snapshot = runs::load_for_update(change.tx, row.id).await?;
        if snapshot.is_none_or(|run| run.status.state != UpdateState::NotStarted) {
            return Err(ArmError::conflict(
                "UpdateRunAlreadyStarted",
                "The update run was started: its strategy and update can no longer be changed. Create another run.",
            )
            .into());
        }
        if let Some(fleet) = change.parent {
            let plan = plan(change.tx, fleet.id, row.id, new).await?;
            engine::replace_plan(change.tx, row.id, &plan, change.request.now).await?;
        }
        Ok(Replace::Write)
    }

    async fn after_create(change: &mut Change<'_>, row: &Resource, new: &Self::Properties) -> ApiResult<()> {
        let Some(fleet) = change.parent else { return Ok(()) };
        let plan = plan(change.tx, fleet.id, row.id, new).await?;
        Ok(engine::create_plan(change.tx, row.id, fleet.id, &plan, change.request.now).await?)
    }

    async fn after_put(change: &mut Change<'_>, row: &Resource, new: &Self::Properties) -> ApiResult<()> {
        if engine::chooses_images(new) {
            work::enqueue(change.tx, queue::images(row.id, Some(change.request.correlation()))).await?;
        }
        Ok(())
    }

    async fn before_delete(tx: &mut Connection, _: &ArmRequest, row: &Resource) -> ApiResult<()> {
        let snapshot = runs::load_for_update(tx, row.id).await?;
        if snapshot.is_some_and(|run| run.running() > 0) {
            return Err(ArmError::conflict(
                "UpdateRunInProgress",
                "Members of this update run are being upgraded. Stop the run, wait until it is Stopped or Failed, then delete it.",
            )
            .into());
        }
        Ok(())
    }

    /// Deletes the run with its gates.
    async fn remove(tx: &mut Connection, request: &ArmRequest, row: &Resource) -> ApiResult<()> {
        engine::delete::run(tx, row.id, request.now, Some(request.correlation())).await?;
        Ok(())
    }

    /// As many runs as fit the budget of members in one page.
    async fn page(
        conn: &mut Connection,
        _: &ArmRequest,
        parent: &Resource,
        page: &Page,
    ) -> ApiResult<(Vec<Resource>, bool)> {
        let (mut rows, more) = resources::list_children(conn, parent, Self::TYPE, page).await?;
        let ids: Vec<_> = rows.iter().map(|run| run.id).collect();
        let members = runs::member_counts(conn, &ids).await?;
        let fit = fitting(ids.iter().map(|id| members.get(id).copied().unwrap_or_default()));
        let cut = fit < rows.len();
        rows.truncate(fit);
        Ok((rows, more || cut))
    }

    async fn extras(conn: &mut Connection, rows: &[Resource]) -> ApiResult<Self::Extras> {
        let Some(first) = rows.first() else { return Ok(HashMap::new()) };
        let Some(fleet) = first.resource_id()?.parent() else { return Ok(HashMap::new()) };
        let ids: Vec<_> = rows.iter().map(|run| run.id).collect();
        Ok(runs::statuses(conn, &ids, &fleet).await?)
    }

    async fn explain(conn: &mut Connection, row: &Resource, statuses: &mut Self::Extras) -> ApiResult<()> {
        if let Some(status) = statuses.get_mut(&row.id) {
            rollout::explain(status);
            status.actions = runs::actions(conn, row.id).await?;
        }
        Ok(())
    }

    fn show(row: &Resource, statuses: &mut Self::Extras) -> ApiResult<Value> {
        let mut properties = row.properties.clone();
        if let (Value::Object(properties), Some(status)) = (&mut properties, statuses.remove(&row.id)) {
            properties.insert("status".to_owned(), serde_json::to_value(status)?);
        }
        Ok(properties)
    }
}

/// Starts or restarts a run, which is Running from the answer on. At the first start a job chooses the members, and the answer
/// still shows the run as it was, as Azure's does.
pub(super) struct Start;

impl ResourceAction for Start {
    type On = UpdateRun;
    const NAME: &'static str = "start";
    const OPERATION: &'static str = "Start update run";
    const DESCRIPTION: &'static str = "Starts an update run";

    async fn perform(app: App, at: At<Self>, _: RawBody) -> ApiResult<Response> {
        let request = &at.request;
        let mut tx = app.pool.begin_locking(at.id.key()).await?;
        // A fleet that is being deleted starts nothing, and is not deleted before this transaction ends.
        handlers::fleet_for_write::<UpdateRun>(&mut tx, request).await?;
        let run = handlers::existing(&mut tx, &at).await?;
        runs::lock(&mut tx, run.id).await?;
        let before = UpdateRun::extras(&mut tx, std::slice::from_ref(&run)).await?;
        let is_first = before.get(&run.id).is_some_and(|before| before.status.state == UpdateState::NotStarted);
        command(&mut tx, request, &run, RunCommand::Start).await?;
        answer(tx, request, &run, is_first.then_some(before)).await
    }
}

/// Stops a run: no further member starts, and members in flight finish.
pub(super) struct Stop;

impl ResourceAction for Stop {
    type On = UpdateRun;
    const NAME: &'static str = "stop";
    const OPERATION: &'static str = "Stop update run";
    const DESCRIPTION: &'static str = "Stops an update run";

    async fn perform(app: App, at: At<Self>, _: RawBody) -> ApiResult<Response> {
        let mut tx = app.pool.begin_locking(at.id.key()).await?;
        let run = handlers::existing(&mut tx, &at).await?;
        command(&mut tx, &at, &run, RunCommand::Stop).await?;
        answer(tx, &at, &run, None).await
    }
}

/// Skips members, groups, stages or waits of a run: all targets, or none.
pub(super) struct Skip;

impl ResourceAction for Skip {
    type On = UpdateRun;
    const NAME: &'static str = "skip";
    const SINCE: Since = since(V2024_04_01, P2025_04_01);
    const OPERATION: &'static str = "Skip in update run";
    const DESCRIPTION: &'static str = "Skips members, groups, stages or waits of an update run";

    async fn perform(app: App, at: At<Self>, RawBody(bytes): RawBody) -> ApiResult<Response> {
        let body = body::json(at.headers(), &bytes)?;
        let SkipProperties { targets } = body::whole(&body)?;
        if targets.is_empty() || targets.len() > MAX_SKIP_TARGETS {
            return Err(ArmError::bad_request(
                "InvalidParameter",
                format!("targets must name 1 to {MAX_SKIP_TARGETS} members, groups, stages or waits."),
            )
            .at("targets")
            .into());
        }
        let mut tx = app.pool.begin_locking(at.id.key()).await?;
        let run = handlers::existing(&mut tx, &at).await?;
        let targets = targets.into_iter().map(SkipTarget::from).collect();
        command(&mut tx, &at, &run, RunCommand::Skip(targets)).await?;
        answer(tx, &at, &run, None).await
    }
}

/// What a skip leaves out.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SkipProperties {
    /// All of them, or none.
    targets: Vec<Target>,
}

/// One member, group, stage or wait.
#[derive(Deserialize, ToSchema)]
#[schema(as = SkipTarget)]
struct Target {
    /// What it is.
    #[serde(rename = "type")]
    kind: TargetType,
    /// Its name; of a wait, that of its stage.
    name: String,
}

/// What a skip can leave out.
#[derive(Deserialize, ToSchema)]
enum TargetType {
    Member,
    /// A member, also one whose upgrade is in progress. An extension.
    RunningMember,
    Group,
    Stage,
    AfterStageWait,
}

impl From<Target> for SkipTarget {
    fn from(target: Target) -> Self {
        match target.kind {
            TargetType::Member => Self::Member(target.name),
            TargetType::RunningMember => Self::RunningMember(target.name),
            TargetType::Group => Self::Group(target.name),
            TargetType::Stage => Self::Stage(target.name),
            TargetType::AfterStageWait => Self::AfterStageWait(target.name),
        }
    }
}

/// Carries out a command on a run, in the name of the caller.
async fn command(tx: &mut Connection, request: &ArmRequest, run: &Resource, command: RunCommand) -> ApiResult<()> {
    let trace = Some(request.correlation());
    let driven = engine::command(tx, run.id, command, request.author(), request.now, trace).await?;
    driven.ok_or_else(|| not_found(&request.id))?;
    Ok(())
}

/// Commits, and answers with the run; `shown` is its status, absent for that after the command.
async fn answer(
    mut tx: Transaction,
    request: &ArmRequest,
    run: &Resource,
    shown: Option<<UpdateRun as ResourceType>::Extras>,
) -> ApiResult<Response> {
    let mut status = match shown {
        Some(status) => status,
        None => UpdateRun::extras(&mut tx, std::slice::from_ref(run)).await?,
    };
    let body = handlers::show_with::<UpdateRun>(request, run, &mut status)?;
    tx.commit().await?;
    Ok(Json(body).into_response())
}

/// The name of a property with gates outside of the strategy, if there is one. Such gates would be ignored, and the run would go on
/// without an approval.
fn stray_gates(body: &Value) -> Option<&'static str> {
    let has = |position: &&str| {
        body["properties"].get(position).and_then(Value::as_array).is_some_and(|gates| !gates.is_empty())
    };
    ["beforeGates", "afterGates"].into_iter().find(has)
}

/// Whether a body sends back the copy of the strategy that its `updateStrategyId` names.
fn is_copy(given: &UpdateRunProperties, stored: &UpdateRunProperties) -> bool {
    let same = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    };
    same(&given.update_strategy_id, &stored.update_strategy_id) && given.strategy == stored.strategy
}

/// Copies the strategy that a body names. A run keeps its copy when the body names the same strategy as before.
async fn with_strategy(
    tx: &mut Connection,
    mut given: UpdateRunProperties,
    stored: Option<&UpdateRunProperties>,
) -> ApiResult<UpdateRunProperties> {
    if given.managed_cluster_update.node_image_selection.is_none() {
        given.managed_cluster_update.node_image_selection =
            stored.and_then(|stored| stored.managed_cluster_update.node_image_selection.clone());
    }
    given.managed_cluster_update.keep_extensions(stored.map(|stored| &stored.managed_cluster_update));
    let Some(id) = &given.update_strategy_id else { return Ok(given) };
    let kept =
        stored.filter(|stored| stored.update_strategy_id.as_ref().is_some_and(|old| old.eq_ignore_ascii_case(id)));
    if let Some(stored) = kept {
        given.strategy.clone_from(&stored.strategy);
        given.update_strategy_id.clone_from(&stored.update_strategy_id);
        return Ok(given);
    }
    let missing = || {
        ApiError::from(
            ArmError::bad_request("UpdateStrategyNotFound", format!("The update strategy '{id}' does not exist."))
                .at("properties.updateStrategyId"),
        )
    };
    let id: ResourceId = id.parse().map_err(|_| missing())?;
    let strategy = resources::get_for_share(tx, &ByService(&id)).await?.ok_or_else(missing)?;
    let copy: FleetUpdateStrategyProperties = serde_json::from_value(strategy.properties)?;
    given.strategy = Some(copy.strategy);
    Ok(given)
}

async fn plan(
    tx: &mut Connection,
    fleet: Uuid,
    run: Uuid,
    properties: &UpdateRunProperties,
) -> ApiResult<rollout::Plan> {
    let members = memberships::members_of_run(tx, fleet, run).await?;
    // The selectors of a copied strategy were checked when the strategy was written.
    rollout::plan(properties.strategy.as_ref(), &members).map_err(|error| {
        ArmError::bad_request("InvalidParameter", format!("The strategy cannot be used: {error}."))
            .at("properties.strategy")
            .into()
    })
}

/// How many runs of a list, by the numbers of their members, go into one page: at least one, and then as many as keep the page
/// within [`MAX_PAGE_MEMBERS`].
fn fitting(members: impl Iterator<Item = u64>) -> usize {
    let mut sum = 0;
    let within = members.take_while(|members| {
        sum += members;
        sum <= MAX_PAGE_MEMBERS
    });
    within.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn a_page_has_the_runs_whose_members_fit_and_at_least_one() {
        for (members, runs) in [
            (&[10_000, 10_000][..], 1),
            (&[4_000, 6_000, 1], 2),
            (&[25_000, 1], 1),
            (&[1; 20], 20),
            (&[0, 0, 10_001], 2),
        ] {
            assert_eq!(fitting(members.iter().copied()), runs, "{members:?}");
        }
    }
}
