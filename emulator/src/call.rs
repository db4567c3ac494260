//! A request and its response as plain data, so that the emulated world needs no HTTP and no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::errors::ArmError;

/// An ARM request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path as sent, without the query.
    pub(crate) path: String,
    /// Path segments as sent, without empty ones.
    pub(crate) segments: Vec<String>,
    /// Query parameters, names in lower case.
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
    /// The JSON body; `Err`: why the body is not JSON.
    pub(crate) body: Result<Option<Value>, String>,
    /// `http://host:port` or `https://…`, with which absolute URLs in the response begin.
    pub(crate) base: String,
    pub(crate) caller: Option<String>,
    /// The bearer token.
    pub(crate) token: Option<String>,
    /// Fields of a form body.
    pub(crate) form: BTreeMap<String, String>,
    /// Whether the request has the header `Metadata: true`.
    pub(crate) metadata: bool,
    /// Value of the header `X-IDENTITY-HEADER`.
    pub(crate) identity_header: Option<String>,
    /// `AKSSnapshotId`: the node pool snapshot whose image an `upgradeNodeImageVersion` is to bring.
    pub(crate) snapshot_id: Option<String>,
}

impl Call {
    pub(crate) fn split(path: &str) -> Vec<String> {
        path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
    }

    pub(crate) fn lower(&self) -> Vec<String> {
        self.segments.iter().map(|segment| segment.to_ascii_lowercase()).collect()
    }

    /// Whether the method is neither GET nor HEAD.
    pub(crate) fn is_mutating(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Returns the body as an object. No body is an error.
    pub(crate) fn object(&self) -> Result<&Map<String, Value>, ArmError> {
        let invalid = |detail: &str| {
            let message = format!("The request content was invalid and could not be deserialized: '{detail}'.");
            ArmError::new(StatusCode::BAD_REQUEST, "InvalidRequestContent", message)
        };
        match &self.body {
            Ok(Some(Value::Object(map))) => Ok(map),
            Ok(Some(_)) => Err(invalid("the body is not an object")),
            Ok(None) => Err(invalid("the body is empty")),
            Err(detail) => Err(invalid(detail)),
        }
    }

    /// Returns `properties` of the body, empty when absent.
    pub(crate) fn properties(&self) -> Result<Map<String, Value>, ArmError> {
        match self.object()?.get("properties") {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(_) => Err(ArmError::new(
                StatusCode::BAD_REQUEST,
                "InvalidRequestContent",
                "The request content was invalid and could not be deserialized: 'properties is not an object'.",
            )),
        }
    }

    /// Checks If-Match and If-None-Match against the current resource (`None`: it does not exist).
    pub(crate) fn check_etag(&self, kind: &str, current: Option<&str>) -> Result<(), ArmError> {
        let plain = |text: &str| text.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        if let Some(wanted) = self.if_match.as_deref().map(plain) {
            let fits = current.is_some_and(|current| wanted == "*" || wanted == current);
            if !fits {
                return Err(ArmError::etag_mismatch(kind, &wanted, current.unwrap_or("")));
            }
        }
        if let (Some(unwanted), Some(current)) = (self.if_none_match.as_deref().map(plain), current)
            && (unwanted == "*" || unwanted == current)
        {
            return Err(ArmError::etag_mismatch(kind, &unwanted, current));
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Empty,
    Json(Value),
    /// JSON as text.
    Text(Arc<str>),
    /// A body that is not JSON.
    Garbage,
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, body: Body) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(crate) fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, Body::Json(body))
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<ArmError> for Reply {
    fn from(error: ArmError) -> Self {
        let mut reply = Self::new(error.status, Body::Json(error.body())).with("x-ms-error-code", error.code.clone());
        if let Some(seconds) = error.retry_after {
            reply = reply.with("retry-after", seconds.to_string());
        }
        if let Some(methods) = error.allow {
            reply = reply.with("allow", methods.to_owned());
        }
        match error.code.as_str() {
            "ResourceNotFound" | "ResourceGroupNotFound" | "SubscriptionNotFound" => {
                reply.with("x-ms-failure-cause", "gateway".into())
            }
            _ => reply,
        }
    }
}

/// The log entry of a request, filled in while the request is handled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note {
    pub(crate) cluster: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) node_image: Option<String>,
    pub(crate) operation: Option<Uuid>,
    pub(crate) applied: bool,
}

impl Note {
    /// Returns an entry with what the path says.
    pub(crate) fn of(call: &Call) -> Self {
        let lower = call.lower();
        let after = |word: &str| {
            let at = lower.iter().position(|segment| segment == word)?;
            call.segments.get(at + 1).cloned()
        };
        let pool = after("agentpools");
        let step = match (lower.last().map(String::as_str), &pool) {
            (Some("upgradenodeimageversion"), Some(pool)) => Some(format!("NodeImage:{pool}")),
            (_, Some(pool)) => Some(format!("AgentPool:{pool}")),
            _ => after("maintenanceconfigurations").map(|name| format!("Maintenance:{name}")),
        };
        Self { cluster: after("managedclusters"), step, ..Self::default() }
    }

    pub(crate) fn step(&mut self, step: impl Into<String>, target: Option<String>) {
        self.step = Some(step.into());
        self.target = target;
    }
}
