//! One file a job kind: load, ask a pure room, store, at most one upstream call at a time.

pub mod fleets;
pub mod members;
pub mod outcome;
