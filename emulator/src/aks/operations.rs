//! Status monitors and results of long-running operations.

use axum::http::StatusCode;
use uuid::Uuid;

use super::Answer;
use crate::call::{Body, Call, Reply};
use crate::errors::ArmError;
use crate::operations::Status;
use crate::world::World;

pub(super) fn get(world: &World, call: &Call, subscription: &str, kind: &str, id: &str) -> Answer {
    let parsed: Option<Uuid> = id.parse().ok();
    let found =
        parsed.and_then(|id| Some((id, world.operations.get(&id).filter(|found| found.subscription == subscription)?)));
    let Some((id, operation)) = found else {
        return Err(ArmError::not_found(format!("The entity was not found. Operation '{id}' does not exist.")));
    };
    let waiting = operation.status == Status::InProgress;
    let here = format!(
        "{}{}?api-version={}",
        call.base,
        call.path,
        call.query.get("api-version").map(String::as_str).unwrap_or_default()
    );
    let reply = match (kind, operation.status) {
        ("operations", _) => Reply::ok(operation.body(id)),
        (_, Status::InProgress) => Reply::new(StatusCode::ACCEPTED, Body::Empty).with("location", here),
        (_, Status::Succeeded) => Reply::new(StatusCode::NO_CONTENT, Body::Empty).with("location", here),
        (_, Status::Failed | Status::Canceled) => Reply::new(StatusCode::CONFLICT, Body::Json(operation.body(id))),
    };
    Ok(match world.settings.retry_after_seconds.filter(|_| waiting) {
        Some(seconds) => reply.with("retry-after", seconds.to_string()),
        None => reply,
    })
}
