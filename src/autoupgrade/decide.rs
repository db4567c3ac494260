//! What is to happen to a profile after a look.

use super::{FleetOffers, NoTarget, Past, Target, check, is_news, target};
use crate::{arm::ErrorDetail, model::auto_upgrade_profile::AutoUpgradeProfileProperties};

/// What is to happen to a profile after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// The profile leads nowhere as it is: tell people, once.
    Tell(ErrorDetail),
    /// Something was released that the profile may not go to.
    Fail(Target, ErrorDetail),
    /// Something was released: start a run.
    Run(Target),
    /// Nothing was released, but members that lag behind are to be picked up.
    PickUp(Target),
}

/// Decides on an enabled or disabled profile.
#[must_use]
pub fn decide(profile: &AutoUpgradeProfileProperties, offers: &FleetOffers, past: &Past) -> Decision {
    if profile.disabled {
        return Decision::Nothing;
    }
    let target = match target(profile, offers) {
        Ok(target) => target,
        Err(none @ (NoTarget::NotReleased(..) | NoTarget::Retired(_))) => return Decision::Tell(none.detail()),
        Err(NoTarget::Unknown | NoTarget::PreviewOnly(_) | NoTarget::NoImages) => return Decision::Nothing,
    };
    let news = is_news(profile, &target, offers, past);
    match check(profile, &target, offers) {
        Err(error) if news => Decision::Fail(target, error),
        Err(error) if profile.is_continuous() => Decision::Tell(error),
        Err(_) => Decision::Nothing,
        Ok(()) if news => Decision::Run(target),
        Ok(()) if profile.is_continuous() => Decision::PickUp(target),
        Ok(()) => Decision::Nothing,
    }
}
