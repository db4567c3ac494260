//! Random walks: after any requests in any order the rules hold, and no request panics.

use axum::http::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{Bench, RG1};
use crate::cluster::is_terminal;
use crate::config::Config;
use crate::faults::{Action, Failure, Fault};
use crate::rules;

const VERSIONS: [&str; 8] = ["1.31.9", "1.32.7", "1.33", "1.33.2", "1.33.5", "1.34.1", "1.35.0", "x"];
const IMAGES: [&str; 3] = [
    "AKSUbuntu-2204gen2containerd-202508.20.1",
    "AKSUbuntu-2204gen2containerd-202509.11.0",
    "AKSAzureLinux-V3gen2-202509.11.0",
];

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[rng.random_range(0..from.len())]
}

fn step(bench: &mut Bench, rng: &mut StdRng) -> u16 {
    let name = pick(rng, &["aks-1", "aks-2", "aks-3"]);
    let cluster = format!("{RG1}/{name}");
    let pool = format!("{cluster}/agentPools/{}", pick(rng, &["nodepool1", "azlinux", "npwin", "extra"]));
    let (method, url, body): (Method, String, Option<Value>) = match rng.random_range(0..10) {
        0..=2 => {
            let (version, pools) = (pick(rng, &VERSIONS), rng.random());
            let read = bench.send(Method::GET, &cluster, None);
            if read.status != 200 {
                return read.status;
            }
            (Method::PUT, cluster, Some(bench.raised(name, version, pools)))
        }
        3..=4 => (Method::PUT, pool, Some(json!({"properties": {"orchestratorVersion": pick(rng, &VERSIONS)}}))),
        5 => (Method::PUT, pool, Some(json!({"properties": {"nodeImageVersion": pick(rng, &IMAGES)}}))),
        6 => (Method::POST, format!("{pool}/{}", pick(rng, &["upgradeNodeImageVersion", "abort"])), None),
        7 => (Method::POST, format!("{cluster}/{}", pick(rng, &["stop", "start", "start", "abort"])), None),
        8 if rng.random_range(0..10) == 0 => (Method::DELETE, pool, None),
        8 => (Method::GET, format!("{pool}/upgradeProfiles/default"), None),
        _ => {
            let failure = Failure { code: "UpgradeFailed".into(), message: String::new() };
            bench.world.faults.add(Fault {
                matches: Default::default(),
                times: 1,
                action: Action::FailOperation { fail_operation: failure },
            });
            (Method::GET, cluster, None)
        }
    };
    bench.send(method, &url, body).status
}

fn check(bench: &Bench) {
    for cluster in bench.world.clusters.values() {
        let name = &cluster.name;
        assert_eq!(is_terminal(&cluster.state), cluster.running.is_none(), "{name} is {}", cluster.state);
        for pool in &cluster.pools {
            rules::skew(pool.version, cluster.version).unwrap_or_else(|error| panic!("{name}: {}", error.message));
            assert!(pool.running.is_none() || cluster.running.is_none(), "{name}: two operations at once");
            let idle = pool.running.is_none() && cluster.running.is_none();
            assert!(!idle || is_terminal(&pool.state), "{name}/{} is {}", pool.name, pool.state);
            assert!(
                pool.image.starts_with(crate::cluster::image_family(&pool.settings)),
                "{name}/{}: {}",
                pool.name,
                pool.image
            );
        }
        assert!(cluster.pools.iter().any(|pool| pool.is_system()), "{name} lost its system pool");
    }
    let ended = bench.world.operations.values().filter(|operation| operation.ended.is_none()).count();
    let running: usize = bench.world.clusters.keys().map(|key| bench.world.running_on(key).len()).sum();
    assert_eq!(ended, running, "every running operation belongs to a cluster or pool");
}

#[test]
fn rules_hold_after_every_step_of_a_random_walk() {
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bench = Bench::new(Config { seed, ..Config::default() });
        let mut at = 0.0;
        for _ in 0..120 {
            at += rng.random_range(0.0..4.0);
            *statuses.entry(step(bench.at(at), &mut rng)).or_default() += 1;
            check(&bench);
        }
        bench.at(at + 10.0).cluster("aks-1");
        check(&bench);
        assert!(bench.world.due.is_empty(), "everything ends");
    }
    for status in [200, 201, 202, 204, 400, 404, 409] {
        assert!(statuses.contains_key(&status), "{status} never seen: {statuses:?}");
    }
}
