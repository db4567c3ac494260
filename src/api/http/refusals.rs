//! Refusals that several resource types share.

use crate::{
    api::http::error::{ApiError, ApiResult},
    arm::{ArmError, ResourceId},
    store::resources::Resource,
};

/// The 404 of a resource.
pub(crate) fn not_found(id: &ResourceId) -> ApiError {
    let (kind, group) = (id.resource_type().unwrap_or_default(), id.resource_group().unwrap_or_default());
    let names: Vec<&str> = id.names().collect();
    ArmError::not_found(
        "ResourceNotFound",
        format!(
            "The Resource '{kind}/{}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            names.join("/")
        ),
    )
    .into()
}

/// The 409 of a creation that lost against another creation of the same resource.
pub(crate) fn created_concurrently() -> ApiError {
    ArmError::conflict("Conflict", "Another request created this resource at the same moment. Get it and decide again.")
        .into()
}

/// Refuses to change a resource on which an operation is in progress.
///
/// # Errors
/// 409 `OperationNotAllowed`.
pub(crate) fn settled(resource: &Resource) -> ApiResult<()> {
    if resource.is_settled() {
        return Ok(());
    }
    Err(ArmError::conflict(
        "OperationNotAllowed",
        format!(
            "'{}' is {}: another operation is in progress on it. Wait until its provisioningState is Succeeded or Failed, then try again.",
            resource.name, resource.provisioning_state
        ),
    )
    .into())
}
