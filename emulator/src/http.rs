//! HTTP: converts requests into calls, and results into responses, delayed responses or closed connections.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::call::{self, Call, Reply};
use crate::control;
use crate::world::Outcome;
use crate::{Emulator, errors::ArmError};

/// Largest request body, as in ARM.
const LARGEST_BODY: usize = 4 * 1024 * 1024;

/// `scheme`: `http` or `https`, as the listener.
pub(crate) fn router(emulator: Emulator, scheme: &'static str) -> Router {
    let arm = move |State(emulator): State<Emulator>, request: Request<Body>| arm(emulator, scheme, request);
    Router::new().nest("/emulator", control::router()).fallback(arm).with_state(emulator)
}

async fn arm(emulator: Emulator, scheme: &'static str, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        let error =
            ArmError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "The request body is too large.");
        return answer(error.into(), &parts);
    };
    let call = read(&parts, &body, scheme);
    let outcome = emulator.world().apply(&call, Timestamp::now());
    match outcome {
        Outcome::Answer(reply) => answer(reply, &parts),
        Outcome::Late(reply, seconds) => {
            sleep(seconds).await;
            answer(reply, &parts)
        }
        Outcome::Cut(seconds) => {
            sleep(seconds).await;
            cut()
        }
    }
}

async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)).await;
}

/// A body that fails before its first byte: hyper then drops the connection, head unsent (HTTP/2: resets the stream).
fn cut() -> Response {
    let broken = io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault of the emulator");
    Response::new(Body::from_stream(stream::once(std::future::ready(Err::<axum::body::Bytes, _>(broken)))))
}

fn read(parts: &Parts, body: &[u8], scheme: &str) -> Call {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let query: Vec<(String, String)> = Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default();
    let token = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    Call {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        segments: Call::split(parts.uri.path()),
        query: query.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect(),
        if_match: header("if-match").map(str::to_owned),
        if_none_match: header("if-none-match").map(str::to_owned),
        body: if body.is_empty() {
            Ok(None)
        } else {
            serde_json::from_slice(body).map(Some).map_err(|error| error.to_string())
        },
        base: base(&parts.headers, &parts.uri, scheme),
        caller: token.map(caller),
        token: token.map(str::to_owned),
        form: if header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            form(body)
        } else {
            BTreeMap::new()
        },
        metadata: header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")),
        identity_header: header("x-identity-header").map(str::to_owned),
        snapshot_id: header("akssnapshotid").map(str::to_owned),
    }
}

/// Parses a form body, which has the syntax of a query.
fn form(body: &[u8]) -> BTreeMap<String, String> {
    let uri = std::str::from_utf8(body).ok().and_then(|body| format!("/?{body}").parse::<Uri>().ok());
    let fields = uri.and_then(|uri| Query::try_from_uri(&uri).ok());
    fields.map(|Query(fields)| fields).unwrap_or_default()
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// Returns the principal of an unverified token: `oid`, `appid` or `sub` of a JWT, else the first characters of the token.
fn caller(token: &str) -> String {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    let claims: Option<Value> = claims.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let claim = |name: &str| claims.as_ref()?.get(name)?.as_str().map(str::to_owned);
    claim("oid").or_else(|| claim("appid")).or_else(|| claim("sub")).unwrap_or_else(|| token.chars().take(8).collect())
}

/// Returns scheme and host as the caller sees them, also behind a proxy.
fn base(headers: &HeaderMap, uri: &Uri, scheme: &str) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = text("x-forwarded-proto").unwrap_or(scheme);
    let host =
        text("x-forwarded-host").or_else(|| text(HOST.as_str())).or_else(|| uri.authority().map(|host| host.as_str()));
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// Adds the headers of every ARM response.
pub(crate) fn answer(reply: Reply, request: &Parts) -> Response {
    let (body, kind) = match reply.body {
        call::Body::Empty => (Body::empty(), None),
        call::Body::Json(value) => (Body::from(value.to_string()), Some("application/json")),
        call::Body::Text(text) => (Body::from(text.as_bytes().to_vec()), Some("application/json")),
        call::Body::Garbage => (Body::from("<html><body>The service is unavailable.</body></html>"), Some("text/html")),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(kind) = kind {
        set("content-type", kind);
    }
    let id = Uuid::new_v4().to_string();
    let given = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    set("x-ms-request-id", &id);
    set("x-ms-correlation-request-id", given("x-ms-correlation-request-id").unwrap_or(&id));
    if let (Some("true"), Some(client)) = (given("x-ms-return-client-request-id"), given("x-ms-client-request-id")) {
        set("x-ms-client-request-id", client);
    }
    set("cache-control", "no-cache");
    set("pragma", "no-cache");
    set("expires", "-1");
    set("x-content-type-options", "nosniff");
    set("strict-transport-security", "max-age=31536000; includeSubDomains");
    match request.method {
        Method::GET | Method::HEAD => set("x-ms-ratelimit-remaining-subscription-reads", "11999"),
        Method::DELETE => set("x-ms-ratelimit-remaining-subscription-deletes", "14999"),
        _ => set("x-ms-ratelimit-remaining-subscription-writes", "1199"),
    }
    for (name, value) in &reply.headers {
        set(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_told_from_claims_or_the_token_itself() {
        let jwt = |claims: &str| format!("x.{}.y", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(caller(&jwt(r#"{"sub":"s","appid":"a","oid":"o"}"#)), "o");
        assert_eq!(caller(&jwt(r#"{"sub":"s","appid":"a"}"#)), "a");
        assert_eq!(caller(&jwt(r#"{"sub":"s"}"#)), "s");
        assert_eq!(caller("not-a-jwt-at-all"), "not-a-jw");
        assert_eq!(caller("a.b.c"), "a.b.c");
        assert_eq!(bearer("Bearer  "), None);
        assert_eq!(bearer("bearer t"), Some("t"));
    }

    #[test]
    fn forms_are_read() {
        let read = form(b"scope=https%3A%2F%2Fh%2F.default&client_secret=a%26b+c");
        assert_eq!(read["scope"], "https://h/.default");
        assert_eq!(read["client_secret"], "a&b c");
        assert!(form(b"\xff").is_empty());
    }
}
