//! The one integration binary: modules share one link step and one harness.

// `pub` here is for the other modules of this binary, and what its helpers cannot do fails the test.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod auto_upgrade;
mod az_fleet;
mod azure;
mod bad_bodies;
mod bad_input;
mod bad_paths;
mod chaos;
mod cli;
mod clients;
mod contract;
mod credentials;
mod database;
mod dependencies;
mod explained;
mod faults;
mod faults_database;
mod faults_frozen;
mod faults_members;
mod faults_overlap;
mod faults_refused;
mod faults_silence;
mod fleet_identity;
mod front_door;
mod gates;
mod harness;
mod large_runs;
mod local_postgres;
mod lock_order;
mod member_statements;
mod memberships;
mod migrations;
mod node_images;
mod oidc;
mod origins;
mod pass_through;
mod pass_through_astray;
mod quarantine;
mod rbac;
mod resource_types;
mod run_membership;
mod run_race;
mod run_stop;
mod selectors;
mod session;
mod slow_clients;
mod store_runs;
mod throttled_runs;
mod tls;
mod token_service;
mod webhooks;
mod windows;
mod work;
