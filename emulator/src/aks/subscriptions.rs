//! The parts of ARM itself that AKS clients use: subscriptions and resource groups.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, check_is_get, not_allowed};
use crate::call::{Body, Call, Reply};
use crate::errors::ArmError;
use crate::seed::{SUBSCRIPTIONS, TENANT};
use crate::world::World;

/// Refuses subscriptions that are malformed or unknown.
pub(super) fn check(subscription: &str) -> Result<(), ArmError> {
    if subscription.parse::<Uuid>().is_err() {
        let message = format!("The provided subscription identifier '{subscription}' is malformed or invalid.");
        return Err(ArmError::new(StatusCode::BAD_REQUEST, "InvalidSubscriptionId", message));
    }
    if !SUBSCRIPTIONS.contains(&subscription) {
        let message = format!("The subscription '{subscription}' could not be found.");
        return Err(ArmError::new(StatusCode::NOT_FOUND, "SubscriptionNotFound", message));
    }
    Ok(())
}

fn body(subscription: &str) -> Value {
    json!({
        "id": format!("/subscriptions/{subscription}"), "subscriptionId": subscription, "tenantId": TENANT, "state": "Enabled",
        "displayName": format!("Emulated {}", subscription.trim_start_matches(['0', '-'])), "managedByTenants": [],
        "authorizationSource": "RoleBased",
    })
}

pub(super) fn list(call: &Call) -> Answer {
    check_is_get(call)?;
    Ok(Reply::ok(json!({"value": SUBSCRIPTIONS.map(body)})))
}

pub(super) fn get(call: &Call, subscription: &str) -> Answer {
    check_is_get(call)?;
    Ok(Reply::ok(body(subscription)))
}

fn group_body(subscription: &str, name: &str) -> Value {
    json!({
        "id": format!("/subscriptions/{subscription}/resourceGroups/{name}"), "name": name, "type": "Microsoft.Resources/resourceGroups",
        "location": "eastus", "properties": {"provisioningState": "Succeeded"},
    })
}

/// `resourcegroups` and `resourcegroups/{name}`.
pub(super) fn groups(world: &mut World, call: &Call, subscription: &str, rest: &[&str]) -> Answer {
    let Some(name) = rest.first() else {
        check_is_get(call)?;
        let own = world.groups.iter().filter(|((of, _), _)| of == subscription);
        let value: Vec<Value> = own.map(|(_, name)| group_body(subscription, name)).collect();
        return Ok(Reply::ok(json!({ "value": value })));
    };
    if !matches!(call.method, Method::GET | Method::HEAD | Method::PUT) {
        return Err(not_allowed(call, "GET, HEAD, PUT"));
    }
    let key = (subscription.to_owned(), (*name).to_owned());
    let given = call.segments.get(3).map_or(*name, String::as_str).to_owned();
    match (call.method == Method::PUT, world.groups.get(&key)) {
        (_, Some(_)) if call.method == Method::HEAD => Ok(Reply::new(StatusCode::NO_CONTENT, Body::Empty)),
        (_, Some(kept)) => Ok(Reply::ok(group_body(subscription, kept))),
        (true, None) => {
            world.add_group(subscription, &given);
            Ok(Reply::new(StatusCode::CREATED, Body::Json(group_body(subscription, &given))))
        }
        (false, None) => Err(ArmError::group_not_found(&given)),
    }
}
