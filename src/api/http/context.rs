//! Request and correlation IDs: on every answer and on every log line of a request.

use std::time::Instant;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument;
use uuid::Uuid;

use crate::api::{
    App,
    http::{error, host},
};

/// The IDs of one request.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    /// The caller's where given, else our own: one a chain of requests and what they cause.
    pub(crate) correlation: String,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const CLIENT_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const RETURN_CLIENT_ID: HeaderName = HeaderName::from_static("x-ms-return-client-request-id");

/// Gives a request its IDs, a span and the origin that it asked, logs how it went, and sets the headers that every answer has.
pub(crate) async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = Uuid::new_v4();
    let client = request.headers().get(&CLIENT_ID).filter(|value| is_plain(value)).cloned();
    let correlation = request.headers().get(&CORRELATION_ID).filter(|value| is_plain(value));
    let correlation = correlation.and_then(|v| v.to_str().ok()).map_or_else(|| id.to_string(), str::to_owned);
    let echo = wants_echo(request.headers());
    request.extensions_mut().insert(Ids { correlation: correlation.clone() });
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        correlation_id = %correlation,
        client_request_id = client.as_ref().and_then(|v| v.to_str().ok()),
        method = %request.method(),
        path = %request.uri().path(),
        caller = tracing::field::Empty,
    );
    let began = Instant::now();
    async move {
        let mut response = match host::check(&app, &mut request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => error::arm_response(&refusal),
        };
        let status = response.status();
        tracing::info!(status = status.as_u16(), elapsed_ms = began.elapsed().as_secs_f64() * 1e3, "answered");
        let headers = response.headers_mut();
        set(headers, REQUEST_ID, &id.to_string());
        set(headers, CORRELATION_ID, &correlation);
        if let (true, Some(client)) = (echo, client) {
            headers.insert(CLIENT_ID, client);
        }
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(http::header::PRAGMA, HeaderValue::from_static("no-cache"));
        headers.insert(http::header::EXPIRES, HeaderValue::from_static("-1"));
        headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
    .instrument(span)
    .await
}

fn wants_echo(headers: &HeaderMap) -> bool {
    headers.get(&RETURN_CLIENT_ID).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// IDs go into logs and answers, so only short ones of harmless characters are taken over.
fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=128).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'{' | b'}'))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
