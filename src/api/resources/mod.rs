//! The resource types of the provider, one file each.

pub(super) mod fleets;
pub(super) mod gates;
pub(super) mod members;
pub(super) mod profiles;
pub(super) mod runs;
pub(super) mod strategies;
