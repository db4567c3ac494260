//! Wiring of pool, clock, clients and limits; the order of start and stop.
//!
//! Start: database, migrations, keys, listener, workers, HTTP. Stop: no new requests and jobs, those in progress to their
//! end within the grace period, then the database.

use std::{str::FromStr, sync::Arc};

use anyhow::Context;
use axum::Router;
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

mod connections;
pub mod dead_letters;
mod drained;
mod http;
mod upstream;
mod working;

use self::{connections::Listener, http::Tls, working::Working};
use crate::{
    api,
    arm::{Origins, origin::OtherHosts, page::TokenSealer},
    config::{Auth, Settings},
    database::{Limits, Pool},
    identity::{Issuer, Verifier},
    local::{
        keys::{self, LOCAL_USER, LocalKey},
        postgres::{PostgresSettings, PrivatePostgres},
        token_service::{SERVICE_PRINCIPAL, TokenService},
    },
    store,
};

/// What a process that serves does beside serving.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Work on jobs, too.
    pub worker: bool,
}

/// Serves the API until told to stop.
///
/// # Errors
/// When something that it needs cannot be had.
pub async fn serve(settings: Settings, options: ServeOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {} (FLEET_LISTEN)", settings.listen))?;
    let database = Database::open(&settings).await?;
    let outcome = serve_on(listener, &database.pool, &settings, options, stop).await;
    database.close().await?;
    outcome
}

