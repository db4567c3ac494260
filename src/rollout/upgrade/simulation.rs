//! A small AKS, and a worker that is killed between any two of its steps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    managed_cluster::{AgentPool, Catalogue, OfferedVersion, ProvisioningState, Subject},
    update_run::ManagedClusterUpgradeType::{self, ControlPlaneOnly, Full, NodeImageOnly},
    version::KubernetesVersion,
};

const IMAGES: [&str; 4] = ["202508.20.1", "202509.11.0", "202510.03.0", "202510.29.0"];

pub(super) fn version(text: &str) -> KubernetesVersion {
    text.parse().unwrap()
}

pub(super) fn pool(name: &str, version: &str, image: &str) -> AgentPool {
    AgentPool {
        name: name.to_owned(),
        etag: None,
        os_type: "Linux".to_owned(),
        image: Some(NodeImage::new(image)),
        orchestrator_version: Some(version.to_owned()),
        current_orchestrator_version: Some(version.to_owned()),
        provisioning_state: ProvisioningState::Succeeded,
        provisioning_error: None,
        stopped: false,
        from_snapshot: false,
        vm_size: "Standard_D4s_v5".to_owned(),
        count: 3,
    }
}

pub(super) fn cluster(version: &str, pools: Vec<AgentPool>) -> ManagedCluster {
    ManagedCluster {
        id: "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c".to_owned(),
        location: "eastus".to_owned(),
        etag: None,
        tenant_id: None,
        provisioning_state: ProvisioningState::Succeeded,
        provisioning_error: None,
        stopped: false,
        kubernetes_version: Some(version.to_owned()),
        current_kubernetes_version: Some(version.to_owned()),
        long_term_support: false,
        node_auto_provisioning: false,
        auto_upgrade: false,
        pools,
    }
}

pub(super) fn catalogue() -> Catalogue {
    let offer = |text: &str| OfferedVersion {
        version: version(text),
        preview: text == "1.34.0",
        long_term_only: text.starts_with("1.29"),
        long_term: text.starts_with("1.29"),
        upgrades: vec![],
    };
    let versions = ["1.29.9", "1.30.1", "1.31.1", "1.31.4", "1.32.5", "1.32.7", "1.33.2", "1.33.5", "1.34.0"];
    Catalogue {
        versions: versions.map(offer).to_vec(),
        latest: ["U", "W"].map(|family| (family.to_owned(), NodeImage::new(format!("{family}-{}", IMAGES[3])))).into(),
        recently_used: BTreeMap::new(),
        snapshots: Vec::new(),
    }
}

pub(super) fn at() -> Timestamp {
    "2025-11-01T00:00:00Z".parse().unwrap()
}

struct Operation {
    ticks_left: u8,
    fails: bool,
    image: Option<NodeImage>,
}

/// AKS as far as upgrades go. Keys: `None` is the cluster, else a pool.
struct Aks {
    cluster: ManagedCluster,
    operations: BTreeMap<Option<String>, (u32, Operation)>,
    ended: BTreeMap<u32, bool>,
    calls: Vec<UpgradeAction>,
    serial: u32,
    catalogue: Catalogue,
}

impl Aks {
    fn new(mut cluster: ManagedCluster) -> Self {
        cluster.etag = Some("e0".to_owned());
        cluster.pools.iter_mut().for_each(|pool| pool.etag = Some("e0".to_owned()));
        let catalogue = catalogue();
        Self { cluster, operations: BTreeMap::new(), ended: BTreeMap::new(), calls: vec![], serial: 0, catalogue }
    }

    fn show(&mut self, part: &Option<String>, state: &str, error: Option<ErrorDetail>) {
        self.serial += 1;
        let etag = Some(format!("e{}", self.serial));
        let (own_state, own_etag, own_error) = match part {
            None => {
                (&mut self.cluster.provisioning_state, &mut self.cluster.etag, &mut self.cluster.provisioning_error)
            }
            Some(name) => {
                let pool = self.cluster.pools.iter_mut().find(|pool| pool.name == *name).unwrap();
                (&mut pool.provisioning_state, &mut pool.etag, &mut pool.provisioning_error)
            }
        };
        (*own_state, *own_etag, *own_error) = (ProvisioningState::from(state.to_owned()), etag, error);
    }

    fn is_free(&self, part: &Option<String>) -> bool {
        match part {
            None => self.operations.is_empty(),
            Some(_) => !self.operations.contains_key(&None) && !self.operations.contains_key(part),
        }
    }

