//! `GET /metadata/endpoints`: where a cloud's services are, as `az cloud register` and Terraform ask. Public.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Query, Request, State},
};
use serde_json::{Value, json};

use crate::api::{App, http::host::origin_of};

/// The version from which on the answer is one cloud rather than a list (ARM cloud metadata).
const ONE_CLOUD: &str = "2020-06-01";

/// The cloud that this service is.
pub(crate) async fn endpoints(
    State(app): State<App>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Json<Value> {
    let base = origin_of(&request.into_parts().0, &app).to_string();
    let version =
        query.iter().find(|(name, _)| name.eq_ignore_ascii_case("api-version")).map(|(_, value)| value.as_str());
    let login = app.login_endpoint.clone().unwrap_or_else(|| format!("{base}/adfs"));
    let cloud = json!({
        "name": "FleetManager",
        "portal": base,
        "authentication": {
            "loginEndpoint": login,
            "audiences": [format!("{base}/"), "https://management.azure.com/", "https://management.core.windows.net/"],
            "tenant": app.tenant,
            "identityProvider": if app.login_endpoint.is_some() { "AAD" } else { "ADFS" },
        },
        "resourceManager": base,
        "gallery": base,
        "graph": base,
        "graphAudience": format!("{base}/"),
        "microsoftGraphResourceId": format!("{base}/"),
        "activeDirectoryDataLake": base,
        "batch": base,
        "media": base,
        "sqlManagement": base,
        "vmImageAliasDoc": base,
        "suffixes": {},
    });
    match version {
        Some(version) if version < ONE_CLOUD => Json(json!([cloud])),
        _ => Json(cloud),
    }
}
