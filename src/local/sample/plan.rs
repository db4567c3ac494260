//! What the sample fleet is made of: which cluster is in which group, in which order, and to which version.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, SampleError};
use crate::model::version::KubernetesVersion;

/// A sixth of the clusters goes first, half of them last.
const CANARY_SHARE: usize = 6;
const PRODUCTION_SHARE: usize = 2;
/// Soak time after a stage, in seconds: long enough to be seen, short enough to be waited for.
const STAGE_WAIT_SECONDS: u32 = 5;

/// Members, strategy and updates of the sample fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// One per cluster, in the clusters' order.
    pub members: Vec<PlannedMember>,
    /// The strategy: canary, staging, production, the latter two with a group per region. Production waits for an approval.
    pub strategy: Value,
    /// The member whose cluster gets a maintenance window that opens later: the last one of staging.
    pub closed: Option<PlannedMember>,
    /// `managedClusterUpdate` of the first run.
    pub first: Value,
    /// `managedClusterUpdate` of the run after it.
    pub second: Value,
}

/// A member to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMember {
    /// The cluster's name.
    pub name: String,
    /// The cluster's resource ID.
    pub cluster_id: String,
    /// Its update group.
    pub group: String,
}

impl Plan {
    /// Plans for `clusters`, given the stable versions of each of their regions.
    pub(super) fn of(mut clusters: Vec<Cluster>, published: &[BTreeSet<String>]) -> Result<Self, SampleError> {
        // aks-2 before aks-10.
        clusters.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        let (first, second) = updates(&clusters, published)?;
        let canary = (clusters.len() / CANARY_SHARE).max(1);
        let production = clusters.len() / PRODUCTION_SHARE;
        let members: Vec<PlannedMember> = clusters
            .iter()
            .enumerate()
            .map(|(n, cluster)| PlannedMember {
                name: cluster.name.clone(),
                cluster_id: cluster.id.clone(),
                group: if n < canary {
                    "canary".to_owned()
                } else if n < clusters.len() - production {
                    format!("staging-{}", cluster.location)
                } else {
                    format!("production-{}", cluster.location)
                },
            })
            .collect();
        let strategy = strategy(&members);
        let closed = members.iter().rfind(|member| member.group.starts_with("staging")).cloned();
        Ok(Self { members, strategy, closed, first, second })
    }
}

fn strategy(members: &[PlannedMember]) -> Value {
    let stage = |name: &str, in_group: &str, in_stage: &str| {
        let names: BTreeSet<&str> =
            members.iter().map(|member| member.group.as_str()).filter(|group| group.starts_with(name)).collect();
        let groups: Vec<Value> =
            names.into_iter().map(|group| json!({"name": group, "maxConcurrency": in_group})).collect();
        let mut stage = json!({"name": name, "groups": groups, "maxConcurrency": in_stage});
        match name {
            "production" => stage["beforeGates"] = json!([{"displayName": "Production may begin", "type": "Approval"}]),
            _ => stage["afterStageWaitInSeconds"] = STAGE_WAIT_SECONDS.into(),
        }
        (!groups.is_empty()).then_some(stage)
    };
    let stages = [stage("canary", "1", "1"), stage("staging", "1", "3"), stage("production", "50%", "4")];
    json!({"stages": stages.into_iter().flatten().collect::<Vec<_>>()})
}

