//! The token endpoints of Microsoft Entra ID and of managed identities. A caller with the credentials of the configured
//! identity gets an opaque token, which the resource provider accepts.

use std::collections::HashMap;

use axum::http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::call::{Body, Call, Reply};
use crate::config::Identity;
use crate::seed::TENANT;

/// Audiences of tokens besides the emulator itself.
const AZURE: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net"];
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long expired tokens are remembered, so that the error says expired instead of unknown.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// Counts of issued tokens by kind of credential, and of refused requests.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    client_secret: u64,
    client_assertion: u64,
    managed_identity: u64,
    refused: u64,
}

/// Kind of credential.
#[derive(Clone, Copy)]
enum Proof {
    Secret,
    Assertion,
    Place,
}

/// An endpoint that issues tokens.
pub(crate) enum Endpoint {
    /// `POST /{tenant}/oauth2/v2.0/token`.
    Entra { tenant: String },
    /// `GET /metadata/identity/oauth2/token`, of virtual machines.
    Imds,
    /// `GET /msi/token`, of App Service, for `IDENTITY_ENDPOINT`.
    AppService,
}

impl Endpoint {
    pub(crate) fn of(call: &Call) -> Option<Self> {
        let lower = call.lower();
        match lower.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [tenant, "oauth2", "v2.0", "token"] => Some(Self::Entra { tenant: (*tenant).to_owned() }),
            ["metadata", "identity", "oauth2", "token"] => Some(Self::Imds),
            ["msi", "token"] => Some(Self::AppService),
            _ => None,
        }
    }
}

/// Validity of a token.
#[derive(Debug, PartialEq)]
pub(crate) enum Known {
    Valid,
    Expired,
    Unknown,
}

/// An error of a token endpoint.
struct Refused {
    status: StatusCode,
    error: &'static str,
    /// Error number of Entra, in `error_codes` and in the text.
    code: Option<u32>,
    text: String,
}

impl Refused {
    fn entra(status: StatusCode, error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status, error, code: Some(code), text: format!("AADSTS{code}: {}", text.into()) }
    }

    fn plain(status: StatusCode, error: &'static str, text: impl Into<String>) -> Self {
        Self { status, error, code: None, text: text.into() }
    }

    fn body(&self) -> Value {
        let mut body = json!({"error": self.error, "error_description": self.text});
        if let (Some(code), Some(fields)) = (self.code, body.as_object_mut()) {
            fields.insert("error_codes".into(), json!([code]));
        }
        body
    }
}

/// Issued tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    identity: Identity,
    /// Time of expiry by token.
    issued: HashMap<String, Timestamp>,
    counts: Counts,
}

