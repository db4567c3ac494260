//! Tokens: which credentials get one, and which requests accept it.

use super::*;

const TOKEN: &str = "/11111111-1111-1111-1111-111111111111/oauth2/v2.0/token";
const CLIENT: &str = "33333333-3333-3333-3333-333333333333";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn bench() -> Bench {
    Bench::new(Config { require_issued_tokens: true, token_seconds: 60, ..Config::default() })
}

fn form(fields: &[(&str, &str)]) -> Call {
    let mut call = Bench::call(Method::POST, TOKEN, None);
    call.token = None;
    let with_secret = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("scope", "http://emulator/.default"),
        ("client_secret", "secret"),
    ];
    for (name, value) in with_secret.iter().chain(fields) {
        call.form.insert((*name).into(), (*value).into());
    }
    // An empty value stands for a field that is absent.
    call.form.retain(|_, value| !value.is_empty());
    call
}

fn managed(path: &str, query: &str) -> Call {
    let mut call = Bench::call(Method::GET, &format!("{path}?{query}"), None);
    call.metadata = true;
    call.identity_header = Some("identity-header".into());
    call
}

/// The response to a request with this token now.
fn read_with(bench: &mut Bench, token: Option<&str>) -> (u16, String) {
    let mut call = Bench::call(Method::GET, &format!("{RG1}/aks-1"), None);
    call.token = token.map(str::to_owned);
    let answered = bench.run(&call);
    (answered.status, answered.code().1.to_owned())
}

#[test]
fn a_client_secret_gives_a_token_that_expires() {
    let mut bench = bench();
    let answered = bench.run(&form(&[]));
    assert_eq!((answered.status, &answered.body["expires_in"]), (200, &json!(60)), "{}", answered.body);
    let token = answered.body["access_token"].as_str().unwrap().to_owned();
    assert_eq!(read_with(&mut bench, Some(&token)).0, 200);
    assert_eq!(read_with(&mut bench, Some("other")), (401, "InvalidAuthenticationToken".into()));
    assert_eq!(read_with(&mut bench, None), (401, "AuthenticationFailed".into()));
    assert_eq!(read_with(bench.at(59.9), Some(&token)).0, 200);
    assert_eq!(read_with(bench.at(60.1), Some(&token)), (401, "ExpiredAuthenticationToken".into()));
    let second = bench.run(&form(&[])).body["access_token"].as_str().unwrap().to_owned();
    assert_ne!(second, token);
    assert_eq!(bench.world.tokens.revoke(), 2);
    assert_eq!(read_with(&mut bench, Some(&second)), (401, "InvalidAuthenticationToken".into()));
    assert!(bench.log().as_array().unwrap().is_empty(), "tokens are no changes");
}

#[test]
fn invalid_credentials_are_refused_with_the_error_number_of_entra() {
    let mut bench = bench();
    let federated = ("client_assertion", "federated-token");
    for (fields, status, code) in [
        (&[("grant_type", "password")][..], 400, 70003),
        (&[("grant_type", "")], 400, 900_144),
        (&[("client_id", "44444444-4444-4444-4444-444444444444")], 400, 700_016),
        (&[("client_secret", "guess")], 401, 7_000_215),
        (&[("client_secret", "")], 401, 7_000_218),
        (&[federated, ("client_assertion_type", ASSERTION)], 401, 7_000_218),
        (&[("client_secret", ""), federated], 400, 900_144),
        (&[("client_secret", ""), federated, ("client_assertion_type", "saml")], 400, 9_002_313),
        (&[("client_secret", ""), ("client_assertion", "x"), ("client_assertion_type", ASSERTION)], 401, 700_213),
        (&[("scope", "http://emulator")], 400, 1_002_012),
        (&[("scope", "https://vault.azure.net/.default")], 400, 500_011),
    ] {
        let answered = bench.run(&form(fields));
        assert_eq!(
            (answered.status, &answered.body["error_codes"]),
            (status, &json!([code])),
            "{fields:?}: {}",
            answered.body
        );
        assert!(answered.body["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{code}: ")));
    }
    let mut elsewhere = form(&[]);
    elsewhere.segments[0] = "contoso".into();
    assert_eq!(bench.run(&elsewhere).body["error_codes"], json!([90002]));
    let counts = bench.world.tokens.counts(bench.now);
    let issued = json!({"clientSecret": 0, "clientAssertion": 0, "managedIdentity": 0, "refused": 12});
    assert_eq!(counts, json!({"issued": issued, "valid": 0}));
}

#[test]
fn federated_tokens_and_managed_identities_give_tokens() {
    let mut bench = bench();
    let assertion = [
        ("client_secret", ""),
        ("client_assertion", "federated-token"),
        ("client_assertion_type", ASSERTION),
        ("scope", "https://management.azure.com/.default"),
    ];
    let federated = bench.run(&form(&assertion)).body["access_token"].clone();
    assert_eq!(read_with(&mut bench, federated.as_str()).0, 200);

    let resource = "resource=https://management.azure.com/";
    let imds = format!("api-version=2018-02-01&{resource}");
    let answered = bench.run(&managed("/metadata/identity/oauth2/token", &imds));
    assert_eq!(answered.body["expires_on"], (bench.now.as_second() + 60).to_string());
    assert_eq!(read_with(&mut bench, answered.body["access_token"].as_str()).0, 200);
    let web = format!("api-version=2019-08-01&{resource}&client_id={CLIENT}");
    assert_eq!(bench.run(&managed("/msi/token", &web)).status, 200);

    let mut unmarked = managed("/metadata/identity/oauth2/token", &imds);
    unmarked.metadata = false;
    assert_eq!(bench.run(&unmarked).status, 400);
    let mut stranger = managed("/msi/token", &web);
    stranger.identity_header = None;
    assert_eq!(bench.run(&stranger).status, 401);
    for query in [format!("{imds}&client_id=4444"), "api-version=2018-02-01".into(), resource.into()] {
        assert_eq!(bench.run(&managed("/metadata/identity/oauth2/token", &query)).status, 400, "{query}");
    }
    let counts = bench.world.tokens.counts(bench.now)["issued"].clone();
    assert_eq!(counts, json!({"clientSecret": 0, "clientAssertion": 1, "managedIdentity": 2, "refused": 5}));
}

#[test]
fn faults_apply_to_token_endpoints() {
    let mut bench = bench();
    bench.world.faults.add(
        serde_json::from_value(json!({"match": {"path": "oauth2"}, "times": 1, "action": {"status": 503}})).unwrap(),
    );
    assert_eq!(bench.run(&form(&[])).status, 503);
    assert_eq!(bench.run(&form(&[])).status, 200);
}
