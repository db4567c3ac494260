//! HTTP: the router and its layers, what handlers share, the resource types, and what ARM itself answers.

mod front_door;
mod http;
pub mod openapi;
pub mod resources;
mod router;
mod state;

pub use self::http::{
    access::AccessCache,
    body::RawBody,
    budgets::{RequestBudgets, RequestRates},
    error::{ApiError, ApiResult},
    request::ArmRequest,
};
pub use front_door::pass_through::PassThrough;
pub use resources::catalogue_changes::CatalogueChanges;
pub use router::{Service, router, router_of};
pub use state::{App, AppState};
