//! ARM error responses, with the codes and wording of AKS where recordings or issue threads show them.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// An error response: `{"error": {"code", "message", "target"?}}` under its status.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ArmError {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) target: Option<&'static str>,
    /// Seconds for `Retry-After`.
    pub(crate) retry_after: Option<u64>,
    /// Methods for `Allow`.
    pub(crate) allow: Option<&'static str>,
}

impl ArmError {
    pub(crate) fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), target: None, retry_after: None, allow: None }
    }

    pub(crate) fn at(mut self, target: &'static str) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(target), Some(fields)) = (self.target, error.as_object_mut()) {
            fields.insert("target".into(), target.into());
        }
        json!({ "error": error })
    }

    pub(crate) fn invalid(target: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameter", message).at(target)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "OperationNotAllowed", message)
    }

    pub(crate) fn cluster_not_found(group: &str, name: &str) -> Self {
        Self::resource_not_found(group, &format!("Microsoft.ContainerService/managedClusters/{name}"))
    }

    pub(crate) fn resource_not_found(group: &str, resource: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!(
                "The Resource '{resource}' under resource group '{group}' was not found. For more details please go to \
                 https://aka.ms/ARMResourceNotFoundFix"
            ),
        )
    }

    pub(crate) fn group_not_found(group: &str) -> Self {
        let message = format!("Resource group '{group}' could not be found.");
        Self::new(StatusCode::NOT_FOUND, "ResourceGroupNotFound", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn unknown_type(kind: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "InvalidResourceType",
            format!("The resource type '{kind}' could not be found in the namespace 'Microsoft.ContainerService'."),
        )
    }

    pub(crate) fn method_not_allowed(method: &str, allow: &'static str) -> Self {
        let message = format!("The requested resource does not support http method '{method}'.");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message) }
    }

    pub(crate) fn etag_mismatch(kind: &str, given: &str, current: &str) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "EtagMismatch",
            format!(
                "Operation is not allowed: the If-Match or If-None-Match value '{given}' does not match the {kind}'s etag '{current}'."
            ),
        )
    }

    /// `who` is empty for the cluster itself, `pool - ` for an agent pool.
    pub(crate) fn operation_in_progress(who: &str, state: &str) -> Self {
        Self::conflict(format!(
            "Operation is not allowed: Another operation ({who}{state}) is in progress, please wait for it to finish before starting \
             a new operation. See https://aka.ms/aks-pending-operation for more details"
        ))
    }

    pub(crate) fn stopped(name: &str) -> Self {
        Self::conflict(format!(
            "Operation is not allowed: managed cluster '{name}' is in (Stopped) power state, start it first. See \
             https://aka.ms/aks-cluster-stopped for more details"
        ))
    }
}
