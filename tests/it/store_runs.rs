//! Update runs in the database: each step is stored as decided, with a constant number of changed rows.

use crate::harness::postgres::{TestDatabase, database};
use crate::work::support::{KIND, leased};
use fleet_manager::arm::{ErrorDetail, ResourceId};
use fleet_manager::database::Connection;
use fleet_manager::engine::{self, Advanced, EngineError};
use fleet_manager::model::strategy::{GateConfiguration, GateType, UpdateGroup, UpdateRunStrategy, UpdateStage};
use fleet_manager::model::update_run::{NodeImageVersion, UpdateRunStatus, UpdateState};
use fleet_manager::rollout::upgrade::WindowRank;
use fleet_manager::rollout::{Effect, Event, FleetMember, Member, Outcome, Plan, Refused, SkipTarget, plan};
use fleet_manager::store::runs::{self, Ended, Holder, Progress, RankedMember};
use fleet_manager::work::{self, FenceError};
use jiff::{SignedDuration, Timestamp};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn fleet_id() -> ResourceId {
    ResourceId::in_group("s", "rg", "Microsoft.ContainerService", "fleets", "f")
}

fn members(groups: &[(&str, usize)]) -> Vec<FleetMember> {
    let names = groups.iter().flat_map(|(group, n)| (0..*n).map(move |i| (*group, format!("{group}-{i:05}"))));
    let member = |(group, name): (&str, String)| FleetMember {
        cluster_resource_id: format!("/subscriptions/S/resourceGroups/Rg/clusters/{name}"),
        name,
        group: Some(group.to_owned()),
        ..FleetMember::default()
    };
    names.map(member).collect()
}

fn group(name: &str, concurrency: &str) -> UpdateGroup {
    UpdateGroup { name: name.to_owned(), max_concurrency: Some(concurrency.to_owned()), ..UpdateGroup::default() }
}

fn gate() -> Vec<GateConfiguration> {
    vec![GateConfiguration {
        display_name: Some("ok?".to_owned()),
        gate_type: GateType::Approval,
        scheduled_start_configuration: None,
    }]
}

/// s1: a (before gate), b; s2 (after gate, wait): c.
fn planned(sizes: [usize; 3]) -> Plan {
    let strategy = UpdateRunStrategy {
        stages: vec![
            UpdateStage {
                name: "s1".to_owned(),
                groups: vec![UpdateGroup { before_gates: gate(), ..group("a", "2") }, group("b", "3")],
                ..UpdateStage::default()
            },
            UpdateStage {
                name: "s2".to_owned(),
                groups: vec![group("c", "50%")],
                after_gates: gate(),
                after_stage_wait_in_seconds: Some(60),
                ..UpdateStage::default()
            },
        ],
    };
    plan(Some(&strategy), &members(&[("a", sizes[0]), ("b", sizes[1]), ("c", sizes[2])])).unwrap()
}

async fn resource(conn: &mut Connection, parent: Option<Uuid>) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO resources (id, key, arm_id, type, name, parent_id, subscription, resource_group, properties,
             provisioning_state, etag, created_at, created_by, created_by_type, modified_at, modified_by,
             modified_by_type)
         VALUES ($1, $2, $2, 't', 'n', $3, 's', 'rg', '{}', 'Succeeded', $1, now(), '', '', now(), '', '')",
    )
    .bind(id)
    .bind(format!("/{id}"))
    .bind(parent)
    .execute(conn)
    .await
    .unwrap();
    id
}

struct World {
    db: TestDatabase,
    fleet: Uuid,
    run: Uuid,
}

impl World {
    async fn of(plan: &Plan) -> Self {
        let db = database().await;
        let mut conn = db.pool.acquire().await.unwrap();
        let fleet = resource(&mut conn, None).await;
        let run = resource(&mut conn, Some(fleet)).await;
        engine::create_plan(&mut conn, run, fleet, plan, now()).await.unwrap();
        Self { db, fleet, run }
    }

