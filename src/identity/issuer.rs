//! The keys of an OpenID Connect issuer: found by discovery, kept, and fetched again when they change.
//!
//! Requests are verified with the keys at hand. The issuer is asked in the background, and when a token names a key that is
//! not known; but not more often than every [`PAUSE`], however many such tokens come.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::key::VerificationKey;
use crate::transport;

/// Shortest time between two questions that tokens cause.
pub const PAUSE: Duration = Duration::from_secs(30);
/// How old keys get before they are fetched again: Entra rolls over at any time, and keeps new keys ready for a day.
const FRESH: Duration = Duration::from_hours(1);
/// Between attempts while the issuer cannot be asked: doubling, up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest document that is read, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// Why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No answer, or one that is not a document.
    #[error("{url} cannot be read: {source}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// Another document than expected.
    #[error("{url} is not {expected}")]
    Unexpected {
        /// What was asked for.
        url: String,
        /// What should have been there.
        expected: &'static str,
    },
    /// Discovery of one issuer that answers for another (OpenID Connect Discovery 1.0 §4.3).
    #[error("{url} is the configuration of the issuer '{found}', which is not the configured one")]
    AnotherIssuer {
        /// What was asked for.
        url: String,
        /// Whom it names.
        found: String,
    },
    /// There is no key to verify RS256 or ES256 with.
    #[error("{0} has no key for RS256 or ES256")]
    NoKeys(String),
}

/// An issuer and its keys. One for the whole process.
#[derive(Debug)]
pub struct Issuer {
    http: reqwest::Client,
    url: String,
    names: Vec<String>,
    keys: RwLock<Arc<Vec<VerificationKey>>>,
    /// When a token last caused a question that was answered. Held while one is asked, so that there is one at a time.
    asked: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// The issuer at this URL, without a question yet.
    ///
    /// # Errors
    /// When there is no HTTP client to be had.
    pub fn new(url: &str) -> Result<Self, reqwest::Error> {
        let http = transport::client(&[]).timeout(TIMEOUT).build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { http, names: names(&url), url, keys: RwLock::default(), asked: Mutex::new(None) })
    }

    /// What tokens may say in `iss`.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether this is Microsoft Entra, whose tokens name tenant and principal in claims of its own.
    #[must_use]
    pub fn is_entra(&self) -> bool {
        entra(&self.url).is_some()
    }

    /// The keys at hand; none before the first answer of the issuer.
    #[must_use]
    pub fn keys(&self) -> Arc<Vec<VerificationKey>> {
        Arc::clone(&self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Asks for the keys because a token names one that is not known. Whether there may be others now: `false` when the
    /// issuer was asked a moment ago, or cannot be.
    pub async fn ask_again(&self) -> bool {
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        if let Some(last) = *asked {
            if last >= came {
                // Somebody else's question, whose answer this one has waited for.
                return true;
            }
            if last.elapsed() < PAUSE {
                return false;
            }
        }
        // Before the question, for whom it is given up; and after it, for those who came while it was asked.
        *asked = Some(Instant::now());
        let fetched = self.fetch().await;
        *asked = Some(Instant::now());
        match fetched {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "an unknown key was asked for in vain");
                false
            }
        }
    }

    /// Keeps the keys fresh, for ever. While the issuer is down, those at hand serve.
    pub async fn keep_fresh(&self) {
        let mut backoff = Duration::from_secs(1);
        loop {
            match self.fetch().await {
                Ok(()) => {
                    backoff = Duration::from_secs(1);
                    tokio::time::sleep(FRESH).await;
                }
                Err(error) => {
                    tracing::warn!(%error, known = self.keys().len(), "the issuer's keys cannot be fetched");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
            }
        }
    }

    async fn fetch(&self) -> Result<(), IssuerError> {
        let url = format!("{}/.well-known/openid-configuration", self.url);
        let found: Configuration = self.get(&url, "an OpenID Connect configuration").await?;
        if !self.names.contains(&found.issuer) {
            return Err(IssuerError::AnotherIssuer { url, found: found.issuer });
        }
        if !is_safe(&found.jwks_uri) {
            return Err(IssuerError::Unexpected { url, expected: "a configuration with keys at an https URL" });
        }
        let set: JwkSet = self.get(&found.jwks_uri, "a JSON Web Key set").await?;
        let keys: Vec<VerificationKey> = set.keys.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(IssuerError::NoKeys(found.jwks_uri));
        }
        tracing::info!(keys = keys.len(), issuer = found.issuer, "keys of the issuer");
        *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, url: &str, expected: &'static str) -> Result<T, IssuerError> {
        let unreachable = |source| IssuerError::Unreachable { url: url.to_owned(), source };
        let unexpected = || IssuerError::Unexpected { url: url.to_owned(), expected };
        let answer = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut answer = answer.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MOST_BYTES {
                return Err(unexpected());
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|_| unexpected())
    }
}