    /// Somebody else's operation, if AKS lets it begin.
    fn disturb(&mut self, part: Option<String>, ticks: u8, fails: bool) {
        if self.is_free(&part) {
            self.begin(part, "Scaling", Operation { ticks_left: ticks, fails, image: None });
        }
    }

    fn begin(&mut self, part: Option<String>, state: &str, operation: Operation) -> u32 {
        self.show(&part, state, None);
        self.operations.insert(part, (self.serial, operation));
        self.serial
    }

    /// The call of a worker. Breaking a rule of AKS's is a bug of the caller's.
    fn call(&mut self, action: &UpgradeAction, ticks: u8, fails: bool) -> u32 {
        let part = action.pool().map(str::to_owned);
        assert!(self.is_free(&part), "{action} while busy");
        assert!(!self.cluster.stopped);
        self.calls.push(action.clone());
        let (mut image, mut state) = (None, "Upgrading");
        let control_plane = self.cluster.version().unwrap();
        let own = part.as_ref().map(|name| self.cluster.pools.iter_mut().find(|pool| pool.name == *name).unwrap());
        let newest = |pool: &AgentPool| self.catalogue.latest.get(pool.image.as_ref().unwrap().family()).cloned();
        match action {
            UpgradeAction::ControlPlane { kubernetes_version } => {
                let to = version(kubernetes_version);
                assert!(to >= control_plane && to.minor <= control_plane.minor + 1, "{control_plane} to {to}");
                assert!(self.catalogue.offer(to).is_some() || to == control_plane);
                assert!(self.cluster.pools.iter().all(|pool| pool.version().unwrap().minor + 3 >= to.minor));
                self.cluster.kubernetes_version = Some(kubernetes_version.clone());
                self.cluster.current_kubernetes_version = Some(kubernetes_version.clone());
            }
            UpgradeAction::Cluster { kubernetes_version, pools } => {
                let to = version(kubernetes_version);
                assert!(to >= control_plane && to.minor <= control_plane.minor + 1, "{control_plane} to {to}");
                self.cluster.kubernetes_version = Some(kubernetes_version.clone());
                self.cluster.current_kubernetes_version = Some(kubernetes_version.clone());
                for pool in self.cluster.pools.iter_mut().filter(|pool| pools.contains(&pool.name)) {
                    assert!(to >= pool.version().unwrap());
                    pool.orchestrator_version = Some(kubernetes_version.clone());
                    pool.current_orchestrator_version = Some(kubernetes_version.clone());
                    pool.image = self.catalogue.latest.get(pool.image.as_ref().unwrap().family()).cloned();
                }
            }
            UpgradeAction::PoolVersion { kubernetes_version, image: chosen, snapshot, .. } => {
                assert_eq!(chosen.is_some(), snapshot.is_some(), "no pool ran anything before");
                let (to, pool) = (version(kubernetes_version), own.unwrap());
                assert!(to >= pool.version().unwrap() && to <= control_plane);
                image = chosen.clone().or_else(|| newest(pool));
                pool.orchestrator_version = Some(kubernetes_version.clone());
                pool.current_orchestrator_version = Some(kubernetes_version.clone());
            }
            UpgradeAction::NewestImage { .. } => {
                (image, state) = (newest(own.unwrap()), "UpgradingNodeImageVersion");
            }
            UpgradeAction::ChosenImage { image: chosen, .. } => image = Some(chosen.clone()),
        }
        if let (Some(image), Some(pool)) = (&image, part.as_ref().and_then(|name| self.cluster.pool(name))) {
            assert!(image.is_at_least(pool.image.as_ref().unwrap()), "{image} is older");
        }
        self.begin(part, state, Operation { ticks_left: ticks, fails, image })
    }

    fn tick(&mut self) {
        for (_, operation) in self.operations.values_mut() {
            operation.ticks_left = operation.ticks_left.saturating_sub(1);
        }
        let over: Vec<_> =
            self.operations.iter().filter(|(_, (_, op))| op.ticks_left == 0).map(|(part, _)| part.clone()).collect();
        for part in over {
            let (id, operation) = self.operations.remove(&part).unwrap();
            self.ended.insert(id, operation.fails);
            let error = operation.fails.then(|| ErrorDetail::new("PodDrainFailure", "pdb default/web"));
            self.show(&part, if operation.fails { "Failed" } else { "Succeeded" }, error);
            if let (Some(name), Some(image)) = (part, operation.image) {
                // A failed operation leaves what looks done.
                self.cluster.pools.iter_mut().find(|pool| pool.name == name).unwrap().image = Some(image);
            }
        }
    }
}

