//! The resource types: typed bodies, defaults, validation. Pure.
//!
//! Wire types keep patterned strings (`maxConcurrency`, versions) as text, so that validation can collect every finding
//! with its path; [`limit`] and [`version`] parse them into what the rest of the house reasons with.

pub mod limit;
pub mod managed_cluster;
pub mod strategy;
pub mod update_run;
pub mod version;
