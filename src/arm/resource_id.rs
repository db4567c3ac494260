//! ARM resource IDs: `/subscriptions/{s}/resourceGroups/{g}/providers/{namespace}/{type}/{name}/…`.
//!
//! IDs compare without case and keep the caller's spelling (ARM resource provider contract). Equality, ordering and hashing
//! therefore use [`ResourceId::key`] only.

use std::{fmt, hash, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest accepted ID, in bytes. ARM's own limit for a resource ID.
pub const MAX_LENGTH: usize = 2048;

/// The ID of a subscription, a resource group, or a resource in one (of any depth).
#[derive(Clone)]
pub struct ResourceId {
    subscription: String,
    resource_group: Option<String>,
    namespace: Option<String>,
    /// (type, name) pairs, outermost first.
    segments: Vec<(String, String)>,
    key: String,
}

/// Why a text is not a resource ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceIdError {
    /// Longer than [`MAX_LENGTH`].
    #[error("a resource ID has at most {MAX_LENGTH} characters")]
    TooLong,
    /// Does not begin with `/subscriptions/{id}`.
    #[error("a resource ID begins with '/subscriptions/{{subscriptionId}}'")]
    NoSubscription,
    /// A segment is missing or unexpected.
    #[error("'{0}' is not a resource ID: expected {1}")]
    Malformed(String, &'static str),
}

impl ResourceId {
    /// The ID of a subscription.
    #[must_use]
    pub fn subscription_scope(subscription: &str) -> Self {
        Self::assemble(subscription.to_owned(), None, None, Vec::new())
    }

    /// The ID of a resource group.
    #[must_use]
    pub fn resource_group_scope(subscription: &str, group: &str) -> Self {
        Self::assemble(subscription.to_owned(), Some(group.to_owned()), None, Vec::new())
    }

    /// The ID of a resource directly in a resource group.
    #[must_use]
    pub fn in_group(subscription: &str, group: &str, namespace: &str, kind: &str, name: &str) -> Self {
        Self::assemble(
            subscription.to_owned(),
            Some(group.to_owned()),
            Some(namespace.to_owned()),
            vec![(kind.to_owned(), name.to_owned())],
        )
    }

    /// The ID of a resource of any depth in a resource group; `segments` are (type, name), outermost first.
    #[must_use]
    pub fn nested(subscription: &str, group: &str, namespace: &str, segments: &[(&str, &str)]) -> Self {
        let segments = segments.iter().map(|(kind, name)| ((*kind).to_owned(), (*name).to_owned())).collect();
        Self::assemble(subscription.to_owned(), Some(group.to_owned()), Some(namespace.to_owned()), segments)
    }

    /// The ID of a child: `{self}/{kind}/{name}`.
    #[must_use]
    pub fn child(&self, kind: &str, name: &str) -> Self {
        let mut segments = self.segments.clone();
        segments.push((kind.to_owned(), name.to_owned()));
        Self::assemble(self.subscription.clone(), self.resource_group.clone(), self.namespace.clone(), segments)
    }

    /// Returns the parent resource; for a top-level resource the resource group, then the subscription.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let mut up = self.clone();
        if up.segments.pop().is_some() {
            if up.segments.is_empty() {
                up.namespace = None;
            }
        } else if up.resource_group.is_some() {
            up.resource_group = None;
        } else {
            return None;
        }
        Some(Self::assemble(up.subscription, up.resource_group, up.namespace, up.segments))
    }

    /// Returns the ID in lower case, the key for uniqueness and comparison.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The subscription's ID as written.
    #[must_use]
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The resource group's name as written.
    #[must_use]
    pub fn resource_group(&self) -> Option<&str> {
        self.resource_group.as_deref()
    }

    /// The provider's namespace as written, such as `Microsoft.ContainerService`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The resource's own name: the last segment (the group's or subscription's for such scopes).
    #[must_use]
    pub fn name(&self) -> &str {
        match (self.segments.last(), &self.resource_group) {
            (Some((_, name)), _) => name,
            (None, Some(group)) => group,
            (None, None) => &self.subscription,
        }
    }

    /// The name in the segment of this type, at any depth: `named("databases")`.
    #[must_use]
    pub fn named(&self, kind: &str) -> Option<&str> {
        self.segments.iter().find(|(k, _)| k.eq_ignore_ascii_case(kind)).map(|(_, name)| name.as_str())
    }

    /// The names of the resource and of the resources that it is in, outermost first, without scopes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|(_, name)| name.as_str())
    }

    /// The full type as written, such as `Namespace/types/children`; `None` for scopes.
    #[must_use]
    pub fn resource_type(&self) -> Option<String> {
        let namespace = self.namespace.as_ref()?;
        Some(self.segments.iter().fold(namespace.clone(), |text, (kind, _)| text + "/" + kind))
    }

    /// Whether this is of the given full type, without regard to case.
    #[must_use]
    pub fn is_type(&self, full_type: &str) -> bool {
        self.resource_type().is_some_and(|t| t.eq_ignore_ascii_case(full_type))
    }

    fn assemble(
        subscription: String,
        resource_group: Option<String>,
        namespace: Option<String>,
        segments: Vec<(String, String)>,
    ) -> Self {
        let mut id = Self { subscription, resource_group, namespace, segments, key: String::new() };
        id.key = id.to_string().to_lowercase();
        id
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/subscriptions/{}", self.subscription)?;
        if let Some(group) = &self.resource_group {
            write!(f, "/resourceGroups/{group}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, "/providers/{namespace}")?;
        }
        self.segments.iter().try_for_each(|(kind, name)| write!(f, "/{kind}/{name}"))
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ResourceId {
    type Err = ResourceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LENGTH {
            return Err(ResourceIdError::TooLong);
        }
        let malformed = |expected| ResourceIdError::Malformed(text.to_owned(), expected);
        let Some(rest) = text.strip_prefix('/') else { return Err(ResourceIdError::NoSubscription) };
        let mut parts = rest.strip_suffix('/').unwrap_or(rest).split('/');
        let mut word = || parts.next();
        match (word(), word()) {
            (Some(s), Some(subscription)) if s.eq_ignore_ascii_case("subscriptions") && !subscription.is_empty() => {
                let (mut group, mut namespace, mut segments) = (None, None, Vec::new());
                let mut next = word();
                if next.is_some_and(|s| s.eq_ignore_ascii_case("resourceGroups")) {
                    group =
                        Some(word().filter(|g| !g.is_empty()).ok_or_else(|| malformed("the resource group's name"))?);
                    next = word();
                }
                if next.is_some_and(|s| s.eq_ignore_ascii_case("providers")) {
                    namespace =
                        Some(word().filter(|n| !n.is_empty()).ok_or_else(|| malformed("a provider's namespace"))?);
                    while let Some(kind) = word() {
                        match word() {
                            Some(name) if !kind.is_empty() && !name.is_empty() => {
                                segments.push((kind.to_owned(), name.to_owned()));
                            }
                            _ => return Err(malformed("pairs of type and name")),
                        }
                    }
                    if segments.is_empty() {
                        return Err(malformed("a type and a name after the namespace"));
                    }
                } else if next.is_some() {
                    return Err(malformed("'/resourceGroups/' or '/providers/'"));
                }
                Ok(Self::assemble(
                    subscription.to_owned(),
                    group.map(str::to_owned),
                    namespace.map(str::to_owned),
                    segments,
                ))
            }
            _ => Err(ResourceIdError::NoSubscription),
        }
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for ResourceId {}

impl PartialOrd for ResourceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResourceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl hash::Hash for ResourceId {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Serialize for ResourceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn compares_without_case_and_keeps_spelling_of_names() {
        let a: ResourceId =
            "/subscriptions/S/resourcegroups/Rg/providers/microsoft.containerservice/fleets/F1".parse().unwrap();
        let b = ResourceId::in_group("s", "rg", "Microsoft.ContainerService", "fleets", "f1");
        assert_eq!(a, b);
        assert_eq!(a.name(), "F1");
        assert_eq!(a.resource_group(), Some("Rg"));
        assert!(a.is_type("Microsoft.ContainerService/fleets"));
        assert_eq!(b.child("members", "m").parent(), Some(b));
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in [
            "",
            "/",
            "subscriptions/s",
            "/subscriptions/",
            "/subscriptions/s/x/y",
            "/subscriptions/s/resourceGroups",
            "/subscriptions/s/resourceGroups/g/providers/N",
            "/subscriptions/s/resourceGroups/g/providers/N/t",
            "/subscriptions/s/resourceGroups/g/providers/N/t//u/v",
        ] {
            assert!(text.parse::<ResourceId>().is_err(), "{text}");
        }
        assert_eq!("x".repeat(3000).parse::<ResourceId>().err(), Some(ResourceIdError::TooLong));
    }

    proptest! {
        #[test]
        fn round_trips(sub in "[0-9a-f-]{1,36}", group in "[A-Za-z0-9_.()-]{1,20}", pairs in prop::collection::vec(("[a-zA-Z]{1,9}", "[a-z0-9-]{1,9}"), 1..4)) {
            let mut id = ResourceId::in_group(&sub, &group, "N.S", &pairs[0].0, &pairs[0].1);
            for (kind, name) in &pairs[1..] { id = id.child(kind, name); }
            let back: ResourceId = id.to_string().parse().unwrap();
            prop_assert_eq!(&back, &id);
            prop_assert_eq!(back.to_string(), id.to_string());
        }

        #[test]
        fn never_panics(text in ".{0,80}") { let _ = text.parse::<ResourceId>(); }
    }
}
