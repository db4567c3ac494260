//! The generic list of resources, whatever their type: `az resource list`.

use axum::{extract::State, response::Response};
use serde_json::{Value, json};

use crate::{
    api::{
        App,
        front_door::{actions::ResourcesRead, resource_groups},
        http::{
            error::ApiResult,
            render,
            request::{ArmRequest, parts_of},
        },
    },
    arm::{ArmError, envelope::normalize_location, filter},
    identity::Action,
    model::types,
    store::{
        resources::Resource,
        tracked::{self, Wanted},
    },
};

/// Lists the tracked resources of a subscription or of a resource group.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    // A caller who may read the resources of a type sees them here, too.
    let (listed, fleets) = (ResourcesRead::name(), format!("{}/read", types::FLEETS));
    let reach = request.principal.reach_any(&app, &[&listed, &fleets], &request.id).await?;
    let mut wanted = Wanted { group: request.id.resource_group().map(str::to_owned), ..Wanted::default() };
    for comparison in filter::parse(request.parameter("$filter"))? {
        let value = comparison.value;
        match comparison.name.to_ascii_lowercase().as_str() {
            "resourcegroup" if request.id.resource_group().is_none() => wanted.group = Some(value),
            "resourcetype" => wanted.resource_type = Some(value),
            "name" => wanted.name = Some(value),
            "location" => wanted.location = Some(normalize_location(&value)),
            "tagname" => wanted.tag_name = Some(value),
            "tagvalue" => wanted.tag_value = Some(value),
            _ => {
                let message = format!(
                    "$filter knows resourceType, resourceGroup, name, location, tagName and tagValue of resources, and not '{}'.",
                    comparison.name
                );
                return Err(ArmError::bad_request("InvalidFilterInQueryString", message).at("$filter").into());
            }
        }
    }
    let expand: Vec<String> =
        request.parameter("$expand").unwrap_or_default().split(',').map(|name| name.trim().to_lowercase()).collect();
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    if request.id.resource_group().is_some() && !tracked::group_exists(&mut conn, &request.id).await? {
        return Err(resource_groups::not_found(&request.id));
    }
    let (rows, more) = tracked::list(&mut conn, request.id.subscription(), &wanted, parts_of(&reach), &page).await?;
    let items = rows.iter().map(|resource| show(resource, &expand)).collect();
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

fn show(resource: &Resource, expand: &[String]) -> Value {
    let mut body = json!({
        "id": resource.arm_id,
        "name": resource.name,
        "type": resource.resource_type,
        "location": resource.location,
    });
    let extras = [
        ("tags", resource.tags.as_ref().map(|tags| json!(tags))),
        ("identity", resource.identity.clone()),
        ("createdTime", expanded(expand, "createdtime", json!(resource.system_data.created_at))),
        ("changedTime", expanded(expand, "changedtime", json!(resource.system_data.last_modified_at))),
        ("provisioningState", expanded(expand, "provisioningstate", json!(resource.provisioning_state))),
    ];
    if let Value::Object(body) = &mut body {
        body.extend(extras.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    body
}

fn expanded(expand: &[String], name: &str, value: Value) -> Option<Value> {
    expand.iter().any(|wanted| wanted == name).then_some(value)
}
