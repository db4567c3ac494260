//! The resource types: typed bodies, defaults, validation, and what each API version shows. Pure.
//!
//! Wire types keep patterned strings (`maxConcurrency`, versions) as text, so that validation can report every error
//! with its path. [`limit`] and [`version`] parse them into the types that other rooms use.

pub mod auto_upgrade_profile;
pub mod extensions;
pub mod fleet;
pub mod gate;
pub mod identity;
pub mod label;
pub mod limit;
pub mod location;
pub mod maintenance;
pub mod managed_cluster;
pub mod member;
pub mod name;
pub mod provisioning_state;
pub mod scheduled_start;
pub mod selector;
pub mod strategy;
pub mod subscription;
pub mod types;
pub mod update_run;
pub mod version;
pub mod versions;

mod strategy_rules;
mod update_run_rules;
