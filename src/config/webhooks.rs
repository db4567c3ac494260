//! Settings of events, and of how long what grows with time is kept.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::{between, secret};
use crate::webhooks::{WebhookError, Webhooks};

/// Webhooks, and how events are delivered to them.
#[derive(Debug, Clone, Args)]
pub struct WebhookSettings {
    /// Receivers of events about gates and the progress of update runs: a JSON list of webhooks, such as
    /// [{"name": "ops", "url": "https://...", "secretEnv": "OPS_SECRET"}]; docs/events.md has the rest. All processes must be
    /// given the same. Absent: none, and no events are recorded
    #[arg(long, env = "FLEET_WEBHOOKS", hide_env_values = true, value_parser = secret, value_name = "JSON")]
    webhooks: Option<SecretString>,

    /// Certificate authorities to trust beside the system's, PEM, for webhooks
    #[arg(long, env = "FLEET_WEBHOOK_CA", value_name = "FILE")]
    pub webhook_ca: Option<PathBuf>,

    /// Seconds within which a webhook must have answered a delivery
    #[arg(long, env = "FLEET_WEBHOOK_TIMEOUT_SECONDS", default_value_t = 10, value_parser = between(1, 60), value_name = "SECONDS")]
    webhook_timeout_seconds: u32,

    /// Seconds for which the delivery of an event is tried again, three times at least; then it is a dead letter
    #[arg(long, env = "FLEET_WEBHOOK_RETRY_SECONDS", default_value_t = 86_400, value_parser = between(0, 604_800), value_name = "SECONDS")]
    webhook_retry_seconds: u32,

    /// Deliveries that one process makes at the same time, beside its other jobs
    #[arg(long, env = "FLEET_WEBHOOK_CONCURRENCY", default_value_t = 8, value_parser = between(1, 1000), value_name = "N")]
    pub webhook_concurrency: u32,
}

impl WebhookSettings {
    /// The receivers of events.
    ///
    /// # Errors
    /// What is wrong with the setting, without what may be secret in it.
    pub fn webhooks(&self) -> Result<Webhooks, WebhookError> {
        Webhooks::parse(self.webhooks.as_ref().map_or("", |text| text.expose_secret()))
    }

    /// Within which a webhook must have answered.
    #[must_use]
    pub fn webhook_timeout(&self) -> Duration {
        Duration::from_secs(self.webhook_timeout_seconds.into())
    }

    /// For how long a delivery is tried again.
    #[must_use]
    pub fn webhook_retry(&self) -> Duration {
        Duration::from_secs(self.webhook_retry_seconds.into())
    }

    pub(super) fn check(&self, report: &mut impl FnMut(bool, &str)) {
        if let Err(error) = self.webhooks() {
            report(true, &format!("FLEET_WEBHOOKS: {error}"));
        }
    }
}

/// How long what grows with time is kept.
#[derive(Debug, Clone, Args)]
pub struct RetentionSettings {
    /// Days for which events are kept that were delivered
    #[arg(long, env = "FLEET_EVENT_DAYS", default_value_t = 7, value_parser = between(1, 3650), value_name = "DAYS")]
    pub event_days: u32,

    /// Days for which dead letters are kept
    #[arg(long, env = "FLEET_DEAD_LETTER_DAYS", default_value_t = 30, value_parser = between(1, 3650), value_name = "DAYS")]
    pub dead_letter_days: u32,

    /// Days for which the audit trail is kept
    #[arg(long, env = "FLEET_AUDIT_DAYS", default_value_t = 90, value_parser = between(1, 3650), value_name = "DAYS")]
    pub audit_days: u32,

    /// Days for which asynchronous operations are kept after their end
    #[arg(long, env = "FLEET_OPERATION_DAYS", default_value_t = 7, value_parser = between(1, 3650), value_name = "DAYS")]
    pub operation_days: u32,
}