    async fn try_raise(&self, event: Event, now: Timestamp) -> Result<Advanced, Refused> {
        let mut tx = self.db.pool.begin().await.unwrap();
        match engine::advance(&mut tx, self.run, event, now).await {
            Ok(advanced) => {
                tx.commit().await.unwrap();
                Ok(advanced.unwrap())
            }
            Err(EngineError::Refused(refused)) => Err(refused),
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the effects of an event; of a first start, the effects once the members are chosen.
    async fn raise(&self, event: Event) -> Vec<Effect> {
        let effects = self.try_raise(event, now()).await.unwrap().effects;
        if effects == [Effect::Plan] { self.try_raise(Event::Planned, now()).await.unwrap().effects } else { effects }
    }

    async fn skip(&self, targets: Vec<SkipTarget>) -> Result<Advanced, Refused> {
        self.try_raise(Event::Skip { targets, members: vec![] }, now()).await
    }

    async fn status(&self) -> UpdateRunStatus {
        let mut conn = self.db.pool.acquire().await.unwrap();
        runs::status(&mut conn, self.run, &fleet_id()).await.unwrap().unwrap()
    }

    async fn state(&self) -> UpdateState {
        self.status().await.status.state
    }

    async fn in_state(&self, state: &str) -> Vec<Member> {
        let indexes: Vec<i32> = sqlx::query_scalar(
            "SELECT member_index FROM run_members WHERE run_id = $1 AND state = $2 ORDER BY member_index",
        )
        .bind(self.run)
        .bind(state)
        .fetch_all(&self.db.pool)
        .await
        .unwrap();
        let mut conn = self.db.pool.acquire().await.unwrap();
        let mut found = Vec::new();
        for index in indexes {
            found.push(runs::member(&mut conn, self.run, index as u32).await.unwrap().unwrap().member);
        }
        found
    }

    async fn complete(&self, member: Member) -> Vec<Effect> {
        self.raise(Event::MemberEnded { attempt: member.attempt, member, outcome: completed() }).await
    }

    async fn approve_all(&self) {
        let gates: Vec<Uuid> =
            sqlx::query_scalar("SELECT gate_id FROM run_gates WHERE run_id = $1 AND state = 'Pending'")
                .bind(self.run)
                .fetch_all(&self.db.pool)
                .await
                .unwrap();
        for gate in gates {
            self.raise(Event::GateCompleted { gate }).await;
        }
    }

    /// Checks that the counts equal those of the members' rows.
    async fn tallies_hold(&self) {
        let wrong: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM run_groups g, LATERAL (
                 SELECT count(*) FILTER (WHERE state = 'NotStarted') AS a, count(*) FILTER (WHERE state = 'Running') AS b,
                        count(*) FILTER (WHERE state = 'Pending') AS c, count(*) FILTER (WHERE state = 'Stopped') AS d,
                        count(*) FILTER (WHERE state = 'Skipped') AS e, count(*) FILTER (WHERE state = 'Failed') AS f,
                        count(*) FILTER (WHERE state = 'Completed') AS g
                 FROM run_members m WHERE m.run_id = g.run_id AND m.group_index = g.group_index) t
             WHERE (not_started, running, pending, stopped, skipped, failed, completed)
                 IS DISTINCT FROM (t.a, t.b, t.c, t.d, t.e, t.f, t.g)",
        )
        .fetch_one(&self.db.pool)
        .await
        .unwrap();
        assert_eq!(wrong, 0, "a tally differs from the members");
    }
}

fn completed() -> Outcome {
    Outcome::Completed { message: None }
}

fn error() -> ErrorDetail {
    ErrorDetail::new("UpgradeFailed", "it broke")
}

#[tokio::test]
async fn a_run_goes_from_its_start_to_its_end() {
    let world = World::of(&planned([3, 4, 5])).await;
    let fresh = world.status().await;
    assert_eq!(fresh.stages[0].groups[1].members.len(), 4);
    assert_eq!(fresh.stages[0].groups[0].before_gates[0].gate_id, None);
    assert_eq!(fresh.stages[1].after_stage_wait_status.as_ref().unwrap().wait_duration_in_seconds, 60);
    assert_eq!((fresh.stages[0].max_concurrency, fresh.stages[1].groups[0].max_concurrency), (Some(50), Some(2)));

    let effects = world.raise(Event::Start).await;
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Upgrade { attempt: 1, .. })).count(), 3);
    let asked = world.status().await;
    let gate = asked.stages[0].groups[0].before_gates[0].clone();
    assert_eq!(gate.status.state, UpdateState::Pending);
    assert!(effects.iter().any(
        |e| matches!(e, Effect::OpenGate { gate: id } if gate.gate_id.as_ref().unwrap().name() == id.to_string())
    ));
    world.approve_all().await;
    for _ in 0..12 {
        world.tallies_hold().await;
        if let Some(member) = world.in_state("Running").await.into_iter().next_back() {
            world.complete(member).await;
        }
    }
    let waiting = world.status().await;
    assert_eq!(waiting.status.state, UpdateState::Pending);
    assert_eq!(waiting.stages[0].status.state, UpdateState::Completed);
    world.approve_all().await;
    assert_eq!(world.state().await, UpdateState::Running);
    let early = world.try_raise(Event::WaitElapsed { stage: 1 }, now() + SignedDuration::from_secs(59)).await.unwrap();
    assert!(matches!(early.effects[..], [Effect::Timer { stage: 1, .. }]));
    world.try_raise(Event::WaitElapsed { stage: 1 }, now() + SignedDuration::from_secs(60)).await.unwrap();
    let done = world.status().await;
    assert_eq!(done.status.state, UpdateState::Completed);
    assert_eq!(done.status.completed_time, Some(now() + SignedDuration::from_secs(60)));
    assert_eq!(done.failure_count, Some(0));
    world.tallies_hold().await;
}

