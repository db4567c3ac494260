//! The extractors that prove the right to an action on a resource type before a handler runs.

use std::{marker::PhantomData, ops::Deref};

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::{
    api::{
        App,
        http::{
            error::ApiError,
            request::{Accepts, ArmRequest},
        },
    },
    identity::{Action, Authorized, Reach},
    model::versions::Since,
};

/// Gets and lists resources of a type.
pub struct Read<T>(PhantomData<T>);
/// Creates and changes resources of a type.
pub struct Write<T>(PhantomData<T>);
/// Deletes resources of a type.
pub struct Delete<T>(PhantomData<T>);

/// An action on a resource type, with the API versions that have it.
pub trait TypeAction: Action {
    /// The full resource type.
    const TYPE: &'static str;
    /// The first API versions that have the action.
    const SINCE: Since;
}

/// A request whose caller may perform `A` on the resource that the path names.
pub struct At<A> {
    /// The request.
    pub request: ArmRequest,
    /// The proof.
    pub allowed: Authorized<A>,
}

impl<A> Deref for At<A> {
    type Target = ArmRequest;

    fn deref(&self) -> &ArmRequest {
        &self.request
    }
}

impl<A: TypeAction> FromRequestParts<App> for At<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let request = ArmRequest::read(parts, app, Accepts::Since(A::TYPE, A::SINCE)).await?;
        let allowed = request.authorize(app).await?;
        Ok(Self { request, allowed })
    }
}

/// A request for a list of which the caller sees the parts where it may perform `A`.
pub struct Within<A> {
    /// The request.
    pub request: ArmRequest,
    /// Where the caller may.
    pub reach: Reach,
    action: PhantomData<fn() -> A>,
}

impl<A: TypeAction> FromRequestParts<App> for Within<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let request = ArmRequest::read(parts, app, Accepts::Since(A::TYPE, A::SINCE)).await?;
        let reach = request.reach::<A>(app).await?;
        Ok(Self { request, reach, action: PhantomData })
    }
}
