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
    /// Which step of how many is in progress, since when, and when it is expected to end; `None` before the first one. The text
    /// changes with the steps only.
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
        (!current.is_empty()).then(|| current.join(" "))
    }
}

fn whole(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}
