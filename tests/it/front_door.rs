//! Requests that clients make besides those for fleets: tenants, subscriptions, providers, resource groups, lists of all resources.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{
    eventually,
    world::{Answer, SUBSCRIPTION, World, upgrade_to},
};

fn sub(rest: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}{rest}")
}

fn names(answer: &Answer) -> Vec<String> {
    let value = answer.body["value"].as_array().unwrap_or_else(|| panic!("{}", answer.body));
    value.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn group(world: &World, name: &str) -> String {
    let path = sub(&format!("/resourceGroups/{name}"));
    assert_eq!(world.put(&path, json!({"location": "West US"})).await.status, 201);
    path
}

/// Polls a deletion and returns its final result.
async fn result(world: &World, begun: &Answer) -> Answer {
    let location = begun.header("location").unwrap().to_owned();
    assert_eq!(begun.header("retry-after"), Some("1"));
    assert!(location.starts_with(&world.url), "{location}");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = world.get(&location).await;
        if answer.status != 202 {
            return answer;
        }
        assert!(Instant::now() < deadline, "still going on\n{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_discover_the_provider() {
    let world = World::start().await;
    let subscriptions = world.get("/subscriptions?api-version=2022-12-01").await;
    let first = &subscriptions.body["value"][0];
    assert_eq!(first["subscriptionId"], SUBSCRIPTION);
    assert_eq!((&first["state"], &first["managedByTenants"]), (&json!("Enabled"), &json!([])));
    let one = world.get(&sub("?api%2Dversion=2022-12-01")).await;
    assert_eq!((one.status, &one.body), (200, first), "names of parameters may be encoded");
    let tenants = world.get("/TENANTS?api-version=2022-12-01").await;
    assert_eq!(tenants.body["value"][0]["tenantId"], first["tenantId"]);
    let locations = world.get(&sub("/locations?api-version=2022-12-01")).await;
    assert!(names(&locations).contains(&"swedencentral".to_owned()));
    for (method, path, tenant_level) in [
        ("GET", sub("/providers/microsoft.containerservice?api-version=2024-11-01"), false),
        ("POST", sub("/providers/Microsoft.ContainerService/REGISTER?api-version=2024-11-01"), false),
        ("GET", "/providers/Microsoft.ContainerService?api-version=2024-11-01".to_owned(), true),
    ] {
        let provider = world.call(method, &path, None).await;
        assert_eq!((provider.status, &provider.body["registrationState"]), (200, &json!("Registered")), "{path}");
        assert_eq!(provider.body["id"].as_str().unwrap().starts_with("/subscriptions/"), !tenant_level);
        let types = provider.body["resourceTypes"].as_array().unwrap();
        let of = |name: &str| types.iter().find(|t| t["resourceType"] == name).unwrap_or_else(|| panic!("{types:?}"));
        assert_eq!(of("fleets")["apiVersions"][0], "2026-06-02-preview");
        assert_eq!(of("fleets/updateRuns")["defaultApiVersion"], "2026-06-01");
    }
    let listed = world.get(&sub("/providers?api-version=2024-11-01")).await;
    assert_eq!(listed.body["value"][0]["namespace"], "Microsoft.ContainerService");
    assert_eq!(world.get("/providers?api-version=2024-11-01").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_group_is_created_updated_and_deleted() {
    let world = World::start().await;
    let path = sub("/resourcegroups/Group-1");
    let with = |version: &str| format!("{path}?api-version={version}");
    assert_eq!(world.call("HEAD", &with("2024-11-01"), None).await.status, 404);
    let missing = world.get(&with("2024-11-01")).await;
    assert_eq!((missing.status, missing.code()), (404, "ResourceGroupNotFound"));
    let made = world.put(&with("2024-11-01"), json!({"location": "West US", "tags": {"env": "test"}})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.body["id"], sub("/resourceGroups/Group-1"));
    assert_eq!(
        (&made.body["location"], &made.body["type"]),
        (&json!("westus"), &json!("Microsoft.Resources/resourceGroups"))
    );
    assert_eq!(made.body["properties"], json!({"provisioningState": "Succeeded"}));
    assert_eq!(world.call("HEAD", &with("2020-06-01"), None).await.status, 204);
    let again = world.put(&with("2024-11-01"), json!({"location": "westus", "tags": {"env": "prod"}})).await;
    assert_eq!((again.status, &again.body["tags"]), (200, &json!({"env": "prod"})));
    let moved = world.put(&with("2024-11-01"), json!({"location": "eastus"})).await;
    assert_eq!((moved.status, moved.code()), (409, "InvalidResourceGroupLocation"));
    let patched =
        world.patch(&path.to_uppercase().replace("SUBSCRIPTIONS", "subscriptions"), json!({"tags": {"a": "b"}})).await;
    assert_eq!((patched.status, &patched.body["tags"]), (200, &json!({"a": "b"})));
    assert_eq!(patched.body["id"], sub("/resourceGroups/Group-1"), "names keep the case of their creation");
    let by_tag = world
        .get(&sub("/resourcegroups?api-version=2024-11-01&%24filter=tagName%20eq%20'a'%20and%20tagValue%20eq%20'b'"))
        .await;
    assert_eq!(names(&by_tag), ["Group-1"]);
    let first = world.get(&sub("/resourcegroups?api-version=2024-11-01&%24top=1")).await;
    assert_eq!(names(&first), ["Group-1"]);
    let second = world.get(first.body["nextLink"].as_str().unwrap()).await;
    assert_eq!((names(&second), &second.body["nextLink"]), (vec!["rg1".to_owned()], &Value::Null));
    let begun = world.delete(&path).await;
    assert_eq!((begun.status, begun.body.clone()), (202, Value::Null));
    assert_eq!(result(&world, &begun).await.status, 200);
    assert_eq!(world.get(&path).await.status, 404);
    let absent = world.delete(&path).await;
    assert_eq!((absent.status, absent.code()), (404, "ResourceGroupNotFound"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_names_the_outermost_missing_resource() {
    let world = World::start().await;
    let fleets = "/providers/Microsoft.ContainerService/fleets";
    let nowhere = sub(&format!("/resourceGroups/nowhere{fleets}"));
    let elsewhere = "/subscriptions/99999999-0000-0000-0000-000000000000/resourceGroups/rg1";
    let fleet = json!({"location": "eastus"});
    let member = json!({"properties": {"clusterResourceId": World::cluster(1)}});
    for (method, path, body, code) in [
        ("PUT", format!("{nowhere}/f"), Some(&fleet), "ResourceGroupNotFound"),
        ("GET", format!("{nowhere}/f"), None, "ResourceGroupNotFound"),
        ("GET", nowhere.clone(), None, "ResourceGroupNotFound"),
        ("PUT", format!("{nowhere}/f/members/m"), Some(&member), "ResourceGroupNotFound"),
        ("GET", format!("{nowhere}/f/members"), None, "ResourceGroupNotFound"),
        ("GET", sub("/resourceGroups/nowhere/resources"), None, "ResourceGroupNotFound"),
        ("GET", sub(&format!("/resourceGroups/rg1{fleets}/f")), None, "ResourceNotFound"),
        ("PUT", sub(&format!("/resourceGroups/rg1{fleets}/f/members/m")), Some(&member), "ParentResourceNotFound"),
        ("GET", elsewhere.to_owned(), None, "SubscriptionNotFound"),
        ("PUT", format!("{elsewhere}{fleets}/f"), Some(&fleet), "SubscriptionNotFound"),
    ] {
        let answer = world.call(method, &path, body.cloned()).await;
        assert_eq!((answer.status, answer.code()), (404, code), "{method} {path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_resource_groups_are_refused() {
    let world = World::start().await;
    let place = json!({"location": "eastus"});
    for name in ["a".repeat(91), "x".repeat(10_000), "ends.".to_owned(), "a%2Fb".to_owned(), "a%20b".to_owned()] {
        let answer = world.put(&sub(&format!("/resourceGroups/{name}")), place.clone()).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
    let path = sub("/resourceGroups/g");
    for (body, code) in [
        (json!({}), "LocationRequired"),
        (json!({"location": ""}), "LocationRequired"),
        (json!({"location": "the moon"}), "LocationNotAvailableForResourceGroup"),
        (json!({"location": 1}), "InvalidRequestContent"),
        (json!({"location": "eastus", "tags": {"a": 1}}), "InvalidRequestContent"),
        (json!({"location": "eastus", "name": "other"}), "InvalidRequestContent"),
    ] {
        let answer = world.put(&path, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (400, code), "{body}: {}", answer.body);
    }
    let answer = world.put(&format!("{path}?api-version=soon"), place.clone()).await;
    assert_eq!(answer.code(), "InvalidApiVersionParameter");
    let answer = world.put(&format!("{path}?x=y"), place).await;
    assert_eq!(answer.code(), "MissingApiVersionParameter");
    for filter in ["x eq 'y'", "tagName ne 'a'", "tagName eq 'a"] {
        let answer = world.get(&sub(&format!("/resources?api-version=2024-11-01&$filter={filter}"))).await;
        assert_eq!((answer.status, answer.code()), (400, "InvalidFilterInQueryString"), "{filter}");
    }
    let post = world.post(&path, None).await;
    assert_eq!((post.status, post.code()), (405, "MethodNotAllowed"));
    for path in ["/subscriptions", "/tenants", "/providers", &path] {
        let answer = world.call_with("GET", path, None, &[("authorization", "Bearer x")]).await;
        assert_eq!(answer.status, 401, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_of_all_types_are_listed() {
    let world = World::start().await;
    world.fleet_of("f1", &[("m1", 1, "g")]).await;
    let other = group(&world, "rg2").await;
    let f2 = format!("{other}/providers/Microsoft.ContainerService/fleets/f2");
    world.put(&f2, json!({"location": "westeurope", "tags": {"team": "x"}})).await;
    world.settled(&f2).await;
    let list = async |rest: &str| world.get(&sub(rest)).await;
    assert_eq!(names(&list("/resources?api-version=2024-11-01").await), ["f1", "f2"], "neither groups nor members");
    assert_eq!(names(&list("/resourcegroups/RG2/resources?api-version=2024-11-01").await), ["f2"]);
    for (filter, wanted) in [
        ("resourceGroup eq 'rg1'", vec!["f1"]),
        ("resourceType eq 'microsoft.containerservice/FLEETS' and name eq 'F2'", vec!["f2"]),
        ("resourceType eq 'Microsoft.Compute/virtualMachines'", vec![]),
        ("location eq 'West Europe'", vec!["f2"]),
        ("tagName eq 'team' and tagValue eq 'x'", vec!["f2"]),
        ("tagName eq 'team' and tagValue eq 'y'", vec![]),
    ] {
        assert_eq!(
            names(&list(&format!("/resources?api-version=2024-11-01&$filter={filter}")).await),
            wanted,
            "{filter}"
        );
    }
    let expanded = list("/resources?api-version=2024-11-01&$expand=createdTime,provisioningState&$top=1").await;
    let first = &expanded.body["value"][0];
    assert_eq!(
        (&first["provisioningState"], &first["type"]),
        (&json!("Succeeded"), &json!("Microsoft.ContainerService/fleets"))
    );
    assert!(
        first["createdTime"].is_string() && first["changedTime"].is_null() && expanded.body["nextLink"].is_string()
    );
    // As `az resource show` asks.
    let shown = world.get(&sub("/resourcegroups/rg1/providers/Microsoft.ContainerService//fleets/f1")).await;
    assert_eq!((shown.status, &shown.body["name"]), (200, &json!("f1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_group_is_deleted_with_its_fleets_unless_they_upgrade() {
    let mut world = World::start().await;
    let path = group(&world, "doomed").await;
    let fleet = format!("{path}/providers/Microsoft.ContainerService/fleets/f");
    world.put(&fleet, json!({"location": "eastus"})).await;
    world.settled(&fleet).await;
    let member = format!("{fleet}/members/m");
    world.put(&member, json!({"properties": {"clusterResourceId": World::cluster(1)}})).await;
    world.settled(&member).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"hangOperation": true}})).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    world.until(&run, Duration::from_secs(30), "Running", |s| s["status"]["state"] == "Running").await;
    let blocked = world.delete(&path).await;
    assert_eq!((blocked.status, blocked.code()), (409, "ResourceGroupDeletionBlocked"), "{}", blocked.body);
    assert_eq!(world.get(&path).await.body["properties"]["provisioningState"], "Succeeded", "nothing changed");
    eventually("the upgrade began", async || !world.applied().await.is_empty()).await;
    world.emulator("POST", "/emulator/operations/release", None).await;
    world.reaches(&run, "Completed", Duration::from_secs(30)).await;

    let begun = world.delete(&path).await;
    assert_eq!(begun.status, 202, "{}", begun.body);
    world.kill();
    world.restart().await;
    let location = begun.header("location").unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.get(&location).await.status != 200 {
        assert!(Instant::now() < deadline, "{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.get(&fleet).await.code(), "ResourceGroupNotFound");
    // Another fleet may have the cluster now.
    world.fleet_of("next", &[("m", 1, "g")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_deleted_while_fleets_are_created_in_it_leaves_nothing() {
    let world = World::start().await;
    for round in 0..5 {
        let path = group(&world, &format!("g{round}")).await;
        let fleet = |n: usize| format!("{path}/providers/Microsoft.ContainerService/fleets/f{n}");
        let makings = join_all((0..8).map(|n| {
            let (world, path) = (&world, fleet(n));
            async move { world.put(&path, json!({"location": "eastus"})).await }
        }));
        let deletion = async {
            loop {
                // The deletion is refused while a fleet is being created.
                let answer = world.delete(&path).await;
                if answer.status != 409 {
                    return answer;
                }
            }
        };
        let (made, begun) = tokio::join!(makings, deletion);
        for answer in made {
            let fine = [201, 404, 409].contains(&answer.status);
            assert!(fine, "{} {}", answer.status, answer.body);
        }
        if begun.status == 202 {
            assert_eq!(result(&world, &begun).await.status, 200);
        }
        let left =
            world.get(&sub(&format!("/resources?api-version=2024-11-01&$filter=resourceGroup eq 'g{round}'"))).await;
        assert_eq!(names(&left), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_a_resource_of_their_own() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let version = "api-version=2021-04-01";
    for scope in [fleet.clone(), format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1")] {
        let tags = format!("{scope}/providers/microsoft.resources/TAGS/default?{version}");
        let of = |answer: &Answer| answer.body["properties"]["tags"].clone();
        let none = world.get(&tags).await;
        assert_eq!((none.status, of(&none)), (200, json!({})), "{}", none.body);
        assert_eq!(none.body["type"], "Microsoft.Resources/tags");
        let put = world.put(&tags, json!({"properties": {"tags": {"env": "prod", "team": "a"}}})).await;
        assert_eq!(of(&put), json!({"env": "prod", "team": "a"}));
        let merge = json!({"operation": "Merge", "properties": {"tags": {"Team": "b", "x": "y"}}});
        assert_eq!(of(&world.patch(&tags, merge).await), json!({"env": "prod", "Team": "b", "x": "y"}));
        let delete = json!({"operation": "Delete", "properties": {"tags": {"x": "y", "env": "other"}}});
        assert_eq!(of(&world.patch(&tags, delete).await), json!({"env": "prod", "Team": "b"}));
        assert_eq!(world.get(&scope).await.body["tags"], json!({"env": "prod", "Team": "b"}));
        let wrong = world.patch(&tags, json!({"operation": "Add", "properties": {"tags": {}}})).await;
        assert_eq!((wrong.status, wrong.code()), (400, "InvalidRequestContent"), "{}", wrong.body);
        assert_eq!(of(&world.delete(&tags).await), json!({}));
    }
    let missing =
        world.get(&format!("{}/providers/Microsoft.Resources/tags/default?{version}", world.fleet("no"))).await;
    assert_eq!((missing.status, missing.code()), (404, "ResourceNotFound"));
}
