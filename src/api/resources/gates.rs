//! Gates of update runs. Runs make and delete them; a person, or the time, completes them.

use axum::{Json, extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{
        App,
        http::{
            body::{self, RawBody},
            error::ApiResult,
            render,
            request::ArmRequest,
        },
        resources::fleets::{not_found, parent},
    },
    arm::{
        ArmError,
        filter::{self, Comparison},
    },
    engine,
    model::types::action,
    rollout::Event,
    store::{gates, resources, runs},
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
    let wanted = Wanted::read(request.parameter("$filter"))?;
    let page = request.page(&app)?;
    let mut conn = app.pool.acquire().await?;
    let fleet = parent(&mut conn, &request).await?;
    let (state, kind) = (wanted.state.as_deref(), wanted.gate_type.as_deref());
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
    let mut tx = app.pool.begin_locking(request.id.key()).await?;
    let seen = resources::get(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    if !completes {
        // A patch that says nothing changes nothing; least of all does it approve.
        request.precondition.check(Some(seen.etag))?;
        return Ok(Json(show(&request, &seen)?));
    }
    // The run before its gate: see the order of locks in `store`.
    let (Some(run), Ok(name)) = (seen.parent_id, uuid::Uuid::try_parse(&seen.name)) else {
        return Err(not_found(&request.id));
    };
    runs::lock(&mut tx, run).await?;
    let gate = resources::get_for_update(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
    request.precondition.check(Some(gate.etag))?;
    let (event, trace) = (Event::GateCompleted { gate: name }, Some(request.correlation()));
    let driven = engine::drive_by(&mut tx, run, event, request.author(), request.now, trace).await?;
    driven.ok_or_else(|| not_found(&request.id))?;
    let gate = resources::get(&mut tx, &request.id).await?.ok_or_else(|| not_found(&request.id))?;
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

/// Which gates a list shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    state: Option<String>,
    gate_type: Option<String>,
}

impl Wanted {
    fn read(text: Option<&str>) -> Result<Self, ArmError> {
        let refuse = |message: String| ArmError::bad_request("InvalidFilterInQueryString", message).at("$filter");
        let mut wanted = Self::default();
        for Comparison { name, value } in filter::parse(text)? {
            let place = match name.to_ascii_lowercase().as_str() {
                "state" => &mut wanted.state,
                "gatetype" => &mut wanted.gate_type,
                _ => return Err(refuse(format!("$filter knows state and gateType of gates, and not '{name}'."))),
            };
            if place.replace(value).is_some() {
                return Err(refuse(format!("$filter has '{name}' twice.")));
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let wanted = |text| Wanted::read(Some(text)).ok().map(|w| (w.state, w.gate_type));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(wanted(""), Some((None, None)));
        assert_eq!(wanted("state eq Pending"), Some((some("Pending"), None)));
        assert_eq!(
            wanted("state eq 'Pending' and properties/gateType eq 'ScheduledStart'"),
            Some((some("Pending"), some("ScheduledStart")))
        );
        for bad in ["state", "state ne Pending", "x eq y", "state eq a and", "state eq a and state eq b"] {
            assert_eq!(wanted(bad), None, "{bad}");
        }
    }
}
