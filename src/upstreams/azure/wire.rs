//! The bodies of AKS's answers, as far as they are read.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;

use super::{PoolUpgradeProfile, Progress};
use crate::{
    arm::ErrorDetail,
    model::managed_cluster::{LenientError, NodeImage, NodePoolSnapshot, OfferedVersion, RecentlyUsed},
};

#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: LenientError,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    /// Never absent: an answer that is no list must not read as an empty one.
    pub(super) value: Vec<T>,
    pub(super) next_link: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationStatus {
    status: String,
    start_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    error: Option<LenientError>,
}

impl OperationStatus {
    /// By `status` alone: a successful operation may carry an `error` (NotLatestOperation).
    pub(super) fn progress(self, again_after: Option<Duration>) -> Progress {
        match self.status.as_str() {
            "Succeeded" => Progress::Succeeded {
                took: self
                    .start_time
                    .zip(self.end_time)
                    .and_then(|(start, end)| Duration::try_from(end.duration_since(start)).ok()),
            },
            "Failed" | "Canceled" => Progress::Failed(self.error.map_or_else(
                || ErrorDetail::new(self.status.clone(), "AKS ended the operation without saying why."),
                ErrorDetail::from,
            )),
            _ => Progress::Running { again_after },
        }
    }
}

#[derive(Deserialize)]
pub(super) struct UpgradeProfile {
    #[serde(default)]
    properties: UpgradeProfileProperties,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpgradeProfileProperties {
    latest_node_image_version: Option<String>,
    recently_used_versions: Option<Vec<UsedVersion>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsedVersion {
    orchestrator_version: Option<String>,
    node_image_version: Option<String>,
}

impl From<UpgradeProfile> for PoolUpgradeProfile {
    fn from(wire: UpgradeProfile) -> Self {
        Self {
            latest_node_image: wire.properties.latest_node_image_version.map(NodeImage::new),
            recently_used: wire
                .properties
                .recently_used_versions
                .unwrap_or_default()
                .into_iter()
                .filter_map(|used| {
                    Some(RecentlyUsed {
                        kubernetes_version: used.orchestrator_version.and_then(|text| text.parse().ok()),
                        image: used.node_image_version.map(NodeImage::new)?,
                    })
                })
                .collect(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Snapshot {
    id: Option<String>,
    properties: Option<SnapshotProperties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotProperties {
    kubernetes_version: Option<String>,
    node_image_version: Option<String>,
    vm_size: Option<String>,
}

impl Snapshot {
    /// `None` for one that does not say what it holds.
    pub(super) fn read(self) -> Option<NodePoolSnapshot> {
        let properties = self.properties?;
        Some(NodePoolSnapshot {
            id: self.id?,
            kubernetes_version: properties.kubernetes_version?.parse().ok()?,
            image: NodeImage::new(properties.node_image_version?),
            vm_size: properties.vm_size?,
        })
    }
}

/// Mind the `values`: this list alone is spelled so.
#[derive(Deserialize)]
pub(super) struct KubernetesVersions {
    #[serde(default)]
    values: Vec<Minor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Minor {
    is_preview: Option<bool>,
    capabilities: Option<Capabilities>,
    patch_versions: Option<BTreeMap<String, Patch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    support_plan: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Patch {
    upgrades: Option<Vec<String>>,
}

impl From<KubernetesVersions> for Vec<OfferedVersion> {
    fn from(wire: KubernetesVersions) -> Self {
        let mut offers = Self::new();
        for minor in wire.values {
            let plans = minor.capabilities.and_then(|capabilities| capabilities.support_plan).unwrap_or_default();
            let long_term_only = !plans.is_empty() && plans.iter().all(|plan| plan == "AKSLongTermSupport");
            let long_term = plans.iter().any(|plan| plan == "AKSLongTermSupport");
            for (version, patch) in minor.patch_versions.unwrap_or_default() {
                // What does not read as a version is none that anybody could ask for.
                let Ok(version) = version.parse() else { continue };
                let upgrades = patch.upgrades.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect();
                offers.push(OfferedVersion {
                    version,
                    preview: minor.is_preview.unwrap_or_default(),
                    long_term_only,
                    long_term,
                    upgrades,
                });
            }
        }
        offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_answers() {
        let versions: KubernetesVersions = serde_json::from_str(
            r#"{"values":[{"version":"1.25","capabilities":{"supportPlan":["KubernetesOfficial"]},"patchVersions":{"1.25.5":
            {"upgrades":["1.25.6","1.26.0"]}}},{"version":"1.24","isPreview":null,"capabilities":{"supportPlan":["AKSLongTermSupport"]},
            "patchVersions":{"1.24.9":{}}}]}"#,
        )
        .unwrap();
        let offers = Vec::from(versions);
        assert_eq!(offers[0].upgrades.len(), 2);
        assert_eq!(offers.iter().map(|offer| offer.long_term_only).collect::<Vec<_>>(), [false, true]);

        let status = |text: &str| serde_json::from_str::<OperationStatus>(text).unwrap().progress(None);
        assert_eq!(
            status(
                r#"{"name":"b9","status":"Succeeded","startTime":"2023-11-23T02:39:51.4636607Z","endTime":"2023-11-23T02:39:52.4636607Z",
                "error":{"code":"NotLatestOperation","message":"preempted"}}"#
            ),
            Progress::Succeeded { took: Some(Duration::from_secs(1)) }
        );
        assert_eq!(status(r#"{"status":"Reticulating"}"#), Progress::Running { again_after: None });
        let Progress::Failed(error) = status(r#"{"status":"Failed","error":{"code":"PodDrainFailure"}}"#) else {
            panic!()
        };
        assert_eq!(error.code, "PodDrainFailure");
        let Progress::Failed(error) = status(r#"{"status":"Canceled"}"#) else { panic!() };
        assert_eq!(error.code, "Canceled");
    }
}
