//! Tokens for ARM from Microsoft Entra ID, managed identities and the Azure CLI, through Azure's own library.
//!
//! The library keeps tokens, too, and has no way to drop one; so each token comes from a fresh credential, and
//! [`CachedToken`](super::CachedToken) alone keeps them.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{Secret, TokenCredential},
    error::ErrorKind,
    http::{ClientOptions, HttpClient, RetryOptions, Transport},
};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::Certificate;
use secrecy::{ExposeSecret, SecretString};

use super::{NewToken, TokenIssuer, UpstreamError};
use crate::transport;

/// Longest time for a token, including the library's own retries (for managed identities).
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time to connect to the issuer of tokens.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest part of an issuer's or the Azure CLI's message that is repeated, in characters.
const LONGEST_CAUSE: usize = 400;

/// The service's identity in Azure, and how the service proves it.
pub enum Identity {
    /// The user who is logged in to the Azure CLI.
    AzureCli,
    /// The managed identity of the machine or the app.
    Managed {
        /// The client ID of a user-assigned identity; `None` for the system-assigned one.
        client_id: Option<String>,
    },
    /// An application or managed identity that trusts the service account of a Kubernetes pod.
    Workload {
        /// Microsoft Entra tenant.
        tenant_id: String,
        /// Application (client) ID.
        client_id: String,
        /// The file in which Kubernetes renews the pod's token.
        token_file: PathBuf,
    },
    /// An application with a secret.
    ClientSecret {
        /// Microsoft Entra tenant.
        tenant_id: String,
        /// Application (client) ID.
        client_id: String,
        /// The secret.
        secret: SecretString,
    },
}

/// An identity, and the authority that issues its tokens.
pub struct Credential {
    identity: Identity,
    authority: String,
    scope: String,
    http: Arc<dyn HttpClient>,
}

impl Credential {
    /// Returns a source of tokens for the ARM at `endpoint`, such as `https://management.azure.com`, from the authority, such as
    /// `https://login.microsoftonline.com`. `ca`: authorities to trust beside the system's.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(
        identity: Identity,
        authority: &str,
        endpoint: &str,
        ca: &[Certificate],
    ) -> Result<Self, reqwest::Error> {
        let mut client = transport::client(ca).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
        if matches!(identity, Identity::Managed { .. }) {
            // The endpoint is on this machine. A proxy would reach the endpoint of another machine, which has another identity.
            client = client.no_proxy();
        }
        Ok(Self {
            identity,
            authority: authority.trim_end_matches('/').to_owned(),
            scope: format!("{}/.default", endpoint.trim_end_matches('/')),
            http: Arc::new(client.build()?),
        })
    }

    async fn ask(&self) -> azure_core::Result<NewToken> {
        let answer = self.fresh()?.get_token(&[&self.scope], None).await?;
        let expires = Timestamp::from_second(answer.expires_on.unix_timestamp()).unwrap_or(Timestamp::MAX);
        Ok(NewToken { token: answer.token.secret().into(), expires })
    }

    fn fresh(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host.clone_from(&self.authority);
        let client_options = ClientOptions {
            transport: Some(Transport::new(Arc::clone(&self.http))),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            // The jobs retry.
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        Ok(match &self.identity {
            Identity::AzureCli => AzureCliCredential::new(None)?,
            Identity::Managed { client_id } => {
                let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id,
                    client_options,
                }))?
            }
            Identity::Workload { tenant_id, client_id, token_file } => {
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    client_id: Some(client_id.clone()),
                    tenant_id: Some(tenant_id.clone()),
                    token_file_path: Some(token_file.clone()),
                }))?
            }
            Identity::ClientSecret { tenant_id, client_id, secret } => ClientSecretCredential::new(
                tenant_id,
                client_id.clone(),
                Secret::new(secret.expose_secret().to_owned()),
                Some(ClientSecretCredentialOptions { client_options }),
            )?,
        })
    }

    fn failed(&self, cause: &Cause) -> UpstreamError {
        let (whom, settings) = match &self.identity {
            Identity::AzureCli => ("The Azure CLI", "Log in with 'az login' as the user that runs the service"),
            Identity::Managed { .. } => (
                "The managed identity endpoint",
                "Check that the machine has the identity, and AZURE_CLIENT_ID, which names a user-assigned one and is unset for the system-assigned one",
            ),
            Identity::Workload { .. } => (
                "Microsoft Entra ID",
                "Check AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE, and the identity's federated credential",
            ),
            Identity::ClientSecret { .. } => {
                ("Microsoft Entra ID", "Check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET")
            }
        };
        let kind = match &self.identity {
            Identity::AzureCli => "azure-cli",
            Identity::Managed { .. } => "managed-identity",
            Identity::Workload { .. } => "workload-identity",
            Identity::ClientSecret { .. } => "client-secret",
        };
        let uses_authority = matches!(self.identity, Identity::Workload { .. } | Identity::ClientSecret { .. });
        let text = self.harmless(&cause.text);
        let message = match (cause.unreachable, uses_authority) {
            (true, true) => format!(
                "{whom} cannot be reached at {}: {text}. Check AZURE_AUTHORITY_HOST, FLEET_ARM_CA and the network (FLEET_ARM_CREDENTIAL={kind}).",
                self.authority
            ),
            (true, false) => {
                format!("{whom} cannot be reached: {text}. {settings} (FLEET_ARM_CREDENTIAL={kind}).")
            }
            (false, _) => format!("{whom} gave no token: {text}. {settings} (FLEET_ARM_CREDENTIAL={kind})."),
        };
        UpstreamError::transient(if cause.unreachable { "CredentialUnavailable" } else { "CredentialFailed" }, message)
    }

    /// Returns an issuer's text as one line of limited length, without the secret that the text may repeat.
    fn harmless(&self, text: &str) -> String {
        // The trace ID and what follows it differ each time, and are in Entra's own log.
        let text = text.split(" Trace ID:").next().unwrap_or_default();
        let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Identity::ClientSecret { secret, .. } = &self.identity {
            line = line.replace(secret.expose_secret(), "***");
        }
        if line.chars().count() > LONGEST_CAUSE {
            line = line.chars().take(LONGEST_CAUSE).chain(['…']).collect();
        }
        line.trim_end_matches('.').to_owned()
    }
}

