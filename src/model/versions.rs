//! API versions, and a table of the properties that each of them has. There is one set of types for all versions.
//!
//! The types are those of the newest stable version. A property that an API version does not have is removed from requests and
//! responses of that version.

use std::borrow::Cow;

use serde_json::Value;

use super::{auto_upgrade_profile::UpgradeChannel, types};
use crate::arm::{ApiVersion, property_path};

const V2023_10_15: ApiVersion = ApiVersion::stable(2023, 10, 15);
/// `V2024_04_01`.
pub const V2024_04_01: ApiVersion = ApiVersion::stable(2024, 4, 1);
/// `V2025_03_01`.
pub const V2025_03_01: ApiVersion = ApiVersion::stable(2025, 3, 1);
/// `P2025_04_01`.
pub const P2025_04_01: ApiVersion = ApiVersion::preview(2025, 4, 1);
const P2025_08_01: ApiVersion = ApiVersion::preview(2025, 8, 1);
const P2026_02_01: ApiVersion = ApiVersion::preview(2026, 2, 1);
const P2026_03_02: ApiVersion = ApiVersion::preview(2026, 3, 2);
const P2026_05_01: ApiVersion = ApiVersion::preview(2026, 5, 1);
/// `V2026_06_01`.
pub const V2026_06_01: ApiVersion = ApiVersion::stable(2026, 6, 1);
const P2026_06_02: ApiVersion = ApiVersion::preview(2026, 6, 2);

/// Versions served, newest first.
pub const ALL: &[ApiVersion] = &[
    P2026_06_02,
    V2026_06_01,
    P2026_05_01,
    P2026_03_02,
    P2026_02_01,
    P2025_08_01,
    P2025_04_01,
    V2025_03_01,
    V2024_04_01,
    V2023_10_15,
];

/// The newest stable version, which the types follow.
pub const NEWEST: ApiVersion = V2026_06_01;

/// From which versions on something exists.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    stable: Option<ApiVersion>,
    preview: ApiVersion,
}

impl Since {
    /// In every version served.
    pub const ALWAYS: Self = since(V2023_10_15, P2025_04_01);

    /// Whether a version has it.
    #[must_use]
    pub fn includes(&self, version: ApiVersion) -> bool {
        if version.is_preview() { version >= self.preview } else { self.stable.is_some_and(|stable| version >= stable) }
    }

    /// The versions that have it, newest first.
    pub fn versions(self) -> impl Iterator<Item = ApiVersion> + Clone {
        ALL.iter().copied().filter(move |version| self.includes(*version))
    }
}

/// Introduced by these two versions and in all later ones.
#[must_use]
pub const fn since(stable: ApiVersion, preview: ApiVersion) -> Since {
    Since { stable: Some(stable), preview }
}

const fn preview(from: ApiVersion) -> Since {
    Since { stable: None, preview: from }
}

