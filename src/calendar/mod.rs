//! Occurrences of maintenance windows: whether a window is open, until when, and when it opens next. Pure: no clock, no I/O.
//!
//! A window opens on the days of its [`Schedule`], at a time of day, for a number of hours, all in a fixed offset from UTC. Days
//! that are not allowed are cut out of the window: they close it early or open it late. The work is bounded by the number of
//! such spans, and by 400 years, after which the Gregorian calendar repeats.

mod invalid_window;
mod schedule;
#[cfg(test)]
mod tests;
mod window;

pub use invalid_window::InvalidWindow;
pub use schedule::{Schedule, WeekIndex};
pub use window::{State, Window};
