//! Update runs: plan (membership, order), advance (state machine), derive (status), and what to do next on one cluster.
//! Pure: no I/O, no clock.
//!
//! A run may have ten thousand members, so a step never looks at all of them: a [`Group`] is a tally of its members'
//! states and the head of its queue. [`advance()`] takes such a snapshot and one [`Event`], and says how the snapshot and
//! single members change ([`Step`]) and what is to be set in motion ([`Effect`]).

mod advance;
mod changes;
mod derive;
mod event;
mod explain;
mod plan;
mod replan;
mod run;
mod select;
mod skip;
mod step;
#[cfg(test)]
mod tests;
pub mod upgrade;
mod waits;

pub use advance::advance;
pub use changes::{Change, ChangedMember, changes};
pub use event::{Effect, Event, MemberChange, Outcome, Refused, SkipTarget, Step};
pub use explain::explain;
pub use plan::{DEFAULT_NAME, Plan, PlanError, PlannedGroup, PlannedMember, PlannedStage, plan};
pub use replan::kept_skips;
pub use run::{Gate, Group, Member, Run, Stage, Tally, Wait, not_started};
pub use select::FleetMember;
pub use waits::Waits;
