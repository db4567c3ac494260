//! Who sends a request, and what it may do.

use std::{sync::Arc, time::Instant};

use http::request::Parts;
use jiff::Timestamp;

use crate::{
    api::{
        App,
        http::{audit::Trail, budgets::Left, context::Ids, error::ApiResult, host::origin_of},
    },
    arm::{ArmError, ResourceId},
    identity::{self, Access, Action, Authorized, Caller, Reach, authorize},
};

/// The sender of a request.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// As its token names it.
    pub(crate) caller: Arc<Caller>,
    /// What its roles grant.
    pub(crate) access: Access,
    /// The IDs of the request.
    pub(crate) ids: Ids,
    trail: Trail,
}

impl Principal {
    /// The sender of a request.
    ///
    /// # Errors
    /// 401; 429 when it has sent too many requests; 503 while nobody can tell.
    pub(crate) async fn of(parts: &Parts, app: &App, now: Timestamp) -> ApiResult<Self> {
        let header = parts.headers.get(http::header::AUTHORIZATION);
        let text = header.map(|value| value.to_str().unwrap_or_default());
        let caller = app.verifier.authenticate(text, now, &origin_of(parts, app)).await?;
        tracing::Span::current().record("caller", tracing::field::display(&caller.object_id));
        let subscription = subscription_in(parts.uri.path()).and_then(|id| app.subscription(id)).map(|known| known.id);
        let left = parts.extensions.get::<Left>();
        app.budgets.count(caller.object_id, subscription, &parts.method, left, Instant::now())?;
        let access = app.access.of(&caller, &app.pool).await?;
        let trail = parts.extensions.get::<Trail>().cloned().unwrap_or_default();
        Ok(Self { caller: Arc::new(caller), access, ids: ids_of(parts), trail })
    }

    /// Proof that the caller may perform `A` on `scope`.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn authorize<A: Action>(&self, app: &App, scope: &ResourceId) -> ApiResult<Authorized<A>> {
        self.authorize_any(app, &[&A::name()], scope).await
    }

    /// Proof that the caller may perform `A` on `scope`, where each of `actions` is enough for it. The audit trail and a
    /// refusal name the first one.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn authorize_any<A: Action>(
        &self,
        app: &App,
        actions: &[&str],
        scope: &ResourceId,
    ) -> ApiResult<Authorized<A>> {
        let decided = identity::authorize_any(&self.caller, &self.access, actions, scope);
        let action = actions.first().copied().unwrap_or_default();
        self.trail
            .record(app, &self.caller, action, &scope.to_string(), decided.is_ok(), &self.ids.correlation)
            .await?;
        Ok(decided?)
    }

    /// That the caller may perform `action` on a scope that is any ID, or `/`.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn demand(&self, app: &App, action: &str, scope: &str) -> ApiResult<()> {
        let allowed = self.access.allows_key(action, &scope.trim_end_matches('/').to_lowercase());
        self.record(app, action, scope, allowed).await?;
        if allowed { Ok(()) } else { Err(self.denied(action, scope)) }
    }

    /// In which part of a scope the caller may perform one of several actions: for lists, which show no more. A refusal names the
    /// first action.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed` where that is nowhere.
    pub(crate) async fn reach_any(&self, app: &App, actions: &[&str], scope: &ResourceId) -> ApiResult<Reach> {
        let action = actions.first().copied().unwrap_or_default();
        let reach = actions.iter().filter_map(|action| self.access.reach(action, scope)).reduce(Reach::or);
        self.record(app, action, &scope.to_string(), reach.is_some()).await?;
        reach.ok_or_else(|| self.denied(action, &scope.to_string()))
    }

    /// That the caller has any role on the scope or on anything in it.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn enter(&self, app: &App, action: &str, scope: &ResourceId) -> ApiResult<()> {
        let allowed = self.access.enters(scope.key());
        self.record(app, action, &scope.to_string(), allowed).await?;
        if allowed { Ok(()) } else { Err(self.denied(action, &scope.to_string())) }
    }

    /// Writes a decision to the audit trail.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn record(&self, app: &App, action: &str, scope: &str, allowed: bool) -> ApiResult<()> {
        Ok(self.trail.record(app, &self.caller, action, scope, allowed, &self.ids.correlation).await?)
    }

    fn denied(&self, action: &str, scope: &str) -> crate::api::http::error::ApiError {
        let error: ArmError = authorize::denied(&self.caller, action, scope);
        error.into()
    }
}

/// The subscription that a path begins with.
fn subscription_in(path: &str) -> Option<&str> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.next().filter(|first| first.eq_ignore_ascii_case("subscriptions"))?;
    segments.next()
}

/// The IDs that the outermost layer gave to a request.
pub(crate) fn ids_of(parts: &Parts) -> Ids {
    let known = parts.extensions.get::<Ids>().cloned();
    known.unwrap_or_else(|| Ids { correlation: uuid::Uuid::new_v4().to_string() })
}
