//! What the service does about a profile after it read what AKS offers.

use super::{FleetOffers, NoTarget, Target, TriggerHistory, check, is_new_release, target};
use crate::{arm::ErrorDetail, model::auto_upgrade_profile::AutoUpgradeProfileProperties};

/// What the service does about a profile after it read what AKS offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    DoNothing,
    /// Show this error on the profile: its settings lead to no version that AKS offers.
    ReportError(ErrorDetail),
    /// Record a failed trigger for this target: a version was released, and the profile's settings do not permit it.
    RecordFailure(Target, ErrorDetail),
    /// Start a run to this target: AKS released it.
    StartRun(Target),
    /// Start a run for the members that are behind this target: there is no new release, and the profile is `Continuous`.
    CatchUp(Target),
}

/// Returns what to do about a profile, enabled or disabled.
#[must_use]
pub fn decide(profile: &AutoUpgradeProfileProperties, offers: &FleetOffers, history: &TriggerHistory) -> Decision {
    if profile.disabled {
        return Decision::DoNothing;
    }
    let target = match target(profile, offers) {
        Ok(target) => target,
        Err(none @ (NoTarget::NotReleased(..) | NoTarget::Retired(_))) => return Decision::ReportError(none.detail()),
        Err(NoTarget::Unknown | NoTarget::PreviewOnly(_) | NoTarget::NoImages) => return Decision::DoNothing,
    };
    let new_release = is_new_release(profile, &target, offers, history);
    match check(profile, &target, offers) {
        Err(error) if new_release => Decision::RecordFailure(target, error),
        Err(error) if profile.is_continuous() => Decision::ReportError(error),
        Err(_) => Decision::DoNothing,
        Ok(()) if new_release => Decision::StartRun(target),
        Ok(()) if profile.is_continuous() => Decision::CatchUp(target),
        Ok(()) => Decision::DoNothing,
    }
}
