//! What can become of a call to AKS. The kind of error decides what its caller does.

use std::time::Duration;

use crate::arm::ErrorDetail;

/// A call to AKS that did not do what it was made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// AKS's limit on calls is reached, as counted here or as AKS said (429). The call had no effect, and its place in the
    /// queue is kept until then.
    #[error("AKS's limit on calls is reached: {}", .detail.message)]
    Throttled {
        /// When to call again, from now.
        after: Duration,
        /// What was refused.
        detail: ErrorDetail,
    },
    /// AKS or the service's own credential is not available. The call had no effect.
    #[error("AKS could not be called: {}: {}", .detail.code, .detail.message)]
    Unavailable {
        /// Not to call again before.
        after: Option<Duration>,
        /// What happened.
        detail: ErrorDetail,
    },
    /// Cut off or failed inside AKS: try again. The call may have had its effect.
    #[error("AKS did not answer properly: {}: {}", .detail.code, .detail.message)]
    Transient {
        /// Not to call again before.
        after: Option<Duration>,
        /// What happened.
        detail: ErrorDetail,
    },
    /// Another operation is in progress on the cluster or pool (409).
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
    /// The service's identity has no permission for this (403).
    #[error("forbidden: {}: {}", .0.code, .0.message)]
    Forbidden(ErrorDetail),
    /// An answer that makes no sense. The call may have had its effect.
    #[error("AKS's answer makes no sense: {0}")]
    Garbage(String),
}

/// What the upgrade of a member does after an [`UpstreamError`]: conflicts wait, transient errors are retried without a change of state,
/// all others end the member's attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call was not made, and nothing is wrong: call again later.
    WaitForBudget {
        /// How long to wait, from now.
        after: Duration,
    },
    /// AKS or the credential is not available: keep the record and try again later.
    Retry {
        /// How long to wait at least, from now.
        after: Option<Duration>,
        /// The error, for the log and the job's last error.
        detail: ErrorDetail,
        /// The call may have had its effect: only a read of the cluster tells.
        may_have_effect: bool,
    },
    /// Nothing has begun: wait as Pending with this error, then read the cluster again.
    Wait(ErrorDetail),
    /// Nothing has begun: read the cluster again at once.
    ReadAgain,
    /// Nothing has begun and nothing will: the member has failed.
    Fail(ErrorDetail),
}

impl UpstreamError {
    /// A failure that another try may get over.
    pub(crate) fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self::Transient { after: None, detail: ErrorDetail::new(code, message) }
    }

    /// The same failure of something that comes before the call: the call was not sent.
    pub(crate) fn before_sending(self) -> Self {
        match self {
            Self::Transient { after, detail } => Self::Unavailable { after, detail },
            other => other,
        }
    }

    /// Whether AKS's limit on calls is the only reason.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Throttled { .. })
    }

    /// AKS's own code and message.
    #[must_use]
    pub fn detail(&self) -> ErrorDetail {
        match self {
            Self::Throttled { detail, .. }
            | Self::Unavailable { detail, .. }
            | Self::Transient { detail, .. }
            | Self::Busy(detail)
            | Self::Changed(detail)
            | Self::Refused(detail)
            | Self::NotFound(detail)
            | Self::Forbidden(detail) => detail.clone(),
            Self::Garbage(what) => ErrorDetail::new("UpstreamGarbage", what.clone()),
        }
    }

    /// What the upgrade of a member does now. AKS's own code and message stay inside.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let retry = |after, may_have_effect| Verdict::Retry { after, detail: self.detail(), may_have_effect };
        match self {
            Self::Throttled { after, .. } => Verdict::WaitForBudget { after: *after },
            Self::Unavailable { after, .. } => retry(*after, false),
            Self::Transient { after, .. } => retry(*after, true),
            Self::Garbage(_) => retry(None, true),
            Self::Changed(_) => Verdict::ReadAgain,
            Self::Busy(inner) => Verdict::Wait(
                ErrorDetail::new(
                    "ClusterOperationInProgress",
                    "AKS is busy with another operation on the cluster.",
                )
                .with(inner.clone()),
            ),
            Self::Refused(inner) => Verdict::Fail(refused(inner)),
            Self::NotFound(inner) => Verdict::Fail(
                ErrorDetail::new(
                    "ClusterNotFound",
                    "The cluster, or one of its agent pools, does not exist in AKS. Remove the member from the fleet.",
                )
                    .with(inner.clone()),
            ),
            Self::Forbidden(inner) => Verdict::Fail(
                ErrorDetail::new(
                    "ClusterPermissionDenied",
                    "The service's identity may not read or change the cluster. Give the identity the role 'Azure Kubernetes Service Contributor Role' on the cluster, then try again (in an update run: start the run again).",
                )
                .with(inner.clone()),
            ),
        }
    }
}

