//! How far the upgrade of a cluster is, in a sentence for people.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, Unit};

use super::{Step, StepState, Upgrade};
use crate::model::managed_cluster::UpgradeAction;

/// How many durations of a kind are remembered.
const REMEMBERED: usize = 16;
/// So many are needed to tell when a step ends.
const ENOUGH: usize = 3;

/// Kind of a step, and the number of nodes that it moves.
type Kind = (&'static str, u32);

/// How long steps took lately, by their kind and number of nodes. Kept in memory: a process that has just started knows none.
#[derive(Debug, Default)]
pub struct StepDurations(HashMap<Kind, VecDeque<Duration>>);

impl StepDurations {
    /// Remembers how long a step took.
    pub fn add(&mut self, step: &Step, took: Duration) {
        let seen = self.0.entry(kind(step)).or_default();
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(took);
    }

    /// How long such a step takes: the median of what was seen; `None` while too little was.
    #[must_use]
    pub fn expected(&self, step: &Step) -> Option<Duration> {
        let mut seen: Vec<Duration> = self.0.get(&kind(step))?.iter().copied().collect();
        if seen.len() < ENOUGH {
            return None;
        }
        seen.sort_unstable();
        seen.get(seen.len() / 2).copied()
    }
}

fn kind(step: &Step) -> Kind {
    let name = match &step.action {
        UpgradeAction::ControlPlane { .. } => "control plane",
        UpgradeAction::Cluster { .. } => "cluster",
        UpgradeAction::PoolVersion { .. } => "pool version",
        UpgradeAction::NewestImage { .. } | UpgradeAction::ChosenImage { .. } => "pool image",
    };
    (name, step.nodes)
}

impl Upgrade {
    /// Which step of how many is in progress, since when, and when it is expected to end; or which step AKS has not taken yet. `None`
    /// before the first call. The text changes with the steps only.
    #[must_use]
    pub fn progress(&self) -> Option<String> {
        let total = self.total_steps.max(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        let current = self.steps.iter().enumerate().filter_map(|(index, step)| {
            let number = index + 1;
            match &step.state {
                StepState::Started { at, .. } => {
                    let since = whole(*at);
                    let ends = step.expected_seconds.and_then(|expected| {
                        at.checked_add(SignedDuration::from_secs(i64::from(expected))).ok().map(whole)
                    });
                    let ends = ends.map_or_else(String::new, |ends| format!(", expected to end about {ends}"));
                    Some(format!("Step {number} of {total}: {}, since {since}{ends}.", step.action))
                }
                StepState::Intended => Some(format!("Step {number} of {total}: {}, being begun.", step.action)),
                StepState::Withdrawn | StepState::Succeeded { .. } | StepState::Failed { .. } => None,
            }
        });
        let current: Vec<String> = current.collect();
        if !current.is_empty() {
            return Some(current.join(" "));
        }
        // The next read of the cluster decides about the call again.
        let declined = |step: &&Step| step.state == StepState::Withdrawn;
        let step = self.steps.iter().find(declined)?;
        Some(format!(
            "Not begun yet: {}. AKS's limit on calls is reached, or AKS is busy with the cluster; the service calls AKS again by itself.",
            step.action
        ))
    }
}

fn whole(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Begin,
            simulation::{at, cluster, pool},
        },
        *,
    };

    #[test]
    fn says_which_step_of_how_many_since_when_and_until_when() {
        let seen = cluster("1.32.7", vec![pool("a", "1.32.7", "U-202508.20.1"), pool("b", "1.32.7", "U-202508.20.1")]);
        let mut upgrade = Upgrade::default();
        assert_eq!(upgrade.progress(), None);
        let control_plane = UpgradeAction::ControlPlane { kubernetes_version: "1.33.2".to_owned() };
        let begin = Begin { kubernetes_version: None, actions: vec![control_plane], later: 2, first: true };
        upgrade.intend(&begin, &seen, at());
        assert_eq!(upgrade.progress().unwrap(), "Step 1 of 3: control plane to Kubernetes 1.33.2, being begun.");
        upgrade.started(0, None, None, at());
        upgrade.expect(0, Some(Duration::from_secs(90)));
        let text = "Step 1 of 3: control plane to Kubernetes 1.33.2, since 2025-11-01T00:00:00Z, expected to end about 2025-11-01T00:01:30Z.";
        assert_eq!(upgrade.progress().unwrap(), text);
        upgrade.ended(0, Ok(()));
        let pool = |name: &str| UpgradeAction::PoolVersion {
            pool: name.to_owned(),
            kubernetes_version: "1.33.2".to_owned(),
            image: None,
            snapshot: None,
        };
        let begin = Begin { kubernetes_version: None, actions: vec![pool("a"), pool("b")], later: 0, first: false };
        let steps = upgrade.intend(&begin, &seen, at());
        upgrade.started(steps[0], None, None, at());
        let said = upgrade.progress().unwrap();
        assert!(said.contains("Step 2 of 3: agent pool 'a'") && said.contains("Step 3 of 3: agent pool 'b'"), "{said}");
        assert_eq!(upgrade.steps[steps[0]].nodes, 3);
    }

    #[test]
    fn a_call_that_aks_declined_is_told_until_it_is_sent_again() {
        let seen = cluster("1.32.7", vec![]);
        let mut upgrade = Upgrade::default();
        let control_plane = UpgradeAction::ControlPlane { kubernetes_version: "1.33.2".to_owned() };
        let begin = Begin { kubernetes_version: None, actions: vec![control_plane], later: 0, first: true };
        let steps = upgrade.intend(&begin, &seen, at());
        upgrade.withdraw(steps[0]);
        let said = upgrade.progress().unwrap();
        assert!(said.starts_with("Not begun yet: control plane to Kubernetes 1.33.2."), "{said}");
        upgrade.intend(&begin, &seen, at());
        assert!(upgrade.progress().unwrap().starts_with("Step 1 of 1"));
    }

    #[test]
    fn durations_are_told_once_there_are_enough() {
        let seen = cluster("1.32.7", vec![pool("a", "1.32.7", "U-202508.20.1")]);
        let mut upgrade = Upgrade::default();
        let control_plane = UpgradeAction::ControlPlane { kubernetes_version: "1.33.2".to_owned() };
        let begin = Begin { kubernetes_version: None, actions: vec![control_plane], later: 0, first: true };
        upgrade.intend(&begin, &seen, at());
        let (step, mut durations) = (&upgrade.steps[0], StepDurations::default());
        for (seconds, expected) in [(50, None), (10, None), (20, Some(20)), (30, Some(30))] {
            durations.add(step, Duration::from_secs(seconds));
            assert_eq!(durations.expected(step), expected.map(Duration::from_secs));
        }
        for _ in 0..2 * REMEMBERED {
            durations.add(step, Duration::from_secs(7));
        }
        assert_eq!(durations.expected(step), Some(Duration::from_secs(7)), "old ones are forgotten");
    }
}
