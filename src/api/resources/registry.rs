//! The table of resource types. The router, the literals of paths, the provider's description and its operations are made of
//! it.

use axum::{
    Router,
    routing::{MethodRouter, delete, get, patch, post, put},
};

use super::{
    at::{Delete, Read, Write},
    fleets::Fleet,
    gates::{self, Gate},
    handlers,
    members::Member,
    profiles::AutoUpgradeProfile,
    resource_type::{Noun, ResourceAction, ResourceType, Scope, Verbs},
    runs::{Skip, Start, Stop, UpdateRun},
    strategies::UpdateStrategy,
};
use crate::{
    api::App,
    identity::Action,
    model::{types::ProviderOperation, versions::Since},
};

/// The types that the service has.
pub const REGISTERED: &[Registration] = &[
    Registration::of::<Fleet>(&[ActionEntry::of::<super::fleets::ListCredentials>()]),
    Registration::of::<Member>(&[]),
    Registration::of::<UpdateStrategy>(&[]),
    Registration::of::<UpdateRun>(&[ActionEntry::of::<Start>(), ActionEntry::of::<Stop>(), ActionEntry::of::<Skip>()]),
    Registration::of::<AutoUpgradeProfile>(&[ActionEntry::of::<super::profiles::GenerateUpdateRun>()]),
    Registration::of::<Gate>(&[]).patched_by(|| patch(gates::complete)),
];

/// A resource type in the table.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// The full type.
    pub resource_type: &'static str,
    /// What its resources are in.
    pub scope: Scope,
    /// The first API versions that have it.
    pub since: Since,
    /// What can be done with it besides reading.
    pub verbs: Verbs,
    /// Actions besides these.
    pub actions: &'static [ActionEntry],
    noun: Noun,
    name_parameter: &'static str,
    list: fn() -> MethodRouter<App>,
    get: fn() -> MethodRouter<App>,
    put: fn() -> MethodRouter<App>,
    patch: fn() -> MethodRouter<App>,
    delete: fn() -> MethodRouter<App>,
    /// Names of the actions that read, write and delete.
    names: fn() -> [String; 3],
}

/// An action in the table.
#[derive(Debug, Clone, Copy)]
pub struct ActionEntry {
    /// The last segment of its path.
    pub name: &'static str,
    operation: &'static str,
    description: &'static str,
    route: fn() -> MethodRouter<App>,
    full_name: fn() -> String,
}

/// A path of the table, and the verbs that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// With the names of its parameters in braces.
    pub path: String,
    /// Upper case.
    pub methods: Vec<&'static str>,
}

impl ActionEntry {
    /// The entry of an action.
    #[must_use]
    pub const fn of<A: ResourceAction>() -> Self {
        Self {
            name: A::NAME,
            operation: A::OPERATION,
            description: A::DESCRIPTION,
            route: || post(handlers::perform::<A>),
            full_name: || A::name().into_owned(),
        }
    }
}

impl Registration {
    /// The entry of a type.
    #[must_use]
    pub const fn of<T: ResourceType>(actions: &'static [ActionEntry]) -> Self {
        Self {
            resource_type: T::TYPE,
            scope: T::SCOPE,
            since: T::SINCE,
            verbs: T::VERBS,
            actions,
            noun: T::NOUN,
            name_parameter: T::NAME_PARAMETER,
            list: || match T::SCOPE {
                Scope::Tracked => get(handlers::list_tracked::<T>),
                Scope::Fleet => get(handlers::list::<T>),
            },
            get: || get(handlers::get::<T>),
            put: || put(handlers::put::<T>),
            patch: || patch(handlers::patch::<T>),
            delete: || delete(handlers::delete::<T>),
            names: || [Read::<T>::name(), Write::<T>::name(), Delete::<T>::name()].map(std::borrow::Cow::into_owned),
        }
    }

    /// With a handler of its own for PATCH.
    #[must_use]
    pub const fn patched_by(self, patch: fn() -> MethodRouter<App>) -> Self {
        Self { patch, ..self }
    }

    /// The last segment of the type: `updateRuns`.
    #[must_use]
    pub fn collection(&self) -> &'static str {
        self.resource_type.rsplit('/').next().unwrap_or_default()
    }

    /// The literals that the type adds to paths.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.collection()).chain(self.actions.iter().map(|action| action.name))
    }

    /// The paths and verbs of the type, in the order of lists, the resource itself, actions.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        self.handlers().into_iter().map(|(route, _)| route).collect()
    }

    /// Adds the routes of the type to a router.
    pub(crate) fn route(&self, router: Router<App>) -> Router<App> {
        self.handlers().into_iter().fold(router, |router, (route, handlers)| router.route(&route.path, handlers))
    }

    fn handlers(&self) -> Vec<(Route, MethodRouter<App>)> {
        let provider = "/providers/Microsoft.ContainerService";
        let group = format!("/subscriptions/{{subscriptionId}}/resourceGroups/{{resourceGroupName}}{provider}");
        let (lists, holder) = match self.scope {
            Scope::Tracked => (vec![format!("/subscriptions/{{subscriptionId}}{provider}"), group.clone()], group),
            Scope::Fleet => {
                let fleet = format!("{group}/fleets/{{fleetName}}");
                (vec![fleet.clone()], fleet)
            }
        };
        let one = format!("{holder}/{}/{{{}}}", self.collection(), self.name_parameter);
        let Verbs { put, patch, delete } = self.verbs;
        let verbs = [("PUT", put, self.put), ("PATCH", patch, self.patch), ("DELETE", delete, self.delete)];
        let (mut methods, mut handlers) = (vec!["GET"], (self.get)());
        for (method, _, handler) in verbs.into_iter().filter(|(_, has, _)| *has) {
            methods.push(method);
            handlers = handlers.merge(handler());
        }
        let mut routes: Vec<_> = lists
            .into_iter()
            .map(|holder| {
                let path = format!("{holder}/{}", self.collection());
                (Route { path, methods: vec!["GET"] }, (self.list)())
            })
            .collect();
        routes.push((Route { path: one.clone(), methods }, handlers));
        routes.extend(self.actions.iter().map(|action| {
            let path = format!("{one}/{}", action.name);
            (Route { path, methods: vec!["POST"] }, (action.route)())
        }));
        routes
    }

    /// The operations that roles grant on the type.
    #[must_use]
    pub fn operations(&self) -> Vec<ProviderOperation> {
        let Noun { article, one, many } = self.noun;
        let [read, write, delete] = (self.names)();
        let resource = capitalized(one);
        let operation = |action, operation: String, description: String| ProviderOperation {
            action,
            resource: resource.clone(),
            operation,
            description,
        };
        let mut operations =
            vec![operation(read, format!("Get {one}"), format!("Gets {article} {one} or lists {many}"))];
        if self.verbs.put {
            let description = format!("Creates or updates {article} {one}");
            operations.push(operation(write, format!("Create or update {one}"), description));
        } else if self.verbs.patch {
            operations.push(operation(write, format!("Update {one}"), format!("Updates {article} {one}")));
        }
        if self.verbs.delete {
            operations.push(operation(delete, format!("Delete {one}"), format!("Deletes {article} {one}")));
        }
        operations.extend(
            self.actions.iter().map(|action| {
                operation((action.full_name)(), action.operation.to_owned(), action.description.to_owned())
            }),
        );
        operations
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
