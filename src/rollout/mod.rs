//! Update runs: plan (membership, order), advance (state machine), derive (status), and what to do next on one cluster.
//! Pure: no I/O, no clock.

pub mod upgrade;