/// (resource type, path, since): all properties that some served version does not have.
const INTRODUCED: &[(&str, &str, Since)] = &[
    (types::FLEETS, "properties.hubProfile", since(V2024_04_01, P2025_04_01)),
    (
        types::FLEETS,
        "properties.hubProfile.apiServerAccessProfile.enableVnetIntegration",
        since(V2025_03_01, P2025_04_01),
    ),
    (types::FLEETS, "properties.hubProfile.apiServerAccessProfile.subnetId", since(V2025_03_01, P2025_04_01)),
    (types::FLEETS, "properties.status", since(V2025_03_01, P2025_04_01)),
    (types::MEMBERS, "properties.labels", since(V2026_06_01, P2025_04_01)),
    (types::MEMBERS, "properties.status", since(V2025_03_01, P2025_04_01)),
    (types::AUTO_UPGRADE_PROFILES, "properties.targetKubernetesVersion", since(V2026_06_01, P2025_04_01)),
    (types::AUTO_UPGRADE_PROFILES, "properties.longTermSupport", since(V2026_06_01, P2025_04_01)),
    (types::AUTO_UPGRADE_PROFILES, "properties.autoUpgradeProfileStatus.lastTriggerMessage", preview(P2026_06_02)),
    (types::UPDATE_RUNS, "properties.autoUpgradeProfileId", since(V2025_03_01, P2025_04_01)),
    (
        types::UPDATE_RUNS,
        "properties.managedClusterUpdate.nodeImageSelection.customNodeImageVersions",
        since(V2025_03_01, P2025_04_01),
    ),
    (types::UPDATE_RUNS, "properties.status.failureCount", preview(P2026_05_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].failureCount", preview(P2026_05_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].maxAllowedFailures", preview(P2026_05_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].maxConcurrency", since(V2026_06_01, P2026_02_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].beforeGates", since(V2026_06_01, P2025_04_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].afterGates", since(V2026_06_01, P2025_04_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].groups[].failureCount", preview(P2026_05_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].groups[].maxAllowedFailures", preview(P2026_05_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].groups[].maxConcurrency", since(V2026_06_01, P2026_02_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].groups[].beforeGates", since(V2026_06_01, P2025_04_01)),
    (types::UPDATE_RUNS, "properties.status.stages[].groups[].afterGates", since(V2026_06_01, P2025_04_01)),
    (types::GATES, "properties.scheduledStartProperties", preview(P2026_05_01)),
    (types::UPDATE_RUNS, STRATEGY_PREFIX, since(V2023_10_15, P2025_04_01)),
    (types::UPDATE_STRATEGIES, STRATEGY_PREFIX, since(V2023_10_15, P2025_04_01)),
];

const STRATEGY_PREFIX: &str = "properties.strategy.stages[]";

/// Channels that are not in every version that has profiles.
const INTRODUCED_CHANNELS: &[(UpgradeChannel, Since)] = &[
    (UpgradeChannel::TargetKubernetesVersion, since(V2026_06_01, P2025_04_01)),
    (UpgradeChannel::SecurityPatch, preview(P2026_06_02)),
];

/// Whether a version has a channel of auto-upgrade profiles.
#[must_use]
pub fn has_channel(channel: UpgradeChannel, version: ApiVersion) -> bool {
    INTRODUCED_CHANNELS.iter().all(|(later, since)| *later != channel || since.includes(version))
}

/// Paths inside a strategy, for each place where a strategy occurs.
const INTRODUCED_IN_STAGES: &[(&str, Since)] = &[
    ("maxConcurrency", since(V2026_06_01, P2026_02_01)),
    ("maxAllowedFailures", preview(P2026_05_01)),
    ("memberSelector", preview(P2026_05_01)),
    ("beforeGates", since(V2026_06_01, P2025_04_01)),
    ("afterGates", since(V2026_06_01, P2025_04_01)),
    ("beforeGates[].scheduledStartConfiguration", preview(P2026_05_01)),
    ("afterGates[].scheduledStartConfiguration", preview(P2026_05_01)),
    ("groups[].maxConcurrency", since(V2026_06_01, P2026_02_01)),
    ("groups[].maxAllowedFailures", preview(P2026_05_01)),
    ("groups[].memberSelector", preview(P2026_05_01)),
    ("groups[].beforeGates", since(V2026_06_01, P2025_04_01)),
    ("groups[].afterGates", since(V2026_06_01, P2025_04_01)),
    ("groups[].beforeGates[].scheduledStartConfiguration", preview(P2026_05_01)),
    ("groups[].afterGates[].scheduledStartConfiguration", preview(P2026_05_01)),
];

/// Removes the properties that `version` does not have from a body of a request or a response.
pub fn hide(body: &mut Value, resource_type: &str, version: ApiVersion) {
    hidden(resource_type, version).for_each(|path| property_path::remove(body, &path));
}

/// Returns the paths that `version` does not have.
fn hidden(resource_type: &str, version: ApiVersion) -> impl Iterator<Item = Cow<'static, str>> {
    INTRODUCED.iter().filter(move |(of, ..)| *of == resource_type).flat_map(move |(_, path, since)| {
        let in_stages = if *path == STRATEGY_PREFIX { INTRODUCED_IN_STAGES } else { &[] };
        let in_stages = in_stages.iter().filter(move |(_, since)| !since.includes(version));
        let itself = (!since.includes(version)).then_some(Cow::Borrowed(*path));
        itself.into_iter().chain(in_stages.map(|(path, _)| Cow::Owned(format!("{STRATEGY_PREFIX}.{path}"))))
    })
}