/// Codes of 409 while an operation is in progress (AKS, Azure Resource Manager): waiting helps.
const IN_PROGRESS: [&str; 5] = [
    "OperationNotAllowed",
    "Conflict",
    "OperationInProgress",
    "AnotherOperationInProgress",
    "ConcurrentOperationNotAllowed",
];

/// Whether a conflict (409) is about an operation that is in progress. AKS uses `OperationNotAllowed` for stopped clusters,
/// too, which only the message tells.
pub(super) fn is_in_progress(conflict: &ErrorDetail) -> bool {
    let known = IN_PROGRESS.iter().any(|code| conflict.code.eq_ignore_ascii_case(code));
    known && !conflict.message.to_ascii_lowercase().contains("stopped")
}

/// Codes of refusals that are about policy and not about the identity's permissions, whatever their status.
pub(super) fn is_policy(refusal: &ErrorDetail) -> bool {
    refusal.code.eq_ignore_ascii_case("RequestDisallowedByPolicy")
}

/// The refusal with AKS's code and message, and what a person can do about it.
fn refused(inner: &ErrorDetail) -> ErrorDetail {
    let remedy = REMEDIES.iter().find(|(code, _)| inner.code.eq_ignore_ascii_case(code)).map(|(_, remedy)| *remedy);
    let message = format!("AKS refused the upgrade: {}: {}", inner.code, inner.message);
    let remedy = remedy.unwrap_or("Correct the cause, then start the update run again, or skip the member.");
    let message = format!("{} {remedy}", sentence(&message));
    ErrorDetail::new("UpgradeFailed", message).with(inner.clone())
}

fn sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

const SUBSCRIPTION_REMEDY: &str =
    "Make the subscription active and writable again (in the portal: Subscriptions), then start the run again.";

/// What a person can do, by AKS's and Azure Resource Manager's codes.
const REMEDIES: &[(&str, &str)] = &[
    (
        "ScopeLocked",
        "Remove the lock from the cluster, its resource group or its subscription, then start the run again.",
    ),
    ("ReadOnlyDisabledSubscription", SUBSCRIPTION_REMEDY),
    ("DisabledSubscription", SUBSCRIPTION_REMEDY),
    ("InvalidSubscriptionState", SUBSCRIPTION_REMEDY),
    (
        "SubscriptionNotRegistered",
        "Register the resource provider Microsoft.ContainerService in the subscription, then start the run again.",
    ),
    (
        "MissingSubscriptionRegistration",
        "Register the resource provider Microsoft.ContainerService in the subscription, then start the run again.",
    ),
    (
        "RequestDisallowedByPolicy",
        "An Azure Policy assignment denies the change: change the policy, or exempt the cluster from it, then start the run again.",
    ),
    ("QuotaExceeded", "Raise the quota, or free some of it, then start the run again."),
    (
        "ResourceGroupBeingDeleted",
        "The resource group of the cluster is being deleted: remove the member from the fleet.",
    ),
];
