//! `fleet-manager demo`: everything in one process, and a sample fleet whose update run it shows.

use std::{net::SocketAddr, path::Path};

use anyhow::Context;
use azure_emulator::Config;
use clap::Args;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    emulator::{World, listen},
    progress::Progress,
};
use crate::{
    app::{self, ServeOptions},
    config::{ArmCredential, Auth, Settings},
    local::{
        ca, database,
        keys::{LocalKey, TokenClaims},
        postgres::{PostgresSettings, PrivatePostgres},
        sample::{API_VERSION, SampleFleet, next_run, run_body},
        token_service::SERVICE_PRINCIPAL,
    },
    model::{types, update_run::UpdateState},
};

/// How long the demo's own token is valid: as long as somebody may look at one demo.
const TOKEN_LIFETIME: std::time::Duration = std::time::Duration::from_hours(24);

/// Run everything in one process: private PostgreSQL, emulator, service, worker, and a sample fleet being upgraded
///
/// The world of a demo is its own: DATABASE_URL, FLEET_ARM_ENDPOINT and FLEET_ARM_CREDENTIAL are not used.
#[derive(Debug, Args)]
#[command(
    mut_arg("data_dir", |arg| arg.default_value(".fleet/demo")),
    mut_arg("filter", |arg| arg.default_value("warn")),
)]
pub(super) struct Demo {
    /// Address and port of the emulator
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    emulator_listen: SocketAddr,

    #[command(flatten)]
    world: World,

    /// Start without a sample fleet
    #[arg(long)]
    no_sample: bool,

    /// Start with empty data; so it does unless told to continue
    #[arg(long, conflicts_with = "continue_")]
    fresh: bool,

    /// Keep the data of the last time: go on with its run, or start the next one
    #[arg(long = "continue", id = "continue_")]
    keep: bool,

    #[command(flatten)]
    settings: Settings,
}

impl Demo {
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut settings = self.settings;
        // Ports first: they are quickly tried, and most likely to be taken.
        let emulator_listener = listen(self.emulator_listen).await?;
        settings.listen = listen(settings.listen).await?.local_addr()?;
        let arm = format!("http://{}", emulator_listener.local_addr()?);
        let service = format!("https://{}", settings.listen);
        let certificates = ca::certificates(&settings.data_dir, settings.listen.ip(), Timestamp::now())?;
        (settings.tls_cert, settings.tls_key) = (Some(certificates.certificate), Some(certificates.key));
        let ca = std::path::absolute(&certificates.ca)?;

        // The demo's world is its own: nothing of it may end up in somebody's database or subscription.
        settings.arm.endpoint = arm.parse().context("the emulator's address makes no URL")?;
        (settings.arm.credential, settings.arm.token, settings.arm.ca) = (ArmCredential::Emulator, None, None);
        settings.auth = Auth::Local;
        settings.pass_through =
            ["managedClusters", "locations"].map(|kind| format!("{}/{kind}", types::NAMESPACE)).to_vec();
        let postgres = PrivatePostgres::start_with(
            &settings.data_dir,
            &PostgresSettings { binaries: settings.pg_bin.take(), ..PostgresSettings::default() },
        )
        .await?;
        settings.database_url = Some(database::demo(&postgres.options(), self.keep).await?);

        let tenant = settings.tenant_id;
        let claims = TokenClaims::local_user(settings.tenant_id, TOKEN_LIFETIME);
        let token: SecretString = LocalKey::load_or_create(&settings.data_dir)?.mint(&claims, Timestamp::now())?.into();
        println!(
            "Starting: PostgreSQL in {}, emulator of AKS on {arm}, service on {service}",
            settings.data_dir.display()
        );

        let config =
            Config { clusters: self.world.clusters, upgrade_seconds: self.world.upgrade_seconds, ..Config::default() };
        // The service ends first: it uses the emulator.
        let (emulator_stop, service_stop) = (CancellationToken::new(), stop.child_token());
        let emulator =
            tokio::spawn(azure_emulator::Emulator::new(config).serve(emulator_listener, emulator_stop.clone()));
        let mut serving = tokio::spawn(app::serve(settings, ServeOptions { worker: true }, service_stop.clone()));

        let sample = SampleFleet::new(&service, &arm, token.clone(), Some(&ca))?;
        let shown = async {
            sample.ready().await?;
            clients(&service, &ca, tenant);
            look_around(&sample, &service, &ca, &token, self.no_sample);
            if !self.no_sample {
                let next = show(&sample).await?;
                go_on(&next);
            }
            // Stays up until something below ends it.
            std::future::pending::<anyhow::Result<()>>().await
        };
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            ended = &mut serving => return Err(ended_early(ended)),
            failed = shown => failed,
        };
        println!("Stopping");
        service_stop.cancel();
        let ended = join(serving).await;
        emulator_stop.cancel();
        let emulator_ended = emulator.await.context("the emulator panicked")?.context("the emulator failed");
        let postgres_ended = postgres.stop().await.context("PostgreSQL did not stop");
        outcome.and(ended).and(emulator_ended).and(postgres_ended)
    }
}