/// Works on jobs until told to stop.
///
/// # Errors
/// When something that it needs cannot be had.
pub async fn work(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let database = Database::open(&settings).await?;
    let outcome = match Working::new(&database.pool, &settings).await {
        Ok(working) => {
            tracing::info!("working on jobs");
            working.run(stop).await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    database.close().await?;
    outcome
}

/// Applies migrations.
///
/// # Errors
/// When the database cannot be reached, or a migration fails.
pub async fn migrate(settings: Settings) -> anyhow::Result<()> {
    Database::open(&settings).await?.close().await
}

async fn serve_on(
    listener: TcpListener,
    pool: &Pool,
    settings: &Settings,
    options: ServeOptions,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let tls =
        settings.tls_cert.clone().zip(settings.tls_key.clone()).map(|(certificate, key)| Tls { certificate, key });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let Identity { verifier, login_endpoint, tokens, fresh } = identify(settings)?;
    let secret = store::keys::shared_secret(&mut pool.acquire().await?, "page-tokens", rand::random()).await?;
    let access = Arc::new(api::AccessCache::new(owners(settings)));
    let catalogues = Arc::new(api::CatalogueChanges::default());
    let state = api::AppState {
        pool: pool.clone(),
        stopping: stop.clone(),
        verifier: Arc::new(verifier),
        access: Arc::clone(&access),
        catalogues: Arc::clone(&catalogues),
        sealer: TokenSealer::new(secret),
        origins: Origins::new(scheme, listener.local_addr()?, settings.public_url.clone(), other_hosts(settings)),
        pass_through: upstream::pass_through(settings)?,
        login_endpoint,
        tenant: settings.tenant_id,
        subscriptions: settings.subscriptions.clone().into(),
        upstream_decides: settings.auth != Auth::Local,
        max_body_bytes: usize::try_from(settings.clients.max_body_bytes)?,
        body_deadline: settings.clients.body_deadline(),
        budgets: api::RequestBudgets::new(api::RequestRates {
            reads: settings.clients.reads_per_second,
            writes: settings.clients.writes_per_second,
            deletes: settings.clients.deletes_per_second,
        }),
    };
    let working = match options.worker {
        true => Some(tokio::spawn(watched(Working::new(pool, settings).await?.run(stop.clone()), stop.clone()))),
        false => None,
    };
    tracing::info!(address = %listener.local_addr()?, scheme, worker = options.worker, "serving");
    let closing = CancellationToken::new();
    let listener = Listener::new(listener, &settings.clients)?;
    let serving = http::serve(listener, api::router(state.into(), tokens), tls, settings, closing.clone());
    let closes = async {
        stop.cancelled().await;
        tokio::time::sleep(settings.shutdown_delay()).await;
        closing.cancel();
        std::future::pending::<()>().await
    };
    tokio::select! {
        served = serving => served?,
        () = closes => {}
        () = fresh => {}
        () = access.listen(pool) => {}
        () = catalogues.listen(pool) => {}
    }
    // The listener may have ended by itself.
    stop.cancel();
    if let Some(working) = working {
        working.await.context("the workers ended abnormally")??;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Works until told to stop. Workers that end by themselves stop the process, so that whoever supervises it starts it again: an
/// API that accepts what nobody carries out is worse than none.
async fn watched(working: impl Future<Output = ()> + Send + 'static, stop: CancellationToken) -> anyhow::Result<()> {
    let ended = tokio::spawn(working).await;
    let was_stopping = stop.is_cancelled();
    stop.cancel();
    ended.context("the workers ended abnormally")?;
    anyhow::ensure!(was_stopping, "the workers ended by themselves");
    Ok(())
}

/// Who owns everything, whatever the role assignments say.
fn owners(settings: &Settings) -> Vec<Uuid> {
    match (&settings.auth, settings.owners.as_slice()) {
        (Auth::Local, []) => vec![LOCAL_USER, SERVICE_PRINCIPAL],
        (Auth::Issuer(_), []) => {
            tracing::warn!("FLEET_OWNERS is empty: only those who have a role assignment already may do anything");
            Vec::new()
        }
        (_, owners) => owners.to_vec(),
    }
}

/// Who callers are, and where they get their tokens.
struct Identity {
    verifier: Verifier,
    /// Absent: here.
    login_endpoint: Option<String>,
    /// Public routes of a local world's token service.
    tokens: Router,
    /// Keeps the issuer's keys fresh; never ends.
    fresh: BoxFuture<'static, ()>,
}

/// What to do with requests for hosts that nobody listed: a service that issues tokens itself refuses them.
fn other_hosts(settings: &Settings) -> OtherHosts {
    match settings.auth {
        Auth::Issuer(_) => OtherHosts::Answer,
        Auth::Local if settings.insecure_local_auth => OtherHosts::Refuse,
        Auth::Local => OtherHosts::RefuseProxiesToo,
    }
}

fn identify(settings: &Settings) -> anyhow::Result<Identity> {
    let (tenant, audiences) = (settings.tenant_id, settings.audiences());
    match &settings.auth {
        Auth::Local => {
            if settings.insecure_local_auth {
                tracing::warn!(
                    "FLEET_INSECURE_LOCAL_AUTH: whoever reaches this service gets a token that owns everything, for a password that everybody knows. Use an OpenID Connect issuer (FLEET_AUTH)"
                );
            }
            let key = LocalKey::load_or_create(&settings.data_dir)?;
            let keys = vec![key.verification_key()];
            Ok(Identity {
                verifier: Verifier::new(keys, keys::issuer(tenant), audiences.clone(), tenant, "/adfs"),
                login_endpoint: None,
                tokens: TokenService::new(key, tenant, audiences, !settings.insecure_local_auth).router(),
                fresh: Box::pin(std::future::pending()),
            })
        }
        Auth::Issuer(url) => {
            let issuer = Arc::new(Issuer::new(url)?);
            let authority = url.trim_end_matches('/').trim_end_matches("/v2.0").to_owned();
            let host = authority.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
            let keeper = Arc::clone(&issuer);
            Ok(Identity {
                verifier: Verifier::of(issuer, audiences, tenant, authority),
                login_endpoint: Some(host),
                tokens: Router::new(),
                fresh: Box::pin(async move { keeper.keep_fresh().await }),
            })
        }
    }
}

/// The database of a process: the one that is configured, or a private one that lives as long as the process.
struct Database {
    pool: Pool,
    private: Option<PrivatePostgres>,
}

impl Database {
    async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let (options, private) = match &settings.database_url {
            Some(url) => (PgConnectOptions::from_str(url.expose_secret()).context("DATABASE_URL")?, None),
            None => {
                let wish = PostgresSettings { binaries: settings.pg_bin.clone(), ..PostgresSettings::default() };
                let private = PrivatePostgres::start_with(&settings.data_dir, &wish).await?;
                (private.options(), Some(private))
            }
        };
        let options = options.application_name("fleet-manager");
        let limits = Limits { answer: settings.database_timeout() };
        let pool = Pool::new(options.clone(), settings.database_connections, limits);
        let database = Self { pool, private };
        match store::schema::migrate(&options).await {
            Ok(()) => Ok(database),
            Err(error) => {
                let error = anyhow::Error::from(error).context("cannot apply migrations to the database");
                database.close().await?;
                Err(error)
            }
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        if let Some(private) = self.private {
            private.stop().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/readyz` answers 503 as soon as `stop` is cancelled.
    #[tokio::test]
    async fn workers_that_end_by_themselves_stop_the_process_with_an_error() {
        let stop = CancellationToken::new();
        let error = watched(async { panic!("a bug") }, stop.clone()).await.unwrap_err();
        assert!(stop.is_cancelled() && error.to_string().contains("abnormally"), "{error}");

        let stop = CancellationToken::new();
        let error = watched(async {}, stop.clone()).await.unwrap_err();
        assert!(stop.is_cancelled() && error.to_string().contains("by themselves"), "{error}");

        let stop = CancellationToken::new();
        let stopped = stop.clone();
        stop.cancel();
        watched(async move { stopped.cancelled().await }, stop).await.unwrap();
    }
}
