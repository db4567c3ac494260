//! Settings of Azure Resource Manager as the upstream, and of the service's identity there.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::Uri;
use secrecy::{ExposeSecret, SecretString};

use super::secret;

/// Azure Resource Manager, and who the service is there.
#[derive(Debug, Clone, Args)]
pub struct ArmSettings {
    /// Azure Resource Manager, where managed clusters are read and upgraded
    #[arg(
        id = "arm_endpoint",
        long = "arm-endpoint",
        env = "FLEET_ARM_ENDPOINT",
        default_value = "http://127.0.0.1:8090",
        value_name = "URL"
    )]
    pub endpoint: Uri,

    /// How to authenticate there
    #[arg(id = "arm_credential", long = "arm-credential", env = "FLEET_ARM_CREDENTIAL", value_enum, default_value_t = ArmCredential::Emulator, value_name = "KIND")]
    pub credential: ArmCredential,

    /// Bearer token for Azure Resource Manager, with FLEET_ARM_CREDENTIAL=static
    #[arg(id = "arm_token", long = "arm-token", env = "FLEET_ARM_TOKEN", hide_env_values = true, value_parser = secret, value_name = "TOKEN")]
    pub token: Option<SecretString>,

    /// Certificate authorities to trust beside the system's, PEM, for Azure Resource Manager and for AZURE_AUTHORITY_HOST
    #[arg(id = "arm_ca", long = "arm-ca", env = "FLEET_ARM_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Resource group, in each subscription with members, where node pool snapshots are kept, so that update runs with the
    /// node image selection Consistent can set images that are no longer the newest of a region. Absent: none are kept
    #[arg(
        id = "node_image_snapshots",
        long = "node-image-snapshots",
        env = "FLEET_NODE_IMAGE_SNAPSHOTS",
        value_name = "GROUP"
    )]
    pub snapshot_group: Option<String>,

    /// Microsoft Entra tenant of the service's identity, with client-secret and workload-identity
    #[arg(long, env = "AZURE_TENANT_ID", value_name = "TENANT")]
    azure_tenant_id: Option<String>,

    /// Client ID of the service's identity, with client-secret and workload-identity; with managed-identity, that of a
    /// user-assigned one (absent: the system-assigned one)
    #[arg(long, env = "AZURE_CLIENT_ID", value_name = "GUID")]
    azure_client_id: Option<String>,

    /// Its secret, with client-secret
    #[arg(long, env = "AZURE_CLIENT_SECRET", hide_env_values = true, value_parser = secret, value_name = "SECRET")]
    azure_client_secret: Option<SecretString>,

    /// File with the token of the pod's service account, with workload-identity
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE", value_name = "FILE")]
    azure_federated_token_file: Option<String>,

    /// Who issues the service's tokens, with client-secret and workload-identity
    #[arg(long, env = "AZURE_AUTHORITY_HOST", default_value = "https://login.microsoftonline.com", value_name = "URL")]
    pub azure_authority_host: String,
}

/// How the service authenticates to Azure Resource Manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArmCredential {
    /// The emulator takes any token
    Emulator,
    /// The token in FLEET_ARM_TOKEN, for as long as it is valid
    Static,
    /// Whoever is logged in to the Azure CLI ('az login')
    AzureCli,
    /// The managed identity of the machine; AZURE_CLIENT_ID names a user-assigned one
    ManagedIdentity,
    /// AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE, which AKS sets in pods with workload identity
    WorkloadIdentity,
    /// AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET of an application
    ClientSecret,
}

impl ArmCredential {
    /// As it is written.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it is an identity of Microsoft Entra ID. The upstream may be Azure then, whatever its address: a tunnel ends on
    /// this machine.
    pub(super) fn is_azure_identity(self) -> bool {
        match self {
            Self::Emulator | Self::Static => false,
            Self::AzureCli | Self::ManagedIdentity | Self::WorkloadIdentity | Self::ClientSecret => true,
        }
    }
}

impl ArmSettings {
    /// Microsoft Entra tenant of the service's identity.
    #[must_use]
    pub fn tenant_id(&self) -> Option<&str> {
        given(self.azure_tenant_id.as_deref())
    }

