//! Update runs: one row a node. `engine` decides the steps of a run; here they are written.
//!
//! Whoever changes a run holds the lock of its `update_runs` row, so steps of one run follow one another. Rows travel as
//! JSON both ways: a run of any shape is read in one statement, and a step is written in at most one a table.

mod actions;
mod create;
mod load;
mod locks;
mod members;
mod ranks;
mod rows;
mod status;
mod step;
mod task;

pub use actions::{actions, record_action};
pub use create::{create_rows, limit_to, replace_rows};
pub use load::{Audience, Listener, hold, is_starting, load_for_events, load_for_update, lock};
pub use locks::{Holder, try_lock_cluster, unlock_cluster};
pub use members::{
    Ended, Progress, RunMember, finish_upgrades, fleet_has_running_member, member, members_by_index, members_by_name,
    running_count, runs_of_member, save_upgrade, skipped_members,
};
pub use ranks::{QueuedMember, RankedMember, members_to_rank, rank_members};
pub use status::{explain_wait, member_counts, select_images, selected_images, status, status_without_gates, statuses};
pub use step::write_step;
pub use task::{Task, task};