/// Copies the stored properties that `version` does not have into a replacing body (`properties`), so that a client of an older
/// version does not reset properties that it does not know. In lists, properties are copied between elements of the same name or,
/// without names, of the same type.
pub fn keep_unseen(replacement: &mut Value, stored: &Value, resource_type: &str, version: ApiVersion) {
    for path in hidden(resource_type, version) {
        if let Some(path) = path.strip_prefix("properties.") {
            property_path::carry(replacement, stored, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stable_versions_hide_previews_and_older_ones_hide_more() {
        let full = json!({"properties": {"strategy": {"stages": [{
            "name": "s", "maxConcurrency": "2", "maxAllowedFailures": "1", "beforeGates": [],
            "groups": [{"name": "g", "maxConcurrency": "1", "maxAllowedFailures": "1"}]}]}}});
        let at = |version| {
            let mut body = full.clone();
            hide(&mut body, types::UPDATE_STRATEGIES, version);
            body["properties"]["strategy"]["stages"][0].clone()
        };
        assert_eq!(at(P2026_06_02), full["properties"]["strategy"]["stages"][0]);
        assert_eq!(
            at(V2026_06_01),
            json!({"name": "s", "maxConcurrency": "2", "beforeGates": [], "groups": [{"name": "g", "maxConcurrency": "1"}]})
        );
        assert_eq!(at(V2025_03_01), json!({"name": "s", "groups": [{"name": "g"}]}));
        assert_eq!(at(P2025_04_01), json!({"name": "s", "beforeGates": [], "groups": [{"name": "g"}]}));
    }

    #[test]
    fn a_client_of_an_older_version_does_not_reset_newer_properties() {
        let mut replacement = json!({"clusterResourceId": "x"});
        let stored = json!({"clusterResourceId": "x", "group": "g", "labels": {"a": "b"}});
        keep_unseen(&mut replacement, &stored, types::MEMBERS, V2025_03_01);
        assert_eq!(replacement, json!({"clusterResourceId": "x", "labels": {"a": "b"}}));

        let strategy = |stages: Value| json!({"strategy": {"stages": stages}});
        let gates = json!([{"type": "Approval"}]);
        let mut replacement = strategy(json!([{"name": "new"}, {"name": "s", "groups": [{"name": "g"}]}]));
        let stored = strategy(json!([
            {"name": "s", "maxConcurrency": "2", "beforeGates": gates, "afterStageWaitInSeconds": 7,
             "groups": [{"name": "f", "afterGates": gates}, {"name": "g", "afterGates": gates}]},
        ]));
        keep_unseen(&mut replacement, &stored, types::UPDATE_STRATEGIES, V2025_03_01);
        let kept = json!([{"name": "new"}, {"name": "s", "maxConcurrency": "2", "beforeGates": gates,
             "groups": [{"name": "g", "afterGates": gates}]}]);
        assert_eq!(replacement, strategy(kept));

        // Gates have no names; each position has at most one gate of a type.
        let at = json!({"startDay": "Friday"});
        let timed = json!({"type": "ScheduledStart", "scheduledStartConfiguration": at});
        let gated = |gates: Value| strategy(json!([{"name": "s", "beforeGates": gates}]));
        let mut replacement = gated(json!([{"type": "Approval"}, {"type": "ScheduledStart", "displayName": "x"}]));
        keep_unseen(&mut replacement, &gated(json!([timed])), types::UPDATE_STRATEGIES, V2026_06_01);
        let kept = json!({"type": "ScheduledStart", "displayName": "x", "scheduledStartConfiguration": at});
        assert_eq!(replacement, gated(json!([{"type": "Approval"}, kept])));
    }

    #[test]
    fn newest_first() {
        assert!(ALL.is_sorted_by(|a, b| a > b));
    }
}
