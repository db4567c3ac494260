//! Asynchronous operations: the status monitor and the result. An operation is shown to the caller who began it, or who may read its
//! resource.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use uuid::Uuid;

use crate::{
    api::{
        App,
        front_door::{
            actions::{GroupsRead, OperationsRead},
            resource_groups,
        },
        http::{
            error::{ApiError, ApiResult},
            render,
            request::{Accepts, ArmRequest},
        },
    },
    arm::{
        ArmError, ResourceId,
        operation::{OperationState, RETRY_AFTER_SECONDS},
    },
    identity::Action,
    store::operations::{self, Operation},
};

/// A request for an operation, by a URL that the service handed out. Its API version is that of no type.
pub(crate) struct OperationRequest(ArmRequest);

impl FromRequestParts<App> for OperationRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        ArmRequest::read(parts, app, Accepts::AnyText).await.map(Self)
    }
}

/// The status monitor: 200 as long as it is readable, whatever the state.
pub(crate) async fn status(
    State(app): State<App>,
    OperationRequest(request): OperationRequest,
    Path((_, _, id)): Path<(String, String, String)>,
    uri: Uri,
) -> ApiResult<Response> {
    let operation = match find(&app, &request, &id).await {
        Ok(operation) => operation,
        Err(missing) => return elsewhere(&app, &request, &uri, missing).await,
    };
    let running = !operation.status.status.is_terminal();
    let mut response = Json(operation.status).into_response();
    if running {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    Ok(response)
}

/// The result: 202 while it runs; then 204, or the error with which it ended.
pub(crate) async fn result(
    State(app): State<App>,
    OperationRequest(request): OperationRequest,
    Path((_, location, id)): Path<(String, String, String)>,
    uri: Uri,
) -> ApiResult<Response> {
    let operation = match find(&app, &request, &id).await {
        Ok(operation) => operation,
        Err(missing) => return elsewhere(&app, &request, &uri, missing).await,
    };
    let mut response = match operation.status.status {
        OperationState::InProgress => StatusCode::ACCEPTED.into_response(),
        OperationState::Failed | OperationState::Canceled => return Err(ended_badly(operation).into()),
        OperationState::Succeeded => StatusCode::NO_CONTENT.into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(id) = Uuid::try_parse(&id) {
        render::put(headers, header::LOCATION, &render::operation_url(&request, "operationresults", &location, id));
    }
    if operation.status.status == OperationState::InProgress {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    Ok(response)
}

/// The result of a resource group's deletion: 202 while it runs; then 200, or the error with which it ended.
pub(crate) async fn group_result(
    State(app): State<App>,
    OperationRequest(request): OperationRequest,
    Path((_, id)): Path<(String, String)>,
) -> ApiResult<Response> {
    let operation = find(&app, &request, &id).await?;
    match operation.status.status {
        OperationState::InProgress => {
            let mut response = StatusCode::ACCEPTED.into_response();
            let headers = response.headers_mut();
            if let Ok(id) = Uuid::try_parse(&id) {
                render::put(headers, header::LOCATION, &resource_groups::result_url(&request, id));
            }
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            Ok(response)
        }
        OperationState::Succeeded => Ok(StatusCode::OK.into_response()),
        OperationState::Failed | OperationState::Canceled => Err(ended_badly(operation).into()),
    }
}

/// An operation that is not one of this service's may be the upstream's: its URLs lead here, too.
async fn elsewhere(app: &App, request: &ArmRequest, uri: &Uri, missing: ApiError) -> ApiResult<Response> {
    let is_missing = matches!(&missing, ApiError::Arm(error) if error.status() == StatusCode::NOT_FOUND);
    match &app.pass_through {
        Some(pass) if is_missing && pass.takes(LOCATIONS) => {
            pass.pass(Method::GET, uri, request.headers(), Bytes::new(), &request.base).await
        }
        _ => Err(missing),
    }
}

/// The type under which operations are.
const LOCATIONS: &str = "Microsoft.ContainerService/locations";

fn ended_badly(operation: Operation) -> ArmError {
    let detail = operation
        .status
        .error
        .unwrap_or_else(|| crate::arm::ErrorDetail::new("OperationFailed", "The operation did not succeed."));
    ArmError::from_detail(StatusCode::CONFLICT, detail)
}

async fn find(app: &App, request: &ArmRequest, id: &str) -> ApiResult<Operation> {
    let missing = || ArmError::not_found("OperationNotFound", format!("The operation '{id}' was not found."));
    let id = Uuid::try_parse(id).map_err(|_| missing())?;
    let found = {
        // Given back before the audit trail asks for one: many who hold one and wait for another would wait in vain.
        let mut conn = app.pool.acquire().await?;
        operations::get(&mut conn, request.id.subscription(), id).await?.ok_or_else(missing)?
    };
    let resource: ResourceId = found.resource_arm_id.parse().map_err(|_| missing())?;
    if found.begun_by != Some(request.begun_by()) {
        let kind = resource.resource_type();
        let read = kind.map_or_else(|| GroupsRead::name().into_owned(), |kind| kind + "/read");
        request.principal.authorize_any::<OperationsRead>(app, &[&read], &resource).await?;
    }
    Ok(found)
}
