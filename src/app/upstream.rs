//! Azure Resource Manager as the settings describe it: whom to trust, and who the service is there.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use reqwest::Certificate;

use crate::{
    api,
    config::{ArmCredential, ArmSettings, Settings},
    transport,
    upstreams::azure::{self, ArmClient, CachedToken, Credential, Identity, StaticToken, TokenSource},
};

const ARM_CA: &str = "FLEET_ARM_CA";

/// The client of AKS, with the service's own identity.
pub(super) fn client(settings: &ArmSettings) -> anyhow::Result<ArmClient> {
    let ca = authorities(settings.ca.as_deref(), ARM_CA)?;
    let tokens = tokens(settings, &ca)?;
    let upstream = azure::Settings { ca, ..azure::Settings::new(settings.endpoint.to_string()) };
    Ok(ArmClient::new(&upstream, tokens)?)
}

/// The way for requests that are passed on, if any are.
pub(super) fn pass_through(settings: &Settings) -> anyhow::Result<Option<api::PassThrough>> {
    if settings.pass_through.is_empty() {
        return Ok(None);
    }
    let origin = settings.arm.endpoint.to_string();
    Ok(Some(api::PassThrough::new(&origin, &settings.pass_through, &authorities(settings.arm.ca.as_deref(), ARM_CA)?)?))
}

/// The certificates in a file that a setting names.
pub(super) fn authorities(file: Option<&Path>, setting: &str) -> anyhow::Result<Vec<Certificate>> {
    let Some(path) = file else { return Ok(Vec::new()) };
    let unusable = || format!("cannot use the certificates in {} ({setting})", path.display());
    let pem = std::fs::read(path).with_context(unusable)?;
    let found = Certificate::from_pem_bundle(&pem).with_context(unusable)?;
    anyhow::ensure!(!found.is_empty(), "{}: there is none", unusable());
    // Only a client that uses them reads them.
    transport::client(&found).build().with_context(unusable)?;
    Ok(found)
}

fn tokens(settings: &ArmSettings, ca: &[Certificate]) -> anyhow::Result<Arc<dyn TokenSource>> {
    let tenant_id = || settings.tenant_id().map(str::to_owned).context("AZURE_TENANT_ID is not set");
    let client_id = || settings.client_id().map(str::to_owned).context("AZURE_CLIENT_ID is not set");
    let identity = match settings.credential {
        ArmCredential::Emulator => return Ok(Arc::new(StaticToken::new("fleet-manager".into()))),
        ArmCredential::Static => {
            return Ok(Arc::new(StaticToken::new(settings.token.clone().context("FLEET_ARM_TOKEN is not set")?)));
        }
        ArmCredential::AzureCli => Identity::AzureCli,
        ArmCredential::ManagedIdentity => Identity::Managed { client_id: settings.client_id().map(str::to_owned) },
        ArmCredential::WorkloadIdentity => Identity::Workload {
            tenant_id: tenant_id()?,
            client_id: client_id()?,
            token_file: settings.federated_token_file().context("AZURE_FEDERATED_TOKEN_FILE is not set")?.into(),
        },
        ArmCredential::ClientSecret => Identity::ClientSecret {
            tenant_id: tenant_id()?,
            client_id: client_id()?,
            secret: settings.client_secret().cloned().context("AZURE_CLIENT_SECRET is not set")?,
        },
    };
    let endpoint = settings.endpoint.to_string();
    let credential = Credential::new(identity, &settings.azure_authority_host, &endpoint, ca)?;
    Ok(Arc::new(CachedToken::new(credential)))
}
