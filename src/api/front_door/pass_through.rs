//! What is not this provider's goes to the upstream and comes back, so that one cloud registration serves `az fleet` and
//! `az aks` alike.
//!
//! The caller is authenticated here first; what it may do there, the upstream decides by the caller's own token. Requests go
//! to the one configured origin, whatever their path says, and only for the types on a list.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, future, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::http::error::{ApiError, ApiResult},
    arm::{ArmError, ResourceId},
    transport,
};

/// Longest list whose `nextLink` is rewritten, in bytes; longer ones keep that of the upstream.
const MOST_REWRITTEN: usize = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of the upstream.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Headers of one connection (RFC 9110 §7.6.1), and those that the next one must have of its own.
const NOT_PASSED: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    // Bodies are read for their links.
    "accept-encoding",
];

/// Headers that point at an operation.
const POINTERS: [&str; 3] = ["azure-asyncoperation", "location", "operation-location"];

#[derive(Deserialize)]
struct Permissions {
    value: Vec<Permission>,
}

/// A role's part in what somebody may do.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Permission {
    /// Granted.
    pub(crate) actions: Vec<String>,
    /// Taken out again.
    pub(crate) not_actions: Vec<String>,
}

/// The way to the upstream.
#[derive(Debug, Clone)]
pub struct PassThrough {
    client: reqwest::Client,
    /// Scheme, host and port, without a slash.
    origin: String,
    /// Types that are passed, lower-cased, with all that is in them.
    types: Vec<String>,
}

impl PassThrough {
    /// Passes requests for these types (`Microsoft.ContainerService/managedClusters`) to `origin`, such as
    /// `https://management.azure.com`. `ca`: authorities to trust beside the system's.
    ///
    /// # Errors
    /// When there is no HTTP client to be had.
    pub fn new(origin: &str, types: &[String], ca: &[reqwest::Certificate]) -> Result<Self, reqwest::Error> {
        let client = transport::client(ca).connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build()?;
        let origin = origin.trim_end_matches('/').to_owned();
        Ok(Self { client, origin, types: types.iter().map(|kind| kind.to_lowercase()).collect() })
    }

    /// Whether requests for this full type are passed. One with an encoded character is not: the upstream would decode it, and
    /// could read `%70roviders/Other.Provider` where none was seen here.
    pub(crate) fn takes(&self, resource_type: &str) -> bool {
        if resource_type.contains('%') {
            return false;
        }
        let wanted = resource_type.to_lowercase();
        self.types
            .iter()
            .any(|kind| wanted.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// Sends a request on, and brings back the answer with links that lead here (`base`). The path must have been checked:
    /// see [`crate::api::http::request::target`].
    ///
    /// # Errors
    /// 502 when the upstream cannot be reached, 504 when it is silent.
    pub(crate) async fn pass(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        base: &str,
    ) -> ApiResult<Response> {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request =
            self.client.request(method.clone(), format!("{}{path}", self.origin)).headers(passed(headers));
        if !body.is_empty() {
            request = request.body(body);
        }
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        let (mut parts, body) = http::Response::from(answer).into_parts();
        parts.headers = passed(&parts.headers);
        for name in POINTERS {
            if let Some(value) = parts.headers.get(name).and_then(|value| self.lead_here(value, base)) {
                parts.headers.insert(HeaderName::from_static(name), value);
            }
        }
        let json = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = json.is_some_and(|media| media.starts_with("application/json"));
        if method != Method::GET || !is_json {
            return Ok(Response::from_parts(parts, Body::new(body)));
        }
        Ok(match read(body).await.map_err(|error| unreachable(&error))? {
            Read::Whole(bytes) => (parts, self.links_lead_here(bytes, base)).into_response(),
            Read::TooLong(body) => Response::from_parts(parts, body),
        })
    }

    /// What the sender of these headers may do on a resource, by the upstream's own word (Permissions - List For Resource).
    ///
    /// # Errors
    /// 502 or 504 when the upstream does not say.
    pub(crate) async fn permissions(&self, resource: &ResourceId, headers: &HeaderMap) -> ApiResult<Vec<Permission>> {
        let url =
            format!("{}{resource}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01", self.origin);
        let mut request = self.client.get(url);
        if let Some(token) = headers.get(header::AUTHORIZATION) {
            request = request.header(header::AUTHORIZATION, token.clone());
        }
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        match answer.status() {
            status if status.is_success() => {
                let list: Permissions = answer.json().await.map_err(|error| unreachable(&error))?;
                Ok(list.value)
            }
            // It says that there are none, in its way.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(Vec::new()),
            status => {
                tracing::warn!(%status, "the upstream does not tell permissions");
                let message = "Azure Resource Manager does not say now whether you may change the cluster. Try again.";
                Err(ArmError::new(StatusCode::BAD_GATEWAY, "BadGateway", message).retry_after(5).into())
            }
        }
    }

    fn lead_here(&self, value: &HeaderValue, base: &str) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.here(value.to_str().ok()?, base)?).ok()
    }

