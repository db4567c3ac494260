//! The setting `FLEET_WEBHOOKS`: who is told what.

use std::{fmt, net::IpAddr, path::PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::describe::TYPES;

/// Most webhooks: each has deliveries of its own for every run.
const MOST: usize = 32;
/// Most events in one delivery.
const MOST_IN_BATCH: u32 = 100;
/// Shortest secret, in bytes.
const SHORTEST_SECRET: usize = 16;

/// In which schema a webhook wants events; named as Azure Event Grid names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Schema {
    /// CloudEvents 1.0.
    #[default]
    #[serde(rename = "CloudEventSchemaV1_0")]
    CloudEvents,
    /// Azure Event Grid's own.
    #[serde(rename = "EventGridSchema")]
    EventGrid,
}

/// Where a webhook's secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// In this environment variable.
    Env(String),
    /// In this file, one secret a line; each signs.
    File(PathBuf),
}

/// Who is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Names it in logs, in the database and to people.
    pub name: String,
    /// Where to. May have secrets in it: never logged or stored.
    pub url: Url,
    /// Types of event; absent: all.
    pub types: Option<Vec<String>>,
    /// In which schema.
    pub schema: Schema,
    /// Most events in a delivery; 1: no batches.
    pub batch: usize,
    /// What deliveries are signed with.
    pub secret: Secret,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// All webhooks of the setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Webhooks(pub Vec<Webhook>);

/// What is wrong with the setting. Does not repeat what may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebhookError(String);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is none, or one that can be guessed.
    #[error("a secret must have {SHORTEST_SECRET} bytes or more")]
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
    /// Reads the setting: a JSON list.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let entries: Vec<Entry> = match text.trim() {
            "" => Vec::new(),
            text => {
                // Without the values that serde repeats: a URL may have a secret in it.
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
        if entries.len() > MOST {
            return Err(WebhookError(format!("there are more than {MOST}")));
        }
        let mut webhooks = Vec::with_capacity(entries.len());
        for entry in entries {
            let webhook = entry.check()?;
            if webhooks.iter().any(|other: &Webhook| other.name == webhook.name) {
                return Err(WebhookError(format!("'{}' is there twice", webhook.name)));
            }
            webhooks.push(webhook);
        }
        Ok(Self(webhooks))
    }

    /// The webhook of this name.
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
                "'{}' is no name of a webhook: 1 to 50 of a-z, 0-9 and '-'",
                name.escape_debug()
            )));
        }
        let wrong = |what: &str| WebhookError(format!("{what} of '{name}'"));
        let url = Url::parse(&self.url).map_err(|_| wrong("there is no URL in url"))?;
        let safe = match url.scheme() {
            "https" => true,
            "http" => url.host_str().is_some_and(is_loopback),
            _ => false,
        };
        if !safe {
            return Err(wrong("the scheme must be https, or http to this machine only, in url"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("there must be no user and password in url"));
        }
        for kind in self.included_event_types.iter().flatten() {
            if !TYPES.contains(&kind.as_str()) {
                let known = TYPES.join(", ");
                let kind = kind.escape_debug();
                return Err(WebhookError(format!("'{kind}' in includedEventTypes of '{name}' is none of {known}")));
            }
        }
        if self.included_event_types.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("there is nothing in includedEventTypes"));
        }
        if !(1..=MOST_IN_BATCH).contains(&self.max_events_per_batch) {
            return Err(wrong("1 to 100 is allowed for maxEventsPerBatch"));
        }
        let secret = match (self.secret_env, self.secret_file) {
            (Some(variable), None) if variable.starts_with("FLEET_") => {
                return Err(wrong("a variable whose name begins with FLEET_ is a setting, and cannot be secretEnv"));
            }
            (Some(variable), None) if !variable.is_empty() && !variable.contains(['=', '\0']) => Secret::Env(variable),
            (None, Some(file)) => Secret::File(file),
            _ => return Err(wrong("either a variable in secretEnv or a path in secretFile is needed: the secret")),
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
    /// The secrets, as they are now: of a file, one a line.
    ///
    /// # Errors
    /// When there is none, or one that is too short.
    pub fn secrets(&self) -> Result<Vec<SecretString>, SecretError> {
        let text: SecretString = match &self.secret {
            Secret::Env(name) => std::env::var(name).map_err(|_| SecretError::NotSet(name.clone()))?.into(),
            Secret::File(path) => {
                std::fs::read_to_string(path).map_err(|source| SecretError::File { path: path.clone(), source })?.into()
            }
        };
        let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Vec<SecretString> = lines.map(SecretString::from).collect();
        let short = secrets.iter().any(|secret| secret.expose_secret().len() < SHORTEST_SECRET);
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
    fn refuses_what_cannot_work_without_repeating_secrets() {
        let with_url = |url: &str| format!(r#"[{{"name": "ops", "url": "{url}", "secretEnv": "OPS"}}]"#);
        for (text, told) in [
            ("nonsense hunter2".to_owned(), "does not parse"),
            (r#"[{"name": "ops", "url": {"x": "hunter2"}, "secretEnv": "OPS"}]"#.to_owned(), "does not parse"),
            (r#"[{"name": "hunter2", "secretEnv": "OPS"}]"#.to_owned(), "missing field `url`"),
            (entry(r#", "secret": "hunter2""#), "unknown field `secret`"),
            (entry(r#", "secretFile": "x""#), "either a variable"),
            (entry("").replace(r#", "secretEnv": "OPS""#, ""), "either a variable"),
            (entry("").replace("OPS", "FLEET_SECRET"), "FLEET_"),
            (entry("").replace("ops", "O p"), "no name"),
            (entry(r#", "includedEventTypes": ["Gate"]"#), "'Gate'"),
            (entry(r#", "includedEventTypes": []"#), "nothing"),
            (entry(r#", "maxEventsPerBatch": 0"#), "maxEventsPerBatch"),
            (entry(r#", "maxEventsPerBatch": 101"#), "maxEventsPerBatch"),
            (entry(r#", "schema": "Custom""#), "unknown variant"),
            (with_url("hooks.example"), "no URL"),
            (with_url("http://hooks.example"), "https"),
            (with_url("http://10.0.0.1/x"), "https"),
            (with_url("http://127.0.0.1.example.com/x"), "https"),
            (with_url("ftp://127.0.0.1/x"), "https"),
            (with_url("https://u:hunter2@h/x"), "no user"),
            (format!("[{}, {}]", &entry("")[1..entry("").len() - 1], &entry("")[1..entry("").len() - 1]), "twice"),
        ] {
            let error = Webhooks::parse(&text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
        }
        for url in ["http://127.0.0.1:8080/x", "http://[::1]/x", "http://localhost/x", "https://10.0.0.1/x"] {
            assert!(Webhooks::parse(&with_url(url)).is_ok(), "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_configured_is_taken_whole_or_refused_in_one_line(text in "\\PC*", name in "\\PC{0,60}", url in "\\PC*") {
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
    fn is_never_shown_with_its_address() {
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
