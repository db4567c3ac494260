//! Authorisation: roles assigned at scopes, inherited, checked for every operation, and applied by all replicas.

use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{Answer, Options, SUBSCRIPTION, World},
};

const ANN: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const BOB: &str = "bbbbbbbb-0000-4000-8000-000000000002";
const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const FLEET_CONTRIBUTOR: &str = "63bb64ad-9799-4770-b5c3-24ed299a07bf";
const AKS_CONTRIBUTOR: &str = "ed7f3fbd-7b88-4dd4-9017-9adb7ce333f8";

fn subscription() -> String {
    format!("/subscriptions/{SUBSCRIPTION}")
}

fn group(name: &str) -> String {
    format!("{}/resourceGroups/{name}", subscription())
}

/// A principal with a token.
struct Person<'a> {
    world: &'a World,
    bearer: String,
}

impl<'a> Person<'a> {
    fn new(world: &'a World, object_id: &str) -> Self {
        let token = world.command().args(["token", "--object-id", object_id, "--name", "ann@contoso.com"]).output();
        let token = String::from_utf8(token.unwrap().stdout).unwrap();
        Self { world, bearer: format!("Bearer {}", token.trim()) }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.world.call_with(method, path, body, &[("authorization", &self.bearer)]).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, Some(body)).await
    }

    /// Names in a list.
    async fn names(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await;
        assert_eq!(list.status, 200, "{}", list.body);
        list.body["value"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }
}

fn assignment(principal: &str, role: &str) -> Value {
    json!({"properties": {
        "roleDefinitionId": format!("{}/providers/Microsoft.Authorization/roleDefinitions/{role}", subscription()),
        "principalId": principal,
        "principalType": "User",
        "condition": null,
    }})
}

fn assignments(scope: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/roleAssignments")
}

/// Assigns a role as the owner, and returns the assignment's path.
async fn assign(world: &World, scope: &str, principal: &str, role: &str) -> String {
    let path = format!("{}/{}", assignments(scope), uuid::Uuid::new_v4());
    let made = world.put(&path, assignment(principal, role)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.body["id"], path);
    path
}

