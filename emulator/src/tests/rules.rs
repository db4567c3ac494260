//! Refused requests: version skew, conflicts, ETags, stopped clusters, throttles.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Bench, RG1, three_pools};
use crate::config::Config;

#[test]
fn skew_and_version_rules_refuse_with_aks_codes_and_change_nothing() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let mut refused = |version: &str, pools: bool| {
        let body = bench.raised("three", version, pools);
        let answered = bench.put(&url, body);
        (answered.status, answered.body["error"]["code"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(refused("1.34.1", true), (400, "OperationNotAllowed".into()));
    assert_eq!(refused("1.31.9", false), (400, "OperationNotAllowed".into()));
    assert_eq!(refused("1.33.99", false), (400, "K8sVersionNotSupported".into()));
    assert_eq!(refused("newest", false), (400, "InvalidParameter".into()));
    let pool = |version: &str| json!({"properties": {"orchestratorVersion": version}});
    assert_eq!(
        bench.put(&format!("{url}/agentPools/sys"), pool("1.33.2")).code(),
        (400, "NodePoolMcVersionIncompatible")
    );
    assert_eq!(
        bench.put(&format!("{url}/agentPools/sys"), pool("1.32.5")).code(),
        (400, "AgentPoolUpgradeVersionNotAllowed")
    );
    assert_eq!(
        bench.put(&format!("{url}/agentPools/sys"), pool("1.32.77")).code(),
        (400, "AgentPoolK8sVersionNotSupported")
    );
    let cluster = bench.cluster("three");
    assert_eq!(cluster["properties"]["kubernetesVersion"], "1.32.7");
    let log = bench.log();
    assert!(log.as_array().unwrap().iter().skip(1).all(|entry| entry["applied"] == false && entry["status"] == 400));
    assert_eq!(log[1]["step"], "Cluster", "refusals say what was wanted");
}

#[test]
fn pools_are_at_most_three_minor_versions_behind() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let region = bench.world.catalogue.region_or_new("eastus");
    for version in ["1.34.1", "1.35.0", "1.36.0"] {
        region.versions.insert(version.parse().unwrap(), false);
    }
    let mut at = 10.0;
    for version in ["1.33.2", "1.34.1", "1.35.0"] {
        let body = bench.raised("three", version, false);
        assert_eq!(bench.put(&url, body).status, 200);
        at += 10.0;
        bench.at(at);
    }
    let body = bench.raised("three", "1.36.0", false);
    assert_eq!(bench.put(&url, body).code(), (400, "NodePoolMcVersionIncompatible"));
    let profile = bench.get(&format!("{url}/agentPools/sys/upgradeProfiles/default"));
    let upgrades = profile["properties"]["upgrades"].as_array().unwrap();
    assert_eq!(upgrades.last().unwrap()["kubernetesVersion"], "1.35.0");
}

#[test]
fn pool_operations_overlap_with_each_other_but_not_with_the_cluster() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    for family in ["AKSUbuntu-2204gen2containerd", "AKSAzureLinux-V3gen2"] {
        bench.world.catalogue.region_or_new("eastus").publish_image(family, "202601.01.0");
    }
    let first = bench.post(&format!("{url}/agentPools/sys/upgradeNodeImageVersion"));
    assert_eq!(
        (first.status, &first.body["properties"]["provisioningState"]),
        (202, &json!("UpgradingNodeImageVersion"))
    );
    let second = bench.post(&format!("{url}/agentPools/az/upgradeNodeImageVersion"));
    assert_eq!(second.status, 202);
    assert_eq!(bench.cluster("three")["properties"]["provisioningState"], "Succeeded", "the cluster does not show it");
    let again = bench.post(&format!("{url}/agentPools/sys/upgradeNodeImageVersion"));
    assert_eq!(again.code(), (409, "OperationNotAllowed"));
    assert!(again.body["error"]["message"].as_str().unwrap().contains("(sys - UpgradingNodeImageVersion)"));
    assert_eq!(bench.post(&format!("{url}/stop")).code(), (409, "OperationNotAllowed"));
    bench.at(30.0);
    let pool = bench.get(&format!("{url}/agentPools/sys"));
    assert_eq!(pool["properties"]["nodeImageVersion"], "AKSUbuntu-2204gen2containerd-202601.01.0");
}

