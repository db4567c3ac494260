//! `/healthz`: the process lives. `/readyz`: the database answers and its schema is that of this build. Public.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;

use crate::{api::App, store::schema};

/// Liveness.
pub(crate) async fn healthz() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// Readiness: whether new requests are welcome.
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let reason = if app.stopping.is_cancelled() {
        "the process is stopping"
    } else if schema::is_ready(&app.pool).await {
        return Json(json!({"status": "ready"})).into_response();
    } else {
        "the database cannot be reached, or its migrations are not applied"
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "unavailable", "reason": reason}))).into_response()
}