/// What befalls the worker and AKS during one round.
#[derive(Debug, Clone)]
struct Round {
    /// Killed: 1 after the intent, 2 after the call, 3 answer lost, 4 operation no longer known; else not.
    kill: u8,
    /// Somebody else's operation: on the cluster (0), a pool (1–3), none.
    foreign: u8,
    /// Somebody else is faster than the call: AKS answers that it is busy.
    race: bool,
    ticks: u8,
    fails: bool,
    /// The maintenance window is closed.
    closed: bool,
}

/// Runs one attempt to its end; returns the outcome. What is durable is only `upgrade`.
fn attempt(aks: &mut Aks, goal: &Goal, rounds: &[Round]) -> Outcome {
    let mut upgrade = Upgrade::default();
    let quiet = Round { kill: 0, foreign: 9, race: false, ticks: 1, fails: false, closed: false };
    let calls_before = aks.calls.len();
    let alone = rounds.iter().all(|round| round.foreign == 9);
    for round in rounds.iter().chain(std::iter::repeat_n(&quiet, 100)) {
        if round.foreign < 4 {
            let part = round.foreign.checked_sub(1).and_then(|n| aks.cluster.pools.get(usize::from(n)));
            if round.foreign == 0 || part.is_some() {
                aks.disturb(part.map(|pool| pool.name.clone()), round.ticks, round.fails);
            }
        }
        // It is a record in a database.
        upgrade = serde_json::from_str(&serde_json::to_string(&upgrade).unwrap()).unwrap();
        match next(&upgrade, &aks.cluster, goal, &aks.catalogue, at()) {
            Next::Done(outcome) => return outcome,
            Next::Blocked { error, .. } => assert_eq!(error.code, "ClusterOperationInProgress"),
            Next::Begin(begin) => {
                assert!(!begin.actions.is_empty());
                // Windows bar the beginning, and nothing that follows from it.
                let known = |step: &Step| !matches!(step.state, StepState::Intended | StepState::Withdrawn);
                assert!(!begin.first || !upgrade.steps.iter().any(known));
                assert!(!alone || begin.first == (aks.calls.len() == calls_before));
                if begin.first && round.closed {
                    aks.tick();
                    continue;
                }
                let steps = upgrade.intend(&begin, &aks.cluster, at());
                for (index, action) in steps.into_iter().zip(&begin.actions) {
                    if round.kill == 1 {
                        break;
                    }
                    if round.race {
                        aks.disturb(action.pool().map(str::to_owned), round.ticks, round.fails);
                        upgrade.withdraw(index);
                        continue;
                    }
                    let id = aks.call(action, round.ticks, round.fails);
                    if round.kill == 2 {
                        break;
                    }
                    if round.kill != 3 {
                        upgrade.started(index, Some(id.to_string()), Some(id.to_string()), at());
                    }
                }
            }
            Next::Follow(watches) => {
                assert!(!watches.is_empty());
                for watch in watches {
                    let (Some(step), Some(url)) = (watch.step, watch.operation_url) else { continue };
                    match aks.ended.get(&url.parse().unwrap()) {
                        _ if round.kill == 4 => upgrade.lost(step),
                        Some(true) => upgrade.ended(step, Err(ErrorDetail::new("PodDrainFailure", "pdb"))),
                        Some(false) => upgrade.ended(step, Ok(())),
                        None => {}
                    }
                }
            }
        }
        aks.tick();
    }
    panic!("does not end: {upgrade:#?} {:#?}", aks.cluster);
}

fn calls_by_subject(calls: &[UpgradeAction]) -> BTreeMap<Subject<'_>, usize> {
    calls.iter().fold(BTreeMap::new(), |mut counts, action| {
        *counts.entry(action.subject()).or_default() += 1;
        counts
    })
}

fn any_round(foreign: bool, fails: bool) -> impl Strategy<Value = Round> {
    let often = || prop::bool::weighted(0.2);
    let parts = (0_u8..6, 0_u8..12, often(), 1_u8..4, often(), any::<bool>());
    parts.prop_map(move |(kill, other, race, ticks, bad, closed)| Round {
        closed,
        kill,
        race: foreign && race,
        foreign: if foreign { other } else { 9 },
        ticks,
        fails: fails && bad,
    })
}

