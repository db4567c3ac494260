//! The one integration binary: modules share one link step and one harness.

mod azure;
