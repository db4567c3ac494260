//! Which members a run has, and in which order.

use super::{
    select::{FleetMember, Index, Selection},
    upgrade::WindowStanding,
};
use crate::model::{
    limit::{GROUP_CONCURRENCY, Limit, STAGE_CONCURRENCY},
    selector::{LabelSelector, MemberSelector, SelectorError},
    strategy::{GateConfiguration, UpdateGroup, UpdateRunStrategy, UpdateStage},
};

/// Name of the one stage and the one group of a run without a strategy.
pub const DEFAULT_NAME: &str = "default";

/// Most members listed as part of another group. Selectors overlap in a few members, or by mistake in all of them; a run of
/// any size has at most so many rows more than the fleet has members.
const MAX_REPEATS: usize = 10_000;

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
    pub members: Vec<PlannedMember>,
}

/// A member of a group of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMember {
    /// Name of the member resource.
    pub name: String,
    /// Its cluster, as the member spells it.
    pub cluster_resource_id: String,
    /// Why it is skipped here: an earlier group has it, and a run updates a member once.
    pub repeats: Option<String>,
    /// Its maintenance window, as far as [`Plan::order`] knows it.
    pub window: WindowStanding,
}

/// A strategy that cannot be planned: it was stored without being checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the selector of '{of}' is not understood {error}")]
pub struct PlanError {
    /// The stage or group.
    pub of: String,
    /// What is wrong.
    pub error: SelectorError,
}

impl Plan {
    /// Orders the members of each group by when their maintenance windows let them begin, and by name among those alike.
    pub fn order(&mut self, window: impl Fn(&PlannedMember) -> WindowStanding) {
        for group in self.stages.iter_mut().flat_map(|stage| &mut stage.groups) {
            for member in &mut group.members {
                member.window = window(member);
            }
            group.members.sort_by_cached_key(|member| (member.window.rank, member.name.clone()));
        }
    }

    /// The members whose order among others makes a difference, those that come first before the others.
    pub fn contenders(&self) -> impl Iterator<Item = &PlannedMember> {
        let groups = self.stages.iter().flat_map(|stage| &stage.groups);
        groups.filter(|group| group.members.len() > 1).flat_map(|group| &group.members)
    }
}

/// Resolves a strategy over the fleet's members. Without a strategy: all members, one by one, in one stage and group named
/// [`DEFAULT_NAME`]. Members that no group chooses are not part of the run; a group may match nobody. A member that more
/// than one group chooses is the first's; the others list it as skipped.
///
/// # Errors
/// When a selector does not parse.
pub fn plan(strategy: Option<&UpdateRunStrategy>, members: &[FleetMember]) -> Result<Plan, PlanError> {
    let mut members: Vec<&FleetMember> = members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut planner = Planner { owners: vec![None; members.len()], repeats: 0, index: Index::new(&members), members };
    let Some(strategy) = strategy else {
        let stage = UpdateStage { name: DEFAULT_NAME.to_owned(), ..UpdateStage::default() };
        let group = UpdateGroup { name: DEFAULT_NAME.to_owned(), ..UpdateGroup::default() };
        let all = planner.index.all();
        let all = planner.claim(&all, DEFAULT_NAME, DEFAULT_NAME);
        return Ok(Plan { stages: vec![plan_stage(&stage, vec![(&group, all)])] });
    };
    let stages = strategy.stages.iter().map(|stage| planner.stage(stage)).collect::<Result<_, _>>()?;
    Ok(Plan { stages })
}

/// The members of a fleet while groups take theirs.
struct Planner<'a> {
    /// By name.
    members: Vec<&'a FleetMember>,
    index: Index<'a>,
    /// Stage and group of those that were taken.
    owners: Vec<Option<(&'a str, &'a str)>>,
    repeats: usize,
}

impl<'a> Planner<'a> {
    fn stage(&mut self, stage: &'a UpdateStage) -> Result<PlannedStage, PlanError> {
        let candidates = self.select(&stage.name, stage.member_selector.as_ref())?;
        if let (Some(candidates), true) = (&candidates, stage.groups.is_empty()) {
            // The stage's limits are the only ones.
            let implicit = UpdateGroup {
                name: stage.name.clone(),
                max_concurrency: Some(STAGE_CONCURRENCY.to_string()),
                max_allowed_failures: stage.max_allowed_failures.clone(),
                ..UpdateGroup::default()
            };
            let members = self.claim(candidates, &stage.name, &stage.name);
            return Ok(plan_stage(stage, vec![(&implicit, members)]));
        }
        let mut groups = Vec::with_capacity(stage.groups.len());
        for group in &stage.groups {
            let chosen = self.select(&group.name, group.member_selector.as_ref())?;
            let mut chosen = chosen.unwrap_or_else(|| self.index.in_group(&group.name));
            if let Some(candidates) = &candidates {
                chosen.intersect(candidates);
            }
            groups.push((group, self.claim(&chosen, &stage.name, &group.name)));
        }
        Ok(plan_stage(stage, groups))
    }

    fn select(&self, of: &str, selector: Option<&MemberSelector>) -> Result<Option<Selection>, PlanError> {
        let Some(selector) = selector else { return Ok(None) };
        let parsed = LabelSelector::parse(&selector.by_label);
        let parsed = parsed.map_err(|error| PlanError { of: of.to_owned(), error })?;
        Ok(Some(self.index.matching(&parsed)))
    }

    fn claim(&mut self, chosen: &Selection, stage: &'a str, group: &'a str) -> Vec<PlannedMember> {
        let mut claimed = Vec::new();
        for position in chosen.positions() {
            let (Some(member), Some(owner)) = (self.members.get(position), self.owners.get_mut(position)) else {
                break;
            };
            let repeats = owner.map(|(stage, group)| format!("skipped: already part of {stage}/{group}."));
            if repeats.is_some() {
                self.repeats += 1;
                if self.repeats > MAX_REPEATS {
                    continue;
                }
            }
            owner.get_or_insert((stage, group));
            claimed.push(PlannedMember {
                name: member.name.clone(),
                cluster_resource_id: member.cluster_resource_id.clone(),
                repeats,
                window: WindowStanding::default(),
            });
        }
        claimed
    }
}

fn plan_stage(stage: &UpdateStage, groups: Vec<(&UpdateGroup, Vec<PlannedMember>)>) -> PlannedStage {
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

/// Members that are to be updated.
fn count(members: &[PlannedMember]) -> u32 {
    u32::try_from(members.iter().filter(|member| member.repeats.is_none()).count()).unwrap_or(u32::MAX)
}
