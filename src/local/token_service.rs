//! A small token service for development, in the shapes that MSAL and Azure's identity libraries expect of Microsoft Entra
//! and of AD FS (an authority that ends in `/adfs` is one that no client looks up in public).
//!
//! It is part of the service only with `FLEET_AUTH=local`: every client that reaches it gets a token for a password that everybody
//! knows. The start checks that only this machine reaches it (`config/exposure.rs`), and each request is checked for its host
//! (`arm/origin.rs`), so that no page of the web gets a token by DNS rebinding.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Extension, Form, Json, Router,
    extract::{Path, Query, Request, State},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::keys::{KeyError, LOCAL_USER, LOCAL_USER_NAME, LocalKey, TokenClaims, issuer};
use crate::{
    arm::Origin,
    identity::{Caller, Verifier},
};

/// The one service principal: client ID and object ID.
pub const SERVICE_PRINCIPAL: Uuid = Uuid::from_u128(0x33333333_3333_3333_3333_333333333333);
/// Its secret, and the password of every person.
const SECRET: &str = "secret";
/// How long an access token is valid.
const ACCESS: Duration = Duration::from_hours(1);
/// How long a refresh token, or the code of a device, is valid.
const REFRESH: Duration = Duration::from_hours(24);
/// What a token of each use is for, where that is not an access to resources.
const REFRESH_AUDIENCE: &str = "urn:fleet-manager:refresh";
const DEVICE_AUDIENCE: &str = "urn:fleet-manager:device";
/// The resource of those who name none.
const DEFAULT_RESOURCE: &str = "https://management.azure.com";

/// The token service.
pub struct TokenService {
    key: LocalKey,
    tenant: Uuid,
    /// Resources that tokens are issued for.
    audiences: Vec<String>,
    /// Whether tokens are issued without a password, too: to managed identities and devices.
    passwordless: bool,
    own: Verifier,
}

type Fields = HashMap<String, String>;

/// What a token is asked for.
struct Subject {
    object_id: Uuid,
    app_id: Option<String>,
    name: Option<String>,
}

/// An OAuth error (RFC 6749 §5.2), with Entra's number and text.
struct OAuthError(StatusCode, &'static str, u32, String);

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let Self(status, error, number, description) = self;
        let body = json!({
            "error": error,
            "error_description": format!("AADSTS{number}: {description}"),
            "error_codes": [number],
            "timestamp": Timestamp::now(),
            "trace_id": Uuid::new_v4(),
            "correlation_id": Uuid::new_v4(),
        });
        (status, Json(body)).into_response()
    }
}

impl From<KeyError> for OAuthError {
    fn from(error: KeyError) -> Self {
        tracing::error!(%error, "no token");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "server_error", 90_000, "The token could not be made.".to_owned())
    }
}

impl TokenService {
    /// A service that issues tokens of `tenant` for one of `audiences`. `passwordless` ones are for services that only this machine
    /// reaches.
    #[must_use]
    pub fn new(key: LocalKey, tenant: Uuid, audiences: Vec<String>, passwordless: bool) -> Self {
        let keys = vec![key.verification_key()];
        let uses = vec![REFRESH_AUDIENCE.to_owned(), DEVICE_AUDIENCE.to_owned()];
        let own = Verifier::new(keys, issuer(tenant), uses, tenant, issuer(tenant));
        Self { key, tenant, audiences, passwordless, own }
    }

    /// Its routes, all public.
    pub fn router(self) -> Router {
        Router::new()
            .route("/adfs/.well-known/openid-configuration", get(adfs_configuration))
            .route("/adfs/discovery/keys", get(keys))
            .route("/adfs/oauth2/token", post(adfs_token))
            .route("/adfs/oauth2/devicecode", post(device_code))
            .route("/adfs/oauth2/deviceauth", get(device_page))
            .route("/common/discovery/instance", get(instance))
            .route("/{tenant}/v2.0/.well-known/openid-configuration", get(entra_configuration))
            .route("/{tenant}/discovery/v2.0/keys", get(keys))
            .route("/{tenant}/oauth2/v2.0/token", post(entra_token))
            .route("/{tenant}/oauth2/v2.0/devicecode", post(device_code))
            .route("/msi/token", get(managed_identity))
            .route("/metadata/identity/oauth2/token", get(managed_identity))
            .with_state(Arc::new(self))
    }

