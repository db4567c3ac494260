//! `fleet-manager token`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::local::keys::{LOCAL_USER, LOCAL_USER_NAME, LocalKey, TokenClaims};

/// Longest life of a local token.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Print a bearer token signed with the key in the data directory, for a service with FLEET_AUTH=local
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Tenant of the caller
    #[arg(long, env = "FLEET_TENANT_ID", default_value = "11111111-1111-1111-1111-111111111111", value_name = "GUID")]
    tenant: Uuid,

    /// Object ID of the caller
    #[arg(long, default_value_t = LOCAL_USER, value_name = "GUID")]
    object_id: Uuid,

    /// Client ID of an application: the caller is a service principal, not a person
    #[arg(long, value_name = "ID")]
    app_id: Option<String>,

    /// Name of the caller
    #[arg(long)]
    name: Option<String>,

    /// Audience of the token
    #[arg(long, default_value = "https://management.azure.com")]
    audience: String,

    /// How long the token is valid: seconds, or `90m`, `12h`
    #[arg(long, default_value = "1h", value_parser = lifetime, value_name = "TIME")]
    expires_in: Duration,

    /// The data directory of the service
    #[arg(long, env = "FLEET_DATA_DIR", default_value = ".fleet", value_name = "DIR")]
    data_dir: PathBuf,
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let person = self.app_id.is_none().then(|| LOCAL_USER_NAME.to_owned());
        let claims = TokenClaims {
            tenant: self.tenant,
            object_id: self.object_id,
            app_id: self.app_id,
            name: self.name.or(person),
            issuer: None,
            audience: self.audience,
            lifetime: self.expires_in,
        };
        println!("{}", LocalKey::load_or_create(&self.data_dir)?.mint(&claims, Timestamp::now())?);
        Ok(())
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let span = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok()),
    };
    span.filter(|span| (Duration::from_secs(1)..=LONGEST).contains(span))
        .ok_or_else(|| "expected a time from 1s to 366 days, such as 3600, 90m or 12h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_seconds_and_spans() {
        assert_eq!(lifetime("90"), Ok(Duration::from_secs(90)));
        assert_eq!(lifetime("90m"), Ok(Duration::from_mins(90)));
        for text in ["0", "-1h", "", "soon", "99999999999999999999", "10000h"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }
}
