//! One delivery: the HTTP request, and whether its response is a success.

use std::time::Duration;

use http::{StatusCode, header};
use jiff::Timestamp;
use reqwest::{Certificate, Client};
use secrecy::ExposeSecret;

use super::{
    render::{RecordedEvent, render},
    signature::sign,
    webhook::Webhook,
};
use crate::transport;

/// Longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Settings of the HTTP client for webhooks.
#[derive(Debug, Clone)]
pub struct SenderSettings {
    /// Time within which a receiver must respond.
    pub timeout: Duration,
    /// Certificate authorities to trust in addition to the system's.
    pub ca: Vec<Certificate>,
}

/// The HTTP client could not be created.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for webhooks could not be set up")]
pub struct SenderError(#[from] reqwest::Error);

/// Sends deliveries. It does not follow redirects: only the configuration decides where events go.
#[derive(Debug, Clone)]
pub struct Sender {
    http: Client,
    timeout: Duration,
}

/// Why a delivery failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryFailure {
    /// Message for people. Does not contain the URL, which may contain a secret.
    pub error: String,
    /// The receiver's `Retry-After`, at most an hour.
    pub retry_after: Option<Duration>,
    /// Whether the receiver rejects this event permanently, so that a retry is pointless.
    pub is_rejected: bool,
}

impl DeliveryFailure {
    fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), retry_after: None, is_rejected: false }
    }
}

impl Sender {
    /// Returns a sender. A TLS provider must be installed before.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &SenderSettings) -> Result<Self, SenderError> {
        let http = transport::client(&settings.ca).timeout(settings.timeout).build()?;
        Ok(Self { http, timeout: settings.timeout })
    }

    /// Delivers events in one request. Any 2xx status within the timeout is a success; the response's body is not read.
    ///
    /// # Errors
    /// Any other status, no response within the timeout, no connection, or no secret.
    pub async fn send(&self, webhook: &Webhook, events: &[RecordedEvent]) -> Result<(), DeliveryFailure> {
        let secrets = webhook.secrets().map_err(|error| DeliveryFailure::new(format!("no secret: {error}")))?;
        let (content_type, body) = render(webhook.schema, webhook.batch > 1, events);
        let seconds = Timestamp::now().as_second();
        let signature = sign(secrets.iter().map(|secret| secret.expose_secret().as_bytes()), seconds, &body);
        let request = self
            .http
            .post(webhook.url.clone())
            .header(header::CONTENT_TYPE, content_type)
            .header("fleet-webhook-name", &webhook.name)
            .header("fleet-webhook-timestamp", seconds.to_string())
            .header("fleet-webhook-signature", signature)
            .header("aeg-event-type", "Notification")
            .body(body);
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Err(failure_of(status, after.and_then(|text| parse_retry_after(text, Timestamp::now()))))
    }

    fn failed(&self, error: reqwest::Error) -> DeliveryFailure {
        if error.is_timeout() {
            return DeliveryFailure::new(format!("no answer within {} s", self.timeout.as_secs()));
        }
        let error = anyhow::Error::from(error.without_url());
        DeliveryFailure::new(format!("{error:#}"))
    }
}

fn failure_of(status: StatusCode, retry_after: Option<Duration>) -> DeliveryFailure {
    let is_rejected =
        matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY);
    let error = match status.is_redirection() {
        true => format!("the receiver answers {status}; redirects are not followed"),
        false => format!("the receiver answers {status}"),
    };
    DeliveryFailure { error, retry_after, is_rejected }
}

/// Returns the value of a `Retry-After` header (seconds or a date), at most [`MAX_RETRY_AFTER`].
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let asked = text.parse().map(Duration::from_secs).ok().or_else(|| {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
    })?;
    Some(asked.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_reject_an_event() {
        assert!(failure_of(StatusCode::BAD_REQUEST, None).is_rejected);
        assert!(!failure_of(StatusCode::NOT_FOUND, None).is_rejected, "the receiver may be deployed later");
        assert!(!failure_of(StatusCode::INTERNAL_SERVER_ERROR, None).is_rejected);
        let moved = failure_of(StatusCode::TEMPORARY_REDIRECT, None);
        assert!(moved.error.contains("not followed") && !moved.is_rejected);
    }

    #[test]
    fn retry_after_is_bounded() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let seconds = |text| parse_retry_after(text, now).map(|pause| pause.as_secs());
        assert_eq!(seconds(" 7 "), Some(7));
        assert_eq!(seconds("Thu, 01 Jan 2026 00:01:00 GMT"), Some(60));
        assert_eq!(seconds("Wed, 31 Dec 2025 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("999999999999"), Some(3600));
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
