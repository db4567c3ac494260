//! Who could reach the service, and whether that fits who issues tokens.
//!
//! `FLEET_AUTH=local` gives everybody a token that owns everything: it is for one machine and its emulator. An issuer's tokens may
//! open more than this service (Azure itself, for one): they travel encrypted, or on this machine only.

use super::{Auth, Problem, Settings};
use crate::arm::origin::is_loopback_host;

impl Settings {
    /// Checks that a service with these settings gives no token to strangers, and has none sent to it in the clear.
    /// `own_upstream` says that the process brings its own emulator, whatever the settings say of one.
    ///
    /// # Errors
    /// What to set instead.
    pub fn check_exposure(&self, own_upstream: bool) -> Result<(), Problem> {
        let beyond_loopback = !self.listen.ip().is_loopback();
        match &self.auth {
            Auth::Local if self.insecure_local_auth => Ok(()),
            Auth::Local => {
                let mut reasons = Vec::new();
                if beyond_loopback {
                    reasons.push(format!("FLEET_LISTEN={} is open to other machines", self.listen));
                }
                if let Some(url) = self.public_url.iter().find(|url| !url.is_loopback()) {
                    reasons.push(format!("FLEET_PUBLIC_URL={url} is open to other machines"));
                }
                let upstream = &self.arm.endpoint;
                if !own_upstream && !upstream.host().is_some_and(is_loopback_host) {
                    reasons.push(format!("FLEET_ARM_ENDPOINT={upstream} is not an emulator on this machine"));
                }
                let credential = self.arm.credential;
                if !own_upstream && credential.is_azure_identity() {
                    reasons.push(format!("FLEET_ARM_CREDENTIAL={} may change clusters in Azure", credential.name()));
                }
                if reasons.is_empty() {
                    return Ok(());
                }
                Err(Problem(format!(
                    "FLEET_AUTH=local gives everybody a token that owns everything, but {}: set FLEET_AUTH to the URL of an \
                     OpenID Connect issuer and FLEET_OWNERS, or allow it with FLEET_INSECURE_LOCAL_AUTH=true",
                    reasons.join(" and ")
                )))
            }
            Auth::Issuer(_) if self.insecure_local_auth => Err(Problem(
                "FLEET_INSECURE_LOCAL_AUTH is for FLEET_AUTH=local, but FLEET_AUTH names an issuer".to_owned(),
            )),
            Auth::Issuer(_) => {
                let clear_url = self.public_url.iter().find(|url| !url.is_https() && !url.is_loopback());
                let clear = match clear_url {
                    Some(url) => format!("FLEET_PUBLIC_URL={url} is not https"),
                    None if beyond_loopback && self.tls_cert.is_none() && self.public_url.is_empty() => {
                        format!("FLEET_LISTEN={} is open to other machines without TLS", self.listen)
                    }
                    None => return Ok(()),
                };
                Err(Problem(format!(
                    "callers' tokens would travel in the clear: {clear}. Set FLEET_TLS_CERT and FLEET_TLS_KEY, or FLEET_PUBLIC_URL \
                     to the https URL of the proxy that terminates TLS"
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Table {
        #[command(flatten)]
        settings: Settings,
    }

    /// What each combination of settings does: start, or say what to set.
    #[test]
    fn no_combination_hands_tokens_to_strangers() {
        let issuer = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0";
        let azure = ["--arm-endpoint=https://management.azure.com", "--arm-credential=azure-cli"];
        let mut seen = [0, 0];
        for auth in ["local", issuer] {
            for listen in ["127.0.0.1:8443", "[::1]:8443", "0.0.0.0:8443", "[::]:8443", "10.0.0.5:443"] {
                for upstream in [
                    &[][..],
                    &["--arm-endpoint=http://localhost:1"],
                    &["--arm-endpoint=http://emulator:8090"],
                    &["--arm-endpoint=http://127.0.0.1.evil.example"],
                    &azure,
                    &["--arm-endpoint=https://127.0.0.1:8443", "--arm-credential=client-secret"],
                ] {
                    for tls in [&[][..], &["--tls-cert=c", "--tls-key=k"]] {
                        for public in [&[][..], &["--public-url=https://f.example"], &["--public-url=http://f.example"]]
                        {
                            for insecure in [&[][..], &["--insecure-local-auth"]] {
                                let own = [format!("--auth={auth}"), format!("--listen={listen}")];
                                let own: Vec<&str> = own.iter().map(String::as_str).collect();
                                let args = [&["x"], &own[..], upstream, tls, public, insecure].concat();
                                let settings = Table::try_parse_from(&args).unwrap().settings;
                                let here = listen.starts_with("127") || listen.starts_with("[::1]");
                                let emulator_here = upstream.is_empty() || upstream[0].contains("localhost");
                                let insecure = !insecure.is_empty();
                                let sound = if auth == "local" {
                                    insecure || (here && emulator_here && public.is_empty())
                                } else {
                                    let clear = public.iter().any(|url| url.contains("http:"));
                                    !insecure && !clear && (here || !tls.is_empty() || !public.is_empty())
                                };
                                let found = settings.check_exposure(false);
                                assert_eq!(found.is_ok(), sound, "{args:?}: {found:?}");
                                seen[usize::from(sound)] += 1;
                                let line =
                                    found.map_or_else(|problem| problem.to_string(), |()| "FLEET_ \n".to_owned());
                                assert!(line.contains("FLEET_") && line.contains('\n') == sound, "{line}");
                            }
                        }
                    }
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn a_demo_brings_its_emulator_and_still_stays_on_its_machine() {
        let demo = |args: &[&str]| {
            let args: Vec<&&str> = ["x", "--arm-endpoint=http://elsewhere"].iter().chain(args).collect();
            Table::try_parse_from(args).unwrap().settings.check_exposure(true).is_ok()
        };
        assert!(demo(&[]));
        assert!(!demo(&["--listen=0.0.0.0:8443"]) && !demo(&["--public-url=https://demo.example"]));
    }

    #[test]
    fn insecure_is_said_in_full() {
        let parse = |arg: &str| Table::try_parse_from(["x", arg]).map(|table| table.settings.insecure_local_auth);
        assert_eq!(parse("--insecure-local-auth").ok(), Some(true));
        assert_eq!(parse("--insecure-local-auth=false").ok(), Some(false));
        assert!(parse("--insecure-local-auth=1").is_err() && parse("--insecure-local-auth=yes").is_err());
    }
}
