//! Auto-upgrade profiles (`Microsoft.ContainerService/fleets/autoUpgradeProfiles`): which AKS releases start update
//! runs automatically.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    types,
    update_run::{NodeImageSelectionType, WhenImageUnavailable},
    version::{InvalidVersion, RequestedVersion},
};
use crate::arm::{ErrorDetail, Problems, ResourceId};

/// `properties` of a profile, as a client sends them and the service stores them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoUpgradeProfileProperties {
    /// The strategy of the generated runs. Absent: all members, one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy_id: Option<String>,
    /// Which releases the profile follows.
    pub channel: UpgradeChannel,
    /// How the runs choose node images. Absent: `Latest`. Not allowed for the channels `NodeImage` and `SecurityPatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_image_selection: Option<AutoUpgradeNodeImageSelection>,
    /// Whether the profile starts no runs.
    #[serde(default)]
    pub disabled: bool,
    /// The minor version that `TargetKubernetesVersion` stays in, `x.y`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_kubernetes_version: Option<String>,
    /// Follow the minor version into its long-term support.
    #[serde(default)]
    pub long_term_support: bool,
    /// When runs are generated. An extension; absent: `OnNewVersion`, as in Azure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconcile>,
    /// What the runs do where AKS no longer sets their image. An extension; absent: `Fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_image_unavailable: Option<WhenImageUnavailable>,
}

/// Which releases a profile follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpgradeChannel {
    /// Newest patch of the minor version before the newest.
    Stable,
    /// Newest patch of the newest minor version.
    Rapid,
    /// Newest node images.
    NodeImage,
    /// Newest patch of one minor version.
    TargetKubernetesVersion,
    /// Newest images of Linux nodes (preview).
    SecurityPatch,
}

impl UpgradeChannel {
    /// Returns the value in requests and responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "Stable",
            Self::Rapid => "Rapid",
            Self::NodeImage => "NodeImage",
            Self::TargetKubernetesVersion => "TargetKubernetesVersion",
            Self::SecurityPatch => "SecurityPatch",
        }
    }

    /// Whether the channel upgrades node images only.
    #[must_use]
    pub fn is_of_images(self) -> bool {
        matches!(self, Self::NodeImage | Self::SecurityPatch)
    }
}

/// How the runs of a profile choose node images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AutoUpgradeNodeImageSelection {
    /// The rule.
    #[serde(rename = "type")]
    pub selection_type: AutoUpgradeNodeImageSelectionType,
}

/// The rule by which the runs of a profile choose node images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum AutoUpgradeNodeImageSelectionType {
    /// Newest in each cluster's region when that cluster starts.
    Latest,
    /// Newest that can be set on every pool of the run.
    Consistent,
}

impl From<AutoUpgradeNodeImageSelectionType> for NodeImageSelectionType {
    fn from(given: AutoUpgradeNodeImageSelectionType) -> Self {
        match given {
            AutoUpgradeNodeImageSelectionType::Latest => Self::Latest,
            AutoUpgradeNodeImageSelectionType::Consistent => Self::Consistent,
        }
    }
}

/// When a profile generates runs: see [`super::extensions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Reconcile {
    /// When AKS releases a new target.
    OnNewVersion,
    /// Also for members that joined later or are behind.
    Continuous,
}

/// Result of the last trigger of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoUpgradeProfileStatus {
    /// When the profile was last triggered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, read_only)]
    pub last_triggered_at: Option<Timestamp>,
    /// Whether the trigger succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub last_trigger_status: Option<AutoUpgradeLastTriggerStatus>,
    /// Why the trigger failed, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub last_trigger_error: Option<ErrorDetail>,
    /// The target: a Kubernetes version, or node images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(read_only)]
    pub last_trigger_upgrade_versions: Vec<String>,
    /// Additional information for people. Preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub last_trigger_message: Option<String>,
}

/// Status of the last trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum AutoUpgradeLastTriggerStatus {
    /// The run was created, or none was needed.
    Succeeded,
    /// No run was created.
    Failed,
}

/// A minor version of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MinorVersion {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl std::fmt::Display for MinorVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl std::str::FromStr for MinorVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        match text.parse()? {
            RequestedVersion::NewestPatch { major, minor } => Ok(Self { major, minor }),
            RequestedVersion::Exact(_) => Err(InvalidVersion(text.to_owned())),
        }
    }
}

