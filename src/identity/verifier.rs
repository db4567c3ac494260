//! Verification of bearer tokens: from an `Authorization` header to a [`Caller`], or the 401 that ARM would answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use jiff::Timestamp;
use jsonwebtoken::{Validation, errors::ErrorKind};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    caller::Caller,
    claims::{Claims, OneOrMany},
    issuer::Issuer,
    key::VerificationKey,
};
use crate::arm::{ArmError, Origin};

/// Longest token that is read, in bytes. Entra keeps tokens within what common servers take in a header; 16 KiB is twice that.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the clocks of issuer and service may differ, in seconds.
pub const LEEWAY_SECONDS: f64 = 60.0;

/// Verifies bearer tokens of one issuer for one tenant.
pub struct Verifier {
    keys: Keys,
    /// What tokens may say in `iss`.
    issuers: Vec<String>,
    audiences: Vec<String>,
    tenant: Uuid,
    /// Whether tokens have Entra's claims; those of other issuers may leave `tid` out, and name the principal in `sub`.
    entra: bool,
    /// Where those who have no token get one: a URL, or a path at the origin that the request asked.
    authorization_uri: String,
    verified: Mutex<Verified>,
}

enum Keys {
    Fixed(Arc<Vec<VerificationKey>>),
    Of(Arc<Issuer>),
}

impl Keys {
    fn at_hand(&self) -> Arc<Vec<VerificationKey>> {
        match self {
            Self::Fixed(keys) => Arc::clone(keys),
            Self::Of(issuer) => issuer.keys(),
        }
    }
}

/// Claims of tokens that were taken, by the SHA-256 of the token: a client sends the same one for an hour. Of one set of keys; all
/// else in a token is checked each time.
#[derive(Default)]
struct Verified {
    keys: Arc<Vec<VerificationKey>>,
    claims: HashMap<[u8; 32], Arc<Claims>>,
}

/// Most verified tokens in the cache. When there are more, the cache is emptied.
const MOST_VERIFIED: usize = 10_000;

/// Why a token is not taken.
enum Refusal {
    /// The key of its signature is not among those that were read from the issuer. It may be new.
    UnknownKey(ArmError),
    Final(ArmError),
}

impl From<ArmError> for Refusal {
    fn from(error: ArmError) -> Self {
        Self::Final(error)
    }
}

impl Verifier {
    /// A verifier that trusts `keys`, and takes tokens of `issuer` and `tenant` that are meant for one of `audiences`.
    /// `authorization_uri` is where a challenge (`WWW-Authenticate`) sends those who have no token: a URL, or a path at the origin
    /// that the request asked.
    #[must_use]
    pub fn new(
        keys: Vec<VerificationKey>,
        issuer: impl Into<String>,
        audiences: Vec<String>,
        tenant: Uuid,
        authorization_uri: impl Into<String>,
    ) -> Self {
        let keys = Keys::Fixed(Arc::new(keys));
        Self::with(keys, vec![issuer.into()], audiences, tenant, authorization_uri.into(), true)
    }

    /// A verifier that trusts the keys that `issuer` has at the time.
    #[must_use]
    pub fn of(issuer: Arc<Issuer>, audiences: Vec<String>, tenant: Uuid, authorization_uri: impl Into<String>) -> Self {
        let names = issuer.names().to_vec();
        let entra = issuer.is_entra();
        Self::with(Keys::Of(issuer), names, audiences, tenant, authorization_uri.into(), entra)
    }

    fn with(
        keys: Keys,
        issuers: Vec<String>,
        audiences: Vec<String>,
        tenant: Uuid,
        authorization_uri: String,
        entra: bool,
    ) -> Self {
        Self { keys, issuers, audiences, tenant, entra, authorization_uri, verified: Mutex::default() }
    }

    /// [`Verifier::verify`], but for a token that names an unknown key the issuer is asked once more, if it was not a moment
    /// ago.
    ///
    /// # Errors
    /// As [`Verifier::verify`]; 503 while the issuer's keys are not known at all.
    pub async fn authenticate(
        &self,
        authorization_header: Option<&str>,
        now: Timestamp,
        asked: &Origin,
    ) -> Result<Caller, ArmError> {
        let refusal = match (self.try_verify(authorization_header, now), &self.keys) {
            (Ok(caller), _) => return Ok(caller),
            (Err(Refusal::UnknownKey(_)), Keys::Of(issuer)) if issuer.ask_again().await => {
                return self.verify(authorization_header, now, asked);
            }
            (Err(refusal), _) => refusal,
        };
        Err(self.challenge(refusal, asked))
    }

