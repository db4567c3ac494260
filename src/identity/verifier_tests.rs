use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use p256::{
    SecretKey,
    elliptic_curve::rand_core::OsRng,
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
};
use serde_json::{Value, json};

use super::*;
use crate::identity::{ARM_AUDIENCES, CallerKind};

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER: &str = "99999999-9999-9999-9999-999999999999";
const ISSUER: &str = "https://fleet-manager.local/11111111-1111-1111-1111-111111111111";
const NOW: i64 = 1_800_000_000;

fn asked() -> Origin {
    "https://h".parse().unwrap()
}

struct World {
    private_pem: String,
    public_pem: String,
    verifier: Verifier,
}

impl World {
    fn new() -> Self {
        let secret = SecretKey::random(&mut OsRng);
        let public_pem = secret.public_key().to_public_key_pem(LineEnding::LF).unwrap();
        let key =
            VerificationKey::new("k1", Algorithm::ES256, DecodingKey::from_ec_pem(public_pem.as_bytes()).unwrap());
        let audiences = ARM_AUDIENCES.map(String::from).to_vec();
        Self {
            private_pem: secret.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
            public_pem,
            verifier: Verifier::new(vec![key], ISSUER, audiences, TENANT.parse().unwrap(), "/adfs"),
        }
    }

    fn sign(&self, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.private_pem.as_bytes()).unwrap();
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::ES256) };
        format!("Bearer {}", jsonwebtoken::encode(&header, claims, &key).unwrap())
    }

    fn verify(&self, header: &str) -> Result<Caller, ArmError> {
        self.verifier.verify(Some(header), Timestamp::from_second(NOW).unwrap(), &asked())
    }

    /// Code and message of the refusal; every refusal is a 401 with a challenge.
    fn refusal(&self, header: &str) -> (String, String) {
        let error = self.verify(header).unwrap_err();
        assert_eq!(error.status(), StatusCode::UNAUTHORIZED);
        let (name, challenge) = &error.headers()[0];
        assert_eq!(name, WWW_AUTHENTICATE);
        let challenge = challenge.to_str().unwrap();
        assert!(
            challenge.starts_with("Bearer authorization_uri=\"https://h/adfs\", error=\"invalid_token\""),
            "{challenge}"
        );
        assert!(!challenge.contains("claims="), "clients would ask for a new token");
        (error.detail().code.to_string(), error.detail().message.clone())
    }

    fn code(&self, header: &str) -> String {
        self.refusal(header).0
    }
}