impl AutoUpgradeProfileProperties {
    /// Returns the minor version to stay in. `None`: another channel, or an invalid value.
    #[must_use]
    pub fn target_minor(&self) -> Option<MinorVersion> {
        self.target_kubernetes_version.as_deref()?.parse().ok()
    }

    /// Whether the profile also upgrades members that joined later or are behind.
    #[must_use]
    pub fn is_continuous(&self) -> bool {
        self.reconcile == Some(Reconcile::Continuous)
    }

    /// Whether both follow the same releases.
    #[must_use]
    pub fn follows_as(&self, other: &Self) -> bool {
        self.channel == other.channel && self.target_kubernetes_version == other.target_kubernetes_version
    }

    /// Returns the body to store: properties that are absent and immutable keep their stored value, and empty ones are removed.
    #[must_use]
    pub fn to_stored(mut self, stored: Option<&Self>) -> Self {
        self.target_kubernetes_version = self.target_kubernetes_version.filter(|version| !version.is_empty());
        if let Some(stored) = stored {
            self.update_strategy_id = self.update_strategy_id.or_else(|| stored.update_strategy_id.clone());
            // A client that does not know the extension does not reset it.
            self.reconcile = self.reconcile.or(stored.reconcile);
            self.when_image_unavailable = self.when_image_unavailable.or(stored.when_image_unavailable);
            if !self.channel.is_of_images() {
                self.node_image_selection = self.node_image_selection.or_else(|| stored.node_image_selection.clone());
            }
        }
        self.reconcile = self.reconcile.filter(|reconcile| *reconcile != Reconcile::OnNewVersion);
        self.when_image_unavailable =
            self.when_image_unavailable.filter(|unavailable| *unavailable != WhenImageUnavailable::Fail);
        self
    }

    /// Checks a body against the rules and against what is stored (`None`: a new profile); `fleet` is the profile's own.
    pub fn check(&self, fleet: &ResourceId, stored: Option<&Self>, problems: &mut Problems) {
        self.check_strategy(fleet, stored, problems);
        let channel = self.channel.as_str();
        let at = "properties.nodeImageSelection";
        if let Some(selection) = &self.node_image_selection {
            if self.channel.is_of_images() {
                let message =
                    format!("The channel {channel} is about node images itself: leave nodeImageSelection out.");
                problems.add(at, message);
            }
            let old = stored.and_then(|stored| stored.node_image_selection.as_ref());
            if old.is_some_and(|old| old != selection) {
                problems.add_coded(
                    "PropertyChangeNotAllowed",
                    "properties.nodeImageSelection.type",
                    "The node image selection of a profile cannot be changed: create another profile.",
                );
            }
        }
        let at = "properties.targetKubernetesVersion";
        let given = self.target_kubernetes_version.as_deref().filter(|version| !version.is_empty());
        match (self.channel, given) {
            (UpgradeChannel::TargetKubernetesVersion, None) => {
                problems.add(at, "The channel TargetKubernetesVersion needs a minor version such as '1.33'.");
            }
            (UpgradeChannel::TargetKubernetesVersion, Some(version)) if version.parse::<MinorVersion>().is_err() => {
                problems.add(at, format!("'{version}' is not a minor version of Kubernetes such as '1.33'."));
            }
            (UpgradeChannel::TargetKubernetesVersion, Some(_)) | (_, None) => {}
            (_, Some(_)) => {
                problems.add(at, format!("The channel {channel} has no target version: leave it out."));
            }
        }
        if self.long_term_support && self.channel != UpgradeChannel::TargetKubernetesVersion {
            problems.add(
                "properties.longTermSupport",
                format!("Long-term support goes with the channel TargetKubernetesVersion only, not with {channel}."),
            );
        }
    }

