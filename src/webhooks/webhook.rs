//! The setting `FLEET_WEBHOOKS`: which receivers get which events.

use std::{fmt, net::IpAddr, path::PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::describe::TYPES;

/// Most webhooks: each has its own delivery job for every run.
const MAX_WEBHOOKS: usize = 32;
/// Most events in one delivery.
const MAX_BATCH: u32 = 100;
/// Shortest secret, in bytes.
const MIN_SECRET_BYTES: usize = 16;

/// Event schema of a webhook, with the names of Azure Event Grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Schema {
    /// CloudEvents 1.0.
    #[default]
    #[serde(rename = "CloudEventSchemaV1_0")]
    CloudEvents,
    /// The schema of Azure Event Grid.
    #[serde(rename = "EventGridSchema")]
    EventGrid,
}

/// Where a webhook's secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// An environment variable.
    Env(String),
    /// A file with one secret a line; each adds a signature.
    File(PathBuf),
}

/// A receiver of events.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Name in logs, in the database and in messages.
    pub name: String,
    /// Address of the receiver. May contain a secret: it is never logged or stored.
    pub url: Url,
    /// Event types that the receiver gets; `None`: all.
    pub types: Option<Vec<String>>,
    /// Schema of the events.
    pub schema: Schema,
    /// Largest number of events in one delivery; 1: no batches.
    pub batch: usize,
    /// Where the secret that signs deliveries is read from.
    pub secret: Secret,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// All configured webhooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Webhooks(pub Vec<Webhook>);

/// What is wrong with the setting. The message does not repeat values that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebhookError(String);

/// Why no secret could be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There is no secret, or one that is too short.
    #[error("a secret must have {MIN_SECRET_BYTES} bytes or more")]
    Short,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    url: String,
    #[serde(default)]
    included_event_types: Option<Vec<String>>,
    #[serde(default)]
    schema: Schema,
    #[serde(default = "one")]
    max_events_per_batch: u32,
    #[serde(default)]
    secret_env: Option<String>,
    #[serde(default)]
    secret_file: Option<PathBuf>,
}

const fn one() -> u32 {
    1
}

impl Webhooks {
    /// Parses the setting, a JSON list.
    ///
    /// # Errors
    /// A message that names the wrong property.
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let entries: Vec<Entry> = match text.trim() {
            "" => Vec::new(),
            text => {
                // serde repeats values in its messages, and a URL may contain a secret: only messages about names are passed on.
                let wrong = |error: serde_json::Error| {
                    let what = error.to_string();
                    let named = ["unknown field", "missing field", "unknown variant"];
                    let what = if named.iter().any(|start| what.starts_with(start)) {
                        what
                    } else {
                        "it does not parse".to_owned()
                    };
                    WebhookError(format!(
                        "it is not a list like [{{\"name\": \"ops\", \"url\": \"https://…\", \"secretEnv\": \"OPS_SECRET\"}}]: {what} (line {}, column {})",
                        error.line(),
                        error.column()
                    ))
                };
                serde_json::from_str(text).map_err(wrong)?
            }
        };
        if entries.len() > MAX_WEBHOOKS {
            return Err(WebhookError(format!("there are more than {MAX_WEBHOOKS}")));
        }
        let mut webhooks = Vec::with_capacity(entries.len());
        for entry in entries {
            let webhook = entry.check()?;
            if webhooks.iter().any(|other: &Webhook| other.name == webhook.name) {
                return Err(WebhookError(format!("two webhooks have the name '{}'", webhook.name)));
            }
            webhooks.push(webhook);
        }
        Ok(Self(webhooks))
    }

    /// Returns the webhook with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Webhook> {
        self.0.iter().find(|webhook| webhook.name == name)
    }
}