fn any_cluster() -> impl Strategy<Value = ManagedCluster> {
    let versions = ["1.30.1", "1.31.4", "1.32.5", "1.32.7", "1.33.2"];
    let any_pool = (0..5_usize, 0..4_usize, any::<bool>());
    (1..5_usize, prop::collection::vec(any_pool, 0..4), any::<bool>()).prop_map(move |(own, pools, auto_upgrade)| {
        let pools = pools.into_iter().enumerate().map(|(n, (behind, image, windows))| {
            let family = if windows { "W" } else { "U" };
            pool(&format!("p{n}"), versions[own.saturating_sub(behind)], &format!("{family}-{}", IMAGES[image]))
        });
        ManagedCluster { auto_upgrade, ..cluster(versions[own], pools.collect()) }
    })
}

fn any_goal() -> impl Strategy<Value = Goal> {
    let images = prop_oneof![
        Just(ImageGoal::Latest),
        (0..4_usize, 0..4_usize).prop_map(|(u, w)| ImageGoal::Consistent(vec![
            NodeImage::new(format!("U-{}", IMAGES[u])),
            NodeImage::new(format!("W-{}", IMAGES[w])),
        ])),
        (0..4_usize).prop_map(|u| ImageGoal::Custom(vec![NodeImage::new(format!("U-{}", IMAGES[u]))])),
    ];
    let wishes = prop::sample::select(vec!["1.31", "1.32", "1.33", "1.32.7", "1.33.2", "1.33.5"]);
    (prop::sample::select(vec![Full, NodeImageOnly, ControlPlaneOnly]), wishes, images).prop_map(
        |(upgrade_type, wish, images): (ManagedClusterUpgradeType, _, _)| Goal {
            upgrade_type,
            version: (upgrade_type != NodeImageOnly).then(|| wish.parse().unwrap()),
            images,
            when_image_unavailable: WhenImageUnavailable::Newest,
            skips_far_clusters: false,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn killed_anywhere_each_step_is_called_once(cluster in any_cluster(), goal in any_goal(), rounds in prop::collection::vec(any_round(false, false), 0..30)) {
        let mut aks = Aks::new(cluster);
        let outcome = attempt(&mut aks, &goal, &rounds);
        prop_assert!(calls_by_subject(&aks.calls).values().all(|n| *n == 1), "{:?}", aks.calls);
        prop_assert_eq!(matches!(outcome, Outcome::Completed { .. }), !aks.calls.is_empty(), "{:?}", outcome);
        // What is done stays done.
        let calls = aks.calls.len();
        let again = attempt(&mut aks, &goal, &[]);
        if matches!(outcome, Outcome::Completed { .. }) {
            prop_assert!(matches!(again, Outcome::Skipped { .. }), "{:?}", again);
        }
        prop_assert_eq!(aks.calls.len(), calls);
    }

    #[test]
    fn among_others_operations_no_step_is_called_twice(cluster in any_cluster(), goal in any_goal(), rounds in prop::collection::vec(any_round(true, false), 0..40)) {
        let mut aks = Aks::new(cluster);
        attempt(&mut aks, &goal, &rounds);
        prop_assert!(calls_by_subject(&aks.calls).values().all(|n| *n == 1), "{:?}", aks.calls);
    }

    #[test]
    fn a_failed_attempt_says_why_and_the_next_one_makes_it_good(cluster in any_cluster(), goal in any_goal(), rounds in prop::collection::vec(any_round(true, true), 0..40)) {
        let mut aks = Aks::new(cluster);
        let outcome = attempt(&mut aks, &goal, &rounds);
        prop_assert!(calls_by_subject(&aks.calls).values().all(|n| *n == 1), "{:?}", aks.calls);
        let called = aks.calls.clone();
        for _ in 0..10 { aks.tick(); }
        if let Outcome::Failed { error } = &outcome && error.code == "UpgradeFailed" {
            prop_assert_eq!(error.details.first().map(|inner| inner.code.as_ref()), Some("PodDrainFailure"));
            let again = attempt(&mut aks, &goal, &[]);
            prop_assert!(!matches!(again, Outcome::Failed { .. }), "{:?}", again);
            for action in called {
                let state = action.pool().map_or(&aks.cluster.provisioning_state, |name| &aks.cluster.pool(name).unwrap().provisioning_state);
                let ahead = matches!(goal.images, ImageGoal::Consistent(_) | ImageGoal::Custom(_));
                prop_assert!(!state.is_busy() && (ahead || *state == ProvisioningState::Succeeded), "{action}: {:?}", state);
            }
        }
    }
}
