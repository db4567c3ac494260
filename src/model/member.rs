//! Members of a fleet (`Microsoft.ContainerService/fleets/members`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    label::{self, Labels},
    name, types,
};
use crate::arm::{Problems, ResourceId};

/// Prefix of the labels that the service sets.
pub const AUTOMATIC_PREFIX: &str = "fleet.azure.com/";
/// Most labels that a user may set on a member. Azure documents no limit.
pub const MAX_LABELS: usize = 100;
/// Most members of a fleet. Azure allows 1,000.
pub const MAX_MEMBERS: i64 = 10_000;

/// `properties` of a member, as a client sends them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberProperties {
    /// Resource ID of the AKS cluster, in the caller's spelling.
    pub cluster_resource_id: String,
    /// The update group that strategies refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 50, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub group: Option<String>,
    /// The user's labels, and on read the automatic ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub labels: Option<Labels>,
}

impl MemberProperties {
    /// Returns the cluster's parsed ID. `None`: the ID is invalid.
    #[must_use]
    pub fn cluster(&self) -> Option<ResourceId> {
        Self::cluster_named(&self.cluster_resource_id)
    }

    /// The parsed ID of a cluster; `None` where the text is not the ID of one.
    #[must_use]
    pub fn cluster_named(id: &str) -> Option<ResourceId> {
        id.parse().ok().filter(|id: &ResourceId| {
            id.is_type(types::MANAGED_CLUSTERS)
                && id.resource_group().is_some_and(name::is_resource_group)
                && name::is_managed_cluster(id.name())
                && is_subscription(id.subscription())
        })
    }

    /// Returns the automatic labels of a member. The location is known once the cluster was read.
    #[must_use]
    pub fn automatic_labels(&self, member: &str, location: Option<&str>) -> Labels {
        let mut labels = Labels::new();
        let mut put = |name: &str, value: &str| labels.insert(format!("{AUTOMATIC_PREFIX}{name}"), value.to_owned());
        put("member-name", member);
        if let Some(cluster) = self.cluster() {
            put("cluster-name", cluster.name());
            put("resource-group", cluster.resource_group().unwrap_or_default());
            put("subscription-id", cluster.subscription());
        }
        if let Some(location) = location {
            put("location", location);
        }
        labels
    }

    /// Returns the user's labels and the automatic ones: those that are shown and that selectors match.
    #[must_use]
    pub fn all_labels(&self, member: &str, location: Option<&str>) -> Labels {
        let mut labels = self.labels.clone().unwrap_or_default();
        labels.extend(self.automatic_labels(member, location));
        labels
    }

    /// Checks a body against the rules and against what is stored (`None`: a new member).
    pub fn check(&self, member: &str, location: Option<&str>, stored: Option<&Self>, problems: &mut Problems) {
        let at = "properties.clusterResourceId";
        match (self.cluster(), stored.map(Self::cluster)) {
            (None, _) => problems.add(
                at,
                format!(
                    "'{}' is not the resource ID of an AKS cluster: /subscriptions/{{GUID}}/resourceGroups/{{group}}/providers/{}/{{cluster}}.",
                    self.cluster_resource_id.chars().take(300).collect::<String>(),
                    types::MANAGED_CLUSTERS
                ),
            ),
            (new, Some(old)) if new != old => problems.add_coded(
                "PropertyChangeNotAllowed",
                at,
                "A member's cluster cannot be changed: delete the member and create another for the other cluster.",
            ),
            _ => {}
        }
        if let Some(group) = self.group.as_deref().filter(|group| !group.is_empty())
            && !name::is_valid(group, name::MAX_PROXY)
        {
            problems.add("properties.group", format!("A group's name has {}.", name::rule(name::MAX_PROXY)));
        }
        self.check_labels(&self.automatic_labels(member, location), problems);
    }

    /// Returns the body to store: without empty values and without the automatic labels, which are added on read.
    #[must_use]
    pub fn to_stored(&self) -> Self {
        let mut stored = self.clone();
        stored.group = stored.group.filter(|group| !group.is_empty());
        stored.labels = stored
            .labels
            .map(|labels| labels.into_iter().filter(|(key, _)| !key.starts_with(AUTOMATIC_PREFIX)).collect::<Labels>())
            .filter(|labels| !labels.is_empty());
        stored
    }

