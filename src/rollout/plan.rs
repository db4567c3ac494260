//! Which members a run has, and in which order.

use super::upgrade::Turn;
use crate::model::{
    limit::{GROUP_CONCURRENCY, Limit, STAGE_CONCURRENCY},
    strategy::{GateConfiguration, UpdateGroup, UpdateRunStrategy, UpdateStage},
};

/// Name of the one stage and the one group of a run without a strategy.
pub const DEFAULT_NAME: &str = "default";

/// A member of the fleet, as far as membership of a run depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetMember {
    /// Name of the member resource.
    pub name: String,
    /// Its cluster, as the member spells it.
    pub cluster_resource_id: String,
    /// The update group it is in.
    pub group: Option<String>,
}

/// A run as it will be: stages, groups and members in order, limits resolved to numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order of execution.
    pub stages: Vec<PlannedStage>,
}

/// A stage of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// Unique in the run.
    pub name: String,
    /// Most members in flight, 1 to 50.
    pub max_concurrency: u32,
    /// Failures tolerated.
    pub max_allowed_failures: u32,
    /// Gates before the first group.
    pub before_gates: Vec<GateConfiguration>,
    /// Gates after the last group.
    pub after_gates: Vec<GateConfiguration>,
    /// Wait after the last group, in seconds.
    pub wait_seconds: Option<u32>,
    /// Updated in parallel.
    pub groups: Vec<PlannedGroup>,
}

/// A group of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedGroup {
    /// Unique in the run.
    pub name: String,
    /// Most members in flight, from 1 to the stage's.
    pub max_concurrency: u32,
    /// Failures tolerated.
    pub max_allowed_failures: u32,
    /// Gates before the first member.
    pub before_gates: Vec<GateConfiguration>,
    /// Gates after the last member.
    pub after_gates: Vec<GateConfiguration>,
    /// In the order in which they are tried: by name, until [`Plan::order`] knows better.
    pub members: Vec<FleetMember>,
}

impl Plan {
    /// Orders the members of each group by when their maintenance windows let them begin, and by name among those alike.
    pub fn order(&mut self, turn: impl Fn(&FleetMember) -> Turn) {
        for group in self.stages.iter_mut().flat_map(|stage| &mut stage.groups) {
            group.members.sort_by_cached_key(|member| (turn(member), member.name.clone()));
        }
    }

    /// The members whose order among others makes a difference, those that come first before the others.
    pub fn contenders(&self) -> impl Iterator<Item = &FleetMember> {
        let groups = self.stages.iter().flat_map(|stage| &stage.groups);
        groups.filter(|group| group.members.len() > 1).flat_map(|group| &group.members)
    }
}

/// Resolves a strategy over the fleet's members. Without a strategy: all members, one by one, in one stage and group named
/// [`DEFAULT_NAME`]. Members that no group names are not part of the run; a group may match nobody.
#[must_use]
pub fn plan(strategy: Option<&UpdateRunStrategy>, members: &[FleetMember]) -> Plan {
    let mut members: Vec<&FleetMember> = members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let Some(strategy) = strategy else {
        let stage = UpdateStage { name: DEFAULT_NAME.to_owned(), ..UpdateStage::default() };
        let group = UpdateGroup { name: DEFAULT_NAME.to_owned(), ..UpdateGroup::default() };
        let all = members.into_iter().cloned().collect();
        return Plan { stages: vec![plan_stage(&stage, vec![(&group, all)])] };
    };
    let of_group = |group: &UpdateGroup| {
        members.iter().filter(|m| m.group.as_deref() == Some(&group.name)).map(|&m| m.clone()).collect()
    };
    let stages = strategy
        .stages
        .iter()
        .map(|stage| plan_stage(stage, stage.groups.iter().map(|group| (group, of_group(group))).collect()))
        .collect();
    Plan { stages }
}

fn plan_stage(stage: &UpdateStage, groups: Vec<(&UpdateGroup, Vec<FleetMember>)>) -> PlannedStage {
    let size = groups.iter().map(|(_, members)| count(members)).sum();
    let max_concurrency = ceiling(stage.max_concurrency.as_deref(), STAGE_CONCURRENCY, size).min(STAGE_CONCURRENCY);
    let groups = groups
        .into_iter()
        .map(|(group, members)| PlannedGroup {
            name: group.name.clone(),
            max_concurrency: ceiling(group.max_concurrency.as_deref(), GROUP_CONCURRENCY, count(&members))
                .min(max_concurrency),
            max_allowed_failures: tolerance(group.max_allowed_failures.as_deref(), count(&members)),
            before_gates: group.before_gates.clone(),
            after_gates: group.after_gates.clone(),
            members,
        })
        .collect();
    PlannedStage {
        name: stage.name.clone(),
        max_concurrency,
        max_allowed_failures: tolerance(stage.max_allowed_failures.as_deref(), size),
        before_gates: stage.before_gates.clone(),
        after_gates: stage.after_gates.clone(),
        wait_seconds: stage.after_stage_wait_in_seconds.and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0),
        groups,
    }
}

fn ceiling(text: Option<&str>, default: u32, size: u32) -> u32 {
    text.and_then(Limit::concurrency).map_or(default, |limit| limit.ceiling(size))
}

fn tolerance(text: Option<&str>, size: u32) -> u32 {
    text.and_then(Limit::failures).map_or(0, |limit| limit.tolerance(size))
}

fn count(members: &[FleetMember]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}
