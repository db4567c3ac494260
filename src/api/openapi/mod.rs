//! The OpenAPI document of the newest stable version, `/openapi.json`. Types describe themselves where they are defined;
//! what only answers have is in `resources`, and which operation takes and answers what in `operations`.

mod auto_upgrade;
mod operations;
mod resources;

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::Value;
use utoipa::{
    OpenApi,
    openapi::{
        Array, Ref, RefOr, Schema,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use crate::{
    api::resources::runs::SkipProperties,
    arm::{ErrorResponse, operation::OperationStatus},
    model::{gate::GatePatch, versions},
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Fleet Manager", license(name = "MIT", identifier = "MIT")),
    components(schemas(
        ErrorResponse,
        SkipProperties,
        resources::ErrorAdditionalInfo,
        resources::Fleet,
        resources::FleetListResult,
        resources::FleetPatch,
        resources::FleetCredentialResults,
        resources::FleetMember,
        resources::FleetMemberListResult,
        resources::FleetMemberUpdate,
        resources::FleetUpdateStrategy,
        resources::FleetUpdateStrategyListResult,
        resources::UpdateRun,
        resources::UpdateRunListResult,
        auto_upgrade::AutoUpgradeProfile,
        auto_upgrade::AutoUpgradeProfileListResult,
        auto_upgrade::GenerateResponse,
        resources::Gate,
        resources::GateListResult,
        GatePatch,
        resources::OperationListResult,
        OperationStatus,
    ))
)]
struct Document;

static DOCUMENT: LazyLock<String> = LazyLock::new(generate);

/// The document, as indented JSON.
#[must_use]
pub fn document() -> &'static str {
    &DOCUMENT
}

/// `GET /openapi.json`. Public.
pub(crate) async fn serve() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}

fn generate() -> String {
    let mut document = Document::openapi();
    document.info.version = versions::NEWEST.to_string();
    document.info.description = Some(
        "The resource types of Microsoft.ContainerService/fleets, as Azure Kubernetes Fleet Manager has them."
            .to_owned(),
    );
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", bearer);
    // Azure's errors have it; the service's own never do, so their type has no place for it.
    if let Some(RefOr::T(Schema::Object(detail))) = components.schemas.get_mut("ErrorDetail") {
        let info = Array::new(Ref::from_schema_name("ErrorAdditionalInfo"));
        detail.properties.insert("additionalInfo".to_owned(), info.into());
    }
    document.security = Some(vec![SecurityRequirement::new("bearer", [] as [&str; 0])]);
    for operation in operations::all() {
        let (path, method, described) = operation.describe();
        document.paths.add_path_operation(path, vec![method], described);
    }
    // Both steps only fail on maps whose keys are no text, of which there are none.
    let mut value = serde_json::to_value(&document).unwrap_or_default();
    tidy(&mut value);
    serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
}

/// What is absent is left out: no property of this API is ever null. Names are sorted, however JSON is built.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            object.values_mut().for_each(tidy);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("oneOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    object.remove("oneOf");
                    object.extend(only);
                }
            }
            let sorted: BTreeMap<String, Value> = std::mem::take(object).into_iter().collect();
            *object = sorted.into_iter().collect();
        }
        _ => {}
    }
}
