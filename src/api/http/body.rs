//! Request bodies: JSON, bounded, typed, with the path of what is wrong.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{
    api::{
        App,
        http::{error::ApiError, strict_json},
    },
    arm::{ApiVersion, ArmError, ResourceId},
    model::versions,
};

/// A request's body: no larger, and no later, than the service accepts.
pub struct RawBody(pub(crate) Bytes);

impl FromRequest<App> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let limit = app.max_body_bytes;
        let too_large = || {
            ArmError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                format!("The request's body is larger than the {limit} bytes that are accepted."),
            )
        };
        let deadline = Instant::now() + app.body_deadline;
        let mut body = request.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| too_slow(app.body_deadline))? {
            let frame = frame.map_err(|error| invalid(&format!("the body ended early: {error}")))?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(too_large().into());
            }
            bytes.extend_from_slice(data);
        }
        Ok(Self(bytes.into()))
    }
}

/// The 408 of a body that did not arrive in time.
fn too_slow(deadline: Duration) -> ArmError {
    let message = format!("The request's body did not arrive within {} seconds. Send it again.", deadline.as_secs());
    ArmError::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
}

/// Reads a JSON object.
///
/// # Errors
/// 415 for another media type, 400 `InvalidRequestContent` for anything but a JSON object, and for one with a name twice.
pub(crate) fn json(headers: &HeaderMap, bytes: &Bytes) -> Result<Value, ArmError> {
    let media = headers.get(http::header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    if !bytes.is_empty() && !media.is_some_and(is_json) {
        return Err(ArmError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "The request's body must be JSON: send it with 'Content-Type: application/json'.",
        ));
    }
    let value = strict_json::parse(bytes).map_err(|wrong| {
        let error = invalid(&wrong.reason);
        wrong.target.map_or(error.clone(), |target| error.at(target))
    })?;
    if !value.is_object() {
        return Err(invalid("a JSON object is expected"));
    }
    if has_nul(&value) {
        return Err(invalid("the character U+0000 is not allowed in names and values"));
    }
    Ok(value)
}

/// Reads the body of a PUT: what the version does not have is removed, and what the URL says must not be contradicted.
///
/// # Errors
/// As [`json`], and 400 where `id`, `name` or `type` differ from the URL's.
pub(crate) fn resource(
    headers: &HeaderMap,
    bytes: &Bytes,
    id: &ResourceId,
    resource_type: &str,
    version: ApiVersion,
) -> Result<Value, ArmError> {
    let mut body = json(headers, bytes)?;
    for (field, wanted) in [("id", id.to_string()), ("name", id.name().to_owned()), ("type", resource_type.to_owned())]
    {
        match body.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.eq_ignore_ascii_case(&wanted) || text.is_empty() => {}
            Some(_) => {
                return Err(ArmError::bad_request(
                    "InvalidRequestContent",
                    format!(
                        "The body's '{field}' differs from the URL's '{wanted}': leave it out, or send it as it is."
                    ),
                )
                .at(field));
            }
        }
    }
    versions::hide(&mut body, resource_type, version);
    Ok(body)
}

/// Reads a part of a body into its type; absent and null parts read as an empty object.
///
/// # Errors
/// 400 `InvalidRequestContent` whose target is the property that does not fit.
pub(crate) fn part<T: DeserializeOwned>(body: &Value, name: &str) -> Result<T, ArmError> {
    let value = match body.get(name) {
        None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
        Some(value) => value.clone(),
    };
    typed(value, name)
}

/// Reads an optional part of a body into its type.
///
/// # Errors
/// As [`part`].
pub(crate) fn optional<T: DeserializeOwned>(body: &Value, name: &str) -> Result<Option<T>, ArmError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => typed(value.clone(), name).map(Some),
    }
}

fn typed<T: DeserializeOwned>(value: Value, name: &str) -> Result<T, ArmError> {
    serde_path_to_error::deserialize(strip_nulls(value)).map_err(|error| {
        let inner = error.path().to_string();
        let path = if inner == "." { name.to_owned() } else { format!("{name}.{inner}") };
        invalid(&format!("{path}: {}", error.inner())).at(path)
    })
}

/// Null means absent in a PUT; the types then say what may be absent.
fn strip_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            object.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, strip_nulls(v))).collect()
        }
        Value::Array(items) => Value::Array(items.into_iter().map(strip_nulls).collect()),
        other => other,
    }
}

/// Whether the character that no text of the database can hold occurs anywhere.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn invalid(reason: &str) -> ArmError {
    ArmError::bad_request(
        "InvalidRequestContent",
        format!("The request content was invalid and could not be deserialized: '{reason}'."),
    )
}

fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// Reads a whole body into its type.
///
/// # Errors
/// As [`part`].
pub(crate) fn whole<T: DeserializeOwned>(body: &Value) -> Result<T, ArmError> {
    serde_path_to_error::deserialize(strip_nulls(body.clone())).map_err(|error| {
        let path = error.path().to_string();
        let wrong = invalid(&format!("{path}: {}", error.inner()));
        if path == "." { wrong } else { wrong.at(path) }
    })
}
