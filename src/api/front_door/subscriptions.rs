//! What a client asks before it asks about fleets: tenants, subscriptions and their regions.

use axum::{
    Json,
    extract::{Request, State},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        App,
        front_door::actions::SubscriptionsRead,
        http::{
            error::ApiResult,
            principal::Principal,
            request::{ArmRequest, subscription_not_found},
        },
    },
    model::{location::LOCATIONS, subscription::Subscription},
};

/// The tenant of the service.
pub(crate) async fn tenants(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    Principal::of(&request.into_parts().0, &app, Timestamp::now()).await?;
    let tenant = app.tenant;
    Ok(Json(json!({"value": [{
        "id": format!("/tenants/{tenant}"),
        "tenantId": tenant,
        "displayName": "Fleet Manager",
        "defaultDomain": "fleet-manager.local",
        "domains": ["fleet-manager.local"],
        "tenantCategory": "Home",
        "tenantType": "AAD",
    }]})))
}

/// Lists those subscriptions in which the caller may do anything.
pub(crate) async fn list(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    let principal = Principal::of(&request.into_parts().0, &app, Timestamp::now()).await?;
    let entered =
        |subscription: &&Subscription| principal.access.enters(&format!("/subscriptions/{}", subscription.id));
    let value: Vec<Value> =
        app.subscriptions.iter().filter(entered).map(|subscription| show(&app, subscription)).collect();
    Ok(Json(json!({"value": value, "count": {"type": "Total", "value": value.len()}})))
}

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.enter::<SubscriptionsRead>(&app).await?;
    let found = app.subscription(request.id.subscription()).ok_or_else(|| subscription_not_found(&request.id))?;
    Ok(Json(show(&app, found)))
}

/// Lists the regions.
pub(crate) async fn locations(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    request.enter::<SubscriptionsRead>(&app).await?;
    let value: Vec<Value> = LOCATIONS
        .iter()
        .map(|location| {
            json!({
                "id": format!("/subscriptions/{}/locations/{}", request.id.subscription(), location.name),
                "name": location.name,
                "type": "Region",
                "displayName": location.display_name,
                "regionalDisplayName": format!("({}) {}", location.geography_group, location.display_name),
                "metadata": {
                    "regionType": "Physical",
                    "regionCategory": "Recommended",
                    "geographyGroup": location.geography_group,
                },
            })
        })
        .collect();
    Ok(Json(json!({"value": value})))
}

fn show(app: &App, subscription: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", subscription.id),
        "subscriptionId": subscription.id,
        "tenantId": app.tenant,
        "displayName": subscription.display_name,
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
    })
}