#[tokio::test]
async fn failure_stop_restart_and_skip_are_stored() {
    let world = World::of(&planned([0, 4, 1])).await;
    world.raise(Event::Start).await;
    let running = world.in_state("Running").await;
    let mut conn = world.db.pool.acquire().await.unwrap();
    let upgrade = serde_json::json!({"step": "control plane"});
    let (workers, job) = leased(&world.db.pool).await;
    let progress = Progress { upgrade: &upgrade, operation_id: Some("op-1"), message: Some("Step 1") };
    runs::save_upgrade(&mut conn, &job, world.run, &running[0], progress).await.unwrap();
    let late = Member { attempt: 9, ..running[0].clone() };
    let other = serde_json::json!({"step": "other"});
    let of_other = Progress { upgrade: &other, operation_id: None, message: None };
    runs::save_upgrade(&mut conn, &job, world.run, &late, of_other).await.unwrap();
    work::cancel(&mut conn, KIND, "leased").await.unwrap();
    let without_lease = runs::save_upgrade(&mut conn, &job, world.run, &running[0], of_other).await;
    assert!(matches!(without_lease, Err(FenceError::LeaseLost)), "{without_lease:?}");
    workers.crash().await;
    let kept = runs::member(&mut conn, world.run, running[0].index).await.unwrap().unwrap();
    assert_eq!((kept.upgrade, kept.operation_id.as_deref()), (Some(upgrade), Some("op-1")));

    let blocked = Event::MemberBlocked {
        member: running[1].clone(),
        attempt: 1,
        error: ErrorDetail::new("ClusterStopped", "off"),
        message: Some("start it".to_owned()),
    };
    assert_eq!(world.raise(blocked).await.len(), 1, "the next one has the slot");
    let failed = Outcome::Failed { error: error(), message: None };
    world.raise(Event::MemberEnded { member: running[0].clone(), attempt: 1, outcome: failed }).await;
    assert_eq!(world.state().await, UpdateState::Stopping);
    assert!(matches!(world.try_raise(Event::Start, now()).await, Err(Refused::Conflict(_))));
    world.tallies_hold().await;
    assert!(runs::fleet_has_running_member(&mut conn, world.fleet).await.unwrap());
    for member in world.in_state("Running").await {
        world.complete(member).await;
    }
    let status = world.status().await;
    assert_eq!(status.status.state, UpdateState::Failed);
    assert_eq!(status.failure_count, Some(1));
    let row = &status.stages[0].groups[1].members[1];
    assert_eq!((row.status.state, row.message.as_deref()), (UpdateState::Stopped, Some("start it")));
    assert!(!runs::fleet_has_running_member(&mut conn, world.fleet).await.unwrap());

    assert!(matches!(
        world.skip(vec![SkipTarget::Member("b-00001".to_owned()), SkipTarget::Group("?".to_owned())]).await,
        Err(Refused::BadRequest(_))
    ));
    world.skip(vec![SkipTarget::Member("b-00001".to_owned())]).await.unwrap();
    world.tallies_hold().await;
    let effects = world.raise(Event::Start).await;
    assert_eq!(effects, [Effect::Upgrade { member: 0, name: "b-00000".to_owned(), attempt: 2 }]);
    let again = runs::member(&mut conn, world.run, 0).await.unwrap().unwrap();
    assert_eq!((again.upgrade, again.error, again.operation_id.as_deref()), (None, None, Some("op-1")));
    // A report of the first attempt is out of date now.
    world.raise(Event::MemberEnded { member: running[0].clone(), attempt: 1, outcome: completed() }).await;
    assert_eq!(world.in_state("Running").await.len(), 1);
    assert_eq!(runs::running_count(&mut conn, world.run).await.unwrap(), 1);
    world.tallies_hold().await;
}