impl Tokens {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, issued: HashMap::new(), counts: Counts::default() }
    }

    pub(crate) fn known(&self, token: &str, now: Timestamp) -> Known {
        match self.issued.get(token) {
            Some(expires) if *expires > now => Known::Valid,
            Some(_) => Known::Expired,
            None => Known::Unknown,
        }
    }

    /// Removes all tokens, and returns how many there were.
    pub(crate) fn revoke(&mut self) -> usize {
        std::mem::take(&mut self.issued).len()
    }

    pub(crate) fn counts(&self, now: Timestamp) -> Value {
        let valid = self.issued.values().filter(|expires| **expires > now).count();
        json!({"issued": self.counts, "valid": valid})
    }

    /// Handles a token request. `fresh` is the new token, valid for the given number of seconds.
    pub(crate) fn answer(
        &mut self,
        endpoint: &Endpoint,
        call: &Call,
        seconds: u64,
        fresh: String,
        now: Timestamp,
    ) -> Reply {
        let checked = match endpoint {
            Endpoint::Entra { tenant } => self.entra(tenant, call),
            Endpoint::Imds => self.imds(call),
            Endpoint::AppService => self.app_service(call),
        };
        let proof = match checked {
            Ok(proof) => proof,
            Err(refused) => {
                self.counts.refused += 1;
                return Reply::new(refused.status, Body::Json(refused.body()));
            }
        };
        let expires = now + SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0));
        self.issued.retain(|_, expires| *expires + REMEMBERED > now);
        self.issued.insert(fresh.clone(), expires);
        let counted = match proof {
            Proof::Secret => &mut self.counts.client_secret,
            Proof::Assertion => &mut self.counts.client_assertion,
            Proof::Place => &mut self.counts.managed_identity,
        };
        *counted += 1;
        Reply::ok(match endpoint {
            Endpoint::Entra { .. } => {
                json!({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": fresh})
            }
            // Numbers are strings in all responses but those of Entra.
            Endpoint::Imds | Endpoint::AppService => json!({
                "access_token": fresh, "client_id": self.identity.client_id, "expires_on": expires.as_second().to_string(),
                "expires_in": seconds.to_string(), "resource": call.query.get("resource"), "token_type": "Bearer",
            }),
        })
    }

    fn entra(&self, tenant: &str, call: &Call) -> Result<Proof, Refused> {
        let bad = |error, code, text: String| Refused::entra(StatusCode::BAD_REQUEST, error, code, text);
        let denied = |code, text: &str| Refused::entra(StatusCode::UNAUTHORIZED, "invalid_client", code, text);
        if call.method != Method::POST {
            return Err(bad("invalid_request", 900_561, "The endpoint only accepts POST requests.".into()));
        }
        if tenant != TENANT {
            return Err(bad("invalid_request", 90002, format!("Tenant '{tenant}' not found.")));
        }
        let field = |name: &str| {
            let missing = || format!("The request body must contain the following parameter: '{name}'.");
            call.form.get(name).ok_or_else(|| bad("invalid_request", 900_144, missing()))
        };
        let grant = field("grant_type")?;
        if grant != "client_credentials" {
            let text = format!("The app requested an unsupported grant type '{grant}'.");
            return Err(bad("unsupported_grant_type", 70003, text));
        }
        let client = field("client_id")?;
        if !client.eq_ignore_ascii_case(&self.identity.client_id) {
            let text = format!("Application with identifier '{client}' was not found in the directory 'Contoso'.");
            return Err(bad("unauthorized_client", 700_016, text));
        }
        let scope = field("scope")?;
        let Some(resource) = scope.strip_suffix("/.default") else {
            let text = format!("The provided value for scope {scope} is not valid.");
            return Err(bad("invalid_scope", 1_002_012, text));
        };
        if !is_resource(resource, call) {
            let text = format!("The resource principal named {resource} was not found in the tenant named Contoso.");
            return Err(bad("invalid_resource", 500_011, text));
        }
        match (call.form.get("client_secret"), call.form.get("client_assertion")) {
            (Some(secret), None) if *secret == self.identity.client_secret => Ok(Proof::Secret),
            (Some(_), None) => Err(denied(7_000_215, "Invalid client secret provided.")),
            (None, Some(_)) if field("client_assertion_type")? != ASSERTION_TYPE => {
                Err(bad("invalid_request", 9_002_313, "Request is malformed or invalid.".into()))
            }
            (None, Some(token)) if *token == self.identity.federated_token => Ok(Proof::Assertion),
            (None, Some(_)) => {
                Err(denied(700_213, "No matching federated identity record found for presented assertion."))
            }
            _ => Err(denied(
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )),
        }
    }

    fn imds(&self, call: &Call) -> Result<Proof, Refused> {
        if !call.metadata {
            let text = "Required metadata header not specified";
            return Err(Refused::plain(StatusCode::BAD_REQUEST, "invalid_request", text));
        }
        self.managed_identity(call, "2018-02-01")
    }

    fn app_service(&self, call: &Call) -> Result<Proof, Refused> {
        if call.identity_header.as_deref() != Some(self.identity.identity_header.as_str()) {
            let text = "The X-IDENTITY-HEADER is not that of this instance.";
            return Err(Refused::plain(StatusCode::UNAUTHORIZED, "unauthorized", text));
        }
        self.managed_identity(call, "2019-08-01")
    }

    fn managed_identity(&self, call: &Call, oldest: &str) -> Result<Proof, Refused> {
        let bad = |text: String| Refused::plain(StatusCode::BAD_REQUEST, "invalid_request", text);
        if call.method != Method::GET {
            return Err(Refused::plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "GET it."));
        }
        // API versions are dates, which sort as text.
        if call.query.get("api-version").is_none_or(|version| version.as_str() < oldest) {
            return Err(bad(format!("The api-version must be {oldest} or later.")));
        }
        let resource = call.query.get("resource").ok_or_else(|| bad("resource is required.".into()))?;
        if !is_resource(resource, call) {
            return Err(Refused::entra(
                StatusCode::BAD_REQUEST,
                "invalid_resource",
                500_011,
                format!("The resource principal named {resource} was not found in the tenant named Contoso."),
            ));
        }
        match call.query.get("client_id") {
            Some(client) if !client.eq_ignore_ascii_case(&self.identity.client_id) => {
                Err(bad("Identity not found".into()))
            }
            _ => Ok(Proof::Place),
        }
    }
}

/// Whether the resource of a token request is the emulator or Azure Resource Manager.
fn is_resource(resource: &str, call: &Call) -> bool {
    let resource = resource.trim_end_matches('/');
    resource == call.base || AZURE.contains(&resource)
}
