//! The resource types of the provider: one file a type, which says what is special about it. Everything else is generic.

pub mod at;
pub mod catalogue_changes;
mod fleets;
mod gates;
mod handlers;
mod linked_access;
mod members;
mod profiles;
pub mod registry;
pub mod resource_type;
pub(super) mod runs;
mod strategies;
mod tracked;