    /// Client ID of the service's identity.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        given(self.azure_client_id.as_deref())
    }

    /// Secret of the service's identity.
    #[must_use]
    pub fn client_secret(&self) -> Option<&SecretString> {
        self.azure_client_secret.as_ref().filter(|secret| !secret.expose_secret().is_empty())
    }

    /// File with the token of the pod's service account.
    #[must_use]
    pub fn federated_token_file(&self) -> Option<&str> {
        given(self.azure_federated_token_file.as_deref())
    }

    /// Reports what contradicts. Variables that begin with `AZURE_` may be there for others: only those that are used count.
    pub(super) fn check(&self, report: &mut impl FnMut(bool, &str)) {
        let scheme = self.endpoint.scheme_str();
        let host = self.endpoint.host().unwrap_or_default();
        let local = matches!(host, "127.0.0.1" | "[::1]" | "localhost");
        let complete = matches!(scheme, Some("http" | "https")) && !host.is_empty();
        let bare = matches!(self.endpoint.path(), "" | "/") && self.endpoint.query().is_none();
        report(!complete || !bare, "FLEET_ARM_ENDPOINT is not a URL like https://management.azure.com, without a path");
        let azure = [".azure.com", ".azure.cn", ".chinacloudapi.cn", ".usgovcloudapi.net"];
        let azure = azure.iter().any(|domain| host.ends_with(domain));

        let odd_group = |group: &str| {
            let sound = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
            group.is_empty() || group.chars().count() > 90 || group.ends_with('.') || !group.chars().all(sound)
        };
        report(
            self.snapshot_group.as_deref().is_some_and(odd_group),
            "FLEET_NODE_IMAGE_SNAPSHOTS is not the name of a resource group",
        );
        let token = self.token.as_ref().map(ExposeSecret::expose_secret);
        let clear = scheme == Some("http") && !local;
        if self.credential == ArmCredential::Static {
            report(clear, "FLEET_ARM_TOKEN would travel in the clear: FLEET_ARM_ENDPOINT must be https");
            report(
                token.is_none_or(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())),
                "FLEET_ARM_CREDENTIAL=static needs a token in FLEET_ARM_TOKEN",
            );
        } else {
            report(token.is_some(), "FLEET_ARM_TOKEN is used with FLEET_ARM_CREDENTIAL=static only");
        }
        match self.credential {
            ArmCredential::Static => {}
            ArmCredential::Emulator => {
                report(azure, "FLEET_ARM_CREDENTIAL=emulator is for the emulator, but FLEET_ARM_ENDPOINT is Azure");
            }
            _ => report(clear, "tokens would travel in the clear: FLEET_ARM_ENDPOINT must be https"),
        }

        let tenant = ("AZURE_TENANT_ID", self.tenant_id().is_some());
        let client = ("AZURE_CLIENT_ID", self.client_id().is_some());
        let needed = match self.credential {
            ArmCredential::ClientSecret => {
                vec![tenant, client, ("AZURE_CLIENT_SECRET", self.client_secret().is_some())]
            }
            ArmCredential::WorkloadIdentity => {
                vec![tenant, client, ("AZURE_FEDERATED_TOKEN_FILE", self.federated_token_file().is_some())]
            }
            _ => Vec::new(),
        };
        let missing: Vec<&str> = needed.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
        let credential = self.credential.name();
        report(!missing.is_empty(), &format!("FLEET_ARM_CREDENTIAL={credential} needs {}", missing.join(", ")));
        let uses_authority = !needed.is_empty();
        if uses_authority {
            let odd = |tenant: &str| !tenant.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
            report(self.tenant_id().is_some_and(odd), "AZURE_TENANT_ID is not a tenant's GUID or domain name");
            report(
                !is_https_origin(&self.azure_authority_host),
                "AZURE_AUTHORITY_HOST is not a URL like https://login.microsoftonline.com, without a path",
            );
        }
        report(
            self.ca.is_some() && scheme == Some("http") && !uses_authority,
            "FLEET_ARM_CA is for https, but FLEET_ARM_ENDPOINT is http",
        );
    }
}

/// An empty variable is one that is not set.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn is_https_origin(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https")
            && uri.host().is_some_and(|host| !host.is_empty())
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    })
}
