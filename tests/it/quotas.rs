//! How many resources of each type a fleet and a resource group may contain.

use serde_json::{Value, json};

use crate::harness::world::{World, upgrade_to};

/// Adds `count` resources `x1`, `x2`, … of a type to the resource with this ID.
async fn fill(world: &World, parent: &str, infix: &str, resource_type: &str, count: i32) {
    sqlx::query(
        "INSERT INTO resources (id, key, arm_id, type, name, parent_id, subscription, resource_group, properties,
             provisioning_state, etag, created_at, created_by, created_by_type, modified_at, modified_by, modified_by_type)
         SELECT gen_random_uuid(), key || lower($2) || '/x' || n, arm_id || $2 || '/x' || n, $3, 'x' || n, id,
             subscription, resource_group, '{}', 'Succeeded', gen_random_uuid(), now(), '', '', now(), '', ''
         FROM resources, generate_series(1, $4) n WHERE key = lower($1)",
    )
    .bind(parent)
    .bind(infix)
    .bind(resource_type)
    .bind(count)
    .execute(world.pool())
    .await
    .unwrap();
}

/// A type, and what happens when there are too many of it.
struct Case {
    parent: String,
    infix: String,
    resource_type: &'static str,
    most: i32,
    refusal: (u16, &'static str),
    bodies: [Value; 2],
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_takes_so_many_resources_of_a_type_and_no_more() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[]).await;
    let group = fleet.split("/providers").next().unwrap().to_owned();
    let fleets = format!("{}/fleets", &fleet[group.len()..fleet.rfind("/fleets").unwrap()]);
    let cluster = |n: usize| json!({"properties": {"clusterResourceId": World::cluster(n)}});
    let in_fleet = |infix: &str, resource_type, most, body: Value| Case {
        parent: fleet.clone(),
        infix: infix.to_owned(),
        resource_type,
        most,
        refusal: (409, "QuotaExceeded"),
        bodies: [body.clone(), body],
    };
    let strategy = json!({"properties": {"strategy": {"stages": [{"name": "s", "groups": [{"name": "g"}]}]}}});
    let run = json!({"properties": {"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")}});
    let profile = json!({"properties": {"channel": "Stable"}});
    let cases = [
        in_fleet("/updateStrategies", "Microsoft.ContainerService/fleets/updateStrategies", 1_000, strategy),
        in_fleet("/updateRuns", "Microsoft.ContainerService/fleets/updateRuns", 10_000, run),
        in_fleet("/autoUpgradeProfiles", "Microsoft.ContainerService/fleets/autoUpgradeProfiles", 1_000, profile),
        // Last of the fleet's: these members are rows without a cluster, which a run could not be planned over.
        Case {
            refusal: (400, "MemberLimitExceeded"),
            bodies: [cluster(1), cluster(2)],
            ..in_fleet("/members", "Microsoft.ContainerService/fleets/members", 10_000, Value::Null)
        },
        Case {
            parent: group,
            ..in_fleet(&fleets, "Microsoft.ContainerService/fleets", 800, json!({"location": "eastus"}))
        },
    ];
    for Case { parent, infix, resource_type, most, refusal, bodies: [last, more] } in cases {
        // The group contains the fleet of the other cases.
        let there = if resource_type.ends_with("/fleets") { 2 } else { 1 };
        fill(&world, &parent, &infix, resource_type, most - there).await;
        let path = |name: &str| format!("{parent}{infix}/{name}");
        let made = world.put(&path("last"), last.clone()).await;
        assert_eq!(made.status, 201, "{infix}: {}", made.body);
        let refused = world.put(&path("more"), more).await;
        assert_eq!((refused.status, refused.code()), refusal, "{infix}: {}", refused.body);
        let message = refused.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("at most {most} ")), "{message}");
        // What is there can still be changed.
        world.settled(&path("last")).await;
        let again = world.put(&path("last"), last).await;
        assert_eq!(again.status, 200, "{infix}: {}", again.body);
    }
}
