//! What a resource type says about itself. The rest (requests, conditions, storage, answers) is the same for all types and is
//! in `super::handlers`; `super::registry` has the table that the router and the provider's description are made of.
//!
//! A hook that a type does not need keeps its default, which does nothing.

use std::{borrow::Cow, future::Future};

use axum::response::Response;
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::at::{At, Delete, Read, TypeAction, Write};
use crate::{
    api::{
        App,
        http::{body::RawBody, error::ApiResult, request::ArmRequest},
    },
    arm::{Problems, page::Page},
    database::Connection,
    identity::{Action, ChangeAction},
    model::{name, provisioning_state::ProvisioningState, versions::Since},
    store::resources::{self, Resource},
    work::NewJob,
};

/// A resource type of the provider.
pub trait ResourceType: Sized + Send + Sync + 'static {
    /// The full type in its canonical case, such as `Microsoft.ContainerService/fleets/members`.
    const TYPE: &'static str;
    /// What resources of the type are in.
    const SCOPE: Scope;
    /// The first API versions that have the type.
    const SINCE: Since;
    /// What people call it.
    const NOUN: Noun;
    /// What can be done with it besides GET of one and of all.
    const VERBS: Verbs;
    /// How the name is called in paths, such as `fleetMemberName`.
    const NAME_PARAMETER: &'static str;
    /// Longest name.
    const MAX_NAME: usize = name::MAX_PROXY;
    /// Most resources in a page, where that is less than usual.
    const MAX_PAGE: u32 = u32::MAX;
    /// How many reads of the type may be under way in this process, where their bodies are large. Absent: no limit.
    const READ_SLOTS: Option<&'static tokio::sync::Semaphore> = None;
    /// How many resources of the type a parent may contain.
    const MOST: Limit = Limit::quota(1_000);
    /// The job that creation and deletion take; `None` where the answer says that all is done.
    const PROVISIONING: Option<Provisioning> = None;
    /// The properties that a PATCH may change. The others in its body are ignored.
    const PATCHABLE: &'static [&'static str] = &[];
    /// How a deletion is answered that deleted something at once.
    const DELETED: StatusCode = StatusCode::OK;

    /// The body's `properties`, as a client writes them and as they are stored.
    type Properties: Serialize + DeserializeOwned + PartialEq + Send + Sync;
    /// What answers show of a page of resources beyond their rows, read for all of them at once.
    type Extras: Default + Send;

    /// Checks the properties that a request writes against the rules and against what is stored (`None`: a new resource).
    ///
    /// # Errors
    /// What forbids the change whatever else is wrong. Faults of the properties themselves are added to `problems`.
    fn check(
        change: &mut Change<'_>,
        new: &Self::Properties,
        stored: Option<&Self::Properties>,
        problems: &mut Problems,
    ) -> impl Future<Output = ApiResult<()>> + Send;

    /// Checks that the caller may use the resources that the properties name. Runs before the transaction, as it may ask an
    /// upstream.
    fn check_linked_access(
        _app: &App,
        _at: &At<Write<Self>>,
        _properties: &Value,
    ) -> impl Future<Output = ApiResult<()>> + Send {
        async { Ok(()) }
    }

    /// Whether a replacing body keeps the stored properties that its API version cannot express.
    fn keeps_unseen(_new: &Value, _stored: &Value) -> bool {
        true
    }

    /// The properties to store, of those that were given and found sound.
    fn complete(
        _change: &mut Change<'_>,
        given: Self::Properties,
        _stored: Option<&Self::Properties>,
    ) -> impl Future<Output = ApiResult<Self::Properties>> + Send {
        async { Ok(given) }
    }

    /// Runs after a resource was inserted, in the same transaction.
    fn after_create(
        _change: &mut Change<'_>,
        _row: &Resource,
        _new: &Self::Properties,
    ) -> impl Future<Output = ApiResult<()>> + Send {
        async { Ok(()) }
    }

    /// Runs before a PUT replaces a resource, and decides whether there is anything to write.
    fn before_replace(
        _change: &mut Change<'_>,
        _row: &Resource,
        _new: &Self::Properties,
        _stored: &Self::Properties,
    ) -> impl Future<Output = ApiResult<Replace>> + Send {
        async { Ok(Replace::Write) }
    }

    /// Runs after each PUT, in the same transaction.
    fn after_put(
        _change: &mut Change<'_>,
        _row: &Resource,
        _new: &Self::Properties,
    ) -> impl Future<Output = ApiResult<()>> + Send {
        async { Ok(()) }
    }

    /// Runs before a resource is deleted, with its row locked.
    fn before_delete(
        _tx: &mut Connection,
        _request: &ArmRequest,
        _row: &Resource,
    ) -> impl Future<Output = ApiResult<()>> + Send {
        async { Ok(()) }
    }

    /// Deletes a resource whose deletion takes no job.
    fn remove(
        tx: &mut Connection,
        _request: &ArmRequest,
        row: &Resource,
    ) -> impl Future<Output = ApiResult<()>> + Send {
        async {
            resources::delete(tx, row).await?;
            Ok(())
        }
    }

    /// A page of the resources in `parent`, and whether there are more.
    fn page(
        conn: &mut Connection,
        _request: &ArmRequest,
        parent: &Resource,
        page: &Page,
    ) -> impl Future<Output = ApiResult<(Vec<Resource>, bool)>> + Send {
        async { Ok(resources::list_children(conn, parent, Self::TYPE, page).await?) }
    }

    /// What answers show of these resources beyond their rows.
    fn extras(_conn: &mut Connection, _rows: &[Resource]) -> impl Future<Output = ApiResult<Self::Extras>> + Send {
        async { Ok(Self::Extras::default()) }
    }

    /// Adds explanations for people to what is shown: an extension, for a GET with `explain=true`.
    fn explain(
        _conn: &mut Connection,
        _row: &Resource,
        _extras: &mut Self::Extras,
    ) -> impl Future<Output = ApiResult<()>> + Send {
        async { Ok(()) }
    }

    /// The `properties` that an answer shows, without the provisioning state.
    fn show(row: &Resource, _extras: &mut Self::Extras) -> ApiResult<Value> {
        Ok(row.properties.clone())
    }

    /// Changes the whole body of an answer, after the API version has hidden what it does not have.
    fn finish(_row: &Resource, _body: &mut Value) {}
}