    /// Refuses what needs no password where other machines reach the service.
    fn demand_passwordless(&self) -> Result<(), OAuthError> {
        if self.passwordless {
            return Ok(());
        }
        let description = "Tokens without a password are issued to this machine only, and FLEET_INSECURE_LOCAL_AUTH opens the \
                           service to others: use a client secret or a password.";
        Err(OAuthError(StatusCode::FORBIDDEN, "access_denied", 65_004, description.to_owned()))
    }

    /// The audience of a token for what was asked for: a scope `{resource}/.default`, or a resource.
    fn audience(&self, fields: &Fields, asked: &Origin) -> Result<String, OAuthError> {
        let scopes = fields.get("scope").map(String::as_str).unwrap_or_default().split_whitespace();
        let scope = scopes.filter(|scope| scope.contains("://")).find_map(|scope| scope.rsplit_once('/'));
        let named = fields.get("resource").map(String::as_str).or(scope.map(|(resource, _)| resource));
        let resource = named.unwrap_or(DEFAULT_RESOURCE);
        if self.audiences.iter().any(|known| known == resource) {
            return Ok(resource.to_owned());
        }
        // By another name of this very service: its tokens are for the first of its own.
        match resource.trim_end_matches('/') == asked.as_str() {
            true => Ok(DEFAULT_RESOURCE.to_owned()),
            false => Err(OAuthError(
                StatusCode::BAD_REQUEST,
                "invalid_resource",
                500_011,
                format!("The resource principal named {resource} was not found in the tenant named {}.", self.tenant),
            )),
        }
    }

    fn mint(&self, subject: &Subject, audience: &str, lifetime: Duration) -> Result<String, KeyError> {
        let claims = TokenClaims {
            tenant: self.tenant,
            issuer: None,
            object_id: subject.object_id,
            app_id: subject.app_id.clone(),
            name: subject.name.clone(),
            audience: audience.to_owned(),
            lifetime,
        };
        self.key.mint(&claims, Timestamp::now())
    }

    /// The ID token of a person, for the client that asked for it. Its issuer is the one that the client discovered.
    fn mint_id_token(&self, person: &Subject, client: &str, issuer: String) -> Result<String, KeyError> {
        let claims = TokenClaims {
            tenant: self.tenant,
            issuer: Some(issuer),
            object_id: person.object_id,
            app_id: None,
            name: person.name.clone(),
            audience: client.to_owned(),
            lifetime: ACCESS,
        };
        self.key.mint(&claims, Timestamp::now())
    }

    /// The person behind a refresh token or a device's code.
    fn redeem(&self, token: Option<&String>, asked: &Origin) -> Result<Subject, OAuthError> {
        let header = format!("Bearer {}", token.map(String::as_str).unwrap_or_default());
        let Caller { object_id, name, .. } = self.own.verify(Some(&header), Timestamp::now(), asked).map_err(|_| {
            let description = "The provided grant has expired or is not one of this service.";
            OAuthError(StatusCode::BAD_REQUEST, "invalid_grant", 70_008, description.to_owned())
        })?;
        Ok(Subject { object_id, app_id: None, name })
    }

