//! What Azure Resource Manager itself answers: subscriptions, resource groups, tags, role assignments, the provider's description.

pub(super) mod actions;
pub(super) mod authorization;
pub(super) mod events;
pub(super) mod health;
pub(super) mod metadata;
pub(super) mod operations;
pub(super) mod pass_through;
pub(super) mod provider;
pub(super) mod resource_groups;
pub(super) mod resource_list;
pub(super) mod subscriptions;
pub(super) mod tags;
