//! An OpenID Connect issuer in the test's process. The test sets its keys and its availability.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::{
    SecretKey,
    elliptic_curve::{rand_core::OsRng, sec1::ToEncodedPoint},
    pkcs8::{EncodePrivateKey, LineEnding},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
/// A key for these tests only.
const RSA: &[u8] = include_bytes!("rs256.pem");
const RSA_MODULUS: &str = "tmuJhCQxEhS9j8W0-16rYtxknLFHOfWgtU-4jfEDYri7rRYLMTQltmfegnkKkaUNbxKztkjmNLCyrAhZ_5ADgKUnsMtVNE6qfi6hhjYJHeKstiKaf8aVrmUsA9F6vDmFKYAkr1M2O-dOFrYMWqrBqyNX9ZcyD8q_PybGJZPxJmigUU9xosAE2r5eCuFhm0JhgCF3gSVolWy2zF83AMm87hFGNZuKGzJxdSiyDlLClskL6V921P7aJYlGnRQnDFajRH1ixI5WCkXKpNB9W5cTBuYWIRgLpHTO3_FizkrBIHmFAsrqrB3vRAC5jSyLMHzXT1fowsniCNqVoi1dRDen6Q";

/// A signing key and its public half.
#[derive(Clone)]
pub struct Key {
    pub kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    pub jwk: Value,
}

impl Key {
    pub fn es256(kid: &str) -> Self {
        let secret = SecretKey::random(&mut OsRng);
        let point = secret.public_key().to_encoded_point(false);
        let text = |bytes: Option<&p256::FieldBytes>| URL_SAFE_NO_PAD.encode(bytes.unwrap());
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": text(point.x()), "y": text(point.y())});
        let pem = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
        let private = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
        Self { kid: kid.to_owned(), algorithm: Algorithm::ES256, private, jwk }
    }

    pub fn rs256(kid: &str) -> Self {
        let jwk = json!({"kty": "RSA", "use": "sig", "kid": kid, "n": RSA_MODULUS, "e": "AQAB"});
        let private = EncodingKey::from_rsa_pem(RSA).unwrap();
        Self { kid: kid.to_owned(), algorithm: Algorithm::RS256, private, jwk }
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.kid, claims)
    }

    pub fn sign_as(&self, kid: &str, claims: &Value) -> String {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }
}

#[derive(Default)]
struct Shared {
    url: Mutex<String>,
    names_itself: Mutex<Option<String>>,
    keys: Mutex<Vec<Value>>,
    down: AtomicBool,
    questions: AtomicUsize,
}

pub struct Issuer {
    pub url: String,
    shared: Arc<Shared>,
}

impl Issuer {
    pub async fn start(keys: &[&Key]) -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/t/v2.0/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys_of))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/t/v2.0", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        shared.url.lock().unwrap().clone_from(&url);
        let issuer = Self { url, shared };
        issuer.publish(keys);
        issuer
    }

    /// Replaces the keys.
    pub fn publish(&self, keys: &[&Key]) {
        *self.shared.keys.lock().unwrap() = keys.iter().map(|key| key.jwk.clone()).collect();
    }

    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    pub fn call_itself(&self, name: &str) {
        *self.shared.names_itself.lock().unwrap() = Some(name.to_owned());
    }

    /// Returns how often the keys were requested.
    pub fn questions(&self) -> usize {
        self.shared.questions.load(Ordering::SeqCst)
    }

    /// Returns the claims of a valid token of a user.
    pub fn claims(&self) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": self.url,
            "aud": "api://fleet",
            "tid": TENANT,
            "oid": "22222222-2222-2222-2222-222222222222",
            "preferred_username": "ann@contoso.com",
            "azp": "cli",
            "iat": now,
            "nbf": now - 5,
            "exp": now + 3600,
        })
    }
}

async fn configuration(State(shared): State<Arc<Shared>>) -> axum::response::Response {
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let url = shared.url.lock().unwrap().clone();
    let issuer = shared.names_itself.lock().unwrap().clone().unwrap_or_else(|| url.clone());
    let keys = url.replace("/t/v2.0", "/keys");
    Json(json!({"issuer": issuer, "jwks_uri": keys, "token_endpoint": format!("{url}/token")})).into_response()
}

async fn keys_of(State(shared): State<Arc<Shared>>) -> axum::response::Response {
    shared.questions.fetch_add(1, Ordering::SeqCst);
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    Json(json!({"keys": *shared.keys.lock().unwrap()})).into_response()
}