#[test]
fn etags_guard_clusters_and_pools() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let cluster = bench.cluster("three");
    let mut call = Bench::call(Method::PUT, &url, Some(cluster.clone()));
    call.if_match = Some("\"old\"".into());
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"));
    call.if_match = None;
    call.if_none_match = Some("*".into());
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"));
    call.if_none_match = None;
    call.if_match = Some(format!("\"{}\"", cluster["eTag"].as_str().unwrap()));
    assert_eq!(bench.run(&call).status, 200);
    bench.at(20.0);
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"), "used up");
    let pool = bench.get(&format!("{url}/agentPools/sys"));
    let mut call = Bench::call(Method::PUT, &format!("{url}/agentPools/sys"), Some(pool.clone()));
    call.if_match = Some("old".into());
    assert_eq!(bench.run(&call).code(), (412, "EtagMismatch"));
    call.if_match = Some(pool["properties"]["eTag"].as_str().unwrap().into());
    assert_eq!(bench.run(&call).status, 200);
    let mut absent = Bench::call(Method::PUT, &format!("{RG1}/absent"), Some(json!({})));
    absent.if_match = Some("*".into());
    assert_eq!(bench.run(&absent).status, 412);
}

#[test]
fn a_stopped_cluster_refuses_upgrades() {
    let mut bench = Bench::new(Config::default());
    let url = format!("{RG1}/aks-2");
    let stop = bench.post(&format!("{url}/stop"));
    assert_eq!((stop.status, &stop.body), (202, &Value::Null));
    assert!(
        stop.headers["location"].starts_with("http://emulator/subscriptions/")
            && stop.headers.contains_key("azure-asyncoperation")
    );
    assert_eq!(bench.cluster("aks-2")["properties"]["provisioningState"], "Stopping");
    bench.at(10.0);
    let operation = bench.operation(&stop);
    assert_eq!(
        (&operation["status"], &operation["error"]["code"]),
        (&json!("Succeeded"), &json!("NotLatestOperation"))
    );
    let stopped = bench.cluster("aks-2");
    assert_eq!(stopped["properties"]["powerState"]["code"], "Stopped");
    assert_eq!(stopped["properties"]["provisioningState"], "Succeeded");
    let body = bench.raised("aks-2", "1.33.2", false);
    assert_eq!(bench.put(&url, body).code(), (409, "OperationNotAllowed"));
    assert_eq!(bench.post(&format!("{url}/stop")).status, 204);
    assert_eq!(bench.post(&format!("{url}/start")).status, 202);
    bench.at(20.0);
    let body = bench.raised("aks-2", "1.33.2", false);
    assert_eq!(bench.put(&url, body).status, 200);
}

#[test]
fn throttles_are_per_resource_and_refill() {
    let mut bench = Bench::new(Config { enforce_throttles: true, ..Config::default() });
    for _ in 0..60 {
        bench.cluster("aks-1");
    }
    let refused = bench.send(Method::GET, &format!("{RG1}/aks-1"), None);
    assert_eq!(refused.code(), (429, "Throttled"));
    assert_eq!(refused.headers["retry-after"], "1");
    bench.cluster("aks-2");
    bench.at(1.1).cluster("aks-1");
    for _ in 0..20 {
        bench.put(&format!("{RG1}/aks-3"), json!({}));
    }
    let refused = bench.put(&format!("{RG1}/aks-3"), json!({}));
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (429, "60"));
    assert_eq!(bench.log().as_array().unwrap().last().unwrap()["applied"], false);
    let polls = "/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/locations/eastus/operations";
    let statuses: Vec<u16> = (0..201)
        .map(|n| bench.send(Method::GET, &format!("{polls}/00000000-0000-0000-0000-{n:012}"), None).status)
        .collect();
    assert_eq!((statuses[199], statuses[200]), (404, 429), "operation polls share one bucket a subscription");
}
