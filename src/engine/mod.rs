//! Use cases that requests and jobs share: carry out an event of a run, start it, open and complete its gates, make the run of an
//! auto-upgrade profile, delete a run, a fleet or a resource group.
//!
//! Each is part of one transaction of its caller: it loads rows, asks a pure room, stores what follows, and enqueues the next jobs.
//! Nothing here calls an upstream. All functions fail with an [`EngineError`] when the database does; the caller then rolls back.

pub mod auto_upgrade;
pub mod delete;
pub mod deliveries;
mod drive;
mod error;
mod gates;
pub mod queue;
mod runs;
mod steps;

pub use drive::{RunCommand, command, drive, drive_all};
pub use error::EngineError;
pub use runs::{chooses_images, create_plan, plan, replace_plan};
pub use steps::{Advanced, advance, advance_all};
