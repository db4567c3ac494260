//! Auto-upgrade profiles: the target of a profile's channel, whether that target is a new release for the profile, and the name
//! of the run for it. Pure: no I/O, no clock.
//!
//! [`RegionOffers`] store since when each version and image is offered in a region. What a region offered when it was first read is
//! never a release: neither a new profile nor a member in another region makes it one. [`is_new_release`] decides.

mod decide;
mod facts;
mod name;
mod offers;
mod releases;
mod target;
#[cfg(test)]
mod tests;

pub use decide::{Decision, decide};
pub use facts::{ClusterFacts, PoolFacts, is_behind};
pub use name::run_name;
pub use offers::{FleetOffers, ImageOffer, RegionOffers, VersionOffer};
pub use releases::{TriggerHistory, is_new_release};
pub use target::{NoTarget, Target, check, newest_minor, target, update};
