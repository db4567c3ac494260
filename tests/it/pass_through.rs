//! Pass-through: requests for other types go to the upstream, as `az aks` needs it, and to no other host.

use std::time::{Duration, Instant};

use fleet_manager::local::ca;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{
    eventually,
    world::{Options, World},
};

const AKS: &str = "api-version=2026-06-01";
const GROUP: &str =
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService";

async fn world() -> World {
    let types = "Microsoft.ContainerService/managedClusters,microsoft.containerservice/LOCATIONS";
    World::start_with(Options { env: vec![("FLEET_PASS_THROUGH", types.to_owned())], ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_read_upgraded_and_followed_through_the_service() {
    let world = world().await;
    let path = format!("{GROUP}/managedClusters/aks-1?{AKS}");
    let cluster = world.get(&path).await;
    assert_eq!(cluster.status, 200, "{}", cluster.body);
    assert_eq!(cluster.body["name"], "aks-1");
    let direct = world.get(&format!("{}{path}", world.emulator_url)).await;
    assert_eq!(cluster.body, direct.body, "unchanged on the way");

    let mut body = cluster.body.clone();
    body["properties"]["kubernetesVersion"] = json!("1.33.2");
    let etag = cluster.body["eTag"].as_str().unwrap();
    let stale = world.call_with("PUT", &path, Some(body.clone()), &[("if-match", "\"stale\"")]).await;
    assert_eq!(stale.status, 412, "conditions go along: {}", stale.body);
    let begun = world.call_with("PUT", &path, Some(body), &[("if-match", etag)]).await;
    assert!(matches!(begun.status, 200 | 201), "{}", begun.body);
    let operation = begun.header("azure-asyncoperation").unwrap().to_owned();
    assert!(operation.starts_with(&world.url), "{operation}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.get(&operation).await.body["status"] != "Succeeded" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.get(&path).await.body["properties"]["currentKubernetesVersion"], "1.33.2");
    let log: Vec<Value> = world.emulator_log().await;
    assert!(log.iter().any(|entry| entry["applied"] == true && !entry["caller"].is_null()), "by the caller's token");

    let pools = world.get(&format!("{GROUP}//managedclusters/aks-1/agentPools?{AKS}")).await;
    assert!(pools.body["value"].as_array().is_some_and(|pools| !pools.is_empty()), "{}", pools.body);
    let versions = GROUP.replace("/resourceGroups/rg1", "") + "/locations/eastus/kubernetesVersions?" + AKS;
    assert_eq!(world.get(&versions).await.status, 200);
    let credentials = world.post(&format!("{GROUP}/managedClusters/aks-1/listClusterUserCredential?{AKS}"), None).await;
    assert!(credentials.body["kubeconfigs"].is_array(), "{}", credentials.body);

    let mut page = format!("{GROUP}/managedClusters?{AKS}&$top=5");
    let mut names = Vec::new();
    loop {
        let list = world.get(&page).await.body;
        names.extend(list["value"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match list["nextLink"].as_str() {
            None => break,
            Some(next) => {
                assert!(next.starts_with(&world.url), "{next}");
                page = next.to_owned();
            }
        }
    }
    assert_eq!(names.len(), 12, "{names:?}");
    // The service's own operations are still its own.
    let fleet = world.fleet("f");
    let made = world.put(&fleet, json!({"location": "eastus"})).await;
    assert_eq!(world.get(made.header("azure-asyncoperation").unwrap()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_types_are_not_passed_through() {
    let off = World::start().await;
    let path = format!("{GROUP}/managedClusters/aks-1?{AKS}");
    let answer = off.get(&path).await;
    assert_eq!((answer.status, answer.code()), (404, "InvalidResourceType"), "off unless switched on");

    let world = world().await;
    let anonymous = world.call_with("GET", &path, None, &[("authorization", "Bearer x")]).await;
    assert_eq!(anonymous.status, 401, "authenticated here first");
    let elsewhere = GROUP.replace("000000000001", "000000000009");
    for (path, status) in [
        (format!("{GROUP}/snapshots/s?{AKS}"), 404),
        (GROUP.replace("ContainerService", "Compute") + "/virtualMachines/v?" + AKS, 404),
        (format!("{elsewhere}/managedClusters/aks-1?{AKS}"), 404),
        (format!("{GROUP}/managedClusters/..%2F..%2F..%2Femulator?{AKS}"), 400),
        (format!("{GROUP}/managedClusters/a%5Cb?{AKS}"), 400),
    ] {
        let answer = world.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    // Requests that no client library sends: dot segments, absolute targets, another host.
    for target in [
        format!("{GROUP}/managedClusters/../../../../../../emulator/state?{AKS}"),
        format!("{GROUP}/managedClusters/%2e%2e/%2E%2E/x?{AKS}"),
        format!("//evil.example{GROUP}/managedClusters/aks-1?{AKS}"),
        format!("http://evil.example{GROUP}/managedClusters/aks-1?{AKS}"),
        format!("{GROUP}/managedClusters/aks-1@evil.example/x/y\\..?{AKS}"),
    ] {
        let address = world.url.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            world.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let harmless = matches!(status, 400 | 404) || answer.contains("\"aks-1\"");
        assert!(harmless && !answer.contains("faults"), "{target}: {answer}");
    }
    let large = json!({"properties": {"x": "y".repeat(5 << 20)}});
    assert_eq!(world.put(&path, large).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_cluster_gives_the_error_of_aks() {
    let world = world().await;
    let path = format!("{GROUP}/managedClusters/none?{AKS}");
    let direct = world.get(&format!("{}{path}", world.emulator_url)).await;
    let group = GROUP.split("/providers").next().unwrap();
    for gone in [false, true] {
        if gone {
            // AKS still has the group, so that this service does not refuse a cluster because its own group is gone.
            assert_eq!(world.delete(group).await.status, 202);
            eventually("the group is gone", || async { world.get(group).await.status == 404 }).await;
        }
        let passed = world.get(&path).await;
        assert_eq!((passed.status, passed.code()), (404, "ResourceNotFound"), "{}", passed.body);
        assert_eq!(passed.body, direct.body, "unchanged on the way");
    }
    assert_eq!(world.get(&world.fleet("none")).await.code(), "ResourceGroupNotFound", "of fleets it says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_authority_is_configured_is_trusted() {
    let env = vec![("FLEET_PASS_THROUGH", "Microsoft.ContainerService/managedClusters".to_owned())];
    let mut world = World::start_with(Options { env, issued_tokens: Some(3600), ..Options::default() }).await;
    let path = format!("{GROUP}/managedClusters/aks-1?{AKS}");
    let refused = world.get(&path).await;
    assert_eq!((refused.status, refused.code()), (401, "InvalidAuthenticationToken"), "by the caller's token");
    world.emulator("PATCH", "/emulator/settings", Some(json!({"requireIssuedTokens": false}))).await;
    assert_eq!(world.get(&path).await.body["name"], "aks-1");

    let other = tempfile::tempdir().unwrap();
    let other = ca::certificates(other.path(), [127, 0, 0, 1].into(), Timestamp::now()).unwrap();
    world.restart_with(&[("FLEET_ARM_CA", &other.ca.display().to_string())]).await;
    assert_eq!(world.get(&path).await.code(), "BadGateway", "another authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_upstream_is_reported() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let env = vec![
        ("FLEET_PASS_THROUGH", "Microsoft.ContainerService/managedClusters".to_owned()),
        ("FLEET_ARM_ENDPOINT", format!("http://{gone}")),
    ];
    let world = World::start_with(Options { env, ..Options::default() }).await;
    let answer = world.get(&format!("{GROUP}/managedClusters/aks-1?{AKS}")).await;
    assert_eq!((answer.status, answer.code()), (502, "BadGateway"), "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
}
