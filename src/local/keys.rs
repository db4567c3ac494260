//! The key of a local world: made at the first start, kept in the data directory, and used to sign and to verify the
//! tokens that `fleet-manager token` and the demo hand out.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use p256::{
    PublicKey, SecretKey,
    elliptic_curve::{rand_core::OsRng, sec1::ToEncodedPoint},
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::identity::VerificationKey;

/// Directory of keys inside the data directory; readable by its owner only.
const DIRECTORY: &str = "keys";
const FILE: &str = "token-signing-key.pem";

/// Object ID of the person that local tokens name unless told otherwise.
pub const LOCAL_USER: Uuid = Uuid::from_u128(0x22222222_2222_2222_2222_222222222222);
/// Login name of that person.
pub const LOCAL_USER_NAME: &str = "local@fleet-manager.local";

/// Why there is no local key, or no token.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system said no.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// There is a file, but no key in it.
    #[error(
        "{0} holds no P-256 private key in PKCS #8 PEM; remove it and a new key is made (tokens of the old one end)"
    )]
    NotAKey(PathBuf),
    /// The key could not be used or encoded.
    #[error("cannot {0} with the local key")]
    Crypto(&'static str),
}

/// What a local token says of its bearer.
#[derive(Debug, Clone)]
pub struct TokenClaims {
    /// Tenant (`tid`), also in the issuer.
    pub tenant: Uuid,
    /// The principal (`oid`).
    pub object_id: Uuid,
    /// With it the token is an application's (`appid`), without it a person's.
    pub app_id: Option<String>,
    /// A person's login name (`upn`).
    pub name: Option<String>,
    /// Who issued the token (`iss`); absent: [`issuer`], which the service takes in access tokens. Only the client itself reads an
    /// ID token: it expects the issuer that it discovered.
    pub issuer: Option<String>,
    /// For whom the token is (`aud`).
    pub audience: String,
    /// How long it is valid.
    pub lifetime: Duration,
}

impl TokenClaims {
    /// The default person of a local world, for Azure Resource Manager's audience.
    #[must_use]
    pub fn local_user(tenant: Uuid, lifetime: Duration) -> Self {
        Self {
            tenant,
            object_id: LOCAL_USER,
            app_id: None,
            name: Some(LOCAL_USER_NAME.to_owned()),
            issuer: None,
            audience: "https://management.azure.com".to_owned(),
            lifetime,
        }
    }
}

/// The issuer (`iss`) of a local world's access tokens, whichever name of the service they were asked under.
#[must_use]
pub fn issuer(tenant: Uuid) -> String {
    format!("https://fleet-manager.local/{tenant}")
}

/// The ES256 key pair of a local world.
pub struct LocalKey {
    signing: EncodingKey,
    verification: VerificationKey,
    kid: String,
    /// Coordinates of the public point, base64url.
    point: [String; 2],
}

impl LocalKey {
    /// The key in `data_dir`, made there if there is none. Processes that start at the same time agree on one key.
    ///
    /// # Errors
    /// When the directory cannot be written, or the file holds something else.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, KeyError> {
        let directory = data_dir.join(DIRECTORY);
        let path = directory.join(FILE);
        let text = match read(&path)? {
            Some(text) => text,
            None => {
                fs::create_dir_all(data_dir).map_err(at("create", data_dir))?;
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&directory)
                    .map_err(at("create", &directory))?;
                let pem = SecretKey::random(&mut OsRng)
                    .to_pkcs8_pem(LineEnding::LF)
                    .map_err(|_| KeyError::Crypto("encode a file"))?;
                write_once(&directory, &path, pem.as_bytes())?;
                read(&path)?.ok_or_else(|| KeyError::NotAKey(path.clone()))?
            }
        };
        let secret = SecretKey::from_pkcs8_pem(&text).map_err(|_| KeyError::NotAKey(path))?;
        Self::of(&secret)
    }

    fn of(secret: &SecretKey) -> Result<Self, KeyError> {
        let unusable = || KeyError::Crypto("sign");
        let public = secret.public_key();
        let private_der = secret.to_pkcs8_der().map_err(|_| unusable())?;
        let public_pem = public.to_public_key_pem(LineEnding::LF).map_err(|_| unusable())?;
        let kid: String =
            Sha256::digest(public_pem.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let decoding = DecodingKey::from_ec_pem(public_pem.as_bytes()).map_err(|_| unusable())?;
        Ok(Self {
            signing: EncodingKey::from_ec_der(private_der.as_bytes()),
            verification: VerificationKey::new(kid.clone(), Algorithm::ES256, decoding),
            kid,
            point: coordinates(&public),
        })
    }

    /// The public half as a JSON Web Key (RFC 7517).
    #[must_use]
    pub fn jwk(&self) -> serde_json::Value {
        let [x, y] = &self.point;
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y})
    }

    /// The public half, for a [`Verifier`](crate::identity::Verifier).
    #[must_use]
    pub fn verification_key(&self) -> VerificationKey {
        self.verification.clone()
    }

    /// A signed access token, in the shape of Entra's v1.0.
    ///
    /// # Errors
    /// When signing fails, which a sound key does not.
    pub fn mint(&self, claims: &TokenClaims, now: Timestamp) -> Result<String, KeyError> {
        let start = now.as_second();
        let lifetime = i64::try_from(claims.lifetime.as_secs()).unwrap_or(i64::MAX);
        let mut body = json!({
            "iss": claims.issuer.clone().unwrap_or_else(|| issuer(claims.tenant)),
            "aud": claims.audience,
            "tid": claims.tenant,
            "oid": claims.object_id,
            "sub": claims.object_id,
            "iat": start,
            "nbf": start,
            "exp": start.saturating_add(lifetime),
            "idtyp": if claims.app_id.is_some() { "app" } else { "user" },
            "ver": "1.0",
        });
        if let Some(app_id) = &claims.app_id {
            body["appid"] = app_id.as_str().into();
        }
        if let Some(name) = &claims.name {
            body[if claims.app_id.is_some() { "name" } else { "upn" }] = name.as_str().into();
        }
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &body, &self.signing).map_err(|_| KeyError::Crypto("sign"))
    }
}

