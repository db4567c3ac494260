//! Every setting: its flag, environment variable, default and check, in one table. `--help` prints it.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

mod arm;
mod clients;
mod exposure;
mod webhooks;

pub use arm::{ArmCredential, ArmSettings};
pub use clients::ClientLimits;
pub use webhooks::{RetentionSettings, WebhookSettings};

use crate::{
    arm::Origin,
    identity::{
        ARM_AUDIENCES,
        issuer::{entra_tenant, is_safe},
    },
    model::subscription::Subscription,
};

/// Those of the local world.
const LOCAL_SUBSCRIPTIONS: &str =
    "00000000-0000-0000-0000-000000000001=Local 1,00000000-0000-0000-0000-000000000002=Local 2";

/// Settings of `serve`, `worker`, `migrate` and `demo`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// PostgreSQL to use, `postgres://user:password@host/database`. Absent: a private one in the data directory, started
    /// from the machine's own binaries
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = secret, value_name = "URL")]
    pub database_url: Option<SecretString>,

    /// Most connections to PostgreSQL
    #[arg(long, env = "FLEET_DATABASE_CONNECTIONS", default_value_t = 20, value_parser = between(2, 1000))]
    pub database_connections: u32,

    /// Seconds that PostgreSQL may take to answer a statement, and that a transaction may be idle before PostgreSQL ends it
    #[arg(long, env = "FLEET_DATABASE_TIMEOUT_SECONDS", default_value_t = 10, value_parser = between(1, 300))]
    pub database_timeout_seconds: u32,

    /// Directory of PostgreSQL's own binaries (initdb, postgres), for a private PostgreSQL. Absent: the newest under
    /// /usr/lib/postgresql, then PATH
    #[arg(long, env = "FLEET_PG_BIN", value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,

    /// Where the local world keeps its keys and its private PostgreSQL
    #[arg(long, env = "FLEET_DATA_DIR", default_value = ".fleet", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Address and port of the API
    #[arg(long, env = "FLEET_LISTEN", default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Certificate chain of the API, PEM; with it the API is served by https. Read again when it changes
    #[arg(long, env = "FLEET_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of that certificate, PEM
    #[arg(long, env = "FLEET_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// URLs under which callers reach the API beside FLEET_LISTEN, separated by commas, such as https://fleet.example.com of a
    /// proxy that terminates TLS. Links in answers have the one that was asked
    #[allow(rustdoc::bare_urls, reason = "--help shows this text as it is")]
    #[arg(long, env = "FLEET_PUBLIC_URL", value_delimiter = ',', value_name = "URL")]
    pub public_url: Vec<Origin>,

    /// What clients may demand of the service.
    #[command(flatten)]
    pub clients: ClientLimits,

    /// Azure Resource Manager, and who the service is there.
    #[command(flatten)]
    pub arm: ArmSettings,

    /// Who issues callers' tokens: `local` (the service itself, for development), or the URL of an OpenID Connect issuer, such
    /// as https://login.microsoftonline.com/TENANT/v2.0
    #[allow(rustdoc::bare_urls, reason = "--help shows this text as it is")]
    #[arg(long, env = "FLEET_AUTH", default_value = "local", value_name = "ISSUER")]
    pub auth: Auth,

    /// With FLEET_AUTH=local, whoever reaches the service owns everything in it. Allow that beyond this machine: on an address
    /// that is not loopback, or with an upstream that is not the emulator of this machine. Write `true`
    #[arg(
        long,
        env = "FLEET_INSECURE_LOCAL_AUTH",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub insecure_local_auth: bool,

    /// Audiences to accept in callers' tokens, separated by commas. Absent: Azure Resource Manager's own, this service's
    /// address, and FLEET_PUBLIC_URL
    #[arg(long, env = "FLEET_AUTH_AUDIENCE", value_delimiter = ',', value_name = "AUDIENCE")]
    pub auth_audience: Vec<String>,

    /// The tenant that callers must belong to
    #[arg(long, env = "FLEET_TENANT_ID", default_value = "11111111-1111-1111-1111-111111111111", value_name = "GUID")]
    pub tenant_id: Uuid,

    /// Object IDs of principals (people, applications or groups) that own everything from the start, separated by commas; they
    /// give roles to others. Absent: with FLEET_AUTH=local its own user and service principal, else nobody
    #[arg(long, env = "FLEET_OWNERS", value_delimiter = ',', value_name = "GUID")]
    pub owners: Vec<Uuid>,

    /// Resource types whose requests are passed on to Azure Resource Manager with the caller's token, separated by commas, such
    /// as `Microsoft.ContainerService/managedClusters,Microsoft.ContainerService/locations`. Absent: none
    #[arg(long, env = "FLEET_PASS_THROUGH", value_delimiter = ',', value_name = "TYPE")]
    pub pass_through: Vec<String>,

    /// Subscriptions that are served, `GUID` or `GUID=Display name`, separated by commas
    #[arg(long, env = "FLEET_SUBSCRIPTIONS", value_delimiter = ',', value_name = "SUBSCRIPTION", default_value = LOCAL_SUBSCRIPTIONS)]
    pub subscriptions: Vec<Subscription>,

    /// Jobs that one process works on at the same time
    #[arg(long, env = "FLEET_WORKER_CONCURRENCY", default_value_t = 128, value_parser = between(1, 10_000))]
    pub worker_concurrency: u32,

    /// Seconds after which the jobs of a process that died are taken over by another
    #[arg(long, env = "FLEET_LEASE_SECONDS", default_value_t = 15, value_parser = between(1, 300))]
    pub lease_seconds: u32,

    /// What an update run does with a member whose cluster is stopped
    #[arg(long, env = "FLEET_STOPPED_CLUSTERS", value_enum, default_value_t = StoppedClusters::Fail, ignore_case = true)]
    pub stopped_clusters: StoppedClusters,

    /// Seconds between two looks whether a region offers the version or node image that a member waits for
    #[arg(long, env = "FLEET_OFFER_RECHECK_SECONDS", default_value_t = 60, value_parser = between(1, 86_400))]
    pub offer_recheck_seconds: u32,

    /// Most seconds between two looks whether the closed maintenance window that a member waits for was changed. It is not late
    /// when the window opens as planned
    #[arg(long, env = "FLEET_WINDOW_RECHECK_SECONDS", default_value_t = 60, value_parser = between(1, 86_400))]
    pub window_recheck_seconds: u32,

    /// Seconds between two looks at what AKS has released, for auto-upgrade profiles: one for each subscription with members
    #[arg(long, env = "FLEET_CATALOGUE_WATCH_SECONDS", default_value_t = 600, value_parser = between(1, 86_400))]
    pub catalogue_watch_seconds: u32,

    /// Seconds that requests and jobs in progress have to end when the process is told to
    #[arg(long, env = "FLEET_SHUTDOWN_SECONDS", default_value_t = 20, value_parser = between(0, 3600))]
    pub shutdown_seconds: u32,

    /// Seconds between being told to stop and refusing new connections, in which `/readyz` answers 503: time for a load balancer
    /// to look elsewhere
    #[arg(long, env = "FLEET_SHUTDOWN_DELAY_SECONDS", default_value_t = 0, value_parser = between(0, 3600))]
    pub shutdown_delay_seconds: u32,

    /// Who is told of changes, and how.
    #[command(flatten)]
    pub webhooks: WebhookSettings,

    /// How long what grows with time is kept.
    #[command(flatten)]
    pub retention: RetentionSettings,

    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogSettings,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// Which events are logged, such as `info,fleet_manager=debug`
    #[arg(long = "log", env = "FLEET_LOG", default_value = "info", value_name = "FILTER")]
    pub filter: String,

    /// How they are written
    #[arg(long = "log-format", env = "FLEET_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What an update run does with a member whose cluster is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum StoppedClusters {
    /// The member fails, as the product does.
    Fail,
    /// The member is skipped, with the reason.
    Skip,
}

