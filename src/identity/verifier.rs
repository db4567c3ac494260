//! Verification of bearer tokens: from an `Authorization` header to a [`Caller`], or the 401 that ARM would answer.

use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use uuid::Uuid;

use super::{
    caller::Caller,
    claims::{Audience, Claims},
};
use crate::arm::ArmError;

/// Longest token that is read, in bytes. Entra keeps tokens within what common servers take in a header; 16 KiB is twice that.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the clocks of issuer and service may differ, in seconds.
pub const LEEWAY_SECONDS: f64 = 60.0;

/// A key that tokens may be signed with, under the one algorithm it is for: the token's own `alg` decides nothing.
#[derive(Clone)]
pub struct VerificationKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// An asymmetric public key under its ID. The algorithm is pinned to it.
    #[must_use]
    pub fn new(kid: impl Into<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        Self { kid: kid.into(), algorithm, key }
    }
}

/// Verifies bearer tokens of one issuer for one tenant.
pub struct Verifier {
    keys: Vec<VerificationKey>,
    issuer: String,
    audiences: Vec<String>,
    tenant: Uuid,
    authorization_uri: String,
}

impl Verifier {
    /// A verifier that trusts `keys`, and takes tokens of `issuer` and `tenant` that are meant for one of `audiences`.
    /// `authorization_uri` is where a challenge (`WWW-Authenticate`) sends those who have no token.
    #[must_use]
    pub fn new(
        keys: Vec<VerificationKey>,
        issuer: impl Into<String>,
        audiences: Vec<String>,
        tenant: Uuid,
        authorization_uri: impl Into<String>,
    ) -> Self {
        Self { keys, issuer: issuer.into(), audiences, tenant, authorization_uri: authorization_uri.into() }
    }

    /// The caller that an `Authorization` header's value proves.
    ///
    /// # Errors
    /// 401 with ARM's code for what is wrong, and a challenge.
    pub fn verify(&self, authorization_header: Option<&str>, now: Timestamp) -> Result<Caller, ArmError> {
        let token = self.bearer(authorization_header)?;
        let claims = self.signed_claims(token)?;
        self.check_times(&claims, now)?;
        self.check_origin(&claims)?;
        self.check_audience(claims.aud.as_ref())?;
        claims.into_caller(self.tenant).ok_or_else(|| {
            self.refuse(
                "InvalidAuthenticationToken",
                "The received access token is not valid: the claim 'oid' with the object ID of a principal should be present. \
                 If you are accessing as an application, make sure that its service principal exists in the tenant.",
            )
        })
    }

    fn bearer<'a>(&self, header: Option<&'a str>) -> Result<&'a str, ArmError> {
        let Some(header) = header else {
            return Err(
                self.refuse("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
            );
        };
        let token = match header.trim().split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => token.trim(),
            _ => "",
        };
        if token.is_empty() {
            return Err(self.refuse(
                "AuthenticationFailedInvalidHeader",
                "Authentication failed. The 'Authorization' header is provided in an invalid format: expected 'Bearer {token}'.",
            ));
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(self.invalid(format!("it has more than {MAX_TOKEN_BYTES} bytes")));
        }
        Ok(token)
    }

    fn signed_claims(&self, token: &str) -> Result<Claims, ArmError> {
        let malformed = "it is not a signed JSON Web Token";
        let header = jsonwebtoken::decode_header(token).map_err(|_| self.invalid(malformed))?;
        let key = self
            .keys
            .iter()
            .find(|key| header.kid.as_ref() == Some(&key.kid))
            .ok_or_else(|| self.invalid("it is not signed with a key of the issuer (header 'kid')"))?;
        // Claims are checked here, not by the library: against the caller's clock, and with ARM's error codes.
        let mut signature_only = Validation::new(key.algorithm);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_aud = false;
        match jsonwebtoken::decode::<Claims>(token, &key.key, &signature_only) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(self.invalid(match error.kind() {
                ErrorKind::InvalidSignature => "its signature does not verify",
                ErrorKind::InvalidAlgorithm => "it is signed with another algorithm than the issuer's",
                ErrorKind::Json(_) => "its claims are not of the types that an access token has",
                _ => malformed,
            })),
        }
    }

    fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<(), ArmError> {
        let seconds = now.as_duration().as_secs_f64();
        let expiry = claims.exp.ok_or_else(|| self.invalid("it has no expiry time (claim 'exp')"))?;
        if expiry + LEEWAY_SECONDS <= seconds {
            return Err(self.refuse(
                "ExpiredAuthenticationToken",
                format!(
                    "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
                    instant(expiry),
                    instant(seconds)
                ),
            ));
        }
        match claims.nbf {
            Some(start) if start - LEEWAY_SECONDS > seconds => Err(self.invalid(format!(
                "it is not valid before '{}', and the current UTC time is '{}'",
                instant(start),
                instant(seconds)
            ))),
            _ => Ok(()),
        }
    }

    fn check_origin(&self, claims: &Claims) -> Result<(), ArmError> {
        let issuer = claims.iss.as_deref().unwrap_or_default();
        if issuer != self.issuer {
            return Err(self.refuse(
                "InvalidAuthenticationTokenTenant",
                format!(
                    "The access token is from the wrong issuer '{issuer}'. It must match '{}', the issuer of tenant '{}'.",
                    self.issuer, self.tenant
                ),
            ));
        }
        let tenant = claims.tid.as_deref().unwrap_or_default();
        if tenant.parse() != Ok(self.tenant) {
            return Err(self.refuse(
                "InvalidAuthenticationTokenTenant",
                format!("The access token is from the wrong tenant '{tenant}'. It must match '{}'.", self.tenant),
            ));
        }
        Ok(())
    }

    fn check_audience(&self, audience: Option<&Audience>) -> Result<(), ArmError> {
        let given = audience.map_or(&[][..], Audience::values);
        if given.iter().any(|one| self.audiences.contains(one)) {
            return Ok(());
        }
        let quoted = |list: &[String]| list.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(",");
        let given = if given.is_empty() { "''".to_owned() } else { quoted(given) };
        Err(self.refuse(
            "InvalidAuthenticationTokenAudience",
            format!(
                "The access token has been obtained for wrong audience or resource {given}. It should exactly match with one of \
                 the allowed audiences {}.",
                quoted(&self.audiences)
            ),
        ))
    }

    fn invalid(&self, why: impl std::fmt::Display) -> ArmError {
        self.refuse("InvalidAuthenticationToken", format!("The access token is invalid: {why}."))
    }

    fn refuse(&self, code: &'static str, message: impl Into<String>) -> ArmError {
        let message = message.into();
        // A quoted-string takes neither quotes nor control characters, and messages repeat what the token said.
        let description: String = message
            .chars()
            .map(|c| if c == '"' || c == '\\' || !(' '..='~').contains(&c) { '\'' } else { c })
            .collect();
        let challenge = format!(
            "Bearer authorization_uri=\"{}\", error=\"invalid_token\", error_description=\"{description}\"",
            self.authorization_uri
        );
        let error = ArmError::new(StatusCode::UNAUTHORIZED, code, message);
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => error.header(WWW_AUTHENTICATE, challenge),
            Err(_) => error.header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\"")),
        }
    }
}

/// A NumericDate for people to read.
fn instant(seconds: f64) -> String {
    // Saturates; what lies beyond the calendar is shown as it was written.
    Timestamp::from_second(seconds as i64).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
