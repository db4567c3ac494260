//! The one place where errors become answers.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};

use crate::database::CommitError;
use crate::{
    arm::{ArmError, ErrorResponse},
    engine::EngineError,
    rollout::Refused,
    store::StoreError,
};

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

/// An error on its way out.
#[derive(Debug)]
pub enum ApiError {
    /// The caller's to mend.
    Arm(ArmError),
    /// Ours: the chain goes to the log, the caller gets a 500.
    Internal(anyhow::Error),
}

impl From<ArmError> for ApiError {
    fn from(error: ArmError) -> Self {
        Self::Arm(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused(refused) => refused.into(),
            other => Self::Internal(other.into()),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let (status, detail) = match refused {
            Refused::Conflict(detail) => (StatusCode::CONFLICT, detail),
            Refused::BadRequest(detail) => (StatusCode::BAD_REQUEST, detail),
        };
        Self::Arm(ArmError::from_detail(status, detail))
    }
}

/// Whether an error says that the database cannot be reached now, which is no fault in the request.
fn database_is_away(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>()).any(|cause| match cause {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        // Class 57: the server shuts down or starts up; class 08: the connection is gone; 40: rolled back, as two transactions
        // would have waited for each other.
        sqlx::Error::Database(inner) => {
            inner.code().is_some_and(|code| ["57P", "08", "40"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Arm(error) => {
                // As a field, which is escaped: the message may repeat what the caller sent, lines included.
                let reason = error.detail().message.as_str();
                tracing::info!(status = error.status().as_u16(), code = %error.detail().code, reason, "refused");
                arm_response(&error)
            }
            Self::Internal(error) if database_is_away(&error) => {
                tracing::error!(error = format!("{error:#}"), "the database cannot be reached");
                arm_response(
                    &ArmError::new(
                        http::StatusCode::SERVICE_UNAVAILABLE,
                        "ServerTimeout",
                        "The service's database cannot be reached now. Nothing was changed; try again.",
                    )
                    .retry_after(2),
                )
            }
            Self::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "failed");
                arm_response(&ArmError::internal())
            }
        }
    }
}

/// Renders an ARM error.
pub(crate) fn arm_response(error: &ArmError) -> Response {
    let mut response = (error.status(), Json(ErrorResponse { error: error.detail().clone() })).into_response();
    let headers = response.headers_mut();
    if let Ok(code) = HeaderValue::from_str(&error.detail().code) {
        headers.insert("x-ms-error-code", code);
    }
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in error.headers() {
        headers.insert(name.clone(), value.clone());
    }
    response
}
