//! Update strategies of a fleet. Runs made from one keep their copy, whatever becomes of it.

use super::resource_type::{Change, Noun, ResourceType, Scope, Verbs};
use crate::{
    api::http::error::ApiResult,
    arm::Problems,
    model::{strategy::FleetUpdateStrategyProperties, types, versions::Since},
};

/// Update strategies.
pub(super) struct UpdateStrategy;

impl ResourceType for UpdateStrategy {
    const TYPE: &'static str = types::UPDATE_STRATEGIES;
    const SCOPE: Scope = Scope::Fleet;
    const SINCE: Since = Since::ALWAYS;
    const NOUN: Noun = Noun { article: "an", one: "update strategy", many: "update strategies" };
    const VERBS: Verbs = Verbs { put: true, patch: false, delete: true };
    const NAME_PARAMETER: &'static str = "updateStrategyName";

    type Properties = FleetUpdateStrategyProperties;
    type Extras = ();

    async fn check(
        _: &mut Change<'_>,
        new: &Self::Properties,
        _: Option<&Self::Properties>,
        problems: &mut Problems,
    ) -> ApiResult<()> {
        new.strategy.check("properties.strategy", problems);
        Ok(())
    }
}
