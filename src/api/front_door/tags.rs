//! The tags of a resource or a resource group as a resource of their own, `…/providers/Microsoft.Resources/tags/default`:
//! what `az tag` reads and changes (Tags - Create Or Update At Scope, API 2021-04-01).

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, request::Parts};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{
        App,
        front_door::{
            actions::{TagsRead, TagsWrite},
            resource_groups,
        },
        http::{
            body::{self, RawBody},
            error::ApiResult,
            principal::Principal,
            refusals::{not_found, settled},
            request::{query_of, segments, subscription_not_found, target},
        },
    },
    arm::{
        ApiVersion, ArmError, Problems, ResourceId,
        envelope::{Tags, check_tags},
    },
    identity::{Action, Authorized},
    model::types,
    store::resources::{self, Author, Resource},
};

/// What follows the last `providers/` of the path.
pub(crate) const PATH: &str = "Microsoft.Resources/tags/default";

#[derive(Deserialize)]
struct Properties {
    #[serde(default)]
    tags: Tags,
}

/// What a PATCH does with the tags that there are.
#[derive(Deserialize)]
enum Operation {
    Replace,
    Merge,
    Delete,
}

/// Answers a request for the tags of a scope.
pub(crate) async fn serve(
    app: &App,
    principal: Principal,
    parts: Parts,
    body: Body,
    scope: &str,
) -> ApiResult<Response> {
    let query = query_of(&parts)?;
    ApiVersion::any(query.get("api-version").map(String::as_str))?;
    target(scope)?;
    let decoded: String = segments(scope)?.iter().map(|segment| format!("/{segment}")).collect();
    let id: ResourceId = decoded.parse().map_err(|_| no_tags(scope))?;
    app.subscription(id.subscription()).ok_or_else(|| subscription_not_found(&id))?;
    match parts.method {
        Method::GET => {
            let allowed = authorize::<TagsRead>(app, &principal, &id, "read").await?;
            let mut conn = app.pool.acquire().await?;
            let found = resources::get(&mut conn, &allowed).await?.filter(tracked).ok_or_else(|| missing(&id))?;
            Ok(show(&found))
        }
        Method::PUT | Method::PATCH | Method::DELETE => {
            let allowed = authorize::<TagsWrite>(app, &principal, &id, "write").await?;
            let method = parts.method.clone();
            let headers = parts.headers.clone();
            let RawBody(bytes) = RawBody::from_request(Request::from_parts(parts, body), app).await?;
            let change = match method {
                Method::DELETE => json!({"properties": {"tags": {}}}),
                _ => body::json(&headers, &bytes)?,
            };
            let given: Properties = body::part(&change, "properties")?;
            let operation = match method {
                Method::PATCH => body::optional(&change, "operation")?.unwrap_or(Operation::Merge),
                _ => Operation::Replace,
            };
            change_tags(app, &principal, &allowed, given.tags, &operation).await
        }
        method => {
            let message = format!("The method {method} is not supported here: GET, PUT, PATCH and DELETE are.");
            Err(ArmError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).into())
        }
    }
}

async fn change_tags(
    app: &App,
    principal: &Principal,
    allowed: &Authorized<TagsWrite>,
    given: Tags,
    operation: &Operation,
) -> ApiResult<Response> {
    let id = allowed.id();
    let mut tx = app.pool.begin().await?;
    let found = resources::get_for_update(&mut tx, allowed).await?.filter(tracked).ok_or_else(|| missing(id))?;
    settled(&found)?;
    let mut tags = found.tags.clone().unwrap_or_default();
    match operation {
        Operation::Replace => tags = given,
        // Names of tags compare without case.
        Operation::Merge => {
            for (name, value) in given {
                tags.retain(|known, _| !known.eq_ignore_ascii_case(&name));
                tags.insert(name, value);
            }
        }
        Operation::Delete => tags.retain(|known, value| {
            !given.iter().any(|(name, wanted)| known.eq_ignore_ascii_case(name) && value == wanted)
        }),
    }
    let mut problems = Problems::default();
    check_tags(&tags, &mut problems);
    problems.into_result()?;
    let name = principal.caller.display_name();
    let author = Author { name: &name, kind: principal.caller.kind.as_str() };
    let changed = resources::set_tags(&mut tx, allowed, &tags, author, Timestamp::now()).await?;
    let changed = changed.ok_or_else(|| missing(id))?;
    tx.commit().await?;
    Ok(show(&changed))
}

/// The right on tags, or on the resource itself.
async fn authorize<A: Action>(
    app: &App,
    principal: &Principal,
    id: &ResourceId,
    verb: &str,
) -> ApiResult<Authorized<A>> {
    let kind = id.resource_type().unwrap_or_else(|| "Microsoft.Resources/subscriptions/resourceGroups".to_owned());
    let (on_resource, on_tags) = (format!("{kind}/{verb}"), A::name());
    let actions = match principal.access.allows(&on_resource, id) {
        true => [on_resource.as_str(), &on_tags],
        false => [&on_tags, on_resource.as_str()],
    };
    principal.authorize_any(app, &actions, id).await
}

/// Whether a resource has tags.
fn tracked(resource: &Resource) -> bool {
    matches!(resource.resource_type.as_str(), types::FLEETS | types::RESOURCE_GROUPS)
}

fn no_tags(scope: &str) -> ArmError {
    ArmError::not_found("ResourceNotFound", format!("'{scope}' is nothing that has tags."))
}

fn missing(id: &ResourceId) -> crate::api::http::error::ApiError {
    match id.resource_type() {
        None if id.resource_group().is_some() => resource_groups::not_found(id),
        Some(kind) if kind.eq_ignore_ascii_case(types::FLEETS) => not_found(id),
        _ => no_tags(&id.to_string()).into(),
    }
}

fn show(resource: &Resource) -> Response {
    let tags: Value = json!(resource.tags.clone().unwrap_or_default());
    Json(json!({
        "id": format!("{}/providers/{PATH}", resource.arm_id),
        "name": "default",
        "type": "Microsoft.Resources/tags",
        "properties": {"tags": tags},
    }))
    .into_response()
}