async fn join(task: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    task.await.context("the service panicked")?
}

fn ended_early(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("the service ended by itself"),
        Ok(Err(error)) => error,
        Err(panic) => anyhow::Error::new(panic).context("the service panicked"),
    }
}

/// The run after the one that was shown, and its update.
struct Next {
    run: String,
    update: Value,
}

/// Makes the sample fleet where there is none, starts or continues a run, and shows it until it ends.
async fn show(sample: &SampleFleet) -> anyhow::Result<Next> {
    let plan = sample.plan().await?;
    let newest = sample.newest_run().await?;
    let state = match &newest {
        Some(run) => Some(sample.status(run).await?.status.state),
        None => None,
    };
    let run = match (newest, state) {
        (Some(run), Some(UpdateState::NotStarted | UpdateState::Stopped | UpdateState::Failed)) => {
            println!("Continuing {run}");
            sample.start_run(&run).await?;
            run
        }
        (Some(run), Some(UpdateState::Running | UpdateState::Pending | UpdateState::Stopping)) => {
            println!("{run} is going on");
            run
        }
        (newest, _) => {
            let run = next_run(newest.as_deref());
            sample.make(&plan).await?;
            let version = plan.first["upgrade"]["kubernetesVersion"].as_str().unwrap_or_default();
            println!("{run}: {} members to Kubernetes {version}", plan.members.len());
            if let Some(member) = &plan.closed {
                let opens = sample.close_window(member, Timestamp::now()).await?;
                println!("The maintenance window of {} opens at {}", member.name, opens.strftime("%H:%M UTC"));
            }
            sample.make_run(&run, &plan.first).await?;
            run
        }
    };
    let mut progress = Progress::new(|gate| {
        let body = r#"{"properties": {"state": "Completed"}}"#;
        let gate = format!("$FLEET/gates/{}?api-version={API_VERSION}", gate.name());
        format!("{CURL} -X PATCH -H 'Content-Type: application/json' \"{gate}\" -d '{body}'")
    });
    let ended = sample.watch(&run, |status| progress.show(status)).await;
    progress.finish();
    // The demo stays up, whatever becomes of its run.
    match ended {
        Ok(Some(state)) => println!("{run}: {state:?}"),
        Ok(None) => println!("{run} was deleted"),
        Err(error) => println!("{run} is no longer shown: {:#}", anyhow::Error::from(error)),
    }
    Ok(Next { run: next_run(Some(&run)), update: plan.second })
}

/// Prints what makes Azure's own clients come here.
fn clients(service: &str, ca: &Path, tenant: Uuid) {
    let ca = ca.display();
    println!("\nWith the Azure CLI:\n");
    println!("export REQUESTS_CA_BUNDLE={ca}");
    println!("az cloud register -n FleetManager --endpoint-resource-manager {service} && az cloud set -n FleetManager");
    println!("az login --service-principal -u {SERVICE_PRINCIPAL} -p secret --tenant {tenant}");
    println!("\nWith Azure's SDKs (DefaultAzureCredential, with {service} as endpoint or base_url):\n");
    println!("export REQUESTS_CA_BUNDLE={ca} NODE_EXTRA_CA_CERTS={ca}");
    println!(
        "export AZURE_AUTHORITY_HOST={service} AZURE_TENANT_ID=adfs AZURE_CLIENT_ID={SERVICE_PRINCIPAL} AZURE_CLIENT_SECRET=secret"
    );
}

/// How requests are sent by hand, with the variables that [`look_around`] prints.
const CURL: &str = "curl -s --cacert $CA -H \"Authorization: Bearer $TOKEN\"";

/// Prints what to type in another terminal.
fn look_around(sample: &SampleFleet, service: &str, ca: &Path, token: &SecretString, empty: bool) {
    let query = format!("?api-version={API_VERSION}");
    println!("\nThe service is up on {service} until Ctrl-C. To look around, in another terminal:\n");
    println!("export CA={}", ca.display());
    println!("export TOKEN={}", token.expose_secret());
    println!("export FLEET={}", sample.url());
    if empty {
        println!("{CURL} \"${{FLEET%/*}}{query}\"");
        return;
    }
    println!("{CURL} \"$FLEET{query}\"");
    println!("{CURL} \"$FLEET/members{query}\"");
    println!("{CURL} \"$FLEET/updateRuns{query}\"\n");
}

/// Prints how the next run is made.
fn go_on(next: &Next) {
    let query = format!("?api-version={API_VERSION}");
    println!("\nTo start the next run, and see how far it is:\n");
    let run = format!("$FLEET/updateRuns/{}", next.run);
    println!("{CURL} -X PUT -H 'Content-Type: application/json' \"{run}{query}\" -d '{}'", run_body(&next.update));
    println!("{CURL} -X POST \"{run}/start{query}\"");
    println!("{CURL} \"{run}{query}\"");
}
