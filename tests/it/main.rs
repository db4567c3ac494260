//! The one integration binary: modules share one link step and one harness.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
