//! How many members of a group, stage or run wait, and for what.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::upgrade::opening;
use crate::{arm::ErrorDetail, model::update_run::UpdateState};

/// Code of a Pending group, stage or run whose members wait.
const MEMBERS_PENDING: &str = "MembersPending";

/// How many members wait, by what they wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    by_reason: BTreeMap<Reason, u32>,
    /// The first opening among the maintenance windows that members wait for.
    opens: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// The maintenance window opens by itself.
    Window,
    /// The maintenance window does not open before a person changes it.
    WindowChange,
    Cluster,
    Offer,
    Azure,
    /// Azure or the issuer of tokens does not accept the service's credential.
    Credential,
    GivenUp,
    Other(String),
}

impl Reason {
    fn of(error: &ErrorDetail) -> Self {
        let cause = error.details.first().map_or("", |detail| detail.code.as_ref());
        match error.code.as_ref() {
            "MaintenanceWindowClosed" => Self::Window,
            "MaintenanceWindowNeverOpens" | "MaintenanceConfigurationUnreadable" => Self::WindowChange,
            "ClusterOperationInProgress" => Self::Cluster,
            "KubernetesVersionNotAvailable" | "NodeImageVersionNotAvailable" => Self::Offer,
            "UpstreamUnavailable" if matches!(cause, "CredentialRefused" | "CredentialFailed") => Self::Credential,
            "UpstreamUnavailable" => Self::Azure,
            "UpgradeAbandoned" => Self::GivenUp,
            code => Self::Other(code.to_owned()),
        }
    }
}

impl Waits {
    /// Counts a member, if it is Pending.
    pub fn add(&mut self, state: UpdateState, error: Option<&ErrorDetail>) {
        let (UpdateState::Pending, Some(error)) = (state, error) else { return };
        self.opens = [self.opens, opening(error)].into_iter().flatten().min();
        *self.by_reason.entry(Reason::of(error)).or_default() += 1;
    }

    /// Adds the members of another part.
    pub fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.by_reason {
            *self.by_reason.entry(reason.clone()).or_default() += count;
        }
        self.opens = [self.opens, other.opens].into_iter().flatten().min();
    }

    /// One sentence a reason; empty when no member waits.
    #[must_use]
    pub fn sentences(&self) -> String {
        self.by_reason.iter().map(|(reason, count)| self.sentence(reason, *count)).collect::<Vec<_>>().join(" ")
    }

    fn sentence(&self, reason: &Reason, count: u32) -> String {
        let one = count == 1;
        let who = if one { "1 member waits".to_owned() } else { format!("{count} members wait") };
        match reason {
            Reason::Window => {
                let opens = self.opens.map_or_else(String::new, |opens| format!("; the next opens at {opens}"));
                format!("{who} for a maintenance window{opens}.")
            }
            Reason::WindowChange => format!(
                "{who} for a change of a maintenance configuration, which cannot be read or has no more openings."
            ),
            Reason::Cluster => format!("{who} for another operation on the cluster to end."),
            Reason::Offer => format!("{who} for the region to offer the Kubernetes version or node image."),
            Reason::Azure => format!("{who} until Azure can be called again."),
            Reason::Credential => format!(
                "{who} until Azure accepts the service's credential: correct FLEET_ARM_CREDENTIAL and its settings."
            ),
            Reason::GivenUp if one => "1 member was given up; its error says what to do.".to_owned(),
            Reason::GivenUp => format!("{count} members were given up; their errors say what to do."),
            Reason::Other(code) => format!("{who} ({code})."),
        }
    }

    /// The error of a part that is Pending for its members; `None` when no member waits.
    #[must_use]
    pub fn error(&self) -> Option<ErrorDetail> {
        (!self.by_reason.is_empty()).then(|| {
            let message = format!(
                "{} The update run goes on by itself as soon as a member need not wait any more. Skip the members to go on without them.",
                self.sentences()
            );
            ErrorDetail::new(MEMBERS_PENDING, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(error: &ErrorDetail) -> Waits {
        let mut waits = Waits::default();
        waits.add(UpdateState::Pending, Some(error));
        waits
    }

    #[test]
    fn members_that_wait_are_counted_by_reason_with_the_first_opening() {
        let mut all = Waits::default();
        assert_eq!((all.sentences(), all.error()), (String::new(), None));
        for opens in ["2026-03-02T02:00:00Z", "2026-03-01T02:00:00Z"] {
            let message = format!("The cluster's maintenance window 'w' is closed; it opens next at {opens}.");
            all.merge(&waiting(&ErrorDetail::new("MaintenanceWindowClosed", message)));
        }
        all.merge(&waiting(&ErrorDetail::new("KubernetesVersionNotAvailable", "")));
        all.add(UpdateState::Running, Some(&ErrorDetail::new("ClusterOperationInProgress", "")));
        assert_eq!(
            all.sentences(),
            "2 members wait for a maintenance window; the next opens at 2026-03-01T02:00:00Z. 1 member waits for the region to offer the Kubernetes version or node image."
        );
        let error = all.error().unwrap();
        assert!(error.code == "MembersPending" && error.message.contains("Skip the members"), "{error:?}");
    }

    #[test]
    fn a_wait_that_a_person_must_end_says_so() {
        let outage =
            |cause: &'static str| ErrorDetail::new("UpstreamUnavailable", "").with(ErrorDetail::new(cause, ""));
        for (error, told) in [
            (ErrorDetail::new("MaintenanceWindowNeverOpens", ""), "for a change of a maintenance configuration"),
            (ErrorDetail::new("MaintenanceConfigurationUnreadable", ""), "for a change of a maintenance configuration"),
            (outage("CredentialFailed"), "correct FLEET_ARM_CREDENTIAL"),
            (outage("CredentialRefused"), "correct FLEET_ARM_CREDENTIAL"),
            (outage("CredentialUnavailable"), "until Azure can be called again"),
            (outage("ServiceUnavailable"), "until Azure can be called again"),
            (ErrorDetail::new("UpgradeAbandoned", ""), "given up"),
        ] {
            let said = waiting(&error).sentences();
            assert!(said.contains(told) && !said.contains("opens at"), "{error:?}: {said}");
        }
    }
}