    fn grant(&self, fields: &Fields, asked: &Origin) -> Result<Subject, OAuthError> {
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        match field("grant_type") {
            "client_credentials" => {
                let id = field("client_id");
                if !id.eq_ignore_ascii_case(&SERVICE_PRINCIPAL.to_string()) {
                    let description = format!(
                        "Application with identifier '{id}' was not found in the directory '{}'. The local world has the one application '{SERVICE_PRINCIPAL}'.",
                        self.tenant
                    );
                    return Err(OAuthError(StatusCode::BAD_REQUEST, "unauthorized_client", 700_016, description));
                }
                if field("client_secret") != SECRET {
                    let description = format!("Invalid client secret provided for app '{id}'.");
                    return Err(OAuthError(StatusCode::UNAUTHORIZED, "invalid_client", 7_000_215, description));
                }
                Ok(service_principal())
            }
            "password" => {
                let name = field("username").trim().to_lowercase();
                if name.is_empty() || field("password") != SECRET {
                    let description = "Error validating credentials due to invalid username or password.";
                    return Err(OAuthError(StatusCode::BAD_REQUEST, "invalid_grant", 50_126, description.to_owned()));
                }
                Ok(person(&name))
            }
            "refresh_token" => self.redeem(fields.get("refresh_token"), asked),
            "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => {
                self.demand_passwordless()?;
                self.redeem(fields.get("device_code").or(fields.get("code")), asked)
            }
            other => {
                let description = format!("The app requested an unsupported grant type '{other}'.");
                Err(OAuthError(StatusCode::BAD_REQUEST, "unsupported_grant_type", 70_003, description))
            }
        }
    }
}

fn service_principal() -> Subject {
    Subject { object_id: SERVICE_PRINCIPAL, app_id: Some(SERVICE_PRINCIPAL.to_string()), name: None }
}

/// Every name is a person: always the same one, whatever the case.
fn person(name: &str) -> Subject {
    let object_id = match name == LOCAL_USER_NAME {
        true => LOCAL_USER,
        false => {
            let digest = Sha256::digest(name.as_bytes());
            let half = digest.first_chunk::<16>().copied().unwrap_or_default();
            uuid::Builder::from_custom_bytes(half).into_uuid()
        }
    };
    Subject { object_id, app_id: None, name: Some(name.to_owned()) }
}

async fn adfs_token(
    State(service): State<Arc<TokenService>>,
    Extension(asked): Extension<Origin>,
    Form(fields): Form<Fields>,
) -> Result<Response, OAuthError> {
    token(&service, &asked, &format!("{asked}/adfs"), &fields)
}

async fn entra_token(
    State(service): State<Arc<TokenService>>,
    Extension(asked): Extension<Origin>,
    Path(tenant): Path<String>,
    Form(fields): Form<Fields>,
) -> Result<Response, OAuthError> {
    token(&service, &asked, &format!("{asked}/{tenant}/v2.0"), &fields)
}

/// The answer to a grant, for a client that knows the service as `issuer`.
fn token(service: &TokenService, asked: &Origin, issuer: &str, fields: &Fields) -> Result<Response, OAuthError> {
    let audience = service.audience(fields, asked)?;
    let subject = service.grant(fields, asked)?;
    let access = service.mint(&subject, &audience, ACCESS)?;
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": ACCESS.as_secs() - 1,
        "ext_expires_in": ACCESS.as_secs() - 1,
        "access_token": access,
    });
    if let (None, Value::Object(body)) = (&subject.app_id, &mut body) {
        let client = fields.get("client_id").map(String::as_str).unwrap_or_default();
        let info = json!({"uid": subject.object_id, "utid": service.tenant}).to_string();
        let extra: Map<String, Value> = [
            ("scope", json!(fields.get("scope"))),
            ("id_token", json!(service.mint_id_token(&subject, client, issuer.to_owned())?)),
            ("refresh_token", json!(service.mint(&subject, REFRESH_AUDIENCE, REFRESH)?)),
            ("client_info", json!(URL_SAFE_NO_PAD.encode(info))),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect();
        body.extend(extra);
    }
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// The code of a device is approved as soon as it is made: a local world has nobody to ask.
async fn device_code(
    State(service): State<Arc<TokenService>>,
    Extension(asked): Extension<Origin>,
) -> Result<Json<Value>, OAuthError> {
    service.demand_passwordless()?;
    let page = format!("{asked}/adfs/oauth2/deviceauth");
    let code = service.mint(&person(LOCAL_USER_NAME), DEVICE_AUDIENCE, Duration::from_secs(900))?;
    Ok(Json(json!({
        "user_code": "LOCAL",
        "device_code": code,
        "verification_uri": page,
        "verification_url": page,
        "expires_in": 900,
        "interval": 1,
        "message": format!("To sign in, nothing needs to be done: the local world approves every device (see {page})."),
    })))
}

async fn device_page() -> Html<&'static str> {
    Html("<!doctype html><title>Fleet Manager</title><p>This device is approved: it is a local world's.</p>")
}

