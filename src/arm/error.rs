//! ARM error bodies: `{"error": {"code", "message", "target"?, "details"?}}` (common-types v5), and the error type of every
//! request handler.

use std::borrow::Cow;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The error object of an ARM error body; also what a resource shows as `lastOperationError` or `status.error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Machine-readable code, PascalCase, such as `ResourceNotFound`.
    #[schema(value_type = String)]
    pub code: Cow<'static, str>,
    /// What is wrong with which resource, and what to do about it.
    pub message: String,
    /// The property's path in the request body, or the parameter's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// All errors of a validation, or the causes that an upstream reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub details: Vec<ErrorDetail>,
}

impl ErrorDetail {
    /// Returns an error with a code and a message.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), target: None, details: Vec::new() }
    }

    /// Sets the target.
    #[must_use]
    pub fn at(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Adds an inner error.
    #[must_use]
    pub fn with(mut self, inner: ErrorDetail) -> Self {
        self.details.push(inner);
        self
    }
}

/// An error response: a status, headers and a body. Boxed, since many results contain it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {}", .0.detail.code, .0.detail.message)]
pub struct ArmError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    detail: ErrorDetail,
    retry_after: Option<u64>,
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl ArmError {
    /// An error with a status, a code and a message.
    #[must_use]
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::from_detail(status, ErrorDetail::new(code, message))
    }

    /// Returns an error with a given body.
    #[must_use]
    pub fn from_detail(status: StatusCode, detail: ErrorDetail) -> Self {
        Self(Box::new(Inner { status, detail, retry_after: None, headers: Vec::new() }))
    }

    /// 400.
    #[must_use]
    pub fn bad_request(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404.
    #[must_use]
    pub fn not_found(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 409.
    #[must_use]
    pub fn conflict(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 412.
    #[must_use]
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message)
    }

    /// Returns a 500 without internal details. The cause is in the log, with the same request ID.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "The server met an unexpected condition. Try again; if it persists, look for this answer's x-ms-request-id in the service's log.",
        )
    }

    /// Sets the target.
    #[must_use]
    pub fn at(mut self, target: impl Into<String>) -> Self {
        self.0.detail.target = Some(target.into());
        self
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Adds a response header, such as `Allow` or `WWW-Authenticate`.
    #[must_use]
    pub fn header(mut self, name: http::HeaderName, value: http::HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The body's error object.
    #[must_use]
    pub fn detail(&self) -> &ErrorDetail {
        &self.0.detail
    }

    /// Returns the seconds for `Retry-After`, if the caller should retry.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// Returns the additional response headers.
    #[must_use]
    pub fn headers(&self) -> &[(http::HeaderName, http::HeaderValue)] {
        &self.0.headers
    }
}

/// The body of an error response.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorResponse {
    /// The error.
    pub error: ErrorDetail,
}