    fn check_labels(&self, automatic: &Labels, problems: &mut Problems) {
        let Some(labels) = &self.labels else { return };
        let own = labels.keys().filter(|key| !key.starts_with(AUTOMATIC_PREFIX)).count();
        if own > MAX_LABELS {
            problems.add("properties.labels", format!("A member has at most {MAX_LABELS} labels; {own} were given."));
        }
        for (key, value) in labels {
            let at = format!("properties.labels.{key}");
            if key.starts_with(AUTOMATIC_PREFIX) {
                // A client may send back the automatic labels that it has read. An unknown location was never shown.
                if automatic.get(key).is_some_and(|truth| truth != value)
                    || (!automatic.contains_key(key) && key != "fleet.azure.com/location")
                {
                    problems.add(
                        &at,
                        format!("Labels under '{AUTOMATIC_PREFIX}' are made by the service: leave '{key}' out."),
                    );
                }
            } else if !label::is_key(key) {
                problems.add(&at, format!("'{key}' is not a Kubernetes label key: {}.", label::KEY_RULE));
            } else if !label::is_value(value) {
                problems.add(&at, format!("'{value}' is not a Kubernetes label value: {}.", label::VALUE_RULE));
            }
        }
    }
}

/// Returns a GUID in its canonical spelling, so that a cluster has one ID.
fn is_subscription(id: &str) -> bool {
    id.len() == uuid::fmt::Hyphenated::LENGTH && uuid::Uuid::try_parse(id).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/rg1/providers/Microsoft.ContainerService/managedClusters/aks-1";

    fn findings(member: &MemberProperties, stored: Option<&MemberProperties>) -> Vec<String> {
        let mut problems = Problems::default();
        member.check("m", Some("eastus"), stored, &mut problems);
        let Err(error) = problems.into_result() else { return Vec::new() };
        let detail = error.detail();
        let all = if detail.details.is_empty() { std::slice::from_ref(detail) } else { &detail.details };
        all.iter().filter_map(|detail| detail.target.clone()).collect()
    }

    fn member(labels: &[(&str, &str)]) -> MemberProperties {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        MemberProperties { cluster_resource_id: CLUSTER.to_owned(), group: None, labels: Some(labels) }
    }

    #[test]
    fn automatic_labels_must_have_their_own_values() {
        let mut echoed = member(&[("team", "a")]);
        echoed.labels = Some(echoed.automatic_labels("m", Some("eastus")));
        assert!(findings(&echoed, None).is_empty());
        assert_eq!(echoed.to_stored().labels, None);
        assert_eq!(
            findings(&member(&[("fleet.azure.com/location", "westus"), ("fleet.azure.com/own", "x")]), None).len(),
            2
        );
    }

    #[test]
    fn labels_have_the_syntax_of_kubernetes() {
        assert!(findings(&member(&[("a.b/c_d", "x.y"), ("e", "")]), None).is_empty());
        assert_eq!(findings(&member(&[("a b", "x"), ("-a", "x"), ("a", "-"), ("/x", "y")]), None).len(), 4);
    }

    #[test]
    fn the_cluster_is_immutable() {
        let mut other = member(&[]);
        other.cluster_resource_id = CLUSTER.replace("aks-1", "aks-2");
        assert_eq!(findings(&other, Some(&member(&[]))), ["properties.clusterResourceId"]);
        other.cluster_resource_id = CLUSTER.replace("resourcegroups", "resourceGroups");
        assert!(findings(&other, Some(&member(&[]))).is_empty());
        // Other spellings that an ARM client would cut off or decode are refused, so that a cluster has one ID.
        for name in ["aks-1?x=", "aks-1#x", "aks%2D1", "aks-1 ", "..", "\u{212a}", &"x".repeat(64)] {
            other.cluster_resource_id = CLUSTER.replace("aks-1", name);
            assert_eq!(findings(&other, None), ["properties.clusterResourceId"], "{name}");
        }
        other.cluster_resource_id = "/subscriptions/x/y".to_owned();
        assert_eq!(findings(&other, None), ["properties.clusterResourceId"]);
    }
}
