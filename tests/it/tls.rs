//! The service by https: its certificate, its reload, and the URLs that it hands out.

use std::time::{Duration, Instant};

use fleet_manager::local::ca;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::world::{Options, World};

fn client(ca: &std::path::Path) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
    reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_served_and_used_in_links() {
    let home = tempfile::tempdir().unwrap();
    let address = "127.0.0.1".parse().unwrap();
    let files = ca::certificates(home.path(), address, Timestamp::now()).unwrap();
    let env = vec![
        ("FLEET_TLS_CERT", files.certificate.display().to_string()),
        ("FLEET_TLS_KEY", files.key.display().to_string()),
    ];
    let mut world = World::start_with(Options { env, tls: Some(files.ca.clone()), ..Options::default() }).await;
    assert!(world.url.starts_with("https://127.0.0.1:"));
    let fleet = world.fleet("f");
    let made = world.put(&fleet, json!({"location": "eastus"})).await;
    let operation = made.header("azure-asyncoperation").unwrap();
    assert!(operation.starts_with(&format!("{}/subscriptions/", world.url)), "{operation}");
    assert_eq!(world.get(operation).await.status, 200);

    let by_name = world.url.replace("127.0.0.1", "localhost");
    let cloud: Value = client(&files.ca)
        .get(format!("{by_name}/metadata/endpoints?api-version=2022-09-01"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(cloud["resourceManager"], by_name.as_str(), "by the host that was asked");
    assert_eq!(cloud["authentication"]["loginEndpoint"], format!("{by_name}/adfs"));
    assert_eq!(cloud["authentication"]["audiences"][0], format!("{by_name}/"));
    assert!(cloud["suffixes"].is_object());
    let list = world.get("/metadata/endpoints?api-version=2019-05-01").await;
    assert!(list.body[0]["portal"].is_string(), "{}", list.body);

    // A client that does not trust the authority does not connect. Plain HTTP gets no answer.
    assert!(reqwest::get(&world.url).await.is_err());
    assert!(reqwest::get(world.url.replace("https", "http")).await.is_err());

    // The files get a certificate of another authority. The service serves it without a restart.
    let other = tempfile::tempdir().unwrap();
    let next = ca::certificates(other.path(), address, Timestamp::now()).unwrap();
    std::fs::copy(&next.certificate, &files.certificate).unwrap();
    std::fs::copy(&next.key, &files.key).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while client(&next.ca).get(format!("{}/healthz", world.url)).send().await.is_err() {
        assert!(Instant::now() < deadline, "{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_certificate_stops_the_start() {
    let home = tempfile::tempdir().unwrap();
    let files = ca::certificates(home.path(), "127.0.0.1".parse().unwrap(), Timestamp::now()).unwrap();
    let world = World::start().await;
    let run = |cert: &std::path::Path, key: &std::path::Path| {
        let env = [("FLEET_TLS_CERT", cert), ("FLEET_TLS_KEY", key)];
        let output = world.command().arg("serve").env("FLEET_LISTEN", "127.0.0.1:0").envs(env).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&files.certificate, &home.path().join("nothing.pem")).contains("nothing.pem"));
    assert!(run(&files.key, &files.key).contains("FLEET_TLS_CERT"), "a key is no certificate");
}