fn good() -> Value {
    json!({
        "iss": ISSUER, "aud": "https://management.azure.com/", "tid": TENANT, "nbf": NOW - 10, "exp": NOW + 3600,
        "oid": "22222222-2222-2222-2222-222222222222", "upn": "ann@contoso.com", "appid": "cli",
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut claims = good();
    claims[field] = value;
    claims
}

fn segment(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn accepts_a_good_token_for_every_audience() {
    let world = World::new();
    for audience in ARM_AUDIENCES {
        let caller = world.verify(&world.sign(&with("aud", json!(audience)))).unwrap();
        assert_eq!(caller.kind, CallerKind::User);
        assert_eq!(caller.name.as_deref(), Some("ann@contoso.com"));
        assert_eq!(caller.tenant.to_string(), TENANT);
    }
    let several = with("aud", json!(["https://else.where", "https://management.azure.com"]));
    assert!(world.verify(&world.sign(&several)).is_ok());
    assert!(world.verify(&world.sign(&good()).replace("Bearer", "bearer")).is_ok());
    assert!(world.verify(&world.sign(&with("exp", json!(NOW as f64 + 0.5)))).is_ok(), "RFC 7519 allows fractions");
}

#[test]
fn refuses_headers_that_carry_no_token() {
    let world = World::new();
    let missing = world.verifier.verify(None, Timestamp::from_second(NOW).unwrap(), &asked()).unwrap_err();
    assert_eq!(missing.detail().code, "AuthenticationFailed");
    assert_eq!(missing.detail().message, "Authentication failed. The 'Authorization' header is missing.");
    for header in ["", "Bearer", "Bearer ", "Basic YTpi", "token", "Bearertoken"] {
        assert_eq!(world.code(header), "AuthenticationFailedInvalidHeader", "{header}");
    }
}

#[test]
fn refuses_garbage() {
    let world = World::new();
    let good = world.sign(&good());
    let cut = &good[..good.len() - 4];
    for header in ["Bearer x", "Bearer ..", "Bearer a.b.c", "Bearer é.é.é", "Bearer \u{0}", cut, &format!("{good}.x")]
    {
        assert_eq!(world.code(header), "InvalidAuthenticationToken", "{header}");
    }
    assert_eq!(world.code(&world.sign(&json!([]))), "InvalidAuthenticationToken");
    assert_eq!(world.code(&world.sign(&with("exp", json!("tomorrow")))), "InvalidAuthenticationToken");
    for (field, value) in [("exp", json!(null)), ("oid", json!(null)), ("oid", json!("root"))] {
        assert_eq!(world.code(&world.sign(&with(field, value))), "InvalidAuthenticationToken", "{field}");
    }
}

#[test]
fn refuses_a_huge_token_unread() {
    let world = World::new();
    let (code, message) = world.refusal(&world.sign(&with("x", json!("x".repeat(MAX_TOKEN_BYTES)))));
    assert_eq!(code, "InvalidAuthenticationToken");
    assert!(message.contains("16384 bytes"), "{message}");
    assert!(world.verify(&world.sign(&with("x", json!("x".repeat(8 * 1024))))).is_ok());
}

#[test]
fn checks_times_with_a_leeway() {
    let world = World::new();
    assert!(world.verify(&world.sign(&with("exp", json!(NOW - 59)))).is_ok());
    let (code, message) = world.refusal(&world.sign(&with("exp", json!(NOW - 60))));
    assert_eq!(code, "ExpiredAuthenticationToken");
    assert_eq!(
        message,
        "The access token expiry UTC time '2027-01-15T07:59:00Z' is earlier than current UTC time '2027-01-15T08:00:00Z'."
    );
    assert!(world.verify(&world.sign(&with("nbf", json!(NOW + 60)))).is_ok());
    let (code, message) = world.refusal(&world.sign(&with("nbf", json!(NOW + 61))));
    assert_eq!(code, "InvalidAuthenticationToken");
    assert!(message.contains("not valid before"), "{message}");
    assert_eq!(world.code(&world.sign(&with("exp", json!(-1e300)))), "ExpiredAuthenticationToken");
}

#[test]
fn refuses_other_issuers_tenants_and_audiences() {
    let world = World::new();
    for (field, value) in [
        ("iss", json!(format!("https://sts.windows.net/{OTHER}/"))),
        ("iss", json!(format!("{ISSUER}/"))),
        ("iss", json!(null)),
        ("tid", json!(OTHER)),
        ("tid", json!(null)),
        ("tid", json!("")),
    ] {
        assert_eq!(world.code(&world.sign(&with(field, value.clone()))), "InvalidAuthenticationTokenTenant", "{value}");
    }
    for audience in
        [json!("https://graph.microsoft.com"), json!("https://management.azure.com/x"), json!([]), json!(null)]
    {
        let (code, message) = world.refusal(&world.sign(&with("aud", audience.clone())));
        assert_eq!(code, "InvalidAuthenticationTokenAudience", "{audience}");
        assert!(message.contains("'https://management.azure.com'"), "{message}");
    }
}

#[test]
fn refuses_signatures_that_others_could_make() {
    let (world, stranger) = (World::new(), World::new());
    let (code, message) = world.refusal(&stranger.sign(&good()));
    assert_eq!(code, "InvalidAuthenticationToken");
    assert!(message.contains("signature"), "{message}");

    // The public key as an HMAC secret, in every spelling that somebody could have meant.
    let confused = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
    for secret in [world.public_pem.as_bytes(), world.public_pem.trim().as_bytes(), b""] {
        let token = jsonwebtoken::encode(&confused, &good(), &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(world.code(&format!("Bearer {token}")), "InvalidAuthenticationToken");
    }

    for alg in ["none", "None", "NONE", "", "ES384", "EdDSA", "RS256"] {
        let head = segment(&json!({"alg": alg, "typ": "JWT", "kid": "k1"}));
        for signature in ["", "AA", world.sign(&good()).rsplit('.').next().unwrap()] {
            let token = format!("Bearer {head}.{}.{signature}", segment(&good()));
            assert_eq!(world.code(&token), "InvalidAuthenticationToken", "{alg}");
        }
    }

    // The right key under no ID or an unknown one; a signature moved to other claims.
    let key = EncodingKey::from_ec_pem(world.private_pem.as_bytes()).unwrap();
    for kid in [None, Some("k2".to_owned())] {
        let header = Header { kid, ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &good(), &key).unwrap();
        assert_eq!(world.code(&format!("Bearer {token}")), "InvalidAuthenticationToken");
    }
    let signed = world.sign(&good());
    let mut parts: Vec<&str> = signed.split('.').collect();
    let forged = segment(&with("oid", json!(OTHER)));
    parts[1] = &forged;
    assert_eq!(world.code(&parts.join(".")), "InvalidAuthenticationToken");
}

#[test]
fn challenge_survives_hostile_claims() {
    let world = World::new();
    let (code, _) = world.refusal(&world.sign(&with("aud", json!("a\"\r\nSet-Cookie: x=1\\é"))));
    assert_eq!(code, "InvalidAuthenticationTokenAudience");
}
