//! The ARM protocol, independent of resource types: resource IDs, error bodies, the resource envelope, API versions, ETags, paging and asynchronous operations. Pure: no I/O, no clock.

pub mod api_version;
pub mod envelope;
pub mod error;
pub mod etag;
pub mod filter;
pub mod operation;
pub mod origin;
pub mod page;
pub mod patch;
pub mod problems;
pub mod property_path;
pub mod resource_id;

pub use api_version::ApiVersion;
pub use error::{ArmError, ErrorDetail, ErrorResponse};
pub use etag::{Etag, Precondition};
pub use origin::{Origin, Origins};
pub use problems::Problems;
pub use resource_id::{ResourceId, ResourceIdError};
