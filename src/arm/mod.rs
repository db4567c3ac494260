//! The ARM protocol, knowing nothing of the resource types it carries: resource IDs, error bodies, the resource
//! envelope, API versions, ETags, paging and asynchronous operations. Pure: no I/O, no clock.

pub mod error;
pub mod resource_id;

pub use error::{ArmError, ErrorDetail};
pub use resource_id::{ResourceId, ResourceIdError};