/// The first and the second update: the two newest versions that are in every region, newer than every cluster's, and
/// at most one minor version ahead. Where there is one only, node images come second.
fn updates(clusters: &[Cluster], published: &[BTreeSet<String>]) -> Result<(Value, Value), SampleError> {
    let (mut oldest, mut newest): (Option<KubernetesVersion>, Option<KubernetesVersion>) = (None, None);
    for version in clusters.iter().filter_map(Cluster::version) {
        oldest = Some(oldest.map_or(version, |known| known.min(version)));
        newest = newest.max(Some(version));
    }
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        return Err(SampleError::NoPlan("there are no clusters"));
    };
    let reachable =
        published.first().into_iter().flatten().filter(|text| published.iter().all(|set| set.contains(*text)));
    let mut reachable: Vec<KubernetesVersion> = reachable
        .filter_map(|text| text.parse().ok())
        .filter(|version: &KubernetesVersion| {
            *version > newest && version.major == oldest.major && version.minor <= oldest.minor.saturating_add(1)
        })
        .collect();
    reachable.sort_unstable();
    let full = |version: &KubernetesVersion| json!({"upgrade": {"type": "Full", "kubernetesVersion": version.to_string()}, "nodeImageSelection": {"type": "Latest"}});
    match reachable.as_slice() {
        [.., first, second] => Ok((full(first), full(second))),
        [only] => {
            Ok((full(only), json!({"upgrade": {"type": "NodeImageOnly"}, "nodeImageSelection": {"type": "Latest"}})))
        }
        [] => Err(SampleError::NoPlan("no newer version is in all regions")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(count: usize) -> Vec<Cluster> {
        let cluster = |n: usize| {
            let region = ["eastus", "westeurope", "swedencentral"][n % 3];
            let version = ["1.32.5", "1.32.7"][n % 2];
            json!({"id": format!("/subscriptions/s/{n}"), "name": format!("aks-{n}"), "location": region,
                   "properties": {"kubernetesVersion": version}})
        };
        (1..=count).rev().map(|n| serde_json::from_value(cluster(n)).unwrap()).collect()
    }

    fn versions(lists: &[&[&str]]) -> Vec<BTreeSet<String>> {
        lists.iter().map(|list| list.iter().map(|&text| text.to_owned()).collect()).collect()
    }

    #[test]
    fn twelve_clusters_make_three_stages() {
        let published =
            versions(&[&["1.32.5", "1.32.7", "1.33.2", "1.33.5", "1.34.0"], &["1.32.7", "1.33.2", "1.33.5"]]);
        let plan = Plan::of(clusters(12), &published).unwrap();
        assert_eq!(plan.members.iter().filter(|member| member.group == "canary").count(), 2);
        assert_eq!(plan.members[0].name, "aks-1");
        assert_eq!(plan.members[11].name, "aks-12");
        assert_eq!(plan.closed.unwrap().name, "aks-6");
        let stages = plan.strategy["stages"].as_array().unwrap();
        let groups: Vec<usize> = stages.iter().map(|stage| stage["groups"].as_array().unwrap().len()).collect();
        assert_eq!(groups, [1, 3, 3]);
        assert_eq!(stages[2]["beforeGates"][0]["type"], "Approval");
        assert_eq!(plan.first["upgrade"]["kubernetesVersion"], "1.33.2");
        assert_eq!(plan.second["upgrade"]["kubernetesVersion"], "1.33.5");
    }

    #[test]
    fn few_clusters_and_versions_do_too() {
        let one = Plan::of(clusters(1), &versions(&[&["1.33.2"]])).unwrap();
        assert_eq!(one.members[0].group, "canary");
        assert_eq!(one.closed, None);
        assert_eq!(one.strategy["stages"].as_array().unwrap().len(), 1);
        assert_eq!(one.second["upgrade"]["type"], "NodeImageOnly");
        assert_eq!(
            Plan::of(clusters(2), &versions(&[&["1.33.2"]])).unwrap().members[1].group,
            "production-swedencentral"
        );
        assert!(matches!(Plan::of(clusters(0), &[]), Err(SampleError::NoPlan(_))));
        for none in [versions(&[&["1.34.0"]]), versions(&[&["1.33.2"], &["1.33.5"]]), versions(&[&["1.32.7"]])] {
            assert!(matches!(Plan::of(clusters(3), &none), Err(SampleError::NoPlan(_))), "{none:?}");
        }
    }
}