/// Where Entra is in each cloud: who issues tokens of version 2.0, and who those of version 1.0.
const ENTRA: [(&str, &str); 3] = [
    ("login.microsoftonline.com", "sts.windows.net"),
    ("login.microsoftonline.us", "sts.windows.net"),
    ("login.partner.microsoftonline.cn", "sts.chinacloudapi.cn"),
];

fn entra(url: &str) -> Option<((&'static str, &'static str), &str)> {
    let rest = url.strip_prefix("https://")?;
    let (cloud, tenant) =
        ENTRA.iter().find_map(|cloud| Some((*cloud, rest.strip_prefix(cloud.0)?.strip_prefix('/')?)))?;
    Some((cloud, tenant.trim_end_matches('/').trim_end_matches("/v2.0")))
}

/// The tenant in the URL of Microsoft Entra; `None` for another issuer.
#[must_use]
pub fn entra_tenant(url: &str) -> Option<&str> {
    entra(url).map(|(_, tenant)| tenant)
}

/// The issuer itself; of Entra, both versions of its tokens, which are signed with the same keys.
fn names(url: &str) -> Vec<String> {
    let mut names = vec![url.to_owned(), format!("{url}/")];
    if let Some(((login, sts), tenant)) = entra(url) {
        names.push(format!("https://{login}/{tenant}/v2.0"));
        names.push(format!("https://{sts}/{tenant}/"));
    }
    names
}

/// Whether keys may be read from there: nobody can put others in their place on the way.
#[must_use]
pub fn is_safe(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let host = url.host().unwrap_or_default();
    match url.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => matches!(host, "127.0.0.1" | "[::1]" | "localhost"),
        _ => false,
    }
}

/// A key of the set, under the one algorithm it is for; `None` for those that are not for signatures, or for others.
fn key(jwk: &Jwk) -> Option<VerificationKey> {
    if jwk.common.public_key_use.as_ref().is_some_and(|use_| *use_ != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|named| named.to_string() != format!("{algorithm:?}")) {
        return None;
    }
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    Some(VerificationKey::new(jwk.common.key_id.clone()?, algorithm, decoding))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entra_has_two_names() {
        let both = ["https://login.microsoftonline.com/t/v2.0", "https://sts.windows.net/t/"];
        for url in ["https://login.microsoftonline.com/t/v2.0", "https://login.microsoftonline.com/t"] {
            assert!(both.iter().all(|name| names(url).iter().any(|n| n == name)), "{url}");
        }
        assert_eq!(names("https://id.example"), ["https://id.example", "https://id.example/"]);
        assert!(names("https://login.microsoftonline.us/t/v2.0").contains(&"https://sts.windows.net/t/".to_owned()));
        assert_eq!(entra_tenant("https://login.microsoftonline.com.evil.example/t"), None);
        assert_eq!(entra_tenant("https://login.microsoftonline.com/t/v2.0/"), Some("t"));
    }

    #[test]
    fn keys_come_by_safe_ways_only() {
        for (url, safe) in [
            ("https://id.example/keys", true),
            ("http://127.0.0.1:1/keys", true),
            ("http://id.example/keys", false),
            ("http://localhost.evil.example/keys", false),
            ("file:///etc/passwd", false),
            ("", false),
        ] {
            assert_eq!(is_safe(url), safe, "{url}");
        }
    }

    #[test]
    fn only_keys_for_signatures_of_known_kinds_count() {
        let point = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let ec = json!({"kty": "EC", "crv": "P-256", "kid": "a", "use": "sig", "x": point,
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let with = |name: &str, value: serde_json::Value| {
            let mut key = ec.clone();
            key[name] = value;
            key
        };
        let read = |value| serde_json::from_value::<Jwk>(value).ok().as_ref().and_then(key).is_some();
        assert!(read(ec.clone()) && read(with("alg", json!("ES256"))));
        assert!(!read(with("use", json!("enc"))) && !read(with("kid", json!(null))));
        assert!(!read(with("alg", json!("HS256"))));
        assert!(!read(json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"})), "no shared secrets");
    }
}