fn denied(answer: &Answer, action: &str, scope: &str) {
    assert_eq!((answer.status, answer.code()), (403, "AuthorizationFailed"), "{}", answer.body);
    let message = answer.body["error"]["message"].as_str().unwrap();
    for part in [ANN, &format!("'{action}'"), &format!("'{scope}'"), "'ann@contoso.com'"] {
        assert!(message.contains(part), "{message}: {part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_role_every_request_is_denied() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g")]).await;
    let ann = Person::new(&world, ANN);
    denied(&ann.get(&fleet).await, "Microsoft.ContainerService/fleets/read", &fleet);
    let missing = world.fleet("none");
    denied(&ann.get(&missing).await, "Microsoft.ContainerService/fleets/read", &missing);
    let run = format!("{fleet}/updateRuns/r");
    for (method, path, body) in [
        ("PUT", fleet.clone(), Some(json!({"location": "eastus"}))),
        ("PATCH", fleet.clone(), Some(json!({"tags": {}}))),
        ("DELETE", fleet.clone(), None),
        ("POST", format!("{fleet}/listCredentials"), None),
        ("GET", format!("{fleet}/members"), None),
        ("GET", format!("{fleet}/members/m1"), None),
        ("PUT", format!("{fleet}/members/m2"), Some(json!({"properties": {"clusterResourceId": World::cluster(2)}}))),
        ("PATCH", format!("{fleet}/members/m1"), Some(json!({"properties": {"group": "x"}}))),
        ("DELETE", format!("{fleet}/members/m1"), None),
        ("GET", format!("{fleet}/updateStrategies"), None),
        ("PUT", format!("{fleet}/updateStrategies/s"), Some(json!({}))),
        ("DELETE", format!("{fleet}/updateStrategies/s"), None),
        ("GET", format!("{fleet}/updateRuns"), None),
        ("PUT", run.clone(), Some(json!({}))),
        ("POST", format!("{run}/start"), None),
        ("POST", format!("{run}/stop"), None),
        ("POST", format!("{run}/skip"), Some(json!({}))),
        ("DELETE", run.clone(), None),
        ("GET", format!("{fleet}/gates"), None),
        ("PATCH", format!("{fleet}/gates/g"), Some(json!({}))),
        ("GET", group("rg1"), None),
        ("HEAD", group("rg1"), None),
        ("PUT", group("rg9"), Some(json!({"location": "eastus"}))),
        ("PATCH", group("rg1"), Some(json!({}))),
        ("DELETE", group("rg1"), None),
        ("GET", subscription(), None),
        ("GET", format!("{}/locations", subscription()), None),
        ("GET", format!("{}/resourceGroups", subscription()), None),
        ("GET", format!("{}/resources", subscription()), None),
        ("GET", format!("{}/providers/Microsoft.ContainerService", subscription()), None),
        ("POST", format!("{}/providers/Microsoft.ContainerService/register", subscription()), None),
        ("GET", format!("{}/providers/Microsoft.ContainerService/fleets", subscription()), None),
        ("GET", format!("{}/providers/Microsoft.ContainerService/fleets", group("rg1")), None),
        ("GET", assignments(&subscription()), None),
        ("GET", format!("{}/providers/Microsoft.Authorization/roleDefinitions", subscription()), None),
        ("GET", format!("{}/providers/Microsoft.Authorization/permissions", subscription()), None),
        ("PUT", format!("{}/{ANN}", assignments(&fleet)), Some(assignment(ANN, OWNER))),
        ("PUT", format!("{}/{ANN}", assignments("")), Some(assignment(ANN, OWNER))),
        ("DELETE", format!("{}/{ANN}", assignments(&fleet)), None),
    ] {
        let answer = ann.call(method, &path, body).await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
    }
    let nothing = ann.get("/subscriptions").await;
    assert_eq!(nothing.body["value"], json!([]), "{}", nothing.body);
    // Every member of the tenant may read these.
    assert_eq!(ann.get("/tenants").await.status, 200);
    let begun = world.patch(&fleet, json!({"tags": {"by": "owner"}})).await;
    assert_eq!(begun.status, 200, "nothing of it has happened: {}", begun.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_inherited_and_revoked() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let ann = Person::new(&world, ANN);
    let strategy = format!("{fleet}/updateStrategies/s");
    let stages = json!({"properties": {"strategy": {"stages": [{"name": "one", "groups": [{"name": "g"}]}]}}});

    let read = assign(&world, &group("rg1"), ANN, READER).await;
    assert_eq!(ann.get(&fleet).await.status, 200);
    assert_eq!(ann.get(&format!("{fleet}/members")).await.status, 200);
    denied(
        &ann.put(&strategy, stages.clone()).await,
        "Microsoft.ContainerService/fleets/updateStrategies/write",
        &strategy,
    );
    let profile = format!("{fleet}/autoUpgradeProfiles/p");
    let rapid = json!({"properties": {"channel": "Rapid"}});
    for (method, path, action) in [
        ("PUT", profile.clone(), "write"),
        ("DELETE", profile.clone(), "delete"),
        ("POST", format!("{profile}/generateUpdateRun"), "generateUpdateRun/action"),
    ] {
        let answer = ann.call(method, &path, Some(rapid.clone())).await;
        denied(&answer, &format!("Microsoft.ContainerService/fleets/autoUpgradeProfiles/{action}"), &profile);
    }
    assert_eq!(ann.get(&format!("{fleet}/autoUpgradeProfiles")).await.status, 200);
    let subscriptions = ann.get("/subscriptions").await.body;
    assert_eq!(subscriptions["value"].as_array().unwrap().len(), 1, "the one with her group in it");
    assert_eq!(ann.get(&subscription()).await.status, 200);

    let write = assign(&world, &fleet, ANN, FLEET_CONTRIBUTOR).await;
    assert_eq!(ann.put(&strategy, stages.clone()).await.status, 201);
    let other = world.fleet("g");
    denied(&ann.put(&other, json!({"location": "eastus"})).await, "Microsoft.ContainerService/fleets/write", &other);
    denied(
        &ann.put(&format!("{}/{ANN}", assignments(&fleet)), assignment(ANN, OWNER)).await,
        "Microsoft.Authorization/roleAssignments/write",
        &fleet,
    );

    assert_eq!(world.delete(&write).await.status, 200);
    assert_eq!(world.delete(&write).await.status, 204);
    assert_eq!(ann.put(&strategy, stages).await.status, 403);
    assert_eq!(ann.get(&fleet).await.status, 200);
    assert_eq!(world.delete(&read).await.status, 200);
    assert_eq!(ann.get(&fleet).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_can_be_polled_by_its_caller_and_ends_the_access() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    assign(&world, &fleet, ANN, FLEET_CONTRIBUTOR).await;
    let (ann, bob) = (Person::new(&world, ANN), Person::new(&world, BOB));
    let begun = ann.call("DELETE", &fleet, None).await;
    assert_eq!(begun.status, 202, "{}", begun.body);
    let operation = begun.header("azure-asyncoperation").unwrap().to_owned();
    assert_eq!(bob.get(&operation).await.status, 403);
    eventually("the fleet is deleted", async || ann.get(&operation).await.body["status"] == "Succeeded").await;
    // A fleet of the same name in another group is another fleet.
    world.fleet_of("f", &[]).await;
    assert_eq!(ann.get(&fleet).await.status, 403);
    let left =
        world.get(&format!("{}?api-version=2022-04-01&$filter=principalId eq '{ANN}'", assignments(&fleet))).await;
    assert_eq!(left.body["value"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_contain_only_readable_resources() {
    let world = World::start().await;
    assert_eq!(world.put(&group("rg2"), json!({"location": "eastus"})).await.status, 201);
    let in_second = |name: &str| format!("{}/providers/Microsoft.ContainerService/fleets/{name}", group("rg2"));
    let paths = [world.fleet("f1"), world.fleet("f11"), world.fleet("f2"), in_second("f3")];
    for path in &paths {
        assert_eq!(world.put(path, json!({"location": "eastus"})).await.status, 201);
        world.settled(path).await;
    }
    assign(&world, &paths[0], ANN, READER).await;
    assign(&world, &group("RG2"), ANN, READER).await;
    let ann = Person::new(&world, ANN);
    let fleets = format!("{}/providers/Microsoft.ContainerService/fleets", subscription());
    assert_eq!(ann.names(&fleets).await, ["f1", "f3"]);
    assert_eq!(ann.names(&format!("{}/resources", subscription())).await, ["f1", "f3"]);
    assert_eq!(ann.names(&format!("{}/resourceGroups", subscription())).await, ["rg2"]);
    assert_eq!(ann.names(&format!("{}/providers/Microsoft.ContainerService/fleets", group("rg1"))).await, ["f1"]);
    // Pages contain only readable resources, and the list ends.
    let page = ann.get(&format!("{fleets}?api-version=2026-06-01&$top=1")).await.body;
    assert_eq!(page["value"][0]["name"], "f1");
    let next = ann.get(page["nextLink"].as_str().unwrap()).await.body;
    assert_eq!((&next["value"][0]["name"], next.get("nextLink")), (&json!("f3"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_needs_permission_on_the_cluster() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    assign(&world, &fleet, ANN, FLEET_CONTRIBUTOR).await;
    let ann = Person::new(&world, ANN);
    let member = format!("{fleet}/members/m");
    let body = json!({"properties": {"clusterResourceId": World::cluster(1)}});
    let refused = ann.put(&member, body.clone()).await;
    assert_eq!((refused.status, refused.code()), (403, "LinkedAuthorizationFailed"), "{}", refused.body);
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("managedClusters/write") && message.contains(&World::cluster(1)), "{message}");
    assert_eq!(world.get(&member).await.status, 404);
    // A run cannot copy a strategy that the caller may not read.
    let strategy = format!("{fleet}/updateStrategies/s");
    let stages = json!({"properties": {"strategy": {"stages": [{"name": "one", "groups": [{"name": "g"}]}]}}});
    assert_eq!(world.put(&strategy, stages).await.status, 201);
    let run = format!("{fleet}/updateRuns/r");
    let update = json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Latest"}});
    assert_eq!(world.put(&run, json!({"properties": {"managedClusterUpdate": update}})).await.status, 201);
    assign(&world, &run, BOB, CONTRIBUTOR).await;
    let body_of_run = json!({"properties": {"updateStrategyId": strategy, "managedClusterUpdate": update}});
    let refused = Person::new(&world, BOB).put(&run, body_of_run).await;
    assert_eq!((refused.status, refused.code()), (403, "LinkedAuthorizationFailed"), "{}", refused.body);
    assign(&world, &World::cluster(1), ANN, AKS_CONTRIBUTOR).await;
    assert_eq!(ann.put(&member, body).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_pass_through_the_upstream_decides_who_may_join_clusters() {
    let types = "Microsoft.ContainerService/managedClusters".to_owned();
    let world = World::start_with(Options { env: vec![("FLEET_PASS_THROUGH", types)], ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[]).await;
    assign(&world, &fleet, ANN, FLEET_CONTRIBUTOR).await;
    assign(&world, &group("rg1"), ANN, AKS_CONTRIBUTOR).await;
    // The role assignment alone is not enough: the upstream decides.
    assign(&world, &World::cluster(1), BOB, AKS_CONTRIBUTOR).await;
    assign(&world, &fleet, BOB, FLEET_CONTRIBUTOR).await;
    world.call("PATCH", &format!("{}/emulator/settings", world.emulator_url), Some(json!({"readers": [BOB]}))).await;
    let (ann, bob) = (Person::new(&world, ANN), Person::new(&world, BOB));
    let body = |n| json!({"properties": {"clusterResourceId": World::cluster(n)}});
    let refused = bob.put(&format!("{fleet}/members/m1"), body(1)).await;
    assert_eq!((refused.status, refused.code()), (403, "LinkedAuthorizationFailed"), "{}", refused.body);
    assert_eq!(ann.put(&format!("{fleet}/members/m2"), body(2)).await.status, 201);
    let fault = json!({"match": {"path": "Microsoft.Authorization"}, "times": 1, "action": {"status": 503}});
    world.post(&format!("{}/emulator/faults", world.emulator_url), Some(fault)).await;
    let unknown = ann.put(&format!("{fleet}/members/m3"), body(3)).await;
    assert_eq!((unknown.status, unknown.code()), (502, "BadGateway"), "no answer is no right: {}", unknown.body);
    assert_eq!(world.get(&format!("{fleet}/members/m3")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_are_resources() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let definitions = format!("{}/providers/Microsoft.Authorization/roleDefinitions", subscription());
    let found = world.get(&format!("{definitions}?api-version=2022-04-01&$filter=roleName eq 'reader'")).await.body;
    let reader = &found["value"][0];
    assert_eq!((found["value"].as_array().unwrap().len(), &reader["name"]), (1, &json!(READER)));
    assert_eq!(reader["properties"]["permissions"][0]["actions"], json!(["*/read"]));
    assert_eq!(world.get(reader["id"].as_str().unwrap()).await.body, *reader);

    let path = assign(&world, &fleet, ANN, READER).await;
    let shown = world.get(&path).await.body;
    assert_eq!(shown["properties"]["scope"], fleet);
    assert_eq!(shown["properties"]["roleDefinitionId"], reader["id"]);
    assert_eq!(shown["type"], "Microsoft.Authorization/roleAssignments");
    let mut described = assignment(ANN, READER);
    described["properties"]["description"] = json!("on call");
    let again = world.put(&path, described).await;
    assert_eq!((again.status, &again.body["properties"]["description"]), (200, &json!("on call")));
    assert_eq!(again.body["properties"]["createdOn"], shown["properties"]["createdOn"]);

    let ids = |list: &Answer| -> Vec<String> {
        let rows = list.body["value"].as_array().unwrap_or_else(|| panic!("{}", list.body));
        rows.iter()
            .filter(|row| row["properties"]["scope"] != "/")
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let list = async |scope: &str, filter: &str| {
        ids(&world.get(&format!("{}?api-version=2022-04-01&$filter={filter}", assignments(scope))).await)
    };
    assert_eq!(list(&subscription(), "").await, std::slice::from_ref(&path), "in it");
    assert_eq!(list(&subscription(), "atScope()").await, [""; 0]);
    assert_eq!(list(&format!("{fleet}/members/m"), "atScope()").await, std::slice::from_ref(&path), "above it");
    assert_eq!(list(&fleet, &format!("atScope() and assignedTo('{ANN}')")).await, std::slice::from_ref(&path));
    assert_eq!(list(&fleet, &format!("principalId eq '{BOB}'")).await, [""; 0]);
    let all = world.get(&assignments(&subscription())).await.body;
    let owners = all["value"].as_array().unwrap().iter().filter(|row| row["properties"]["scope"] == "/");
    let owners: Vec<&Value> = owners.collect();
    assert_eq!(owners.len(), 2, "those of the configuration are shown: {all}");
    let configured = owners[0]["id"].as_str().unwrap();
    assert_eq!(world.get(configured).await.body["name"], owners[0]["name"]);
    assert_eq!(world.delete(configured).await.status, 409);

    for (path, body, status, code) in [
        (format!("{}/{BOB}", assignments(&fleet)), assignment(ANN, READER), 409, "RoleAssignmentExists"),
        (path.clone(), assignment(BOB, READER), 400, "RoleAssignmentUpdateNotPermitted"),
        (format!("{}/x", assignments(&fleet)), assignment(ANN, READER), 400, "InvalidRoleAssignmentId"),
        (format!("{}/{BOB}", assignments(&fleet)), assignment(ANN, BOB), 400, "RoleDefinitionDoesNotExist"),
        (
            format!("{}/{BOB}", assignments(&fleet)),
            json!({"properties": {"principalId": ANN}}),
            400,
            "InvalidRequestContent",
        ),
        (format!("{}/{BOB}", assignments(&world.fleet("no"))), assignment(ANN, READER), 404, "ResourceNotFound"),
        (format!("{}/{BOB}", assignments(&group("no"))), assignment(ANN, READER), 404, "ResourceGroupNotFound"),
        (
            format!("{}/{BOB}", assignments(&subscription().replace("0001", "0009"))),
            assignment(ANN, READER),
            404,
            "SubscriptionNotFound",
        ),
    ] {
        let refused = world.put(&path, body).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{path}: {}", refused.body);
    }
    let filter = world.get(&format!("{}?api-version=2022-04-01&$filter=name eq 'x'", assignments(&fleet))).await;
    assert_eq!((filter.status, filter.code()), (400, "InvalidFilterInQueryString"));
    let custom = world.put(&format!("{definitions}/{ANN}"), json!({})).await;
    assert_eq!((custom.status, custom.code()), (405, "CustomRolesNotAvailable"));
    let permissions = world.get(&format!("{fleet}/providers/Microsoft.Authorization/permissions")).await.body;
    assert_eq!(permissions["value"][0]["actions"], json!(["*"]));
    let twice = format!(
        "{}//providers/microsoft.authorization/RoleAssignments/{}",
        fleet.to_uppercase(),
        shown["name"].as_str().unwrap()
    );
    assert_eq!(world.get(&twice).await.body["id"], path, "any case, any slashes");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_equal_assignments_create_one() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let answers = futures_util::future::join_all((0..8).map(|_| async {
        let path = format!("{}/{}", assignments(&fleet), uuid::Uuid::new_v4());
        world.put(&path, assignment(ANN, READER)).await.status
    }))
    .await;
    assert_eq!(answers.iter().filter(|status| **status == 201).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 201 | 409)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_replicas_apply_changed_assignments() {
    let mut world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let other = world.add_replica();
    let path = fleet.clone();
    let ann = Person::new(&world, ANN);
    let elsewhere = format!("http://{other}{path}");
    // The replica denies the request, and caches the denial.
    eventually("the other replica is ready", async || {
        let asked = world.try_call("GET", &elsewhere, None, &[("authorization", &ann.bearer)]).await;
        asked.is_ok_and(|answer| answer.status == 403)
    })
    .await;
    let granted = assign(&world, &fleet, ANN, READER).await;
    eventually("it hears of the role", async || ann.get(&elsewhere).await.status == 200).await;
    assert_eq!(world.delete(&granted).await.status, 200);
    eventually("it hears that it is gone", async || ann.get(&elsewhere).await.status == 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_those_of_the_configuration() {
    let owners = vec![("FLEET_OWNERS", format!("{ANN},22222222-2222-2222-2222-222222222222"))];
    let world = World::start_with(Options { env: owners, ..Options::default() }).await;
    assert_eq!(Person::new(&world, ANN).get(&group("rg1")).await.status, 200);
    // The local service principal is no longer an owner.
    let principal = Person::new(&world, "33333333-3333-3333-3333-333333333333");
    assert_eq!(principal.get(&group("rg1")).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_audited() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let ann = Person::new(&world, ANN);
    assign(&world, &group("rg1"), ANN, CONTRIBUTOR).await;
    assert_eq!(ann.get(&fleet).await.status, 200);
    assert_eq!(ann.call("PATCH", &fleet, Some(json!({"tags": {"a": "b"}}))).await.status, 200);
    assert_eq!(ann.call("PATCH", &fleet, Some(json!({"tags": 1}))).await.status, 400);
    assert_eq!(ann.put(&format!("{}/{BOB}", assignments(&fleet)), assignment(BOB, OWNER)).await.status, 403);
    assert_eq!(Person::new(&world, BOB).get(&fleet).await.status, 403);
    let rows: Vec<(String, String, String, bool, Option<i32>)> = sqlx::query_as(
        "SELECT object_id::text, action, resource, allowed, status FROM audit_events
         WHERE object_id = ANY($1::uuid[]) ORDER BY at",
    )
    .bind(vec![ANN.parse::<uuid::Uuid>().unwrap(), BOB.parse().unwrap()])
    .fetch_all(world.pool())
    .await
    .unwrap();
    let write = "Microsoft.ContainerService/fleets/write";
    let wanted = [
        (ANN, write, true, 200),
        (ANN, write, true, 400),
        (ANN, "Microsoft.Authorization/roleAssignments/write", false, 403),
        (BOB, "Microsoft.ContainerService/fleets/read", false, 403),
    ];
    let found: Vec<_> = rows
        .iter()
        .map(|(who, action, _, allowed, status)| (who.as_str(), action.as_str(), *allowed, status.unwrap_or(0)))
        .collect();
    assert_eq!(found, wanted);
    assert!(rows.iter().all(|row| row.2 == fleet), "{rows:?}");
    let log = world.log_tail();
    assert!(log.contains("audit") && log.contains(ANN), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_reads_are_counted_by_the_hour() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let bob = Person::new(&world, BOB);
    let paths = [fleet.clone(), fleet.replace("fleets/f", "fleets/F")];
    let reads = futures_util::future::join_all((0..20).map(|n| bob.get(&paths[n % 2]))).await;
    assert!(reads.iter().all(|answer| answer.status == 403), "{reads:?}");
    assert_eq!(bob.get(&format!("{fleet}/members")).await.status, 403);
    assert_eq!(bob.call("DELETE", &fleet, None).await.status, 403);
    assert_eq!(bob.call("DELETE", &fleet, None).await.status, 403);
    // An hour may end during the test.
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT action, count(*), count(DISTINCT date_trunc('hour', at)), sum(requests)::bigint FROM audit_events
         WHERE object_id = $1 AND status = 403 GROUP BY action ORDER BY action",
    )
    .bind(BOB.parse::<uuid::Uuid>().unwrap())
    .fetch_all(world.pool())
    .await
    .unwrap();
    let [delete, members, read] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(delete.0.ends_with("/fleets/delete") && (delete.1, delete.3) == (2, 2), "{rows:?}");
    assert!(read.0.ends_with("/fleets/read") && read.1 == read.2 && read.3 == 20, "{rows:?}");
    assert!(members.0.ends_with("/members/read") && (members.1, members.3) == (1, 1), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_local_world_what_is_passed_on_needs_a_role_here() {
    let types = "Microsoft.ContainerService/managedClusters".to_owned();
    let world = World::start_with(Options { env: vec![("FLEET_PASS_THROUGH", types)], ..Options::default() }).await;
    let ann = Person::new(&world, ANN);
    let cluster = format!("{}?api-version=2026-06-01", World::cluster(1));
    denied(&ann.get(&cluster).await, "Microsoft.ContainerService/managedClusters/read", &World::cluster(1));
    assert_eq!(ann.call("DELETE", &cluster, None).await.status, 403);
    assign(&world, &group("rg1"), ANN, READER).await;
    assert_eq!(ann.get(&cluster).await.status, 200);
    assert_eq!(ann.call("DELETE", &cluster, None).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn readable_fleets_are_in_the_list_of_all_resources() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    assign(&world, &fleet, ANN, FLEET_CONTRIBUTOR).await;
    assert_eq!(Person::new(&world, ANN).names(&format!("{}/resources", subscription())).await, ["f"]);
}
