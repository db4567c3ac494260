//! What can become of a call to AKS. The kind of error decides what its caller does.

use std::time::Duration;

use crate::arm::ErrorDetail;

/// A call to AKS that did not do what it was made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not reached, cut off, throttled or broken inside: try again. The call may have had its effect.
    #[error("AKS did not answer properly: {}: {}", .detail.code, .detail.message)]
    Transient {
        /// Not before.
        after: Option<Duration>,
        /// AKS's limit on calls, counted here or told by AKS (429), and nothing else.
        throttled: bool,
        /// What happened.
        detail: ErrorDetail,
    },
    /// Another operation is under way on the cluster or pool (409).
    #[error("the cluster is busy: {}: {}", .0.code, .0.message)]
    Busy(ErrorDetail),
    /// Changed since it was read (412): look again.
    #[error("the cluster changed meanwhile: {}: {}", .0.code, .0.message)]
    Changed(ErrorDetail),
    /// AKS says no, and will say no again.
    #[error("AKS refused: {}: {}", .0.code, .0.message)]
    Refused(ErrorDetail),
    /// There is no such cluster, pool, group or subscription.
    #[error("not found: {}: {}", .0.code, .0.message)]
    NotFound(ErrorDetail),
    /// The service's identity may not do this.
    #[error("forbidden: {}: {}", .0.code, .0.message)]
    Forbidden(ErrorDetail),
    /// An answer that makes no sense. The call may have had its effect.
    #[error("AKS's answer makes no sense: {0}")]
    Garbage(String),
}

/// What the upgrade of a member does after an [`UpstreamError`] (behaviour of update runs: conflicts wait, what is
/// transient is retried without a change of state, the rest ends the member's attempt).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Keep what is recorded, look again later.
    Retry {
        /// Not before.
        after: Option<Duration>,
        /// What happened, for the log and the job's last error.
        detail: ErrorDetail,
    },
    /// Nothing has begun: wait as Pending with this error, then look again.
    Wait(ErrorDetail),
    /// Nothing has begun: look again at once.
    LookAgain,
    /// Nothing has begun and nothing will: the member has failed.
    Fail(ErrorDetail),
}

impl UpstreamError {
    /// A failure that another try may get over.
    pub(crate) fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self::Transient { after: None, throttled: false, detail: ErrorDetail::new(code, message) }
    }

    /// Whether it was AKS's limit on calls, so that it is nobody's fault and tells nothing.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Transient { throttled: true, .. })
    }

    /// What the upgrade of a member does now. AKS's own code and message stay inside.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Transient { after, detail, .. } => Verdict::Retry { after: *after, detail: detail.clone() },
            Self::Garbage(what) => Verdict::Retry { after: None, detail: ErrorDetail::new("UpstreamGarbage", what) },
            Self::Changed(_) => Verdict::LookAgain,
            Self::Busy(inner) => Verdict::Wait(
                ErrorDetail::new(
                    "ClusterOperationInProgress",
                    "Another operation is in progress on the cluster; the upgrade begins when it has ended.",
                )
                .with(inner.clone()),
            ),
            Self::Refused(inner) => Verdict::Fail(
                ErrorDetail::new("UpgradeFailed", format!("AKS refused the upgrade: {}", inner.message))
                    .with(inner.clone()),
            ),
            Self::NotFound(inner) => Verdict::Fail(
                ErrorDetail::new("ClusterNotFound", "The cluster, or a part of it, does not exist in AKS.")
                    .with(inner.clone()),
            ),
            Self::Forbidden(inner) => Verdict::Fail(
                ErrorDetail::new(
                    "ClusterPermissionDenied",
                    "The fleet manager's identity may not do this to the cluster; grant it read and write on the managed cluster.",
                )
                .with(inner.clone()),
            ),
        }
    }
}
