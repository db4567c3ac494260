//! The host that a request asks for: refused where the service does not answer to it, else the origin of all links in the answer.

use axum::extract::Request;
use http::{StatusCode, request::Parts};

use crate::{
    api::App,
    arm::{ArmError, Origin, origin::HostRefusal},
};

/// Public routes that give nothing away. Probes ask for them by whatever address they know.
const ANY_HOST: [&str; 2] = ["/healthz", "/readyz"];

/// Puts the origin that was asked into the request.
///
/// # Errors
/// 421 `MisdirectedRequest` (RFC 9110 §15.5.20) or 400 `InvalidHost`.
pub(crate) fn check(app: &App, request: &mut Request) -> Result<(), ArmError> {
    let origin = match app.origins.asked(request.uri(), request.headers()) {
        Ok(origin) => origin,
        Err(_) if ANY_HOST.contains(&request.uri().path()) => app.origins.own(),
        Err(refusal) => {
            tracing::warn!(reason = %refusal, "host refused");
            return Err(refused(&refusal));
        }
    };
    request.extensions_mut().insert(origin);
    Ok(())
}

fn refused(refusal: &HostRefusal) -> ArmError {
    let (status, code) = match refusal {
        HostRefusal::Malformed | HostRefusal::Ambiguous => (StatusCode::BAD_REQUEST, "InvalidHost"),
        HostRefusal::Unknown(_) | HostRefusal::Forwarded(_) => (StatusCode::MISDIRECTED_REQUEST, "MisdirectedRequest"),
    };
    ArmError::new(status, code, refusal.to_string())
}

/// The origin that a request asked for: links in its answer begin with it.
pub(crate) fn origin_of(parts: &Parts, app: &App) -> Origin {
    parts.extensions.get::<Origin>().cloned().unwrap_or_else(|| app.origins.own())
}
