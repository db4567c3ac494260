//! The pure room of update runs at 10,000 members: planning, and the step that one member's end leads to. The floor of a
//! step is the copy of the snapshot that it answers with.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fleet_manager::{
    model::{
        maintenance::MaintenanceConfiguration,
        strategy::UpdateRunStrategy,
        update_run::{ManagedClusterUpgradeType, UpdateState, UpdateStatus},
    },
    rollout::{self, Event, FleetMember, Group, Member, Outcome, Run, Stage, Tally, upgrade::window_standing},
};
use jiff::Timestamp;
use serde_json::json;

const MEMBERS: u32 = 10_000;
const GROUPS: u32 = 25;

fn running() -> UpdateStatus {
    UpdateStatus {
        start_time: Some(Timestamp::UNIX_EPOCH),
        completed_time: None,
        state: UpdateState::Running,
        error: None,
    }
}

/// A run in progress: in every group two members are in flight, and the queue holds as many members as a step can start.
fn snapshot() -> Run {
    let members = MEMBERS / GROUPS;
    let groups = (0..GROUPS).map(|group| {
        let first = group * members;
        Group {
            index: group,
            name: format!("group-{group}"),
            status: running(),
            max_concurrency: 2,
            max_allowed_failures: 0,
            before: Vec::new(),
            after: Vec::new(),
            tally: Tally { not_started: members / 2 - 2, running: 2, completed: members / 2, ..Tally::default() },
            queue: (0..4).map(|n| member(first + members / 2 + 2 + n, group, UpdateState::NotStarted)).collect(),
        }
    });
    let stage = Stage {
        index: 0,
        name: "all".to_owned(),
        status: running(),
        max_concurrency: 50,
        max_allowed_failures: 0,
        before: Vec::new(),
        after: Vec::new(),
        wait: None,
        groups: groups.collect(),
    };
    Run { status: running(), starting: false, stop_requested: false, stages: vec![stage] }
}

fn member(index: u32, group: u32, state: UpdateState) -> Member {
    let attempt = u32::from(state != UpdateState::NotStarted);
    Member { index, name: format!("member-{index}"), group, state, attempt }
}

fn advance(criterion: &mut Criterion) {
    let (run, now) = (snapshot(), Timestamp::UNIX_EPOCH);
    let ended = member(MEMBERS / GROUPS / 2, 0, UpdateState::Running);
    let event = Event::MemberEnded { member: ended, attempt: 1, outcome: Outcome::Completed { message: None } };
    let step = rollout::advance(&run, &event, now).ok();
    assert!(step.is_some_and(|step| step.effects.len() == 1), "the end of a member starts the next one");
    let mut group = criterion.benchmark_group("advance, 10,000 members");
    group.bench_function("floor: copy of the snapshot", |bencher| bencher.iter(|| black_box(&run).clone()));
    group.bench_function("a member ended", |bencher| {
        bencher.iter(|| rollout::advance(black_box(&run), black_box(&event), now));
    });
    group.finish();
}

/// Members of 25 groups, in 40 regions and 3 environments.
fn members() -> Vec<FleetMember> {
    let labels = |n: u32| {
        let region = ("fleet.azure.com/location".to_owned(), format!("region-{}", n % 40));
        let name = ("fleet.azure.com/member-name".to_owned(), format!("member-{n}"));
        let env = ("env".to_owned(), ["dev", "test", "prod"][(n % 3) as usize].to_owned());
        [region, name, env].into()
    };
    let member = |n| FleetMember {
        name: format!("member-{n}"),
        cluster_resource_id: format!(
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/aks-{n}"
        ),
        group: Some(format!("group-{}", n % GROUPS)),
        labels: labels(n),
    };
    (0..MEMBERS).map(member).collect()
}

/// How many members a strategy of these stages updates.
fn updated(strategy: Option<&UpdateRunStrategy>, members: &[FleetMember]) -> usize {
    let planned = rollout::plan(strategy, members).ok();
    let groups = planned.iter().flat_map(|plan| &plan.stages).flat_map(|stage| &stage.groups);
    groups.flat_map(|group| &group.members).filter(|member| member.repeats.is_none()).count()
}

