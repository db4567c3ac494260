//! Validation of update runs.

use std::collections::HashSet;

use super::{
    types,
    update_run::{ManagedClusterUpdate, NodeImageSelectionType, UpdateRunProperties, WhenImageUnavailable},
    version::RequestedVersion,
};
use crate::arm::{Problems, ResourceId};

impl UpdateRunProperties {
    /// Validates a body. `fleet` is the run's own fleet. `strategy_is_copy`: the `strategy` in a body with `updateStrategyId` equals
    /// the stored copy, since the client sends back what it has read.
    pub fn check(&self, fleet: &ResourceId, strategy_is_copy: bool, problems: &mut Problems) {
        if let Some(id) = &self.update_strategy_id {
            let at = "properties.updateStrategyId";
            if self.strategy.is_some() && !strategy_is_copy {
                problems.add(at, "Give either strategy or updateStrategyId, not both.");
            }
            match id.parse::<ResourceId>() {
                Ok(id) if id.is_type(types::UPDATE_STRATEGIES) => {
                    if id.parent().as_ref() != Some(fleet) {
                        problems.add(at, "The update strategy must belong to the run's own fleet.");
                    }
                }
                _ => problems.add(at, format!("'{id}' is not the resource ID of a {}.", types::UPDATE_STRATEGIES)),
            }
        }
        if let Some(strategy) = &self.strategy {
            strategy.check("properties.strategy", problems);
        }
        self.managed_cluster_update.check("properties.managedClusterUpdate", problems);
    }
}

impl ManagedClusterUpdate {
    /// Keeps what a client that does not know the extensions leaves out; the default is not stored.
    pub fn keep_extensions(&mut self, stored: Option<&Self>) {
        let kept = self.when_image_unavailable.or(stored.and_then(|stored| stored.when_image_unavailable));
        self.when_image_unavailable = kept.filter(|unavailable| *unavailable != WhenImageUnavailable::Fail);
    }

    fn check(&self, at: &str, problems: &mut Problems) {
        let version_at = format!("{at}.upgrade.kubernetesVersion");
        let kind = self.upgrade.upgrade_type;
        let version = self.upgrade.kubernetes_version.as_deref().filter(|version| !version.is_empty());
        match (kind.changes_version(), version) {
            (false, None) => {}
            (false, Some(_)) => problems
                .add(&version_at, format!("An upgrade of the type {kind:?} has no kubernetesVersion: leave it out.")),
            (true, None) => {
                problems.add(&version_at, format!("An upgrade of the type {kind:?} needs a kubernetesVersion."));
            }
            (true, Some(text)) => {
                if let Err(error) = text.parse::<RequestedVersion>() {
                    problems.add(&version_at, error.to_string());
                }
            }
        }
        let selection = self.node_image_selection.as_ref();
        let selected = selection.map(|selection| selection.selection_type);
        if self.when_image_unavailable.is_some() && matches!(selected, None | Some(NodeImageSelectionType::Latest)) {
            problems.add(
                &format!("{at}.whenImageUnavailable"),
                "whenImageUnavailable goes with the node image selections Consistent and Custom only.",
            );
        }
        let Some(selection) = selection else { return };
        let at = format!("{at}.nodeImageSelection.customNodeImageVersions");
        let custom = &selection.custom_node_image_versions;
        match (selection.selection_type, custom.is_empty()) {
            (NodeImageSelectionType::Custom, true) => {
                problems.add(&at, "The selection type Custom needs at least one node image version.");
            }
            (NodeImageSelectionType::Latest | NodeImageSelectionType::Consistent, false) => {
                problems.add(&at, "Node image versions are listed for the selection type Custom only.");
            }
            _ => {}
        }
        let mut families = HashSet::new();
        for (index, image) in custom.iter().enumerate() {
            match image.version.rsplit_once('-') {
                Some((family, version)) if !family.is_empty() && !version.is_empty() => {
                    if !families.insert(family) {
                        problems.add(
                            &format!("{at}[{index}].version"),
                            format!("There is more than one version of the image family '{family}'."),
                        );
                    }
                }
                _ => problems.add(
                    &format!("{at}[{index}].version"),
                    format!(
                        "'{}' is not a node image version such as 'AKSUbuntu-2204gen2containerd-202508.20.1'.",
                        image.version
                    ),
                ),
            }
        }
    }
}
