//! Auto-upgrade profiles: what a profile's channel makes of what AKS's regions offer, whether that is news to the profile,
//! and how the run for it is called. Pure: no I/O, no clock.
//!
//! A region's [`RegionOffers`] remember since when each version and image is there. What was there at the first look is of
//! old: neither a new profile nor a member in another region makes it a release. [`is_news`] tells a release from that.

mod decide;
mod facts;
mod name;
mod news;
mod offers;
mod target;
#[cfg(test)]
mod tests;

pub use decide::{Decision, decide};
pub use facts::{ClusterFacts, PoolFacts, lags};
pub use name::run_name;
pub use news::{Past, is_news};
pub use offers::{FleetOffers, ImageOffer, RegionOffers, VersionOffer};
pub use target::{NoTarget, Target, check, newest_minor, target, update};
