//! Which members a label selector, or a group's name, chooses: by an index over all of them, as a strategy may have
//! thousands of groups.

use std::collections::{BTreeSet, HashMap};

use crate::model::{
    label::Labels,
    selector::{Condition, LabelSelector},
};

/// A member of the fleet, as far as membership of a run depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetMember {
    /// Name of the member resource.
    pub name: String,
    /// Its cluster, as the member spells it.
    pub cluster_resource_id: String,
    /// The update group it is in.
    pub group: Option<String>,
    /// Its labels, the automatic ones included.
    pub labels: Labels,
}

/// Members by their positions, 64 a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection(Vec<u64>);

/// The members of a fleet by group and by label.
pub(super) struct Index<'a> {
    count: usize,
    groups: HashMap<&'a str, Vec<usize>>,
    labels: HashMap<&'a str, HashMap<&'a str, Vec<usize>>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(members: &[&'a FleetMember]) -> Self {
        let (mut groups, mut labels) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, HashMap<_, Vec<_>>>::new());
        for (position, member) in members.iter().enumerate() {
            if let Some(group) = &member.group {
                groups.entry(group.as_str()).or_default().push(position);
            }
            for (key, value) in &member.labels {
                labels.entry(key.as_str()).or_default().entry(value.as_str()).or_default().push(position);
            }
        }
        Self { count: members.len(), groups, labels }
    }

    pub(super) fn all(&self) -> Selection {
        self.none().complement(self.count)
    }

    /// The members whose `group` this is.
    pub(super) fn in_group(&self, name: &str) -> Selection {
        let mut selection = self.none();
        selection.add(self.groups.get(name).map_or(&[], Vec::as_slice));
        selection
    }

    /// The members that a selector selects.
    pub(super) fn matching(&self, selector: &LabelSelector) -> Selection {
        let mut selection = self.all();
        for requirement in &selector.requirements {
            let key = requirement.key.as_str();
            selection.intersect(&match &requirement.condition {
                Condition::In(values) => self.valued(key, values),
                Condition::NotIn(values) => self.valued(key, values).complement(self.count),
                Condition::Exists => self.labelled(key),
                Condition::DoesNotExist => self.labelled(key).complement(self.count),
            });
        }
        selection
    }

    fn none(&self) -> Selection {
        Selection(vec![0; self.count.div_ceil(64)])
    }

    fn valued(&self, key: &str, values: &BTreeSet<String>) -> Selection {
        let mut selection = self.none();
        if let Some(by_value) = self.labels.get(key) {
            for members in values.iter().filter_map(|value| by_value.get(value.as_str())) {
                selection.add(members);
            }
        }
        selection
    }

    fn labelled(&self, key: &str) -> Selection {
        let mut selection = self.none();
        self.labels.get(key).into_iter().flat_map(HashMap::values).for_each(|members| selection.add(members));
        selection
    }
}

impl Selection {
    fn add(&mut self, members: &[usize]) {
        for position in members {
            if let Some(word) = self.0.get_mut(position / 64) {
                *word |= 1 << (position % 64);
            }
        }
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    fn complement(mut self, count: usize) -> Self {
        self.0.iter_mut().for_each(|word| *word = !*word);
        if let (Some(last), rest @ 1..) = (self.0.last_mut(), count % 64) {
            *last &= (1 << rest) - 1;
        }
        self
    }

    /// The positions, in order.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.checked_sub(1)?;
                usize::try_from(bit).ok().map(|bit| at * 64 + bit)
            })
        })
    }
}
