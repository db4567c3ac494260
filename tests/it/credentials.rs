//! The service's credentials for Azure: the real binary with an emulator that accepts only tokens that it issued.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fleet_manager::local::ca;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::world::{Options, TENANT, World, members, upgrade_to};

const LATE: Duration = Duration::from_secs(60);
const CLIENT: &str = "33333333-3333-3333-3333-333333333333";

async fn world(token_seconds: u64, upgrade_seconds: f64) -> World {
    let env = vec![("FLEET_LOG", "debug".to_owned())];
    World::start_with(Options { issued_tokens: Some(token_seconds), upgrade_seconds, env, ..Options::default() }).await
}

/// A fleet of this many members, in one group.
async fn fleet(world: &World, members: usize) -> String {
    let names: Vec<String> = (1..=members).map(|n| format!("m{n}")).collect();
    let members: Vec<_> = names.iter().enumerate().map(|(n, name)| (name.as_str(), n + 1, "g")).collect();
    world.fleet_of("f", &members).await
}

/// Starts a run with this concurrency.
async fn start(world: &World, fleet: &str, at_a_time: usize) -> String {
    let group = json!({"name": "g", "maxConcurrency": at_a_time.to_string()});
    let strategy = json!({"stages": [{"name": "s", "groups": [group]}]});
    let properties = json!({"strategy": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    world.start_run(fleet, "r", properties).await
}

async fn carries_a_run(world: &World) {
    let fleet = fleet(world, 12).await;
    let run = start(world, &fleet, 12).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert!(members(&status).iter().all(|m| m["status"]["state"] == "Completed"), "{status:#}");
}

/// Returns the counts of issued tokens.
async fn issued(world: &World) -> Value {
    world.emulator("GET", "/emulator/tokens", None).await.body["issued"].clone()
}

fn counted(secret: u64, assertion: u64, managed: u64) -> Value {
    json!({"clientSecret": secret, "clientAssertion": assertion, "managedIdentity": managed, "refused": 0})
}

/// Waits until the first member's message contains all of these parts.
async fn says(world: &World, run: &str, words: &[&str]) {
    let what = format!("saying {words:?}");
    let message = |status: &Value| {
        let first = members(status).first().map(|member| member["message"].as_str().unwrap_or_default().to_owned());
        first.unwrap_or_default()
    };
    world.until(run, LATE, &what, |status| words.iter().all(|word| message(status).contains(word))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_client_secret_uses_one_token() {
    let world = world(3600, 0.3).await;
    carries_a_run(&world).await;
    assert_eq!(issued(&world).await, counted(1, 0, 0), "for many requests at the same time");
    let log = world.log_text();
    assert!(!log.contains("emulated-"), "a token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_workload_identity_completes() {
    let mut world = world(3600, 0.3).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "federated-token").unwrap();
    let file = file.display().to_string();
    world
        .restart_with(&[("FLEET_ARM_CREDENTIAL", "workload-identity"), ("AZURE_FEDERATED_TOKEN_FILE", file.as_str())])
        .await;
    carries_a_run(&world).await;
    assert_eq!(issued(&world).await, counted(0, 1, 0));
    assert!(!world.log_text().contains("federated-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_managed_identity_completes() {
    // The endpoint of a virtual machine has a fixed address that a test cannot use. The test uses the same protocol at another address.
    for (path, client) in [("/msi/token", ""), ("/metadata/identity/oauth2/token", CLIENT)] {
        let mut world = world(3600, 0.3).await;
        let endpoint = format!("{}{path}", world.arm_url);
        world
            .restart_with(&[
                ("FLEET_ARM_CREDENTIAL", "managed-identity"),
                ("AZURE_CLIENT_ID", client),
                ("IDENTITY_ENDPOINT", &endpoint),
                ("IDENTITY_HEADER", "identity-header"),
            ])
            .await;
        carries_a_run(&world).await;
        assert_eq!(issued(&world).await, counted(0, 0, 1), "{path}");
    }
}

/// Creates a program `az` that prints the file `answer` and records its arguments.
fn fake_az(dir: &Path) {
    let dir_name = dir.display();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {dir_name}/calls\n\
         cat {dir_name}/answer || {{ echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1; }}\n"
    );
    fs::write(dir.join("az"), script).unwrap();
    fs::set_permissions(dir.join("az"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_the_azure_cli_continues_after_a_login() {
    let mut world = world(3600, 0.3).await;
    let fleet = fleet(&world, 3).await;
    let dir = tempfile::tempdir().unwrap();
    fake_az(dir.path());
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    world.restart_with(&[("FLEET_ARM_CREDENTIAL", "azure-cli"), ("PATH", &path)]).await;
    let run = start(&world, &fleet, 3).await;
    says(&world, &run, &["CredentialFailed", "Please run 'az login'", "FLEET_ARM_CREDENTIAL=azure-cli"]).await;

    let form = format!(
        "grant_type=client_credentials&client_id={CLIENT}&client_secret=secret&scope=https://management.azure.com/.default"
    );
    let token: Value = reqwest::Client::new()
        .post(format!("{}/{TENANT}/oauth2/v2.0/token", world.emulator_url))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let expires = Timestamp::now().as_second() + 3600;
    let answer = json!({"accessToken": token["access_token"], "expires_on": expires, "tokenType": "Bearer"});
    let fresh = dir.path().join("fresh");
    fs::write(&fresh, answer.to_string()).unwrap();
    fs::rename(fresh, dir.path().join("answer")).unwrap();
    world.reaches(&run, "Completed", LATE).await;
    let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
    let wanted = format!("account get-access-token -o json --scope {}/.default", world.arm_url);
    assert!(calls.lines().count() >= 2 && calls.lines().all(|call| call == wanted), "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_lived_tokens_are_replaced_before_they_expire() {
    let world = world(2, 2.0).await;
    let fleet = fleet(&world, 3).await;
    let run = start(&world, &fleet, 1).await;
    world.reaches(&run, "Completed", LATE).await;
    let issued = issued(&world).await;
    assert!(issued["clientSecret"].as_u64().is_some_and(|tokens| (3..=30).contains(&tokens)), "{issued}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_an_unknown_authority_are_reported_and_can_be_corrected() {
    let mut world = world(3600, 0.3).await;
    let fleet = fleet(&world, 2).await;
    world.restart_with(&[("AZURE_CLIENT_SECRET", "hunter2")]).await;
    let run = start(&world, &fleet, 2).await;
    let refused = ["CredentialFailed", "AADSTS7000215", "AZURE_CLIENT_SECRET", "FLEET_ARM_CREDENTIAL=client-secret"];
    says(&world, &run, &refused).await;
    let waits = |status: &Value| {
        members(status).iter().all(|member| {
            let (status, message) = (&member["status"], member["message"].as_str().unwrap_or_default());
            let (pending, code) = (status["state"] == "Pending", status["error"]["code"] == "UpstreamUnavailable");
            pending && code && message.contains("Nothing was begun on the cluster") && message.contains("AADSTS7000215")
        })
    };
    world.until(&run, LATE, "pending with the reason", waits).await;
    let refused = issued(&world).await["refused"].as_u64().unwrap();
    assert!(refused < 20, "with pauses: {refused}");

    let other = tempfile::tempdir().unwrap();
    let other = ca::certificates(other.path(), [127, 0, 0, 1].into(), Timestamp::now()).unwrap();
    let mine = world.variable("FLEET_ARM_CA");
    world.restart_with(&[("AZURE_CLIENT_SECRET", "secret"), ("FLEET_ARM_CA", &other.ca.display().to_string())]).await;
    says(&world, &run, &["CredentialUnavailable", &world.arm_url, "AZURE_AUTHORITY_HOST, FLEET_ARM_CA"]).await;

    world.restart_with(&[("FLEET_ARM_CA", &mine)]).await;
    world.reaches(&run, "Completed", LATE).await;
    let log = world.log_text();
    assert!(log.contains("AADSTS7000215"));
    assert!(!log.contains("hunter2") && !log.contains("emulated-"), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_authority_delays_a_run_and_fails_no_member() {
    let mut world = world(3600, 0.3).await;
    let fleet = fleet(&world, 3).await;
    for action in [json!({"status": 503}), json!({"cut": "before"}), json!({"garbage": true})] {
        world.fault(json!({"match": {"path": "oauth2"}, "times": 1, "action": action})).await;
    }
    world.restart_with(&[]).await;
    let run = start(&world, &fleet, 3).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert!(members(&status).iter().all(|m| m["status"]["state"] == "Completed"), "{status:#}");
    assert_eq!(world.emulator("GET", "/emulator/faults", None).await.body["value"], json!([]), "each was met");
    assert_eq!(issued(&world).await, counted(2, 0, 0), "one for each process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_replaced() {
    let world = world(3600, 0.3).await;
    let fleet = fleet(&world, 2).await;
    assert_eq!(world.emulator("DELETE", "/emulator/tokens", None).await.body["revoked"], 1);
    let run = start(&world, &fleet, 2).await;
    world.reaches(&run, "Completed", LATE).await;
    assert_eq!(issued(&world).await, counted(2, 0, 0));

    // AKS refuses every token: the member says so, and the service does not request a new token for each call.
    let pinned = json!({"status": 401, "code": "InvalidAuthenticationTokenTenant", "message": "The wrong tenant."});
    world.fault(json!({"match": {"path": "managedClusters"}, "times": 1000, "action": pinned})).await;
    let run = world
        .start_run(&fleet, "again", json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.5")}))
        .await;
    says(&world, &run, &["CredentialRefused", "The wrong tenant", "FLEET_ARM_CREDENTIAL", "failure 4"]).await;
    assert_eq!(issued(&world).await, counted(2, 0, 0), "dropped less than a minute ago");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_authority_file_stops_the_start() {
    let world = world(3600, 0.3).await;
    for content in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let output = world.command().arg("worker").env("FLEET_ARM_CA", file.path()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.lines().last().unwrap().contains("(FLEET_ARM_CA)"), "{content}: {error}");
    }
}

/// A process that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emulator_serves_https_with_a_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let home = tempfile::tempdir().unwrap();
    let files = ca::certificates(home.path(), [127, 0, 0, 1].into(), Timestamp::now()).unwrap();
    let emulator = Command::new(env!("CARGO_BIN_EXE_fleet-manager"))
        .args([
            "emulator",
            "--listen",
            "127.0.0.1:0",
            "--require-issued-tokens",
            "--client-secret",
            "other",
            "--tls-cert",
        ])
        .arg(&files.certificate)
        .arg("--tls-key")
        .arg(&files.key)
        .env("FLEET_LOG_FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut emulator = Ends(emulator);
    let mut log = BufReader::new(emulator.0.stderr.take().unwrap()).lines();
    let line = log.find(|line| line.as_ref().unwrap().contains("emulator listens")).unwrap().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["scheme"], "https", "{line}");
    let url = format!("https://{}", line["address"].as_str().unwrap());

    let authority = reqwest::Certificate::from_pem(&fs::read(&files.ca).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let ask = |secret: &str| {
        let form =
            format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={secret}&scope={url}/.default");
        let request = client.post(format!("{url}/{TENANT}/oauth2/v2.0/token"));
        request.header("content-type", "application/x-www-form-urlencoded").body(form).send()
    };
    assert_eq!(ask("secret").await.unwrap().status(), 401);
    let token: Value = ask("other").await.unwrap().json().await.unwrap();
    let list = format!(
        "{url}/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/managedClusters\
         ?api-version=2026-08-01&$top=1"
    );
    assert_eq!(client.get(&list).send().await.unwrap().status(), 401);
    let read = client.get(&list).bearer_auth(token["access_token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(read.status(), 200);
    let page: Value = read.json().await.unwrap();
    assert!(page["nextLink"].as_str().unwrap().starts_with(&url), "{page}");
}
