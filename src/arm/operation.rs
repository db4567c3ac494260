//! Asynchronous operations: the status monitor behind `Azure-AsyncOperation` (ARM RPC, common-types v5).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ErrorDetail;

/// API version in operation URLs: Azure's, not one of the resource types'. Operation URLs accept any version.
pub const OPERATION_API_VERSION: &str = "2016-03-30";
/// Seconds a client should wait between polls. Clients take 30 s when the header is missing or zero.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// State of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum OperationState {
    /// Still running.
    InProgress,
    /// Ended successfully.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Cancelled on request.
    Canceled,
}

impl OperationState {
    /// Whether the operation has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self != Self::InProgress
    }
}

/// Body of the status monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// The operation's GUID.
    pub name: String,
    /// State.
    pub status: OperationState,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub start_time: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub end_time: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}