    /// The caller that an `Authorization` header's value proves.
    ///
    /// # Errors
    /// 401 with ARM's code for what is wrong, and a challenge; 503 while the issuer's keys are not known at all.
    pub fn verify(
        &self,
        authorization_header: Option<&str>,
        now: Timestamp,
        asked: &Origin,
    ) -> Result<Caller, ArmError> {
        self.try_verify(authorization_header, now).map_err(|refusal| self.challenge(refusal, asked))
    }

    /// The error of a refusal; a 401 says where tokens come from (`WWW-Authenticate`).
    fn challenge(&self, refusal: Refusal, asked: &Origin) -> ArmError {
        let (Refusal::UnknownKey(error) | Refusal::Final(error)) = refusal;
        if error.status() != StatusCode::UNAUTHORIZED {
            return error;
        }
        // A quoted-string takes neither quotes nor control characters, and messages repeat what the token said.
        let sound = |c: char| c != '"' && c != '\\' && (' '..='~').contains(&c);
        let description: String = error.detail().message.chars().map(|c| if sound(c) { c } else { '\'' }).collect();
        let origin = if self.authorization_uri.starts_with('/') { asked.as_str() } else { "" };
        let challenge = format!(
            "Bearer authorization_uri=\"{origin}{}\", error=\"invalid_token\", error_description=\"{description}\"",
            self.authorization_uri
        );
        let challenge = HeaderValue::try_from(challenge)
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer error=\"invalid_token\""));
        error.header(WWW_AUTHENTICATE, challenge)
    }

    fn try_verify(&self, authorization_header: Option<&str>, now: Timestamp) -> Result<Caller, Refusal> {
        let token = self.bearer(authorization_header)?;
        let keys = self.keys_at_hand()?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = self.remembered(&keys, &digest);
        let claims = match &remembered {
            Some(claims) => Arc::clone(claims),
            None => Arc::new(self.verify_signature(token, &keys)?),
        };
        self.check_times(&claims, now)?;
        self.check_origin(&claims)?;
        self.check_audience(claims.aud.as_ref())?;
        if remembered.is_none() {
            self.remember(&keys, digest, &claims);
        }
        claims.caller(self.tenant, self.entra).ok_or_else(|| {
            Refusal::Final(refuse(
                "InvalidAuthenticationToken",
                "The received access token is not valid: the claim 'oid' with the object ID of a principal should be present. \
                 If you are accessing as an application, make sure that its service principal exists in the tenant.",
            ))
        })
    }

    fn bearer<'a>(&self, header: Option<&'a str>) -> Result<&'a str, ArmError> {
        let Some(header) = header else {
            return Err(refuse(
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.",
            ));
        };
        let token = match header.trim().split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => token.trim(),
            _ => "",
        };
        if token.is_empty() {
            return Err(refuse(
                "AuthenticationFailedInvalidHeader",
                "Authentication failed. The 'Authorization' header is provided in an invalid format: expected 'Bearer {token}'.",
            ));
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid(format!("it has more than {MAX_TOKEN_BYTES} bytes")));
        }
        Ok(token)
    }

    fn keys_at_hand(&self) -> Result<Arc<Vec<VerificationKey>>, ArmError> {
        let keys = self.keys.at_hand();
        if keys.is_empty() {
            let message = "The keys of the issuer of access tokens cannot be had now, so that no token can be verified. Try again.";
            return Err(ArmError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).retry_after(5));
        }
        Ok(keys)
    }

    fn remembered(&self, keys: &Arc<Vec<VerificationKey>>, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&verified.keys, keys) {
            *verified = Verified { keys: Arc::clone(keys), claims: HashMap::new() };
        }
        verified.claims.get(digest).map(Arc::clone)
    }

    /// Only what was taken: Entra signs the tokens of all tenants with the same keys, and those of others need no room.
    fn remember(&self, keys: &Arc<Vec<VerificationKey>>, digest: [u8; 32], claims: &Arc<Claims>) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.claims.len() >= MOST_VERIFIED {
            verified.claims.clear();
        }
        if Arc::ptr_eq(&verified.keys, keys) {
            verified.claims.insert(digest, Arc::clone(claims));
        }
    }

    fn verify_signature(&self, token: &str, keys: &[VerificationKey]) -> Result<Claims, Refusal> {
        let malformed = "it is not a signed JSON Web Token";
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid(malformed))?;
        let key = keys
            .iter()
            .find(|key| header.kid.as_ref() == Some(&key.kid))
            .ok_or_else(|| Refusal::UnknownKey(invalid("it is not signed with a key of the issuer (header 'kid')")))?;
        // Claims are checked here, not by the library: against the caller's clock, and with ARM's error codes.
        let mut signature_only = Validation::new(key.algorithm);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_aud = false;
        match jsonwebtoken::decode::<Claims>(token, &key.key, &signature_only) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(Refusal::Final(invalid(match error.kind() {
                ErrorKind::InvalidSignature => "its signature does not verify",
                ErrorKind::InvalidAlgorithm => "it is signed with another algorithm than the issuer's",
                ErrorKind::Json(_) => "its claims are not of the types that an access token has",
                _ => malformed,
            }))),
        }
    }

    fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<(), ArmError> {
        let seconds = now.as_duration().as_secs_f64();
        let expiry = claims.exp.ok_or_else(|| invalid("it has no expiry time (claim 'exp')"))?;
        if expiry + LEEWAY_SECONDS <= seconds {
            return Err(refuse(
                "ExpiredAuthenticationToken",
                format!(
                    "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
                    instant(expiry),
                    instant(seconds)
                ),
            ));
        }
        match claims.nbf {
            Some(start) if start - LEEWAY_SECONDS > seconds => Err(invalid(format!(
                "it is not valid before '{}', and the current UTC time is '{}'",
                instant(start),
                instant(seconds)
            ))),
            _ => Ok(()),
        }
    }

    fn check_origin(&self, claims: &Claims) -> Result<(), ArmError> {
        let issuer = claims.iss.as_deref().unwrap_or_default();
        if !self.issuers.iter().any(|known| known == issuer) {
            return Err(refuse(
                "InvalidAuthenticationTokenTenant",
                format!(
                    "The access token is from the wrong issuer '{issuer}'. It must match '{}', the issuer of tenant '{}'.",
                    self.issuers.first().map(String::as_str).unwrap_or_default(),
                    self.tenant
                ),
            ));
        }
        let tenant = claims.tid.as_deref().unwrap_or_default();
        let own = tenant.parse() == Ok(self.tenant) || (claims.tid.is_none() && !self.entra);
        if !own {
            return Err(refuse(
                "InvalidAuthenticationTokenTenant",
                format!("The access token is from the wrong tenant '{tenant}'. It must match '{}'.", self.tenant),
            ));
        }
        Ok(())
    }

    fn check_audience(&self, audience: Option<&OneOrMany>) -> Result<(), ArmError> {
        let given = audience.map_or(&[][..], OneOrMany::values);
        if given.iter().any(|one| self.audiences.contains(one)) {
            return Ok(());
        }
        let quoted = |list: &[String]| list.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(",");
        let given = if given.is_empty() { "''".to_owned() } else { quoted(given) };
        Err(refuse(
            "InvalidAuthenticationTokenAudience",
            format!(
                "The access token has been obtained for wrong audience or resource {given}. It should exactly match with one of \
                 the allowed audiences {}.",
                quoted(&self.audiences)
            ),
        ))
    }
}

fn invalid(why: impl std::fmt::Display) -> ArmError {
    refuse("InvalidAuthenticationToken", format!("The access token is invalid: {why}."))
}

fn refuse(code: &'static str, message: impl Into<String>) -> ArmError {
    ArmError::new(StatusCode::UNAUTHORIZED, code, message)
}

/// A NumericDate for people to read.
fn instant(seconds: f64) -> String {
    // Saturates; what lies beyond the calendar is shown as it was written.
    Timestamp::from_second(seconds as i64).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
