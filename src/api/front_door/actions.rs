//! The actions on ARM's own types, and on what the provider has besides resource types.

use std::borrow::Cow;

use crate::{
    identity::{Action, ChangeAction},
    model::types::ProviderOperation,
};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $action:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Action for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($action)
            }
        }
    )*};
}

actions! {
    /// Reads and lists subscriptions, their regions and their providers.
    SubscriptionsRead = "Microsoft.Resources/subscriptions/read";
    /// Lists resources of all types.
    ResourcesRead = "Microsoft.Resources/subscriptions/resources/read";
    /// Reads and lists resource groups.
    GroupsRead = "Microsoft.Resources/subscriptions/resourceGroups/read";
    /// Creates and changes resource groups.
    GroupsWrite = "Microsoft.Resources/subscriptions/resourceGroups/write";
    /// Deletes resource groups.
    GroupsDelete = "Microsoft.Resources/subscriptions/resourceGroups/delete";
    /// Reads tags.
    TagsRead = "Microsoft.Resources/tags/read";
    /// Changes tags.
    TagsWrite = "Microsoft.Resources/tags/write";
    /// Registers the provider in a subscription.
    Register = "Microsoft.ContainerService/register/action";
    /// Reads asynchronous operations of others.
    OperationsRead = "Microsoft.ContainerService/locations/operations/read";
    /// Reads events that no webhook took.
    EventsRead = "Microsoft.ContainerService/fleets/events/read";
    /// Has events delivered again.
    EventsReplay = "Microsoft.ContainerService/fleets/events/replay/action";
}

impl ChangeAction for GroupsWrite {}
impl ChangeAction for GroupsDelete {}
impl ChangeAction for TagsWrite {}

/// The provider's operations that belong to no resource type.
pub(crate) fn provider_operations() -> [ProviderOperation; 4] {
    let operation = |action: Cow<'static, str>, resource: &str, operation: &str, description: &str| ProviderOperation {
        action: action.into_owned(),
        resource: resource.to_owned(),
        operation: operation.to_owned(),
        description: description.to_owned(),
    };
    [
        operation(OperationsRead::name(), "Operation", "Get operation", "Gets the status of an asynchronous operation"),
        operation(Register::name(), "Provider", "Register provider", "Registers the provider in a subscription"),
        operation(EventsRead::name(), "Event", "Get events", "Gets events that no webhook took"),
        operation(EventsReplay::name(), "Event", "Replay events", "Delivers events to webhooks again"),
    ]
}
