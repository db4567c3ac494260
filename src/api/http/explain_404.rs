//! Why something is not there: the first that is missing on the way to it is what ARM names.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};

use crate::{
    api::{
        App,
        front_door::resource_groups::{not_found, scope_of},
        http::{error::ApiResult, request::target},
    },
    model::types,
    store::tracked,
};

/// Turns the 404 of a resource in a resource group that does not exist into the 404 of that group. Only what is missing
/// costs the lookup.
pub(crate) async fn explain(app: &App, uri: &Uri, response: Response) -> Response {
    let path = uri.path();
    // Types of other providers: the answer of the upstream says more.
    let ours = path.contains("/resourceGroups/") && path.contains(types::FLEETS);
    if response.status() != StatusCode::NOT_FOUND || !ours {
        return response;
    }
    let code = response.headers().get("x-ms-error-code").cloned();
    if !code.is_some_and(|code| code == "ResourceNotFound" || code == "ParentResourceNotFound") {
        return response;
    }
    match look(app, path).await {
        Ok(None) => response,
        Ok(Some(missing)) => missing,
        Err(error) => error.into_response(),
    }
}

async fn look(app: &App, path: &str) -> ApiResult<Option<Response>> {
    let group = scope_of(&target(path)?);
    let mut conn = app.pool.acquire().await?;
    let there = tracked::group_exists(&mut conn, &group).await?;
    Ok((!there).then(|| not_found(&group).into_response()))
}
