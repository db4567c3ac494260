//! HTTP: the router and its layers, what handlers share, the resource types, and what ARM itself answers.

mod front_door;
mod http;
pub mod openapi;
mod resources;
mod router;
mod state;

pub use self::http::access::AccessCache;
pub use front_door::pass_through::PassThrough;
pub use router::{Service, router};
pub use state::{App, AppState};
