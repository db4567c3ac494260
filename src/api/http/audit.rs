//! The audit trail: each change that a caller may make or not, in the database and in the log. Denied reads are counted by the hour.

use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    api::App,
    identity::Caller,
    store::{
        StoreError,
        audit::{self, AuditEvent},
    },
};

/// The events of one request, to which its status is added in the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail(Arc<Mutex<Vec<Uuid>>>);

impl Trail {
    /// Writes down what a caller is about to do, or was refused. Reads that are allowed are not written down.
    ///
    /// # Errors
    /// When the database fails: then nothing is done.
    pub(crate) async fn record(
        &self,
        app: &App,
        caller: &Caller,
        action: &str,
        resource: &str,
        allowed: bool,
        correlation_id: &str,
    ) -> Result<(), StoreError> {
        let reads = action.get(action.len().saturating_sub(5)..).is_some_and(|end| end.eq_ignore_ascii_case("/read"));
        if allowed && reads {
            return Ok(());
        }
        let id = Uuid::now_v7();
        let name = caller.display_name();
        tracing::info!(target: "audit", caller = name, object_id = %caller.object_id, action, resource, allowed, "audit");
        let event = AuditEvent {
            id,
            at: Timestamp::now(),
            object_id: caller.object_id,
            caller: &name,
            caller_type: caller.kind.as_str(),
            app_id: caller.app_id.as_deref(),
            action,
            resource,
            allowed,
            correlation_id,
        };
        if reads {
            return audit::count_denied_read(&app.pool, &event).await;
        }
        audit::begin(&app.pool, &event).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        Ok(())
    }

    /// Adds to the events of a request how it was answered.
    pub(crate) async fn conclude(&self, app: &App, status: StatusCode) {
        let events = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if !events.is_empty()
            && let Err(error) = audit::conclude(&app.pool, &events, status.as_u16()).await
        {
            tracing::warn!(error = %anyhow::Error::from(error), "an audit event stays without its status");
        }
    }
}
