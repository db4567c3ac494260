//! Gates of update runs. Runs make and delete them; a person completes them.

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{
    App,
    body::{self, RawBody},
    error::ApiResult,
    fleets::{not_found, parent},
    render,
    request::ArmRequest,
};
use crate::{
    arm::ArmError,
    jobs,
    model::types::action,
    rollout::Event,
    store::{gates, resources},
};

/// GET of one.
pub(crate) async fn get(State(app): State<App>, request: ArmRequest) -> ApiResult<Json<Value>> {
    let allowed = request.authorize(&app, action::GATES_READ).await?;
    let mut conn = app.pool.acquire().await?;
    let gate = resources::get(&mut conn, allowed.id()).await?.ok_or_else(|| not_found(&request.id))?;
    Ok(Json(show(&request, &gate)?))
}

/// Lists those of a fleet, by state and type where `$filter` says so.
pub(crate) async fn list(State(app): State<App>, request: ArmRequest) -> ApiResult<Response> {
    request.authorize(&app, action::GATES_READ).await?;
    let filter = Filter::parse(request.parameter("$filter").unwrap_or_default())?;
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    let fleet = parent(&mut conn, &request).await?;
    let (state, kind) = (filter.state.as_deref(), filter.gate_type.as_deref());
    let (rows, more) = gates::list(&mut conn, &fleet.resource_id()?, state, kind, &page).await?;
    let items = rows.iter().map(|gate| show(&request, gate)).collect::<ApiResult<_>>()?;
    Ok(render::list(&app, &request, items, render::last_key(&rows, more).as_deref()))
}

#[derive(Deserialize)]
struct Patch {
    state: Option<String>,
}

/// Completes a gate.
pub(crate) async fn patch(
    State(app): State<App>,
    request: ArmRequest,
    RawBody(bytes): RawBody,
) -> ApiResult<Json<Value>> {
    request.authorize(&app, action::GATES_WRITE).await?;
    let body = body::json(request.headers(), &bytes)?;
    let Patch { state } = body::part(&body, "properties")?;
    let completes = state.is_some();
    if let Some(state) = state.filter(|state| state != "Completed") {
        return Err(ArmError::bad_request(
            "InvalidParameter",
            format!("A gate's state can be set to 'Completed' only, not to '{state}'. Skip its stage or group to pass it by."),
        )
        .at("properties.state")
        .into());
    }
    let mut tx = app.pool.begin().await?;
    let seen = resources::get(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    if !completes {
        // A patch that says nothing changes nothing; least of all does it approve.
        request.precondition.check(Some(seen.etag))?;
        return Ok(Json(show(&request, &seen)?));
    }
    // The run's row comes first, as everywhere: two locks in one order.
    let (Some(run), Ok(name)) = (seen.parent_id, uuid::Uuid::try_parse(&seen.name)) else {
        return Err(not_found(&request.id));
    };
    let event = Event::GateCompleted { gate: name };
    let trace = Some(request.correlation());
    jobs::rollout::drive(&mut tx, run, event, request.now, trace).await?.ok_or_else(|| not_found(&request.id))?;
    let gate = resources::get_for_update(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    request.precondition.check(Some(gate.etag))?;
    let gate = if gate.properties.get("state").and_then(Value::as_str) == Some("Pending") {
        gates::complete(&mut tx, gate.id, request.author(), request.now).await?.ok_or_else(|| not_found(&request.id))?
    } else {
        gate
    };
    let shown = show(&request, &gate)?;
    tx.commit().await?;
    Ok(Json(shown))
}

fn show(request: &ArmRequest, gate: &resources::Resource) -> ApiResult<Value> {
    let mut shown = render::resource(request, gate, gate.properties.clone())?;
    // A gate has no author until somebody completes it; that author is who approved.
    if gate.system_data.created_by.is_empty()
        && let Value::Object(body) = &mut shown
    {
        body.remove("systemData");
    }
    Ok(shown)
}

/// `state eq Pending`, `gateType eq Approval`, joined by `and`; values quoted or not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    state: Option<String>,
    gate_type: Option<String>,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, ArmError> {
        let wrong = || {
            ArmError::new(
                StatusCode::BAD_REQUEST,
                "InvalidParameter",
                "$filter is understood as 'state eq Pending', 'gateType eq Approval', or both joined by 'and'.",
            )
            .at("$filter")
        };
        let mut filter = Self::default();
        let mut words = text.split_whitespace();
        while let Some(field) = words.next() {
            let (Some(eq), Some(value)) = (words.next(), words.next()) else { return Err(wrong()) };
            let value = value.trim_matches('\'').to_owned();
            let place = match field.rsplit('/').next().unwrap_or_default() {
                name if name.eq_ignore_ascii_case("state") => &mut filter.state,
                name if name.eq_ignore_ascii_case("gateType") => &mut filter.gate_type,
                _ => return Err(wrong()),
            };
            if !eq.eq_ignore_ascii_case("eq") || value.is_empty() || place.replace(value).is_some() {
                return Err(wrong());
            }
            match words.next() {
                None => break,
                Some(and) if and.eq_ignore_ascii_case("and") && words.clone().next().is_some() => {}
                Some(_) => return Err(wrong()),
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let filter = |text| Filter::parse(text).ok().map(|f| (f.state, f.gate_type));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(filter(""), Some((None, None)));
        assert_eq!(filter("state eq Pending"), Some((some("Pending"), None)));
        assert_eq!(
            filter("state eq 'Pending' and properties/gateType eq 'Approval'"),
            Some((some("Pending"), some("Approval")))
        );
        for bad in [
            "state",
            "state ne Pending",
            "x eq y",
            "state eq a and",
            "state eq a state eq b",
            "state eq a and state eq b",
        ] {
            assert_eq!(filter(bad), None, "{bad}");
        }
    }
}
