//! One delivery: an HTTP request, and what its answer means.

use std::time::Duration;

use http::{StatusCode, header};
use jiff::Timestamp;
use reqwest::{Certificate, Client, redirect};
use secrecy::ExposeSecret;

use super::{
    render::{Recorded, render},
    signature::sign,
    webhook::Webhook,
};

/// Longest pause that a receiver can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How deliveries are made.
#[derive(Debug, Clone)]
pub struct SenderSettings {
    /// Until an answer must be there.
    pub timeout: Duration,
    /// Authorities to trust beside the system's.
    pub ca: Vec<Certificate>,
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for webhooks could not be set up")]
pub struct SenderError(#[from] reqwest::Error);

/// Makes deliveries. Follows no redirects: where the events go is for the configuration to say.
#[derive(Debug, Clone)]
pub struct Sender {
    http: Client,
    timeout: Duration,
}

/// A delivery failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, for people; without the address, which may be secret.
    pub error: String,
    /// How long the receiver wants to be left alone.
    pub after: Option<Duration>,
    /// The receiver will not take this very event, however often it comes.
    pub refused: bool,
}

impl Failure {
    fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), after: None, refused: false }
    }
}

impl Sender {
    /// A sender. A TLS provider must have been installed before.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &SenderSettings) -> Result<Self, SenderError> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(settings.timeout)
            .user_agent(concat!("fleet-manager/", env!("CARGO_PKG_VERSION")));
        let ca = settings.ca.iter().cloned();
        let client = if settings.ca.is_empty() { client } else { client.tls_certs_merge(ca) };
        Ok(Self { http: client.build()?, timeout: settings.timeout })
    }

    /// Delivers events in one request. Any 2xx in time is a success; the answer's body does not matter.
    ///
    /// # Errors
    /// Everything else.
    pub async fn send(&self, webhook: &Webhook, events: &[Recorded]) -> Result<(), Failure> {
        let secrets = webhook.secrets().map_err(|error| Failure::new(format!("no secret: {error}")))?;
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
        Err(judge(status, after.and_then(|text| retry_after(text, Timestamp::now()))))
    }

    fn failed(&self, error: reqwest::Error) -> Failure {
        if error.is_timeout() {
            return Failure::new(format!("no answer within {} s", self.timeout.as_secs()));
        }
        let error = anyhow::Error::from(error.without_url());
        Failure::new(format!("{error:#}"))
    }
}

fn judge(status: StatusCode, after: Option<Duration>) -> Failure {
    let refused =
        matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY);
    let error = match status.is_redirection() {
        true => format!("the receiver answers {status}; redirects are not followed"),
        false => format!("the receiver answers {status}"),
    };
    Failure { error, after, refused }
}

/// `Retry-After`, in seconds or as a date, within bounds.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let asked = text.parse().map(Duration::from_secs).ok().or_else(|| {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
    })?;
    Some(asked.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say() {
        assert!(judge(StatusCode::BAD_REQUEST, None).refused);
        assert!(!judge(StatusCode::NOT_FOUND, None).refused, "it may be there tomorrow");
        assert!(!judge(StatusCode::INTERNAL_SERVER_ERROR, None).refused);
        let moved = judge(StatusCode::TEMPORARY_REDIRECT, None);
        assert!(moved.error.contains("not followed") && !moved.refused);
    }

    #[test]
    fn pauses_are_bounded() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let seconds = |text| retry_after(text, now).map(|pause| pause.as_secs());
        assert_eq!(seconds(" 7 "), Some(7));
        assert_eq!(seconds("Thu, 01 Jan 2026 00:01:00 GMT"), Some(60));
        assert_eq!(seconds("Wed, 31 Dec 2025 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("999999999999"), Some(3600));
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
