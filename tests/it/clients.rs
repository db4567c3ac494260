//! Azure's own clients, unmodified, drive the real binary through the life of a fleet. They are installed by
//! `tests/clients/install` (so does `make test`) into `target/clients`; tests of missing clients are skipped with a
//! warning, and fail where `CI` is set.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use fleet_manager::local::ca;
use jiff::Timestamp;

use crate::harness::world::{Options, SUBSCRIPTION, World};

fn installed(client: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("FLEET_TEST_CLIENTS").map_or_else(|| root.join("target/clients"), PathBuf::from);
    let folder = folder.join(client);
    if folder.join("installed").exists() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "{client} is not installed: run tests/clients/install");
    eprintln!("SKIPPED: {client} is not installed in {}: run tests/clients/install", folder.display());
    None
}

/// Runs a client against a world of its own.
async fn drive(make: impl FnOnce(&Path) -> Command) {
    let home = tempfile::tempdir().unwrap();
    let files = ca::certificates(home.path(), "127.0.0.1".parse().unwrap(), Timestamp::now()).unwrap();
    let env = vec![
        (
            "FLEET_PASS_THROUGH",
            "Microsoft.ContainerService/managedClusters,Microsoft.ContainerService/locations".to_owned(),
        ),
        ("FLEET_TLS_CERT", files.certificate.display().to_string()),
        ("FLEET_TLS_KEY", files.key.display().to_string()),
    ];
    let world = World::start_with(Options { env, tls: Some(files.ca.clone()), ..Options::default() }).await;
    world.fleet_of("f", &[]).await;
    let clusters: Vec<String> = (1..=5).map(World::cluster).collect();
    let mut command = make(home.path());
    command
        .env("FLEET_URL", &world.url)
        .env("FLEET_TOKEN", &world.token)
        .env("FLEET_SUBSCRIPTION", SUBSCRIPTION)
        .env("FLEET_CLUSTERS", clusters.join("\n"))
        .env("AZURE_TENANT_ID", "adfs")
        .env("AZURE_CLIENT_ID", "33333333-3333-3333-3333-333333333333")
        .env("AZURE_CLIENT_SECRET", "secret")
        .env("REQUESTS_CA_BUNDLE", &files.ca)
        .env("NODE_EXTRA_CA_CERTS", &files.ca);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}\n{}", text(&output.stdout), text(&output.stderr), world.log_tail());
    assert!(text(&output.stdout).contains("passed"));
}

async fn python(release: &str) {
    let Some(folder) = installed(&format!("python-{release}")) else { return };
    drive(|_| {
        let mut command = Command::new(folder.join("bin/python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/life.py"));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_python_sdk() {
    python("latest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_python_sdk() {
    python("oldest").await;
}

async fn javascript(release: &str) {
    let Some(folder) = installed(&format!("javascript-{release}")) else { return };
    drive(|_| {
        // Node.js looks for packages beside the file.
        let script = folder.join("life.mjs");
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/javascript/life.mjs"), &script)
            .unwrap();
        let mut command = Command::new("node");
        command.arg(script);
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_javascript_sdk() {
    javascript("latest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_javascript_sdk() {
    javascript("oldest").await;
}

/// Log in, groups, resources, tags, roles, clusters through the service.
#[tokio::test(flavor = "multi_thread")]
async fn the_azure_cli() {
    let Some(folder) = installed("az") else { return };
    drive(|home| {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/az/walk.sh"));
        command.arg(home.join("az")).env("AZ", folder.join("bin/az"));
        command
    })
    .await;
}

/// Requests generated from the OpenAPI document, for a bounded time: no 5xx, and every response matches the document.
#[tokio::test(flavor = "multi_thread")]
async fn requests_made_up_from_the_openapi_document() {
    let Some(folder) = installed("schemathesis") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    drive(|_| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(
            "\"$0\" --config-file \"$1\" run \"$FLEET_URL/openapi.json\" --header \"Authorization: Bearer $FLEET_TOKEN\" \
                --tls-verify \"$REQUESTS_CA_BUNDLE\" --phases fuzzing --max-examples 15 --seed 1 --exclude-method DELETE --no-color \
                --checks not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance",
        );
        command.arg(folder.join("bin/schemathesis")).arg(root.join("tests/clients/schemathesis.toml"));
        // Schemathesis writes its cache of failures to a temporary directory.
        command.current_dir(&folder);
        command
    })
    .await;
}