impl TokenIssuer for Credential {
    fn issue(&self) -> BoxFuture<'_, Result<NewToken, UpstreamError>> {
        Box::pin(async move {
            match tokio::time::timeout(TIMEOUT, self.ask()).await {
                Ok(Ok(token)) => Ok(token),
                Ok(Err(error)) => Err(self.failed(&Cause::of(&error))),
                Err(_) => {
                    let text = format!("no answer within {} seconds", TIMEOUT.as_secs());
                    Err(self.failed(&Cause { unreachable: true, text }))
                }
            }
        })
    }
}

/// Why there is no token.
#[derive(Debug)]
struct Cause {
    /// Whether the issuer was not reached: its answer is unknown.
    unreachable: bool,
    text: String,
}

impl Cause {
    fn of(error: &azure_core::Error) -> Self {
        let outermost: &(dyn Error + 'static) = error;
        let chain: Vec<_> = std::iter::successors(Some(outermost), |error| (*error).source()).collect();
        let innermost = chain.last().map(ToString::to_string).unwrap_or_default();
        for error in chain.iter().filter_map(|error| error.downcast_ref::<azure_core::Error>()) {
            match error.kind() {
                ErrorKind::HttpResponse { status, .. } => {
                    let said = Some(innermost).filter(|said| !said.is_empty());
                    let said = said.unwrap_or_else(|| "an answer without a reason".to_owned());
                    let unreachable = status.is_server_error() || u16::from(*status) == 429;
                    return Self { unreachable, text: format!("HTTP {status}: {said}") };
                }
                ErrorKind::Connection => return Self { unreachable: true, text: innermost },
                _ => {}
            }
        }
        if chain.iter().any(|error| error.is::<reqwest::Error>()) {
            return Self { unreachable: true, text: innermost };
        }
        let mut texts: Vec<String> = chain.iter().map(ToString::to_string).collect();
        // The outermost error repeats the next one, with a link to the library's documentation.
        if let [outer, inner, ..] = texts.as_slice()
            && outer.contains(inner)
        {
            texts.remove(0);
        }
        texts.dedup();
        Self { unreachable: false, text: texts.join(": ") }
    }
}

#[cfg(test)]
mod tests {
    use azure_core::http::{RawResponse, headers::Headers};

    use super::*;

    fn credential() -> Credential {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let identity = Identity::ClientSecret {
            tenant_id: "t".to_owned(),
            client_id: "c".to_owned(),
            secret: "hunter2".to_owned().into(),
        };
        Credential::new(identity, "https://login.example/", "https://management.azure.com/", &[]).unwrap()
    }

    fn message(error: &azure_core::Error) -> String {
        match credential().failed(&Cause::of(error)) {
            UpstreamError::Transient { detail, .. } => format!("{}: {}", detail.code, detail.message),
            other => panic!("{other:?}"),
        }
    }

    fn answered(status: u16, said: &str) -> azure_core::Error {
        let response = RawResponse::from_bytes(status.into(), Headers::default(), said.to_owned());
        let raw_response = Some(Box::new(response));
        let kind = ErrorKind::HttpResponse { status: status.into(), error_code: None, raw_response };
        let inner = azure_core::Error::new(kind, said.to_owned());
        let wrapped = format!("Credential authentication failed. {inner} see https://example");
        azure_core::Error::with_error(ErrorKind::Credential, inner, wrapped)
    }

    #[test]
    fn scope_and_authority_have_no_double_slash() {
        let credential = credential();
        assert_eq!(credential.scope, "https://management.azure.com/.default");
        assert_eq!(credential.authority, "https://login.example");
    }

    #[test]
    fn a_refusal_says_which_settings_to_check() {
        let told = message(&answered(401, "AADSTS7000215: Invalid client secret.\r\n Trace ID: 1 Correlation ID: 2"));
        assert_eq!(
            told,
            "CredentialFailed: Microsoft Entra ID gave no token: HTTP 401: AADSTS7000215: Invalid client secret. Check \
             AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (FLEET_ARM_CREDENTIAL=client-secret)."
        );
        let told = message(&answered(503, ""));
        assert!(told.starts_with("CredentialUnavailable: ") && told.contains("https://login.example"), "{told}");
        let file = azure_core::Error::with_error(ErrorKind::Credential, std::io::Error::other("gone"), "no file");
        assert!(message(&file).contains("no file: gone"), "{}", message(&file));
    }

    #[test]
    fn a_secret_that_is_repeated_is_struck_out_and_a_long_text_cut() {
        let told = message(&answered(400, &format!("you sent hunter2 {}", "x".repeat(5000))));
        assert!(!told.contains("hunter2") && told.contains("you sent ***") && told.len() < 700, "{told}");
    }
}
