//! Gates of update runs. A run creates and deletes its gates; a person, or a timer, completes them.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{
    at::{At, Write},
    handlers,
    resource_type::{Change, Noun, ResourceType, Scope, Verbs},
};
use crate::{
    api::{
        App,
        http::{
            body::{self, RawBody},
            error::ApiResult,
            refusals::not_found,
            request::ArmRequest,
        },
    },
    arm::{
        ArmError, Problems,
        filter::{self, Comparison},
        page::Page,
    },
    database::Connection,
    engine::{self, RunCommand},
    model::{
        gate::{GatePatch, GateProperties},
        types,
        versions::{P2025_04_01, Since, V2026_06_01, since},
    },
    store::{
        gates,
        resources::{self, Resource},
        runs,
    },
};

/// Gates.
pub(super) struct Gate;

impl ResourceType for Gate {
    const TYPE: &'static str = types::GATES;
    const SCOPE: Scope = Scope::Fleet;
    const SINCE: Since = since(V2026_06_01, P2025_04_01);
    const NOUN: Noun = Noun { article: "a", one: "gate", many: "gates" };
    const VERBS: Verbs = Verbs { put: false, patch: true, delete: false };
    const NAME_PARAMETER: &'static str = "gateName";

    type Properties = GateProperties;
    type Extras = ();

    async fn check(
        _: &mut Change<'_>,
        _: &GateProperties,
        _: Option<&GateProperties>,
        _: &mut Problems,
    ) -> ApiResult<()> {
        Ok(())
    }

    /// `$filter` may name a state and a type.
    async fn page(
        conn: &mut Connection,
        request: &ArmRequest,
        parent: &Resource,
        page: &Page,
    ) -> ApiResult<(Vec<Resource>, bool)> {
        let wanted = Wanted::read(request.parameter("$filter"))?;
        let (state, kind) = (wanted.state.as_deref(), wanted.gate_type.as_deref());
        Ok(gates::list(conn, &parent.resource_id()?, state, kind, page).await?)
    }

    /// A gate has no author until a person completes it; the author is then that person.
    fn finish(row: &Resource, body: &mut Value) {
        if let (true, Value::Object(body)) = (row.system_data.created_by.is_empty(), body) {
            body.remove("systemData");
        }
    }
}

/// Completes a gate.
pub(super) async fn complete(
    State(app): State<App>,
    at: At<Write<Gate>>,
    RawBody(bytes): RawBody,
) -> ApiResult<Response> {
    let request = &at.request;
    let body = body::json(request.headers(), &bytes)?;
    let patch: GatePatch = body::whole(&body)?;
    let mut problems = Problems::default();
    let completes = patch.properties.completes(&mut problems);
    problems.into_result()?;
    let mut tx = app.pool.begin_locking(request.id.key()).await?;
    let missing = || not_found(&request.id);
    let seen = resources::get(&mut tx, &at.allowed).await?.ok_or_else(missing)?;
    if !completes {
        // A patch without a state changes nothing, and does not approve.
        request.precondition.check(Some(seen.etag))?;
        return Ok(Json(handlers::show::<Gate>(&mut tx, request, &seen).await?).into_response());
    }
    // Lock the run before the gate, as all transactions do.
    let (Some(run), Ok(name)) = (seen.parent_id, uuid::Uuid::try_parse(&seen.name)) else {
        return Err(missing());
    };
    runs::lock(&mut tx, run).await?;
    handlers::existing(&mut tx, &at).await?;
    let (command, trace) = (RunCommand::CompleteGate(name), Some(request.correlation()));
    engine::command(&mut tx, run, command, request.author(), request.now, trace).await?.ok_or_else(missing)?;
    let gate = resources::get(&mut tx, &at.allowed).await?.ok_or_else(missing)?;
    let shown = handlers::show::<Gate>(&mut tx, request, &gate).await?;
    tx.commit().await?;
    Ok(Json(shown).into_response())
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
