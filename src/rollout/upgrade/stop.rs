//! Why a member's upgrade has no plan.

use crate::arm::ErrorDetail;

/// Why a member's upgrade has no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The member waits until the cause is gone, and shows it.
    Pending(ErrorDetail),
    /// The member's upgrade fails.
    Failed(ErrorDetail),
    /// The member is skipped, with this message.
    Skipped(String),
}