impl Entry {
    fn check(self) -> Result<Webhook, WebhookError> {
        let name = self.name;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 50 || !name.chars().all(fits) {
            return Err(WebhookError(format!(
                "'{}' is not a valid webhook name: use 1 to 50 characters of a-z, 0-9 and '-'",
                name.escape_debug()
            )));
        }
        let wrong = |what: &str| WebhookError(format!("webhook '{name}': {what}"));
        let url = Url::parse(&self.url).map_err(|_| wrong("url is not a URL"))?;
        let safe = match url.scheme() {
            "https" => true,
            "http" => url.host_str().is_some_and(is_loopback),
            _ => false,
        };
        if !safe {
            return Err(wrong("url must have the scheme https; http is allowed for this machine only"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("url must not contain a user or password"));
        }
        for kind in self.included_event_types.iter().flatten() {
            if !TYPES.contains(&kind.as_str()) {
                let known = TYPES.join(", ");
                let kind = kind.escape_debug();
                return Err(WebhookError(format!(
                    "webhook '{name}': '{kind}' in includedEventTypes is not an event type; the types are {known}"
                )));
            }
        }
        if self.included_event_types.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("includedEventTypes is empty: leave it out to get all types"));
        }
        if !(1..=MAX_BATCH).contains(&self.max_events_per_batch) {
            return Err(wrong("maxEventsPerBatch must be between 1 and 100"));
        }
        let secret = match (self.secret_env, self.secret_file) {
            (Some(variable), None) if variable.starts_with("FLEET_") => {
                return Err(wrong("secretEnv must not begin with FLEET_: such variables are settings"));
            }
            (Some(variable), None) if !variable.is_empty() && !variable.contains(['=', '\0']) => Secret::Env(variable),
            (None, Some(file)) => Secret::File(file),
            _ => return Err(wrong("set either secretEnv (a variable) or secretFile (a path) to where the secret is")),
        };
        Ok(Webhook {
            url,
            types: self.included_event_types,
            schema: self.schema,
            batch: usize::try_from(self.max_events_per_batch).unwrap_or(1),
            secret,
            name,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

impl Webhook {
    /// Reads the secrets: the value of the variable, or one secret a line of the file.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn secrets(&self) -> Result<Vec<SecretString>, SecretError> {
        let text: SecretString = match &self.secret {
            Secret::Env(name) => std::env::var(name).map_err(|_| SecretError::NotSet(name.clone()))?.into(),
            Secret::File(path) => {
                std::fs::read_to_string(path).map_err(|source| SecretError::File { path: path.clone(), source })?.into()
            }
        };
        let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Vec<SecretString> = lines.map(SecretString::from).collect();
        let short = secrets.iter().any(|secret| secret.expose_secret().len() < MIN_SECRET_BYTES);
        if secrets.is_empty() || short { Err(SecretError::Short) } else { Ok(secrets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(more: &str) -> String {
        format!(r#"[{{"name": "ops", "url": "https://hooks.example/a?code=hunter2", "secretEnv": "OPS"{more}}}]"#)
    }

    #[test]
    fn reads_a_list() {
        let kind = "Microsoft.ResourceNotifications.AKSResources.FleetGateCreated";
        let more =
            format!(r#", "includedEventTypes": ["{kind}"], "maxEventsPerBatch": 20, "schema": "EventGridSchema""#);
        let webhooks = Webhooks::parse(&entry(&more)).unwrap();
        let webhook = webhooks.named("ops").unwrap();
        assert_eq!((webhook.batch, webhook.schema), (20, Schema::EventGrid));
        assert_eq!(webhook.types.as_deref(), Some(&[kind.to_owned()][..]));
        assert_eq!(webhook.secret, Secret::Env("OPS".to_owned()));
        let plain = Webhooks::parse(&entry("")).unwrap();
        assert_eq!((plain.0[0].batch, plain.0[0].schema, plain.0[0].types.is_none()), (1, Schema::CloudEvents, true));
        assert_eq!(Webhooks::parse(" ").unwrap(), Webhooks::default());
    }

    #[test]
    fn invalid_settings_are_refused_without_repeating_secrets() {
        let with_url = |url: &str| format!(r#"[{{"name": "ops", "url": "{url}", "secretEnv": "OPS"}}]"#);
        for (text, expected) in [
            ("nonsense hunter2".to_owned(), "does not parse"),
            (r#"[{"name": "ops", "url": {"x": "hunter2"}, "secretEnv": "OPS"}]"#.to_owned(), "does not parse"),
            (r#"[{"name": "hunter2", "secretEnv": "OPS"}]"#.to_owned(), "missing field `url`"),
            (entry(r#", "secret": "hunter2""#), "unknown field `secret`"),
            (entry(r#", "secretFile": "x""#), "either secretEnv"),
            (entry("").replace(r#", "secretEnv": "OPS""#, ""), "either secretEnv"),
            (entry("").replace("OPS", "FLEET_SECRET"), "FLEET_"),
            (entry("").replace("ops", "O p"), "not a valid webhook name"),
            (entry(r#", "includedEventTypes": ["Gate"]"#), "'Gate'"),
            (entry(r#", "includedEventTypes": []"#), "is empty"),
            (entry(r#", "maxEventsPerBatch": 0"#), "maxEventsPerBatch"),
            (entry(r#", "maxEventsPerBatch": 101"#), "maxEventsPerBatch"),
            (entry(r#", "schema": "Custom""#), "unknown variant"),
            (with_url("hooks.example"), "not a URL"),
            (with_url("http://hooks.example"), "https"),
            (with_url("http://10.0.0.1/x"), "https"),
            (with_url("http://127.0.0.1.example.com/x"), "https"),
            (with_url("ftp://127.0.0.1/x"), "https"),
            (with_url("https://u:hunter2@h/x"), "must not contain a user"),
            (
                format!("[{}, {}]", &entry("")[1..entry("").len() - 1], &entry("")[1..entry("").len() - 1]),
                "two webhooks",
            ),
        ] {
            let error = Webhooks::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
        }
        for url in ["http://127.0.0.1:8080/x", "http://[::1]/x", "http://localhost/x", "https://10.0.0.1/x"] {
            assert!(Webhooks::parse(&with_url(url)).is_ok(), "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_setting_is_accepted_or_refused_in_one_line(text in "\\PC*", name in "\\PC{0,60}", url in "\\PC*") {
            let entry = serde_json::json!([{"name": name, "url": url, "secretEnv": "OPS"}]).to_string();
            for text in [text, entry] {
                match Webhooks::parse(&text) {
                    Ok(webhooks) => assert!(webhooks.0.iter().all(|w| matches!(w.url.scheme(), "https" | "http"))),
                    Err(error) => assert!(!error.to_string().contains('\n')),
                }
            }
        }
    }

    #[test]
    fn debug_output_hides_the_url() {
        let shown = format!("{:?}", Webhooks::parse(&entry("")).unwrap());
        assert!(shown.contains("hooks.example") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_file_may_have_several_secrets() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut webhook = Webhooks::parse(&entry("")).unwrap().0.remove(0);
        webhook.secret = Secret::File(file.path().to_owned());
        assert!(matches!(webhook.secrets(), Err(SecretError::Short)));
        std::fs::write(file.path(), "0123456789abcdef\n\n fedcba9876543210 \n").unwrap();
        let secrets = webhook.secrets().unwrap();
        assert_eq!(
            secrets.iter().map(|s| s.expose_secret().to_owned()).collect::<Vec<_>>(),
            ["0123456789abcdef", "fedcba9876543210"]
        );
        std::fs::write(file.path(), "0123456789abcdef\nshort").unwrap();
        assert!(matches!(webhook.secrets(), Err(SecretError::Short)));
        webhook.secret = Secret::Env("NO_SUCH_VARIABLE_HERE".to_owned());
        assert!(matches!(webhook.secrets(), Err(SecretError::NotSet(_))));
    }
}
