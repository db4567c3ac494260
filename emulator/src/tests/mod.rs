//! The world under test, without network and with a clock that the tests set.

mod resources;
mod rules;
mod tokens;
mod upgrades;
mod walk;

use std::collections::BTreeMap;

use axum::http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::call::{Body, Call, Reply};
use crate::config::Config;
use crate::world::{Outcome, World};

const RG1: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService/managedClusters";

/// A world, and the seconds that have passed in it.
struct Bench {
    world: World,
    start: Timestamp,
    now: Timestamp,
}

struct Answered {
    status: u16,
    headers: BTreeMap<&'static str, String>,
    body: Value,
}

impl Answered {
    fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or(""))
    }
}

impl Bench {
    fn new(config: Config) -> Self {
        let start: Timestamp = "2026-11-20T12:00:00.1234567Z".parse().unwrap();
        Self { world: World::new(&config, start), start, now: start }
    }

    fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = self.start + SignedDuration::from_secs_f64(seconds);
        self
    }

    fn call(method: Method, url: &str, body: Option<Value>) -> Call {
        let (path, query) = url.split_once('?').unwrap_or((url, "api-version=2026-08-01"));
        let query = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_lowercase(), value.into()));
        Call {
            method,
            path: path.into(),
            segments: Call::split(path),
            query: query.collect(),
            if_match: None,
            if_none_match: None,
            body: Ok(body),
            base: "http://emulator".into(),
            caller: Some("me".into()),
            token: Some("token".into()),
            form: BTreeMap::new(),
            metadata: false,
            identity_header: None,
            snapshot_id: None,
        }
    }

    fn run(&mut self, call: &Call) -> Answered {
        match self.world.apply(call, self.now) {
            Outcome::Answer(reply) | Outcome::Late(reply, _) => read(reply),
            Outcome::Cut(_) => panic!("cut"),
        }
    }

    fn send(&mut self, method: Method, url: &str, body: Option<Value>) -> Answered {
        self.run(&Self::call(method, url, body))
    }

    fn get(&mut self, url: &str) -> Value {
        let answered = self.send(Method::GET, url, None);
        assert_eq!(answered.status, 200, "{url}: {}", answered.body);
        answered.body
    }

    fn cluster(&mut self, name: &str) -> Value {
        self.get(&format!("{RG1}/{name}"))
    }

    fn put(&mut self, url: &str, body: Value) -> Answered {
        self.send(Method::PUT, url, Some(body))
    }

    fn post(&mut self, url: &str) -> Answered {
        self.send(Method::POST, url, None)
    }

    /// The cluster as read, with the control plane and maybe the pools at another version.
    fn raised(&mut self, name: &str, version: &str, pools: bool) -> Value {
        let mut cluster = self.cluster(name);
        cluster["properties"]["kubernetesVersion"] = version.into();
        if pools {
            for pool in cluster["properties"]["agentPoolProfiles"].as_array_mut().unwrap() {
                pool["orchestratorVersion"] = version.into();
            }
        }
        cluster
    }

    fn operation(&mut self, answered: &Answered) -> Value {
        let url = answered.headers["azure-asyncoperation"].strip_prefix("http://emulator").unwrap().to_owned();
        self.get(&url)
    }

    fn log(&self) -> Value {
        self.world.log.read(0, None, |id| json!(id))["value"].clone()
    }
}

fn read(reply: Reply) -> Answered {
    let body = match reply.body {
        Body::Empty => Value::Null,
        Body::Json(value) => value,
        Body::Text(text) => serde_json::from_str(&text).unwrap(),
        Body::Garbage => "garbage".into(),
    };
    Answered { status: reply.status.as_u16(), headers: reply.headers.into_iter().collect(), body }
}

/// A cluster with three given pools.
fn three_pools(bench: &mut Bench) -> String {
    let body = json!({
        "location": "East US",
        "properties": {"kubernetesVersion": "1.32.7", "agentPoolProfiles": [
            {"name": "sys", "mode": "System", "count": 3, "vmSize": "Standard_D2s_v3"},
            {"name": "az", "osSKU": "AzureLinux"},
            {"name": "win", "osType": "Windows"},
        ]},
    });
    let url = format!("{RG1}/three");
    let created = bench.put(&url, body);
    assert_eq!((created.status, &created.body["properties"]["provisioningState"]), (201, &json!("Creating")));
    let later = (bench.now - bench.start).total(jiff::Unit::Second).unwrap() + 5.0;
    bench.at(later);
    url
}
