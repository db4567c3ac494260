//! The managed identity of a fleet: properties that callers write, and properties that the service sets.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::world::{SUBSCRIPTION, TENANT, World};

fn fleet(identity: Value) -> Value {
    json!({"location": "eastus", "identity": identity})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_of_the_wrong_types_is_refused_with_its_path() {
    let world = World::start().await;
    let path = world.fleet("f");
    let odd = json!({"": [{}, null], "tenantId": {}, "userAssignedIdentities": {"x": [1]}, "type": "SystemAssigned"});
    let id = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
    );
    for (identity, target) in [
        (odd, "identity"),
        (json!({"type": "SystemAssigned", "tenantId": {}}), "identity.tenantId"),
        (json!({"type": "SystemAssigned", "principalId": [1]}), "identity.principalId"),
        (json!({"type": "SystemAssigned", "userAssignedIdentities": {"x": [1]}}), "identity.userAssignedIdentities"),
        (json!({"type": "UserAssigned", "userAssignedIdentities": {id: 1}}), "identity.userAssignedIdentities"),
        (json!({"type": "UserAssigned", "userAssignedIdentities": {"x": {}}}), "identity.userAssignedIdentities"),
        (json!({"type": "Everything"}), "identity.type"),
        (json!({}), "identity"),
        (json!("SystemAssigned"), "identity"),
    ] {
        let answer = world.put(&path, fleet(identity.clone())).await;
        assert_eq!(answer.status, 400, "{identity}: {}", answer.body);
        assert!(answer.body.to_string().contains(target), "{identity}: {}", answer.body);
    }
    assert_eq!(world.get(&path).await.status, 404, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_assigned_identity_has_a_principal_of_the_services_own() {
    let world = World::start().await;
    let path = world.fleet("f");
    let forged = json!({"type": "SystemAssigned", "principalId": TENANT, "tenantId": "mine", "clientId": "x"});
    assert_eq!(world.put(&path, fleet(forged.clone())).await.status, 201);
    let shown = world.settled(&path).await["identity"].clone();
    let principal: Uuid = shown["principalId"].as_str().unwrap().parse().unwrap();
    assert_ne!(principal.to_string(), TENANT);
    assert_eq!(shown, json!({"type": "SystemAssigned", "principalId": principal, "tenantId": TENANT}));

    // The principal stays when a client puts back what it read, and when it changes the fleet. Another fleet has another principal.
    let read = world.get(&path).await.body;
    world.put(&path, json!({"location": "eastus", "identity": read["identity"]})).await;
    assert_eq!(world.settled(&path).await["identity"], shown);
    let id = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
    );
    let both =
        json!({"identity": {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {id.as_str(): {}}}});
    let patched = world.patch(&path, both).await;
    assert_eq!(patched.status, 200, "{}", patched.body);
    assert_eq!(patched.body["identity"]["principalId"], shown["principalId"]);
    assert_eq!(patched.body["identity"]["userAssignedIdentities"], json!({id: {}}));
    let refused = world.patch(&path, json!({"identity": {"principalId": {"a": 1}}})).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    let other = world.fleet("g");
    world.put(&other, fleet(forged)).await;
    assert_ne!(world.settled(&other).await["identity"]["principalId"], shown["principalId"]);

    // The principal can have a role like any other.
    let role = "/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7";
    let assignment =
        format!("{path}/providers/Microsoft.Authorization/roleAssignments/{}?api-version=2022-04-01", Uuid::new_v4());
    let properties = json!({"roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal"});
    let given = world.put(&assignment, json!({"properties": properties})).await;
    assert_eq!(given.status, 201, "{}", given.body);

    let gone = world.patch(&path, json!({"identity": {"type": "None"}})).await;
    assert_eq!((gone.status, &gone.body["identity"]), (200, &Value::Null));
}