#[tokio::test]
async fn a_new_plan_keeps_skipped_members_and_is_refused_after_the_start() {
    let world = World::of(&planned([2, 2, 2])).await;
    world.skip(vec![SkipTarget::Member("a-00001".to_owned()), SkipTarget::Stage("s2".to_owned())]).await.unwrap();
    let mut conn = world.db.pool.acquire().await.unwrap();
    assert!(engine::replace_plan(&mut conn, world.run, &planned([3, 1, 2]), now()).await.unwrap());
    let status = world.status().await;
    let states = |group: usize| -> Vec<UpdateState> {
        status.stages[0].groups[group].members.iter().map(|m| m.status.state).collect()
    };
    assert_eq!(states(0), [UpdateState::NotStarted, UpdateState::Skipped, UpdateState::NotStarted]);
    assert_eq!(states(1), [UpdateState::NotStarted]);
    assert_eq!(status.stages[1].status.state, UpdateState::Skipped);
    assert_eq!(status.stages[1].after_stage_wait_status.as_ref().unwrap().status.state, UpdateState::Skipped);
    world.tallies_hold().await;
    world.raise(Event::Start).await;
    assert!(!engine::replace_plan(&mut conn, world.run, &planned([1, 1, 1]), now()).await.unwrap());
}

#[tokio::test]
async fn concurrent_steps_are_serialised() {
    let strategy = UpdateRunStrategy {
        stages: vec![UpdateStage { name: "s".to_owned(), groups: vec![group("g", "8")], ..UpdateStage::default() }],
    };
    let world = World::of(&plan(Some(&strategy), &members(&[("g", 40)])).unwrap()).await;
    world.raise(Event::Start).await;
    loop {
        let running = world.in_state("Running").await;
        if running.is_empty() {
            break;
        }
        // Every event twice, all in one step.
        futures_util::future::join_all(running.iter().chain(&running).map(|m| world.complete(m.clone()))).await;
        world.tallies_hold().await;
    }
    assert_eq!(world.state().await, UpdateState::Completed);
    let attempts: i64 =
        sqlx::query_scalar("SELECT sum(attempt) FROM run_members").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(attempts, 40);
}

/// Events in one step have the same result as single steps: in any order, over stages, failures and queues.
#[tokio::test]
async fn events_in_one_step_have_the_result_of_single_steps() {
    let plan = planned([5, 7, 9]);
    let (one_by_one, together) = (World::of(&plan).await, World::of(&plan).await);
    for world in [&one_by_one, &together] {
        world.raise(Event::Start).await;
        world.approve_all().await;
    }
    for round in 0.. {
        assert!(round < 30, "the run does not end");
        for world in [&one_by_one, &together] {
            world.approve_all().await;
        }
        let running = one_by_one.in_state("Running").await;
        assert_eq!(running, together.in_state("Running").await, "round {round}");
        if running.is_empty() {
            break;
        }
        let ended = |(n, member): (usize, Member)| Event::MemberEnded {
            attempt: member.attempt,
            outcome: match (round + n) % 4 {
                0 => Outcome::Skipped { message: "nothing to do".to_owned() },
                _ => Outcome::Completed { message: None },
            },
            member,
        };
        let events: Vec<Event> = running.into_iter().enumerate().map(ended).collect();
        let mut effects = Vec::new();
        for event in events.clone() {
            effects.extend(one_by_one.raise(event).await);
        }
        let mut tx = together.db.pool.begin().await.unwrap();
        let advanced = engine::advance_all(&mut tx, together.run, events, now()).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let upgrades = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Upgrade { .. })).count();
        assert_eq!(upgrades(&effects), upgrades(&advanced.effects), "round {round}");
        let (mut one, mut other) = (one_by_one.status().await, together.status().await);
        for status in [&mut one, &mut other] {
            for stage in &mut status.stages {
                // Gates of different runs have different names.
                stage.after_gates.clear();
                stage.before_gates.clear();
                stage.groups.iter_mut().for_each(|group| group.before_gates.clear());
            }
        }
        assert_eq!(one, other, "round {round}");
    }
    assert_eq!(one_by_one.state().await, together.state().await);
}