/// The tokens of managed identities, as App Service (`/msi/token`) and as a virtual machine hand them out.
async fn managed_identity(
    State(service): State<Arc<TokenService>>,
    Extension(asked): Extension<Origin>,
    Query(fields): Query<Fields>,
    request: Request,
) -> Result<Response, OAuthError> {
    service.demand_passwordless()?;
    let headers = request.headers();
    let of_machine = headers.get("metadata").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    if !of_machine && !headers.contains_key("x-identity-header") {
        let description = "Required metadata header not specified.";
        return Err(OAuthError(StatusCode::BAD_REQUEST, "invalid_request", 900_144, description.to_owned()));
    }
    let audience = service.audience(&fields, &asked)?;
    let access = service.mint(&service_principal(), &audience, ACCESS)?;
    let expires = Timestamp::now().as_second().saturating_add_unsigned(ACCESS.as_secs());
    Ok(Json(json!({
        "access_token": access,
        "client_id": SERVICE_PRINCIPAL,
        "expires_in": ACCESS.as_secs().to_string(),
        "expires_on": expires.to_string(),
        "resource": fields.get("resource"),
        "token_type": "Bearer",
    }))
    .into_response())
}

async fn keys(State(service): State<Arc<TokenService>>) -> Json<Value> {
    Json(json!({"keys": [service.key.jwk()]}))
}

async fn adfs_configuration(Extension(asked): Extension<Origin>) -> Json<Value> {
    let issuer = format!("{asked}/adfs");
    configuration(&asked, &issuer, &format!("{issuer}/oauth2"), &format!("{issuer}/discovery/keys"))
}

async fn entra_configuration(
    State(service): State<Arc<TokenService>>,
    Extension(asked): Extension<Origin>,
    Path(tenant): Path<String>,
) -> Result<Json<Value>, OAuthError> {
    let known = Uuid::try_parse(&tenant)
        .map_or_else(|_| ["common", "organizations", "adfs"].contains(&tenant.as_str()), |id| id == service.tenant);
    if !known {
        let description = format!("Tenant '{tenant}' not found.");
        return Err(OAuthError(StatusCode::BAD_REQUEST, "invalid_tenant", 90_002, description));
    }
    let base = format!("{asked}/{tenant}");
    let issuer = format!("{base}/v2.0");
    Ok(configuration(&asked, &issuer, &format!("{base}/oauth2/v2.0"), &format!("{base}/discovery/v2.0/keys")))
}

fn configuration(asked: &Origin, issuer: &str, oauth: &str, keys: &str) -> Json<Value> {
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{oauth}/authorize"),
        "token_endpoint": format!("{oauth}/token"),
        "device_authorization_endpoint": format!("{oauth}/devicecode"),
        "jwks_uri": keys,
        "response_types_supported": ["code", "id_token", "token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "scopes_supported": ["openid", "profile", "offline_access"],
        "tenant_region_scope": Value::Null,
        "cloud_instance_name": asked.authority(),
    }))
}

/// Which authorities there are: this one, under this name.
async fn instance(Extension(asked): Extension<Origin>) -> Json<Value> {
    let host = asked.authority();
    Json(json!({
        "tenant_discovery_endpoint": format!("{asked}/common/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }))
}