fn plan(criterion: &mut Criterion) {
    let members = members();
    let read = |stages| serde_json::from_value::<UpdateRunStrategy>(json!({"stages": stages})).ok();
    let groups: Vec<_> = (0..GROUPS).map(|n| json!({"name": format!("group-{n}"), "maxConcurrency": "2"})).collect();
    let by_group = read(json!([{"name": "all", "groups": groups}]));
    // The most stages and groups that are allowed. They overlap: the last stage has all members that no earlier stage has.
    let group = |stage: u32, n: u32| {
        let text =
            format!("fleet.azure.com/location in (region-{n},region-{}),env notin (dev,test),!drained", stage % 40);
        json!({"name": format!("s{stage}g{n}"), "maxConcurrency": "2", "memberSelector": {"byLabel": text}})
    };
    let stage = |n: u32| {
        let groups: Vec<_> = (0..50).map(|g| group(n, g)).collect();
        json!({"name": format!("s{n}"), "memberSelector": {"byLabel": "env"}, "groups": groups})
    };
    let mut stages: Vec<_> = (0..49).map(stage).collect();
    stages.push(json!({"name": "rest", "memberSelector": {"byLabel": "fleet.azure.com/member-name"}}));
    let by_label = read(json!(stages));
    assert_eq!(updated(by_group.as_ref(), &members), 10_000);
    assert_eq!(updated(by_label.as_ref(), &members), 10_000);
    let mut group = criterion.benchmark_group("plan, 10,000 members");
    group.bench_function("floor: sorted copy of the members", |bencher| {
        bencher.iter(|| {
            let mut members = black_box(&members).clone();
            members.sort_by(|a, b| a.name.cmp(&b.name));
            members
        });
    });
    group.bench_function("by group", |bencher| {
        bencher.iter(|| rollout::plan(black_box(by_group.as_ref()), &members));
    });
    group.bench_function("by 2,500 overlapping selectors", |bencher| {
        bencher.iter(|| rollout::plan(black_box(by_label.as_ref()), &members));
    });
    // A time at which all windows are closed for some days.
    let (windows, now) = (windows(), Timestamp::constant(1_703_376_000, 0));
    group.bench_function("plan, ordered by maintenance windows", |bencher| {
        bencher.iter(|| {
            let Ok(mut plan) = rollout::plan(black_box(by_group.as_ref()), &members) else { return None };
            plan.order(|member| {
                let of = windows
                    .get(member.name.bytes().map(usize::from).sum::<usize>() % windows.len())
                    .map_or(&[][..], std::slice::from_ref);
                window_standing(black_box(of), ManagedClusterUpgradeType::Full, now)
            });
            Some(plan)
        });
    });
    group.finish();
}

/// One window of each kind, closed, with days that are not allowed.
fn windows() -> Vec<MaintenanceConfiguration> {
    let schedules = [
        json!({"daily": {"intervalDays": 3}}),
        json!({"weekly": {"intervalWeeks": 2, "dayOfWeek": "Sunday"}}),
        json!({"absoluteMonthly": {"intervalMonths": 3, "dayOfMonth": 31}}),
        json!({"relativeMonthly": {"intervalMonths": 1, "weekIndex": "Last", "dayOfWeek": "Friday"}}),
    ];
    let configuration = |schedule| {
        json!({"name": "aksManagedAutoUpgradeSchedule", "properties": {"maintenanceWindow": {
            "schedule": schedule, "startDate": "2023-01-01", "startTime": "02:00", "durationHours": 4, "utcOffset": "-07:00",
            "notAllowedDates": [{"start": "2023-01-01", "end": "2023-01-15"}, {"start": "2023-12-23", "end": "2024-01-05"}]}}})
    };
    let read: Vec<MaintenanceConfiguration> = schedules.map(configuration).map(Into::into).into();
    assert!(read.iter().all(|configuration| configuration.window.is_ok()));
    read
}

criterion_group!(benches, advance, plan);
criterion_main!(benches);
