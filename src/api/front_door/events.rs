//! Events that could not be delivered to webhooks: read, and delivered again. No part of ARM.

use axum::{
    Json,
    extract::{FromRequest, Request, State},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    api::{
        App,
        front_door::actions::{EventsRead, EventsReplay},
        http::{
            body::{self, RawBody},
            error::ApiResult,
            principal::Principal,
            request::query_of,
        },
    },
    arm::ArmError,
    engine,
    identity::Action,
    store::deliveries::{self, DeadLetters},
};

/// Most in an answer.
const MOST: u32 = 1000;

/// `GET /events/deadLetters`: the oldest first; `webhook` and `$top` in the query.
pub(crate) async fn dead_letters(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    let (parts, _) = request.into_parts();
    let principal = Principal::of(&parts, &app, Timestamp::now()).await?;
    principal.demand(&app, &EventsRead::name(), "/").await?;
    let query = query_of(&parts)?;
    let top = query.get("$top").map_or(Some(MOST), |text| text.parse().ok().filter(|top| *top > 0));
    let top = top
        .ok_or_else(|| ArmError::bad_request("InvalidQueryParameter", "$top must be a positive number.").at("$top"))?;
    let which = DeadLetters { webhook: query.get("webhook").map(String::as_str), ids: &[] };
    let mut conn = app.pool.acquire().await?;
    let found = deliveries::dead_letters(&mut conn, &which, top.min(MOST)).await?;
    Ok(Json(json!({"value": found})))
}

/// Which dead letters. One of both must be there: nobody replays everything by mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    webhook: Option<String>,
    #[serde(default)]
    ids: Vec<Uuid>,
}

/// `POST /events/replay`: those of a webhook, or of events with these IDs.
pub(crate) async fn replay(State(app): State<App>, request: Request) -> ApiResult<Json<Value>> {
    let (parts, body) = request.into_parts();
    let principal = Principal::of(&parts, &app, Timestamp::now()).await?;
    principal.demand(&app, &EventsReplay::name(), "/").await?;
    let headers = parts.headers.clone();
    let RawBody(bytes) = RawBody::from_request(Request::from_parts(parts, body), &app).await?;
    let Replay { webhook, ids } = body::whole(&body::json(&headers, &bytes)?)?;
    if webhook.is_none() && ids.is_empty() {
        let message = "Name the webhook, or the IDs of events, or both: {\"webhook\": \"ops\", \"ids\": []}.";
        return Err(ArmError::bad_request("InvalidRequestContent", message).into());
    }
    let which = DeadLetters { webhook: webhook.as_deref(), ids: &ids };
    let mut tx = app.pool.begin().await?;
    let replayed = engine::deliveries::replay(&mut tx, &which).await?;
    tx.commit().await?;
    Ok(Json(json!({"replayed": replayed})))
}
