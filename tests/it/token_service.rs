//! The token service of a local world: every grant that Azure's clients use, and the errors.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::world::World;

const PRINCIPAL: &str = "33333333-3333-3333-3333-333333333333";
const TENANT: &str = "11111111-1111-1111-1111-111111111111";

async fn form(world: &World, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let encode = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let answer = reqwest::Client::new()
        .post(format!("{}{path}", world.url))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.join("&"))
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn claims(token: &Value) -> Value {
    let part = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Whether the API accepts a token.
async fn opens(world: &World, token: &Value) -> bool {
    let header = format!("Bearer {}", token.as_str().unwrap());
    let headers = [("authorization", &*header)];
    world.call_with("GET", "/subscriptions?api-version=2022-12-01", None, &headers).await.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grant_gives_a_token_for_the_api() {
    let world = World::start().await;
    let secret = [("grant_type", "client_credentials"), ("client_id", PRINCIPAL), ("client_secret", "secret")];
    for (path, scope) in [
        ("/adfs/oauth2/token", format!("{}//.default", world.url)),
        ("/adfs/oauth2/token?client-request-id=1", format!("{}/.default", world.url)),
        ("//adfs/oauth2/token", "https://management.azure.com/.default".to_owned()),
        ("/common/oauth2/v2.0/token", "https://management.azure.com//.default".to_owned()),
        (&*format!("/{TENANT}/oauth2/v2.0/token"), format!("{}/.default", world.url.replace("127.0.0.1", "localhost"))),
    ] {
        let fields: Vec<_> = secret.into_iter().chain([("scope", &*scope)]).collect();
        let via = world.url.replace("127.0.0.1", "localhost");
        let (status, body) = match scope.starts_with(&via) {
            // The audience is the host name that the client used.
            true => {
                let text =
                    format!("grant_type=client_credentials&client_id={PRINCIPAL}&client_secret=secret&scope={scope}");
                let request = reqwest::Client::new()
                    .post(format!("{via}{path}"))
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(text);
                let answer = request.send().await.unwrap();
                (answer.status().as_u16(), answer.json().await.unwrap())
            }
            false => form(&world, path, &fields).await,
        };
        assert_eq!((status, &body["token_type"], &body["expires_in"]), (200, &json!("Bearer"), &json!(3599)), "{body}");
        assert!(opens(&world, &body["access_token"]).await, "{path} {scope}");
        let claims = claims(&body["access_token"]);
        assert_eq!(
            (&claims["appid"], &claims["oid"], &claims["tid"]),
            (&json!(PRINCIPAL), &json!(PRINCIPAL), &json!(TENANT))
        );
    }

    let password =
        [("grant_type", "password"), ("username", "Ann@contoso.com"), ("password", "secret"), ("client_id", "cli")];
    let (status, ann) = form(&world, "/adfs/oauth2/token", &password).await;
    assert_eq!(status, 200, "{ann}");
    assert!(opens(&world, &ann["access_token"]).await);
    assert_eq!(claims(&ann["access_token"])["upn"], "ann@contoso.com");
    let info: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(ann["client_info"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((&info["uid"], &info["utid"]), (&claims(&ann["access_token"])["oid"], &json!(TENANT)));
    assert_eq!(claims(&ann["id_token"])["aud"], "cli");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", ann["refresh_token"].as_str().unwrap())];
    let (status, again) = form(&world, "/adfs/oauth2/token", &refresh).await;
    assert_eq!((status, &claims(&again["access_token"])["oid"]), (200, &info["uid"]));

    let (_, device) = form(&world, "/adfs/oauth2/devicecode", &[("client_id", "cli")]).await;
    let code = device["device_code"].as_str().unwrap();
    let grant = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code)];
    let (status, token) = form(&world, "/common/oauth2/v2.0/token", &grant).await;
    assert!(status == 200 && opens(&world, &token["access_token"]).await, "{token}");

    let resource = "resource=https://management.azure.com/";
    for (path, header) in [
        (format!("/msi/token?api-version=2019-08-01&{resource}"), ("x-identity-header", "x")),
        (format!("/metadata/identity/oauth2/token?api-version=2018-02-01&{resource}"), ("metadata", "true")),
    ] {
        let answer = world.call_with("GET", &path, None, &[header, ("authorization", "")]).await;
        assert!(answer.status == 200 && answer.body["expires_on"].is_string(), "{}", answer.body);
        assert!(opens(&world, &answer.body["access_token"]).await);
        assert_eq!(
            world.call_with("GET", &path, None, &[("authorization", "")]).await.status,
            400,
            "without {header:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_token_requests_get_the_errors_of_entra() {
    let world = World::start().await;
    let app = |id: &'static str, secret: &'static str| {
        vec![("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)]
    };
    let mut elsewhere = app(PRINCIPAL, "secret");
    elsewhere.push(("scope", "https://graph.microsoft.com/.default"));
    let refresh = world.token.clone();
    for (fields, status, error, number) in [
        (app(PRINCIPAL, "wrong"), 401, "invalid_client", 7_000_215),
        (app("44444444-4444-4444-4444-444444444444", "secret"), 400, "unauthorized_client", 700_016),
        (elsewhere, 400, "invalid_resource", 500_011),
        (vec![("grant_type", "password"), ("username", "ann"), ("password", "x")], 400, "invalid_grant", 50_126),
        (vec![("grant_type", "password"), ("username", ""), ("password", "secret")], 400, "invalid_grant", 50_126),
        (vec![("grant_type", "refresh_token"), ("refresh_token", &*refresh)], 400, "invalid_grant", 70_008),
        (vec![("grant_type", "device_code"), ("device_code", "x")], 400, "invalid_grant", 70_008),
        (vec![("grant_type", "magic")], 400, "unsupported_grant_type", 70_003),
    ] {
        let (given, body) = form(&world, "/adfs/oauth2/token", &fields).await;
        assert_eq!(
            (given, &body["error"], &body["error_codes"]),
            (status, &json!(error), &json!([number])),
            "{fields:?}"
        );
        assert!(body["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{number}: ")));
    }
    // The API accepts no refresh token.
    let password = [("grant_type", "password"), ("username", "ann"), ("password", "secret")];
    let (_, ann) = form(&world, "/adfs/oauth2/token", &password).await;
    assert!(!opens(&world, &ann["refresh_token"]).await);
    assert!(!opens(&world, &ann["id_token"]).await);
    let unknown = world.get(&format!("/{}/v2.0/.well-known/openid-configuration?", uuid::Uuid::new_v4())).await;
    assert_eq!(unknown.body["error"], "invalid_tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_names_the_keys() {
    let world = World::start().await;
    let public = |path: String| {
        let world = &world;
        async move { world.call_with("GET", &path, None, &[("authorization", "")]).await.body }
    };
    for authority in ["adfs", &format!("{TENANT}/v2.0"), "common/v2.0", "organizations/v2.0"] {
        let found = public(format!("/{authority}/.well-known/openid-configuration?")).await;
        assert!(found["token_endpoint"].as_str().unwrap().starts_with(&world.url), "{found}");
        let keys = public(found["jwks_uri"].as_str().unwrap().to_owned() + "?").await;
        let key = &keys["keys"][0];
        assert_eq!((&key["kty"], &key["alg"], &key["crv"]), (&json!("EC"), &json!("ES256"), &json!("P-256")));
        assert!(key["x"].as_str().unwrap().len() == 43 && key["y"].as_str().unwrap().len() == 43 && key["d"].is_null());
    }
    let instance = public("/common/discovery/instance?api-version=1.1".to_owned()).await;
    assert!(instance["tenant_discovery_endpoint"].as_str().unwrap().starts_with(&world.url));
}