    /// The same place by way of this service; none for a URL that is not of the upstream.
    fn here(&self, url: &str, base: &str) -> Option<String> {
        // `https://host.evil` begins with `https://host`, too.
        let rest = url.strip_prefix(&self.origin).filter(|rest| rest.starts_with('/'))?;
        Some(format!("{base}{rest}"))
    }

    fn links_lead_here(&self, bytes: Bytes, base: &str) -> Bytes {
        let mentioned = std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("\"nextLink\""));
        let Some(mut value) = mentioned.then(|| serde_json::from_slice::<Value>(&bytes).ok()).flatten() else {
            return bytes;
        };
        let here = value["nextLink"].as_str().and_then(|link| self.here(link, base));
        match (here, &mut value) {
            (Some(here), Value::Object(list)) => {
                list.insert("nextLink".to_owned(), Value::from(here));
                value.to_string().into()
            }
            _ => bytes,
        }
    }
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    // A header may name others of its connection.
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_lowercase()))
        .collect();
    let kept = headers
        .iter()
        .filter(|(name, _)| !NOT_PASSED.contains(&name.as_str()) && !named.iter().any(|other| other == name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A body, as far as it is kept.
enum Read {
    Whole(Bytes),
    /// With what was read of it in front again.
    TooLong(Body),
}

async fn read(mut body: reqwest::Body) -> Result<Read, reqwest::Error> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        kept.extend_from_slice(&data);
        if kept.len() > MOST_REWRITTEN {
            let front = stream::once(future::ready(Ok(Bytes::from(kept))));
            return Ok(Read::TooLong(Body::from_stream(front.chain(body.into_data_stream()))));
        }
    }
    Ok(Read::Whole(kept.into()))
}

fn unreachable(error: &reqwest::Error) -> ApiError {
    tracing::warn!(%error, "the upstream did not answer");
    let (status, code, what) = match error.is_timeout() {
        true => (StatusCode::GATEWAY_TIMEOUT, "GatewayTimeout", "did not answer in time"),
        false => (StatusCode::BAD_GATEWAY, "BadGateway", "cannot be reached"),
    };
    let message =
        format!("Azure Resource Manager {what}, to which requests for this resource type are passed on. Try again.");
    ArmError::new(status, code, message).retry_after(5).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_types_with_all_that_is_in_them() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pass =
            PassThrough::new("http://h/", &["Microsoft.ContainerService/managedClusters".to_owned()], &[]).unwrap();
        for (kind, takes) in [
            ("microsoft.containerservice/MANAGEDCLUSTERS", true),
            ("Microsoft.ContainerService/managedClusters/agentPools", true),
            ("Microsoft.ContainerService/managedClustersnapshots", false),
            ("Microsoft.ContainerService/managedClusters/%70roviders/roleAssignments", false),
            ("Microsoft.ContainerService", false),
            ("Microsoft.Compute/virtualMachines", false),
        ] {
            assert_eq!(pass.takes(kind), takes, "{kind}");
        }
        let link =
            pass.links_lead_here(Bytes::from_static(b"{\"nextLink\": \"http://h/x?y\", \"value\": []}"), "https://me");
        assert_eq!(serde_json::from_slice::<Value>(&link).unwrap()["nextLink"], "https://me/x?y");
        for foreign in ["http://other/x", "http://h.evil/x", "http://hx/", "http://h@evil/", "http://h:81/", "/x"] {
            let foreign = Bytes::from(format!("{{\"nextLink\": \"{foreign}\"}}"));
            assert_eq!(pass.links_lead_here(foreign.clone(), "https://me"), foreign);
        }
    }

    #[test]
    fn headers_of_the_connection_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("host", "h"),
            ("authorization", "Bearer t"),
            ("if-match", "*"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let left = passed(&headers);
        let names: Vec<&str> = left.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["authorization", "if-match"]);
    }
}