/// Who issues callers' tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// The key in the data directory.
    Local,
    /// The OpenID Connect issuer at this URL.
    Issuer(String),
}

impl FromStr for Auth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "local" => Ok(Self::Local),
            _ if is_safe(text) => Ok(Self::Issuer(text.to_owned())),
            _ => Err("expected 'local', or an issuer's URL with https".to_owned()),
        }
    }
}

/// One thing wrong with the settings taken together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl Settings {
    /// Checks what no single setting can tell: contradictions, and values that need a parser of their own.
    ///
    /// # Errors
    /// All problems found.
    pub fn check(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut report = |wrong: bool, message: &str| {
            if wrong {
                problems.push(Problem(message.to_owned()));
            }
        };
        if let Some(url) = &self.database_url {
            let url = url.expose_secret();
            let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
            // The URL has a password in it: it is not repeated.
            let sound = postgres && PgConnectOptions::from_str(url).is_ok();
            report(!sound, "DATABASE_URL is not a URL like postgres://user:password@host:5432/database");
            report(self.pg_bin.is_some(), "FLEET_PG_BIN is for a private PostgreSQL, but DATABASE_URL names another");
        }

        self.arm.check(&mut report);
        self.webhooks.check(&mut report);
        let typed = |kind: &String| kind.split('/').count() >= 2 && kind.split('/').all(|part| !part.trim().is_empty());
        let all_typed = self.pass_through.iter().all(typed);
        report(
            !all_typed,
            "FLEET_PASS_THROUGH has something else in it than types like Microsoft.ContainerService/managedClusters",
        );
        let clear = self.arm.endpoint.scheme_str() == Some("http") && !is_safe(&self.arm.endpoint.to_string());
        report(
            clear && !self.pass_through.is_empty() && self.auth != Auth::Local,
            "FLEET_PASS_THROUGH would send callers' tokens in the clear: FLEET_ARM_ENDPOINT must be https",
        );
        if let Auth::Issuer(url) = &self.auth
            && let Some(tenant) = entra_tenant(url)
        {
            report(
                tenant.parse() != Ok(self.tenant_id),
                "FLEET_AUTH and FLEET_TENANT_ID name different tenants: both must have the tenant's GUID",
            );
        }
        let blank = self.auth_audience.iter().any(|audience| audience.trim().is_empty());
        report(blank, "FLEET_AUTH_AUDIENCE has an empty audience in it");
        if let Err(error) = EnvFilter::try_new(&self.log.filter) {
            report(true, &format!("FLEET_LOG is not a log filter like 'info,fleet_manager=debug': {error}"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The audiences to accept in callers' tokens.
    #[must_use]
    pub fn audiences(&self) -> Vec<String> {
        if !self.auth_audience.is_empty() {
            return self.auth_audience.clone();
        }
        let listen = ["http", "https"].into_iter().map(|scheme| format!("{scheme}://{}", self.listen));
        let own = listen.chain(self.public_url.iter().map(Origin::to_string));
        ARM_AUDIENCES.into_iter().map(String::from).chain(own.flat_map(|url| [format!("{url}/"), url])).collect()
    }

    /// How long PostgreSQL may take to answer a statement.
    #[must_use]
    pub fn database_timeout(&self) -> Duration {
        Duration::from_secs(self.database_timeout_seconds.into())
    }

    /// Time between two looks at what a region offers.
    #[must_use]
    pub fn offer_recheck(&self) -> Duration {
        Duration::from_secs(self.offer_recheck_seconds.into())
    }

    /// Most time between two looks at a closed maintenance window.
    #[must_use]
    pub fn window_recheck(&self) -> Duration {
        Duration::from_secs(self.window_recheck_seconds.into())
    }

    /// Time between two looks at what AKS has released.
    #[must_use]
    pub fn catalogue_watch(&self) -> Duration {
        Duration::from_secs(self.catalogue_watch_seconds.into())
    }

    /// Time between being told to stop and refusing new connections.
    #[must_use]
    pub fn shutdown_delay(&self) -> Duration {
        Duration::from_secs(self.shutdown_delay_seconds.into())
    }

    /// How long requests and jobs in progress have to end when the process is told to.
    #[must_use]
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds.into())
    }
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(text.into())
}

fn between(least: u32, most: u32) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(least)..=i64::from(most))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Table {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(args: &[&str]) -> Settings {
        Table::try_parse_from(std::iter::once(&"test").chain(args)).unwrap().settings
    }

    fn problems(args: &[&str]) -> String {
        let found = settings(args).check().unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn defaults_are_sound() {
        let defaults = settings(&[]);
        assert_eq!(defaults.check(), Ok(()));
        assert_eq!(defaults.audiences().len(), 8);
        assert!(defaults.audiences().contains(&"https://127.0.0.1:8443/".to_owned()));
        assert_eq!(defaults.stopped_clusters, StoppedClusters::Fail);
        assert_eq!(settings(&["--auth-audience", "a,b"]).audiences(), ["a", "b"]);
    }

    #[test]
    fn finds_contradictions() {
        for (args, told) in [
            (&["--database-url", "mysql://u:hunter2@h/d"][..], "DATABASE_URL"),
            (&["--database-url", ""], "DATABASE_URL"),
            (&["--database-url", "postgres://h/d", "--pg-bin", "/x"], "FLEET_PG_BIN"),
            (&["--arm-endpoint", "https://management.azure.com"], "is Azure"),
            (&["--arm-endpoint", "127.0.0.1:8090"], "FLEET_ARM_ENDPOINT"),
            (&["--arm-endpoint", "http://h/path"], "without a path"),
            (&["--arm-token", "t"], "FLEET_ARM_CREDENTIAL=static only"),
            (&["--arm-credential", "static"], "needs a token"),
            (&["--arm-credential", "static", "--arm-token", "a b"], "needs a token"),
            (&["--arm-credential", "static", "--arm-token", "t", "--arm-endpoint", "http://h"], "in the clear"),
            (&["--arm-credential", "azure-cli", "--arm-endpoint", "http://h"], "in the clear"),
            (&["--arm-credential", "azure-cli", "--arm-token", "hunter2"], "FLEET_ARM_CREDENTIAL=static only"),
            (&["--arm-ca", "ca.pem"], "FLEET_ARM_CA"),
            (&["--arm-credential", "client-secret"], "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET"),
            (&["--arm-credential", "workload-identity", "--azure-client-id", ""], "AZURE_FEDERATED_TOKEN_FILE"),
            (&["--arm-credential", "client-secret", "--azure-tenant-id", "a/b"], "AZURE_TENANT_ID is not"),
            (&["--arm-credential", "client-secret", "--azure-authority-host", "http://h"], "AZURE_AUTHORITY_HOST"),
            (
                &["--arm-credential", "workload-identity", "--azure-authority-host", "https://h/t"],
                "AZURE_AUTHORITY_HOST",
            ),
            (&["--auth-audience", "a,,b"], "FLEET_AUTH_AUDIENCE"),
            (&["--auth", "https://login.microsoftonline.com/common/v2.0"], "FLEET_TENANT_ID"),
            (
                &[
                    "--pass-through",
                    "N.C/managedClusters",
                    "--auth",
                    "https://id.example",
                    "--arm-endpoint",
                    "http://h",
                ],
                "callers' tokens in the clear",
            ),
            (&["--webhooks", "hunter2"], "FLEET_WEBHOOKS"),
            (&["--webhooks", r#"[{"name": "a", "url": "http://h/hunter2", "secretEnv": "A"}]"#], "https"),
            (&["--log", "info,=,=="], "FLEET_LOG"),
        ] {
            let found = problems(args);
            assert!(found.contains(told), "{args:?}: {found}");
            assert!(!found.contains("hunter2"));
        }
        let both = problems(&["--arm-token", "t", "--auth-audience", ","]);
        assert!(both.contains("FLEET_ARM_TOKEN") && both.contains("FLEET_AUTH_AUDIENCE"), "{both}");
    }

    #[test]
    fn what_a_credential_does_not_use_is_no_contradiction() {
        let azure = ["--azure-tenant-id", "t/", "--azure-authority-host", "http://x", "--azure-client-id", ""];
        assert_eq!(settings(&azure).check(), Ok(()));
        let managed = settings(&[&azure[..], &["--arm-credential", "managed-identity"]].concat());
        assert_eq!(managed.check(), Ok(()));
        assert_eq!(managed.arm.client_id(), None, "empty is absent");
        for real in ["https://management.azure.com", "https://management.chinacloudapi.cn"] {
            let full = ["--arm-endpoint", real, "--arm-credential", "client-secret", "--azure-tenant-id", "t"];
            let more = ["--azure-client-id", "c", "--azure-client-secret", "s", "--arm-ca", "ca.pem"];
            assert_eq!(settings(&[&full[..], &more].concat()).check(), Ok(()));
            assert!(problems(&["--arm-endpoint", real]).contains("is Azure"));
        }
    }

    #[test]
    fn never_shows_secrets() {
        let shown = format!(
            "{:?}",
            settings(&[
                "--database-url",
                "postgres://u:hunter2@h/d",
                "--arm-token",
                "hunter2",
                "--azure-client-secret",
                "hunter2",
                "--webhooks",
                "hunter2"
            ])
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
