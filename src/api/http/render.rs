//! Answers: the ARM envelope around a resource, lists, and the headers of asynchronous operations.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    api::{
        App,
        http::{error::ApiResult, request::ArmRequest},
    },
    arm::operation::{OPERATION_API_VERSION, RETRY_AFTER_SECONDS},
    model::{types, versions},
    store::resources::Resource,
};

/// A resource as the caller's version shows it. `properties` are those to show, without the provisioning state. Types that have
/// asynchronous operations show the last one of them.
pub(crate) fn resource(
    request: &ArmRequest,
    resource: &Resource,
    properties: Value,
    shows_operation: bool,
) -> ApiResult<Value> {
    let mut properties = match properties {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    properties.insert("provisioningState".to_owned(), Value::from(resource.provisioning_state.as_str()));
    if shows_operation && let Some(operation) = resource.last_operation_id {
        let mut status = json!({"lastOperationId": operation});
        if let (Value::Object(status), Some(error)) = (&mut status, &resource.last_operation_error) {
            status.insert("lastOperationError".to_owned(), serde_json::to_value(error)?);
        }
        properties.insert("status".to_owned(), status);
    }
    let mut body = json!({
        "id": resource.arm_id,
        "name": resource.name,
        "type": resource.resource_type,
        "properties": properties,
        "systemData": resource.system_data,
        "eTag": resource.etag.to_string(),
    });
    if let Value::Object(body) = &mut body {
        if let Some(location) = &resource.location {
            body.insert("location".to_owned(), Value::from(location.clone()));
        }
        if let Some(tags) = &resource.tags {
            body.insert("tags".to_owned(), serde_json::to_value(tags)?);
        }
        if let Some(identity) = &resource.identity {
            body.insert("identity".to_owned(), identity.clone());
        }
    }
    versions::hide(&mut body, &resource.resource_type, request.version);
    Ok(body)
}

/// A page of a list.
pub(crate) fn list(app: &App, request: &ArmRequest, items: Vec<Value>, last: Option<&str>) -> Response {
    let mut body = json!({"value": items});
    if let (Some(last), Value::Object(body)) = (last, &mut body) {
        body.insert("nextLink".to_owned(), Value::from(request.next_link(app, last)));
    }
    Json(body).into_response()
}

/// Where the lists of a page of rows go on: after the last row, if there are more.
pub(crate) fn last_key(rows: &[Resource], more: bool) -> Option<String> {
    rows.last().filter(|_| more).map(|resource| resource.arm_id.to_lowercase())
}

/// Which headers point at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointers {
    /// `Azure-AsyncOperation`: a PUT, whose result is the resource itself.
    AsyncOperation,
    /// `Azure-AsyncOperation` and `Location`: a DELETE.
    Both,
}

/// An answer that begins, or is about, an asynchronous operation; without one, the answer alone.
pub(crate) fn accepted(
    request: &ArmRequest,
    status: StatusCode,
    body: Value,
    operation: Option<Uuid>,
    location: &str,
    pointers: Pointers,
) -> Response {
    let mut response = (status, Json(body)).into_response();
    let Some(operation) = operation else { return response };
    let url = |collection| operation_url(request, collection, location, operation);
    let headers = response.headers_mut();
    put(headers, HeaderName::from_static("azure-asyncoperation"), &url("operations"));
    if pointers == Pointers::Both {
        put(headers, header::LOCATION, &url("operationresults"));
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    response
}

/// The URL of an operation, by the host that the caller came by.
pub(crate) fn operation_url(request: &ArmRequest, collection: &str, location: &str, operation: Uuid) -> String {
    format!(
        "{}/subscriptions/{}/providers/{}/locations/{location}/{collection}/{operation}?api-version={OPERATION_API_VERSION}",
        request.base,
        request.id.subscription(),
        types::NAMESPACE,
    )
}

/// Sets a header whose value is made of checked parts.
pub(crate) fn put(headers: &mut http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
