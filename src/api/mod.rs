//! HTTP: the router and its layers, and one file a resource type.

mod access;
mod audit;
mod authorization;
mod body;
mod context;
mod error;
mod events;
mod fleets;
mod front;
mod gates;
mod health;
mod linked;
mod members;
mod metadata;
mod missing;
pub mod openapi;
mod operations;
mod pass_through;
mod principal;
mod profiles;
mod provider;
mod render;
mod request;
mod resource_groups;
mod router;
mod runs;
mod state;
mod strategies;
mod subscriptions;
mod tags;
mod tracked;
mod unique;

pub use access::AccessCache;
pub use pass_through::PassThrough;
pub use router::{Service, router};
pub use state::{App, AppState};