fn coordinates(public: &PublicKey) -> [String; 2] {
    let point = public.to_encoded_point(false);
    let encode = |bytes: Option<&p256::FieldBytes>| URL_SAFE_NO_PAD.encode(bytes.copied().unwrap_or_default());
    [encode(point.x()), encode(point.y())]
}

fn read(path: &Path) -> Result<Option<String>, KeyError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read", path)(error)),
    }
}

/// Puts a complete file at `path` unless there is one: written aside, flushed, then linked, which never overwrites.
fn write_once(directory: &Path, path: &Path, content: &[u8]) -> Result<(), KeyError> {
    let aside = directory.join(format!(".{}.{}", FILE, Uuid::new_v4()));
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let linked = written.and_then(|()| match fs::hard_link(&aside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(directory)?.sync_all(),
    });
    // A leftover does no harm, and the outcome above is what matters.
    let _ = fs::remove_file(&aside);
    linked.map_err(at("write", path))
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::{ARM_AUDIENCES, CallerKind, Verifier};

    const TENANT: Uuid = Uuid::from_u128(0x11111111_1111_1111_1111_111111111111);

    fn asked() -> crate::arm::Origin {
        "http://localhost".parse().unwrap()
    }

    fn verifier(key: &LocalKey) -> Verifier {
        let audiences = ARM_AUDIENCES.map(String::from).to_vec();
        Verifier::new(vec![key.verification_key()], issuer(TENANT), audiences, TENANT, issuer(TENANT))
    }

    #[test]
    fn keeps_one_key_that_only_its_owner_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let (first, second) = (LocalKey::load_or_create(&data).unwrap(), LocalKey::load_or_create(&data).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.join("keys/token-signing-key.pem")), 0o600);
        assert_eq!(mode(&data.join("keys")), 0o700);
        assert_eq!(fs::read_dir(data.join("keys")).unwrap().count(), 1);

        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let token = first.mint(&TokenClaims::local_user(TENANT, Duration::from_secs(60)), now).unwrap();
        let caller = verifier(&second).verify(Some(&format!("Bearer {token}")), now, &asked()).unwrap();
        assert_eq!((caller.object_id, caller.kind), (LOCAL_USER, CallerKind::User));
        assert_eq!(caller.display_name(), LOCAL_USER_NAME);
        let later = now + Duration::from_secs(60 + 60);
        assert_eq!(
            verifier(&second).verify(Some(&format!("Bearer {token}")), later, &asked()).unwrap_err().detail().code,
            "ExpiredAuthenticationToken"
        );
    }

    #[test]
    fn an_application_token_names_an_application() {
        let dir = tempfile::tempdir().unwrap();
        let key = LocalKey::load_or_create(dir.path()).unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let claims = TokenClaims {
            app_id: Some("robot".into()),
            name: None,
            ..TokenClaims::local_user(TENANT, Duration::from_secs(60))
        };
        let token = key.mint(&claims, now).unwrap();
        let caller = verifier(&key).verify(Some(&format!("Bearer {token}")), now, &asked()).unwrap();
        assert_eq!((caller.kind, caller.app_id.as_deref()), (CallerKind::Application, Some("robot")));
    }

    #[test]
    fn starters_at_the_same_time_agree() {
        let dir = tempfile::tempdir().unwrap();
        let kids: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| LocalKey::load_or_create(dir.path()).unwrap().kid)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
    }

    #[test]
    fn says_what_is_wrong_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("keys")).unwrap();
        fs::write(dir.path().join("keys/token-signing-key.pem"), "").unwrap();
        assert!(matches!(LocalKey::load_or_create(dir.path()), Err(KeyError::NotAKey(_))));
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").unwrap();
        assert!(matches!(LocalKey::load_or_create(&blocked), Err(KeyError::Io { .. })));
    }
}
