//! The one integration binary: modules share one link step and one harness.

// Modules of a binary: `pub` means pub to its other modules.
#![allow(unreachable_pub)]

mod harness;
mod local_postgres;
mod work;
