//! What a caller's role assignments amount to.

use std::sync::Arc;

use super::roles::Role;
use crate::arm::ResourceId;

/// A role that holds in a scope and in all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// A lower-cased resource ID, or that of a resource group or a subscription; empty for everything.
    pub scope: String,
    /// What may be done there.
    pub role: &'static Role,
}

/// All grants of one caller: its own, and those of its groups.
#[derive(Debug, Clone, Default)]
pub struct Access(Vec<Arc<[Grant]>>);

/// In which part of a scope an action is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// In all of it.
    Whole,
    /// In these scopes within it only: lower-cased IDs.
    Parts(Vec<String>),
}

impl Reach {
    /// This and that together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Parts(mut parts), Self::Parts(more)) => {
                parts.extend(more);
                Self::Parts(parts)
            }
            _ => Self::Whole,
        }
    }
}

impl Access {
    /// That of a caller with these grants, by principal.
    #[must_use]
    pub fn new(grants: Vec<Arc<[Grant]>>) -> Self {
        Self(grants)
    }

    fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().flat_map(|grants| grants.iter())
    }

    /// Whether an action is granted on a scope.
    #[must_use]
    pub fn allows(&self, action: &str, scope: &ResourceId) -> bool {
        self.allows_key(action, scope.key())
    }

    /// Whether an action is granted on a scope, given as a lower-cased ID; empty for everything.
    #[must_use]
    pub fn allows_key(&self, action: &str, scope: &str) -> bool {
        self.grants().any(|grant| covers(&grant.scope, scope) && grant.role.permits(action))
    }

    /// Where in a scope an action is granted; `None` for nowhere.
    #[must_use]
    pub fn reach(&self, action: &str, scope: &ResourceId) -> Option<Reach> {
        if self.allows(action, scope) {
            return Some(Reach::Whole);
        }
        let within = self.grants().filter(|grant| covers(scope.key(), &grant.scope) && grant.role.permits(action));
        let parts: Vec<String> = within.map(|grant| grant.scope.clone()).collect();
        (!parts.is_empty()).then_some(Reach::Parts(parts))
    }

    /// Whether anything at all is granted on a scope or somewhere in it.
    #[must_use]
    pub fn enters(&self, scope: &str) -> bool {
        self.grants().any(|grant| covers(&grant.scope, scope) || covers(scope, &grant.scope))
    }

    /// The roles that hold on a scope.
    pub fn roles_on<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'static Role> + 'a {
        self.grants().filter(move |grant| covers(&grant.scope, scope)).map(|grant| grant.role)
    }
}

/// Whether a scope is another, or has it in it. Both lower-cased, without a slash at the end.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::roles::{BUILT_IN, OWNER};

    const READ: &str = "Microsoft.ContainerService/fleets/read";
    const WRITE: &str = "Microsoft.ContainerService/fleets/write";

    fn role(name: &str) -> &'static Role {
        BUILT_IN.iter().find(|role| role.name == name).unwrap()
    }

    fn access(grants: &[(&str, &str)]) -> Access {
        let grants = grants.iter().map(|(scope, name)| Grant { scope: (*scope).to_owned(), role: role(name) });
        Access::new(vec![grants.collect()])
    }

    fn group(name: &str) -> ResourceId {
        ResourceId::resource_group_scope("S", name)
    }

    #[test]
    fn roles_are_inherited_downwards_only() {
        let reader = access(&[("/subscriptions/s/resourcegroups/g", "Reader")]);
        let fleet = ResourceId::in_group("s", "G", "Microsoft.ContainerService", "fleets", "f");
        assert!(reader.allows(READ, &fleet) && !reader.allows(WRITE, &fleet));
        assert!(!reader.allows(READ, &group("g2")), "a name that begins alike is another's");
        let subscription = ResourceId::subscription_scope("s");
        assert!(!reader.allows(READ, &subscription));
        assert_eq!(
            reader.reach(READ, &subscription),
            Some(Reach::Parts(vec!["/subscriptions/s/resourcegroups/g".to_owned()]))
        );
        assert_eq!(reader.reach(WRITE, &subscription), None);
        assert_eq!(reader.reach(READ, &fleet), Some(Reach::Whole));
        assert!(reader.enters("/subscriptions/s") && !reader.enters("/subscriptions/t"));
    }

    #[test]
    fn nothing_is_granted_without_an_assignment() {
        let nobody = Access::default();
        assert!(!nobody.allows(READ, &group("g")) && !nobody.enters("") && nobody.reach(READ, &group("g")).is_none());
        let root = Access::new(vec![[Grant { scope: String::new(), role: OWNER }].into()]);
        assert!(root.allows(WRITE, &group("g")) && root.enters("/subscriptions/x"));
    }

    #[test]
    fn what_one_role_takes_out_another_may_grant() {
        let assign = "Microsoft.Authorization/roleAssignments/write";
        let both = access(&[("/subscriptions/s", "Contributor"), ("/subscriptions/s", "User Access Administrator")]);
        assert!(both.allows_key(assign, "/subscriptions/s/resourcegroups/g"));
        assert!(!access(&[("/subscriptions/s", "Contributor")]).allows_key(assign, "/subscriptions/s"));
    }

    proptest! {
        #[test]
        fn what_is_granted_above_is_granted_below(
            segments in proptest::collection::vec("[a-c]{1,2}", 0..5),
            cut in 0usize..6,
            other in proptest::collection::vec("[a-c]{1,2}", 0..5),
        ) {
            let join = |parts: &[String]| parts.iter().map(|part| format!("/{part}")).collect::<String>();
            let whole = join(&segments);
            let above = join(&segments[..cut.min(segments.len())]);
            prop_assert!(covers(&above, &whole));
            let is_prefix = segments.starts_with(&other);
            prop_assert_eq!(covers(&join(&other), &whole), is_prefix);
        }
    }
}
