//! Tokens of an OpenID Connect issuer: discovery, verification with its keys, rotation and outages.

mod issuer;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use self::issuer::{Issuer, Key};
use crate::harness::{
    eventually,
    world::{Answer, Options, SUBSCRIPTION, World},
};

const ANN: &str = "22222222-2222-2222-2222-222222222222";

async fn world(issuer: &Issuer, token: String) -> World {
    let env = vec![
        ("FLEET_AUTH", issuer.url.clone()),
        ("FLEET_AUTH_AUDIENCE", "api://fleet,https://management.azure.com".to_owned()),
        ("FLEET_OWNERS", ANN.to_owned()),
    ];
    World::start_with(Options { env, token: Some(token), ..Options::default() }).await
}

async fn ask(world: &World, token: &str) -> Answer {
    let path = format!("/subscriptions/{SUBSCRIPTION}");
    world.call_with("GET", &path, None, &[("authorization", &format!("Bearer {token}"))]).await
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_users_and_applications_in_both_versions_are_accepted() {
    let (ec, rsa) = (Key::es256("ec"), Key::rs256("rsa"));
    let issuer = Issuer::start(&[&ec, &rsa]).await;
    let world = world(&issuer, ec.sign(&issuer.claims())).await;
    eventually("the keys are there", async || ask(&world, &world.token).await.status == 200).await;
    assert_eq!(ask(&world, &rsa.sign(&issuer.claims())).await.status, 200);
    let both = with(issuer.claims(), "aud", json!(["x", "https://management.azure.com"]));
    assert_eq!(ask(&world, &rsa.sign(&both)).await.status, 200, "an audience of several");

    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1");
    assert_eq!(world.put(&group, json!({"location": "eastus"})).await.status, 201);
    let fleet = world.put(&world.fleet("f"), json!({"location": "eastus"})).await;
    assert_eq!(fleet.body["systemData"]["createdBy"], "ann@contoso.com");
    assert_eq!(fleet.body["systemData"]["createdByType"], "User");
    world.settled(&world.fleet("f")).await;
    // An application of the owner's object ID, as v1.0 names it.
    let mut robot = with(with(issuer.claims(), "appid", json!("robot")), "idtyp", json!("app"));
    robot.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "azp" | "preferred_username"));
    let bearer = format!("Bearer {}", rsa.sign(&robot));
    let tags = Some(json!({"tags": {"by": "robot"}}));
    let patched = world.call_with("PATCH", &world.fleet("f"), tags, &[("authorization", &bearer)]).await;
    assert_eq!(patched.body["systemData"]["lastModifiedBy"], "robot");
    assert_eq!(patched.body["systemData"]["lastModifiedByType"], "Application");
    // An issuer that is not Entra names the principal in `sub`, and knows no tenants.
    let mut plain = with(issuer.claims(), "sub", json!(ANN));
    plain.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "oid" | "tid"));
    assert_eq!(ask(&world, &ec.sign(&plain)).await.status, 200);
    // A user in a group that is an owner.
    let mut grouped = with(issuer.claims(), "oid", json!("44444444-4444-4444-4444-444444444444"));
    assert_eq!(ask(&world, &ec.sign(&grouped)).await.status, 403);
    grouped["groups"] = json!([ANN]);
    assert_eq!(ask(&world, &ec.sign(&grouped)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_the_issuer_did_not_sign_are_refused() {
    let (ec, rsa, foreign) = (Key::es256("ec"), Key::rs256("rsa"), Key::es256("ec"));
    let issuer = Issuer::start(&[&ec, &rsa]).await;
    let world = world(&issuer, ec.sign(&issuer.claims())).await;
    eventually("the keys are there", async || ask(&world, &world.token).await.status == 200).await;
    let good = issuer.claims();
    let now = Timestamp::now().as_second();
    let signed = |name: &str, value: Value| ec.sign(&with(good.clone(), name, value));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none", "kid": "ec"})), part(&good));
    let hs256 = |kid: &str, secret: &[u8]| {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let token = ec.sign(&good);
    let mut halves = token.rsplitn(2, '.');
    let (signature, rest) = (halves.next().unwrap(), halves.next().unwrap());
    let altered = format!(
        "{}.{}.{signature}",
        rest.split('.').next().unwrap(),
        part(&with(good.clone(), "oid", json!(SUBSCRIPTION)))
    );
    let invalid = "InvalidAuthenticationToken";
    for (why, token, code) in [
        ("garbage", "garbage".to_owned(), invalid),
        ("three parts of garbage", "a.b.c".to_owned(), invalid),
        ("expired", signed("exp", json!(now - 120)), "ExpiredAuthenticationToken"),
        ("not yet valid", signed("nbf", json!(now + 3600)), invalid),
        ("another audience", signed("aud", json!("https://graph.microsoft.com")), "InvalidAuthenticationTokenAudience"),
        ("another issuer", signed("iss", json!("https://evil.example")), "InvalidAuthenticationTokenTenant"),
        ("another tenant", signed("tid", json!(SUBSCRIPTION)), "InvalidAuthenticationTokenTenant"),
        ("another key of the same ID", foreign.sign(&good), invalid),
        ("another kind of key than its ID", rsa.sign_as("ec", &good), invalid),
        ("no signature", unsigned, invalid),
        ("HS256 with the public key", hs256("ec", ec.jwk["x"].as_str().unwrap().as_bytes()), invalid),
        ("HS256 with the modulus", hs256("rsa", rsa.jwk["n"].as_str().unwrap().as_bytes()), invalid),
        ("altered claims", altered, invalid),
        ("no end", signed("exp", json!(null)), invalid),
        ("nobody's", signed("oid", json!("root")), invalid),
        ("huge", signed("name", json!("x".repeat(20_000))), invalid),
    ] {
        let answer = ask(&world, &token).await;
        assert_eq!((answer.status, answer.code()), (401, code), "{why}: {}", answer.body);
        let challenge = answer.header("www-authenticate").unwrap();
        let authority = issuer.url.trim_end_matches("/v2.0");
        assert!(challenge.contains(&format!("authorization_uri=\"{authority}\"")), "{why}: {challenge}");
    }
    // A cached token is refused once it has expired.
    let short = signed("exp", json!(now - 58));
    eventually("it ends", async || ask(&world, &short).await.status == 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_unknown_ones_do_not_flood_the_issuer() {
    let (old, new) = (Key::es256("old"), Key::es256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let world = world(&issuer, old.sign(&issuer.claims())).await;
    eventually("the keys are there", async || ask(&world, &world.token).await.status == 200).await;
    let before = issuer.questions();
    issuer.publish(&[&new]);
    assert_eq!(ask(&world, &new.sign(&issuer.claims())).await.status, 200, "asked for at once");
    assert_eq!(issuer.questions(), before + 1);
    assert_eq!(
        ask(&world, &world.token).await.status,
        401,
        "a key that is withdrawn counts no more, even if remembered"
    );

    let claims = issuer.claims();
    let asked = issuer.questions();
    let flood = (0..300).map(|n| {
        let token = old.sign_as(&format!("k{n}"), &claims);
        let world = &world;
        async move { ask(world, &token).await.status }
    });
    let answers = futures_util::future::join_all(flood).await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    assert!(issuer.questions() <= asked + 1, "{} questions", issuer.questions() - asked);
    assert_eq!(ask(&world, &new.sign(&claims)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_issuer_delays_the_start_and_later_has_no_effect() {
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]).await;
    issuer.set_down(true);
    let world = world(&issuer, key.sign(&issuer.claims())).await;
    let answer = ask(&world, &world.token).await;
    assert_eq!((answer.status, answer.code()), (503, "ServiceUnavailable"), "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(world.get("/healthz").await.status, 200);
    issuer.set_down(false);
    eventually("the issuer is asked again", async || ask(&world, &world.token).await.status == 200).await;
    issuer.set_down(true);
    let unknown = Key::es256("unknown").sign(&issuer.claims());
    assert_eq!(ask(&world, &unknown).await.status, 401);
    assert_eq!(
        ask(&world, &key.sign(&with(issuer.claims(), "name", json!("new")))).await.status,
        200,
        "the keys at hand serve"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]).await;
    issuer.call_itself("https://evil.example");
    let world = world(&issuer, key.sign(&with(issuer.claims(), "iss", json!("https://evil.example")))).await;
    assert_eq!(ask(&world, &world.token).await.status, 503);
    eventually("the log says why", async || world.log_tail().contains("the issuer 'https://evil.example'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_issuer_the_service_issues_no_tokens() {
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, key.sign(&issuer.claims())).await;
    eventually("the keys are there", async || ask(&world, &world.token).await.status == 200).await;
    for path in [
        "/adfs/.well-known/openid-configuration",
        "/msi/token?resource=x",
        "/common/v2.0/.well-known/openid-configuration",
    ] {
        assert_eq!(world.get(path).await.status, 404, "{path}");
    }
    for path in ["/adfs/oauth2/token", "/common/oauth2/v2.0/token"] {
        assert_eq!(world.post(path, None).await.status, 404, "{path}");
    }
    // Tokens of the local key are refused.
    let local = String::from_utf8(world.command().arg("token").output().unwrap().stdout).unwrap();
    assert_eq!(ask(&world, local.trim()).await.status, 401);
    let metadata = world.get("/metadata/endpoints?api-version=2022-09-01").await.body;
    let host = issuer.url.trim_end_matches("/t/v2.0");
    assert_eq!(metadata["authentication"]["loginEndpoint"], host, "{metadata}");
}