/// Rows written and read on this connection so far.
async fn touched(conn: &mut Connection) -> (i64, i64) {
    sqlx::query_as(
        "SELECT sum(n_tup_upd + n_tup_ins + n_tup_del)::bigint, sum(seq_tup_read + idx_tup_fetch)::bigint
         FROM pg_stat_xact_user_tables WHERE relname LIKE 'run\\_%' OR relname = 'update_runs'",
    )
    .fetch_one(conn)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_member_step_touches_a_handful_of_rows_of_ten_thousand() {
    let world = World::of(&planned([2000, 6000, 2000])).await;
    world.raise(Event::Start).await;
    for round in 0..12 {
        let member = world.in_state("Running").await.remove(0);
        let mut tx = world.db.pool.begin().await.unwrap();
        let event = Event::MemberEnded { attempt: 1, member, outcome: completed() };
        let before = touched(&mut tx).await;
        engine::advance(&mut tx, world.run, event, now()).await.unwrap().unwrap();
        let after = touched(&mut tx).await;
        let (written, read) = (after.0 - before.0, after.1 - before.1);
        assert!(written <= 4, "{written} rows written in round {round}");
        assert!(read <= 60, "{read} rows read in round {round}");
        tx.commit().await.unwrap();
        if round == 6 {
            // The same with statistics, and with generic plans, which do not depend on the parameters.
            sqlx::query("ANALYZE").execute(&world.db.pool).await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_statement_has_an_index() {
    let world = World::of(&planned([3, 3, 3])).await;
    let (workers, job) = leased(&world.db.pool).await;
    let mut tx = world.db.pool.begin().await.unwrap();
    sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *tx).await.unwrap();
    let targets = vec![SkipTarget::Member("a-00002".to_owned()), SkipTarget::AfterStageWait("s2".to_owned())];
    for event in [Event::Skip { targets, members: vec![] }, Event::Start, Event::Planned, Event::Stop] {
        engine::advance(&mut tx, world.run, event, now()).await.unwrap().unwrap();
    }
    let member = runs::member(&mut tx, world.run, 3).await.unwrap().unwrap();
    runs::members_to_rank(&mut tx, world.run).await.unwrap();
    let ranked = RankedMember { index: 3, rank: WindowRank::Open, until: now() };
    runs::rank_members(&mut tx, world.run, &[ranked]).await.unwrap();
    let cluster = ResourceId::in_group("s", "g", "N", "t", "c");
    let by = Holder { run_id: world.run, member: 3 };
    let upgrade = serde_json::json!({});
    let progress = Progress { upgrade: &upgrade, operation_id: None, message: None };
    runs::save_upgrade(&mut tx, &job, world.run, &member.member, progress).await.unwrap();
    runs::try_lock_cluster(&mut tx, &cluster, by, now()).await.unwrap();
    let unread = runs::task(&mut tx, world.run, 3).await;
    assert!(unread.is_err(), "the run of this test has no properties, and the statement was executed");
    let (member, cluster_id) = (&member.member, &cluster);
    let ended = Ended { job, member, cluster: cluster_id, upgrade: &upgrade, operation_id: None };
    assert_eq!(runs::finish_upgrades(&mut tx, world.run, &[ended]).await.unwrap().len(), 1);
    runs::unlock_cluster(&mut tx, &cluster, by).await.unwrap();
    runs::runs_of_member(&mut tx, world.fleet, "b-00001").await.unwrap();
    runs::fleet_has_running_member(&mut tx, world.fleet).await.unwrap();
    runs::running_count(&mut tx, world.run).await.unwrap();
    runs::statuses(&mut tx, &[world.run], &fleet_id()).await.unwrap();
    runs::select_images(&mut tx, world.run, &[NodeImageVersion { version: "i-1".to_owned() }]).await.unwrap();
    assert_eq!(runs::selected_images(&mut tx, world.run).await.unwrap().len(), 1);
    sqlx::query("DELETE FROM resources WHERE id = $1").bind(world.run).execute(&mut *tx).await.unwrap();
    assert_eq!(scanned(&mut tx).await, [] as [String; 0]);
    sqlx::query("SELECT FROM run_members WHERE message = ''").execute(&mut *tx).await.unwrap();
    assert_eq!(scanned(&mut tx).await, ["run_members"], "scans are counted");
    tx.rollback().await.unwrap();
    workers.crash().await;
}

async fn scanned(conn: &mut Connection) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT relname::text FROM pg_stat_xact_user_tables WHERE seq_scan > 0
             AND (relname LIKE 'run\\_%' OR relname IN ('update_runs', 'cluster_locks'))",
    )
    .fetch_all(conn)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_cluster_is_locked_by_one_member_at_a_time() {
    let world = World::of(&planned([4, 4, 4])).await;
    let cluster = ResourceId::in_group("S", "Rg", "N", "managedClusters", "Aks-1");
    let lock = |member: u32| {
        let (pool, cluster, by) = (world.db.pool.clone(), cluster.clone(), Holder { run_id: world.run, member });
        async move { runs::try_lock_cluster(&mut pool.acquire().await.unwrap(), &cluster, by, now()).await.unwrap() }
    };
    let results = futures_util::future::join_all((0..8).map(lock)).await;
    let winners: Vec<usize> = (0..8).filter(|i| results[*i].is_none()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    let by = Holder { run_id: world.run, member: winners[0] as u32 };
    assert!(results.iter().flatten().all(|holder| *holder == by));
    assert_eq!(lock(by.member).await, None, "locking again is harmless");
    let mut conn = world.db.pool.acquire().await.unwrap();
    let other = Holder { member: (by.member + 1) % 8, ..by };
    runs::unlock_cluster(&mut conn, &cluster, other).await.unwrap();
    assert_eq!(lock(other.member).await, Some(by), "only the holder unlocks");
    runs::unlock_cluster(&mut conn, &cluster, by).await.unwrap();
    assert_eq!(lock(other.member).await, None);
}

#[tokio::test]
async fn constraints_refuse_invalid_rows() {
    let world = World::of(&planned([1, 1, 1])).await;
    for change in [
        "update_runs SET state = 'Done'",
        "update_runs SET state = 'Completed', start_time = now()",
        "update_runs SET state = 'Running'",
        "update_runs SET state = 'Failed', start_time = now(), completed_time = now()",
        "update_runs SET completed_time = now()",
        "update_runs SET selected_images = '{}'",
        "run_stages SET wait_state = NULL WHERE wait_state IS NOT NULL",
        "run_stages SET wait_state = 'Completed'",
        "run_stages SET max_concurrency = 0",
        "run_groups SET running = max_concurrency + 1",
        "run_groups SET not_started = -1",
        "run_members SET state = 'Stopping', start_time = now(), attempt = 1",
        "run_members SET state = 'Pending', start_time = now(), attempt = 1",
        "run_members SET state = 'Skipped', completed_time = now()",
        "run_members SET state = 'Running', start_time = now()",
        "run_members SET error = '{}'",
        "run_gates SET state = 'Running', start_time = now()",
        "run_gates SET timing = 'During'",
    ] {
        let result = sqlx::query(AssertSqlSafe(format!("UPDATE {change}"))).execute(&world.db.pool).await;
        assert!(result.is_err(), "{change}");
    }
}

#[tokio::test]
async fn a_member_that_leaves_is_found_in_its_runs_and_skipped() {
    let world = World::of(&planned([1, 3, 1])).await;
    let mut conn = world.db.pool.acquire().await.unwrap();
    let found = runs::runs_of_member(&mut conn, world.fleet, "c-00000").await.unwrap();
    assert_eq!(found.iter().map(|(run, m)| (*run, m.name.as_str())).collect::<Vec<_>>(), [(world.run, "c-00000")]);
    assert!(runs::runs_of_member(&mut conn, world.run, "c-00000").await.unwrap().is_empty(), "another fleet's");
    world.raise(Event::MemberLeft { member: found[0].1.clone() }).await;
    assert!(runs::runs_of_member(&mut conn, world.fleet, "c-00000").await.unwrap().is_empty());
    let status = world.status().await;
    assert_eq!(status.stages[1].groups[0].members[0].message.as_deref(), Some("skipped: the member left the fleet."));
    assert_eq!(status.stages[1].status.state, UpdateState::Skipped);
    world.tallies_hold().await;
}

/// A fixed sequence of events: the properties of the pure state machine hold for the real store.
#[tokio::test]
async fn rows_stay_valid_and_the_run_ends_for_any_events() {
    for seed in 1..=6_u64 {
        let world = World::of(&planned([4, 5, 6])).await;
        let mut random = seed;
        let mut draw = |n: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % n
        };
        for _ in 0..120 {
            let running = world.in_state("Running").await;
            let pending = world.in_state("Pending").await;
            let one = |of: &[Member], n: usize| of.get(n % of.len().max(1)).cloned();
            let (kind, n) = (draw(12), draw(64));
            let event = match kind {
                0 => Some(Event::Start),
                1 => Some(Event::Planned),
                2 => (n % 4 == 0).then_some(Event::Stop),
                3 | 4 => {
                    one(&running, n).map(|m| Event::MemberEnded { attempt: m.attempt, member: m, outcome: completed() })
                }
                5 => one(&running, n).map(|m| {
                    let outcome = Outcome::Failed { error: error(), message: Some("see there".to_owned()) };
                    Event::MemberEnded { attempt: m.attempt, member: m, outcome }
                }),
                6 => one(&running, n).map(|m| {
                    let outcome = Outcome::Skipped { message: "at the target".to_owned() };
                    Event::MemberEnded { attempt: m.attempt, member: m, outcome }
                }),
                7 => one(&running, n).map(|m| Event::MemberBlocked {
                    attempt: m.attempt,
                    member: m,
                    error: error(),
                    message: None,
                }),
                8 => one(&pending, n).map(|m| Event::MemberUnblocked { attempt: m.attempt, member: m }),
                9 => (n % 3 == 0).then(|| {
                    let name = format!("{}-{:05}", ["a", "b", "c"][n % 3], n % 4);
                    Event::Skip { targets: vec![SkipTarget::Member(name)], members: vec![] }
                }),
                10 => (n % 16 == 0)
                    .then(|| Event::Skip { targets: vec![SkipTarget::Group("a".to_owned())], members: vec![] }),
                _ => {
                    world.approve_all().await;
                    None
                }
            };
            if let Some(event) = event {
                // Whether the event is refused or not, the stored run satisfies the properties.
                let _ = world.try_raise(event, now()).await;
            }
            world.tallies_hold().await;
        }
        for round in 0.. {
            assert!(round < 100, "does not end: {:?}", world.status().await);
            match world.state().await {
                UpdateState::Completed | UpdateState::Skipped => break,
                UpdateState::NotStarted | UpdateState::Stopped | UpdateState::Failed => {
                    drop(world.raise(Event::Start).await)
                }
                UpdateState::Running | UpdateState::Pending | UpdateState::Stopping => {
                    world.raise(Event::Planned).await;
                    for member in world.in_state("Running").await {
                        world.complete(member).await;
                    }
                    for member in world.in_state("Pending").await {
                        world.raise(Event::MemberUnblocked { attempt: member.attempt, member }).await;
                    }
                    world.approve_all().await;
                    world
                        .try_raise(Event::WaitElapsed { stage: 1 }, now() + SignedDuration::from_hours(1))
                        .await
                        .unwrap();
                }
            }
        }
    }
}