/// An action on a resource that is none of the others: `POST {id}/{NAME}`.
pub trait ResourceAction: Send + Sync + Sized + 'static {
    /// The type that has the action.
    type On: ResourceType;
    /// The last segment of the path, such as `start`.
    const NAME: &'static str;
    /// The first API versions that have the action.
    const SINCE: Since = <Self::On as ResourceType>::SINCE;
    /// What it does, for people: `Start update run`.
    const OPERATION: &'static str;
    /// A sentence, for people: `Starts an update run`.
    const DESCRIPTION: &'static str;

    /// Performs the action.
    fn perform(app: App, at: At<Self>, body: RawBody) -> impl Future<Output = ApiResult<Response>> + Send;
}

/// What resources of a type are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a resource group, with a location and tags.
    Tracked,
    /// In a fleet.
    Fleet,
}

/// What people call a resource.
#[derive(Debug, Clone, Copy)]
pub struct Noun {
    /// `an` or `a`.
    pub article: &'static str,
    /// One: `update run`.
    pub one: &'static str,
    /// Several: `update runs`.
    pub many: &'static str,
}

/// What can be done with a resource besides reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs {
    /// Created and replaced.
    pub put: bool,
    /// Changed in part.
    pub patch: bool,
    /// Deleted.
    pub delete: bool,
}

/// How many resources of a type a parent may contain.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// So many.
    pub most: i64,
    /// The HTTP status with which the creation of one more is refused.
    pub status: StatusCode,
    /// The error code with which the creation of one more is refused.
    pub code: &'static str,
}

impl Limit {
    /// A limit with the status and the code of Azure's quotas.
    pub(super) const fn quota(most: i64) -> Self {
        Self { most, status: StatusCode::CONFLICT, code: "QuotaExceeded" }
    }
}

/// The work that follows from creating, replacing or deleting a resource.
#[derive(Debug, Clone, Copy)]
pub struct Provisioning {
    /// The state of a resource that is being created.
    pub creating: ProvisioningState,
    /// The state of a resource that is being deleted.
    pub deleting: ProvisioningState,
    /// The job that ends a creation or a replacement.
    pub provision: fn(&ArmRequest, &Resource, Uuid) -> NewJob,
    /// The job that ends a deletion.
    pub delete: fn(&ArmRequest, &Resource, Uuid) -> NewJob,
}

/// Whether a PUT of an existing resource writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// The row is written and gets another ETag.
    Write,
    /// Nothing changes: the row stays as it is.
    Keep,
}

/// A change of a resource in progress: what hooks see of it.
pub struct Change<'a> {
    /// The transaction.
    pub tx: &'a mut Connection,
    /// The request.
    pub request: &'a ArmRequest,
    /// What the resource is in; `None` for a PATCH.
    pub parent: Option<&'a Resource>,
    /// The resource before the change, its row locked; `None` when it is created.
    pub existing: Option<&'a Resource>,
    /// The whole body.
    pub body: &'a Value,
}

impl<T: ResourceType> Action for Read<T> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}/read", T::TYPE))
    }
}

impl<T: ResourceType> Action for Write<T> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}/write", T::TYPE))
    }
}

impl<T: ResourceType> Action for Delete<T> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}/delete", T::TYPE))
    }
}

impl<T: ResourceType> ChangeAction for Write<T> {}
impl<T: ResourceType> ChangeAction for Delete<T> {}
impl<A: ResourceAction> ChangeAction for A {}

impl<A: ResourceAction> Action for A {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}/{}/action", A::On::TYPE, A::NAME))
    }
}

macro_rules! of_type {
    ($($action:ident),*) => {$(
        impl<T: ResourceType> TypeAction for $action<T> {
            const TYPE: &'static str = T::TYPE;
            const SINCE: Since = T::SINCE;
        }
    )*};
}

of_type!(Read, Write, Delete);

impl<A: ResourceAction> TypeAction for A {
    const TYPE: &'static str = <A::On as ResourceType>::TYPE;
    const SINCE: Since = <A as ResourceAction>::SINCE;
}
