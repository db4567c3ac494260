//! The listener: plain or TLS, graceful at its end.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use axum::{ServiceExt, body::Body, extract::Request};
use axum_server::{
    Handle, Server,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower::util::MapRequestLayer;

use super::{
    connections::{CountRequests, Endpoint, Listener},
    drained::drained,
};
use crate::{api, config::Settings};

/// How often the files of a certificate are looked at.
const RELOAD: Duration = Duration::from_secs(10);

/// A certificate and its private key, PEM.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Serves until told to stop; then requests in progress have the grace period to end.
pub(super) async fn serve(
    listener: Listener,
    service: api::Service,
    tls: Option<Tls>,
    settings: &Settings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let handle: Handle<Endpoint> = Handle::new();
    let (grace, body_deadline) = (settings.shutdown_grace(), settings.clients.body_deadline());
    let ending = {
        let (handle, stop) = (handle.clone(), stop.clone());
        async move {
            stop.cancelled().await;
            handle.graceful_shutdown(Some(grace));
            std::future::pending::<()>().await
        }
    };
    let server = Server::from_listener(listener).handle(handle);
    let service = ServiceExt::<Request<hyper::body::Incoming>>::into_make_service(
        MapRequestLayer::new(move |request: Request<hyper::body::Incoming>| {
            drained(request.map(Body::new), body_deadline)
        })
        .layer(service),
    );
    let serving = async {
        match tls {
            None => server.acceptor(CountRequests).serve(service).await.context("serving HTTP"),
            Some(tls) => {
                let config = load(&tls).await?;
                let server = server.acceptor(RustlsAcceptor::new(config.clone()).acceptor(CountRequests));
                tokio::select! {
                    served = server.serve(service) => served.context("serving HTTPS"),
                    () = reload(&tls, &config) => Ok(()),
                }
            }
        }
    };
    tokio::select! {
        served = serving => served,
        () = ending => Ok(()),
    }
}

async fn load(tls: &Tls) -> anyhow::Result<RustlsConfig> {
    RustlsConfig::from_pem_file(&tls.certificate, &tls.key).await.with_context(|| {
        format!(
            "cannot use the certificate {} with the key {} (FLEET_TLS_CERT, FLEET_TLS_KEY)",
            tls.certificate.display(),
            tls.key.display()
        )
    })
}

/// Takes over files that have changed. A pair that does not fit, as while it is being replaced, is looked at again.
async fn reload(tls: &Tls, config: &RustlsConfig) {
    let mut known = (changed(&tls.certificate), changed(&tls.key));
    loop {
        tokio::time::sleep(RELOAD).await;
        let now = (changed(&tls.certificate), changed(&tls.key));
        if now == known {
            continue;
        }
        match config.reload_from_pem_file(&tls.certificate, &tls.key).await {
            Ok(()) => {
                known = now;
                tracing::info!(certificate = %tls.certificate.display(), "certificate reloaded");
            }
            Err(error) => {
                tracing::warn!(%error, certificate = %tls.certificate.display(), "the changed certificate cannot be used; the last one stays");
            }
        }
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