    fn check_strategy(&self, fleet: &ResourceId, stored: Option<&Self>, problems: &mut Problems) {
        let Some(id) = &self.update_strategy_id else { return };
        let at = "properties.updateStrategyId";
        match id.parse::<ResourceId>() {
            Ok(id) if id.is_type(types::UPDATE_STRATEGIES) => {
                if id.parent().as_ref() != Some(fleet) {
                    problems.add(at, "The update strategy must belong to the profile's own fleet.");
                }
            }
            _ => problems.add(at, format!("'{id}' is not the resource ID of a {}.", types::UPDATE_STRATEGIES)),
        }
        let old = stored.map(|stored| stored.update_strategy_id.as_deref().unwrap_or_default());
        if old.is_some_and(|old| !old.eq_ignore_ascii_case(id)) {
            problems.add_coded(
                "PropertyChangeNotAllowed",
                at,
                "The update strategy of a profile cannot be changed: edit the strategy itself, or create another profile.",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FLEET: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService/fleets/f";

    fn profile(body: serde_json::Value) -> AutoUpgradeProfileProperties {
        serde_json::from_value(body).unwrap()
    }

    fn found(body: serde_json::Value, stored: Option<serde_json::Value>) -> String {
        let mut problems = Problems::default();
        let stored = stored.map(profile);
        profile(body).check(&FLEET.parse().unwrap(), stored.as_ref(), &mut problems);
        match problems.into_result() {
            Ok(()) => String::new(),
            Err(error) => format!("{} {:?}", error.detail().message, error.detail()),
        }
    }

    #[test]
    fn properties_allowed_for_each_channel() {
        let strategy = format!("{FLEET}/updateStrategies/s");
        for sound in [
            json!({"channel": "Rapid", "updateStrategyId": strategy, "nodeImageSelection": {"type": "Consistent"}}),
            json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "1.30", "longTermSupport": true}),
            json!({"channel": "NodeImage", "targetKubernetesVersion": ""}),
        ] {
            assert_eq!(found(sound, None), "");
        }
        for (wrong, at) in [
            (
                json!({"channel": "NodeImage", "nodeImageSelection": {"type": "Latest"}}),
                "properties.nodeImageSelection",
            ),
            (json!({"channel": "SecurityPatch", "nodeImageSelection": {"type": "Latest"}}), "nodeImageSelection"),
            (json!({"channel": "TargetKubernetesVersion"}), "properties.targetKubernetesVersion"),
            (json!({"channel": "TargetKubernetesVersion", "targetKubernetesVersion": "1.30.1"}), "'1.30.1'"),
            (json!({"channel": "Stable", "targetKubernetesVersion": "1.30"}), "properties.targetKubernetesVersion"),
            (json!({"channel": "Stable", "longTermSupport": true}), "properties.longTermSupport"),
            (json!({"channel": "Stable", "updateStrategyId": FLEET}), "properties.updateStrategyId"),
            (json!({"channel": "Stable", "updateStrategyId": strategy.replace("/f/", "/g/")}), "own fleet"),
        ] {
            assert!(found(wrong.clone(), None).contains(at), "{wrong}");
        }
    }

    #[test]
    fn immutable_properties() {
        let strategy = format!("{FLEET}/updateStrategies/s");
        let stored =
            json!({"channel": "Rapid", "updateStrategyId": strategy, "nodeImageSelection": {"type": "Latest"}});
        let same = json!({"channel": "Stable", "updateStrategyId": strategy.to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions")});
        assert!(!found(same, Some(stored.clone())).contains("PropertyChangeNotAllowed"));
        for other in [
            json!({"channel": "Rapid", "updateStrategyId": format!("{strategy}2")}),
            json!({"channel": "Rapid", "nodeImageSelection": {"type": "Consistent"}}),
        ] {
            assert!(found(other.clone(), Some(stored.clone())).contains("PropertyChangeNotAllowed"), "{other}");
        }
        let kept = profile(json!({"channel": "Stable"})).to_stored(Some(&profile(stored.clone())));
        assert_eq!((kept.update_strategy_id, kept.node_image_selection.is_some()), (Some(strategy), true));
        let image = profile(json!({"channel": "NodeImage"})).to_stored(Some(&profile(stored)));
        assert_eq!(image.node_image_selection, None);
    }

    #[test]
    fn clients_without_the_extension_do_not_reset_it() {
        let stored = profile(json!({"channel": "Rapid", "reconcile": "Continuous"}));
        assert!(profile(json!({"channel": "Rapid"})).to_stored(Some(&stored)).is_continuous());
        let off = profile(json!({"channel": "Rapid", "reconcile": "OnNewVersion"})).to_stored(Some(&stored));
        assert_eq!(off.reconcile, None, "what is the default is not shown");
    }
}
