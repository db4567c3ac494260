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

/// What a caller is told of an error of the database that passes by itself; `None` for a fault of ours.
fn passing(error: &anyhow::Error) -> Option<ArmError> {
    let unavailable =
        |message: &str| ArmError::new(http::StatusCode::SERVICE_UNAVAILABLE, "ServerTimeout", message).retry_after(2);
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
    let code = cause.and_then(|cause| cause.as_database_error()).and_then(|error| error.code());
    let passes = match (cause, code.as_deref()) {
        // Class 57: the server ends the session, or the statement took too long; class 08: the connection is gone; 40: rolled
        // back, as two transactions would have waited for each other; 25P03: the transaction was idle for too long.
        (_, Some(code)) => ["57", "08", "40", "25P03", "55P03"].iter().any(|class| code.starts_with(class)),
        (Some(cause), None) => matches!(
            cause,
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed
        ),
        (None, None) => false,
    };
    let commit = error.chain().find_map(|cause| cause.downcast_ref::<CommitError>());
    match (commit, code.as_deref()) {
        (Some(commit), _) if passes && !commit.is_undone() => Some(unavailable(
            "The service's database did not confirm the change, which may have been made. Get the resource, and decide again.",
        )),
        (_, Some("55P03")) => Some(unavailable(
            "Another request or job is changing the resource and takes long. Nothing was changed; try again.",
        )),
        _ if passes => {
            Some(unavailable("The service's database cannot be reached now. Nothing was changed; try again."))
        }
        _ => None,
    }
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
            Self::Internal(error) => match passing(&error) {
                Some(told) => {
                    tracing::error!(error = format!("{error:#}"), "the database does not answer");
                    arm_response(&told)
                }
                None => {
                    tracing::error!(error = format!("{error:#}"), "failed");
                    arm_response(&ArmError::internal())
                }
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: impl Into<anyhow::Error>) -> Option<String> {
        passing(&error.into()).map(|told| told.detail().message.clone())
    }

    fn lost() -> sqlx::Error {
        sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
    }

    #[test]
    fn a_lost_answer_to_a_commit_is_not_told_as_nothing_changed() {
        assert!(told(CommitError::from(lost())).is_some_and(|message| message.contains("may have been made")));
        for unchanged in [told(lost()), told(sqlx::Error::PoolTimedOut)] {
            assert!(unchanged.is_some_and(|message| message.contains("Nothing was changed")));
        }
        let inside = StoreError { doing: "reading a resource", source: lost() };
        assert!(told(inside).is_some());
        assert_eq!(told(sqlx::Error::RowNotFound), None);
        assert_eq!(told(CommitError::from(sqlx::Error::RowNotFound)), None);
    }
}
