//! What every handler is given: the caller, the API version, the resource ID, and the right to act on it.
//!
//! The order is that of the request path: authenticate, API version, resource ID; then the handler authorises.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, MatchedPath, Query};
use http::{HeaderMap, Method, request::Parts};
use jiff::Timestamp;

use crate::{
    api::{
        App,
        http::{
            error::{ApiError, ApiResult},
            host::origin_of,
            principal::Principal,
        },
    },
    arm::{ApiVersion, ArmError, Precondition, ResourceId, page::Page, resource_id::MAX_LENGTH},
    identity::{Authorized, Reach},
    model::{name, types, versions},
    store::resources::Author,
};

/// An authenticated request to a route of this provider.
pub(crate) struct ArmRequest {
    /// Who asks.
    pub(crate) principal: Principal,
    /// In which version.
    pub(crate) version: ApiVersion,
    /// For which resource, or in which scope (lists).
    pub(crate) id: ResourceId,
    /// When it arrived.
    pub(crate) now: Timestamp,
    /// The origin that was asked, such as `https://127.0.0.1:8443`.
    pub(crate) base: String,
    /// `If-Match`, `If-None-Match`.
    pub(crate) precondition: Precondition,
    author_name: String,
    headers: HeaderMap,
    path: String,
    query: HashMap<String, String>,
}

impl ArmRequest {
    /// Proof that the caller may perform `action` here.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn authorize(&self, app: &App, action: &'static str) -> ApiResult<Authorized> {
        self.principal.authorize(app, action, &self.id).await
    }

    /// Proof that the caller has some role here or in what is here.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn enter(&self, app: &App, action: &'static str) -> ApiResult<()> {
        self.principal.enter(app, action, &self.id).await
    }

    /// In which part of this scope the caller may perform `action`: a list shows no more.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed` where that is nowhere.
    pub(crate) async fn reach(&self, app: &App, action: &'static str) -> ApiResult<Reach> {
        self.principal.reach(app, action, &self.id).await
    }

    /// Whose operations this request begins.
    pub(crate) fn begun_by(&self) -> uuid::Uuid {
        self.principal.caller.object_id
    }

    /// The correlation ID.
    pub(crate) fn correlation(&self) -> &str {
        &self.principal.ids.correlation
    }

    /// The caller, for `systemData`.
    pub(crate) fn author(&self) -> Author<'_> {
        Author { name: &self.author_name, kind: self.principal.caller.kind.as_str() }
    }

    /// The fleet that the request is about or in.
    pub(crate) fn fleet(&self) -> ResourceId {
        let (group, fleet) =
            (self.id.resource_group().unwrap_or_default(), self.id.named("fleets").unwrap_or_default());
        ResourceId::in_group(self.id.subscription(), group, types::NAMESPACE, "fleets", fleet)
    }

    /// A query parameter, decoded; names compare without case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// The page of this list that is asked for.
    pub(crate) fn page(&self, app: &App) -> Result<Page, ArmError> {
        app.sealer.page(&self.list(), self.parameter("$top"), self.parameter("$skiptoken"))
    }

    /// The link to the page after `last`: absolute, same version and filter.
    pub(crate) fn next_link(&self, app: &App, last: &str) -> String {
        let mut link = format!("{}{}?api-version={}", self.base, self.path, self.version);
        for name in ["$filter", "$top"] {
            if let Some(value) = self.parameter(name) {
                link.push_str(&format!("&{name}={}", percent_encode(value)));
            }
        }
        link.push_str("&$skipToken=");
        link.push_str(&app.sealer.seal(&self.list(), last));
        link
    }

    /// The request's headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Names a list, so that a token of one is not taken for another's.
    fn list(&self) -> String {
        format!("{}?{}", self.path.to_lowercase(), self.parameter("$filter").unwrap_or_default())
    }
}

impl FromRequestParts<App> for ArmRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let now = Timestamp::now();
        let principal = Principal::of(parts, app, now).await?;
        let query = query_of(parts)?;
        let given = query.get("api-version").map(String::as_str);
        let matched = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
        let resource_type = type_of(&matched, &parts.method);
        // The operation URLs that the service hands out carry a version that is none of the types'.
        let version = if resource_type.contains("/locations/") || matched.contains("/operationresults/") {
            given.and_then(|text| text.parse().ok()).unwrap_or(versions::NEWEST)
        } else if !resource_type.starts_with(types::FLEETS) {
            ApiVersion::any(given)?
        } else {
            ApiVersion::negotiate(given, &resource_type, versions::of_type(&literals_of(&matched).join("/")))?
        };
        let path = parts.uri.path().to_owned();
        let id = target(&path)?;
        if app.subscription(id.subscription()).is_none() {
            return Err(subscription_not_found(&id).into());
        }
        Ok(Self {
            author_name: principal.caller.display_name(),
            principal,
            version,
            id,
            now,
            base: origin_of(parts, app).to_string(),
            precondition: Precondition::read(&parts.headers)?,
            headers: parts.headers.clone(),
            path,
            query,
        })
    }
}

/// The query's parameters, decoded, by their names in lower case.
///
/// # Errors
/// 400 for what is not well-formed, and where a parameter of ARM's is there twice and differs.
pub(crate) fn query_of(parts: &Parts) -> Result<HashMap<String, String>, ArmError> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| {
        ArmError::bad_request(
            "InvalidQueryParameter",
            "The query string is not well-formed: percent-encode its values.",
        )
    })?;
    if let Some((name, _)) = pairs.iter().find(|(_, value)| value.chars().any(char::is_control)) {
        let message = format!("The query parameter '{}' has a control character in it.", name.escape_debug());
        return Err(ArmError::bad_request("InvalidQueryParameter", message).at(name));
    }
    let mut query = HashMap::new();
    for (name, value) in pairs {
        let key = name.to_ascii_lowercase();
        let before = query.insert(key.clone(), value);
        let ambiguous = before.is_some() && before.as_ref() != query.get(&key);
        if ambiguous && key == "api-version" {
            let message = "The api-version query parameter is there more than once, and differs: send one.";
            return Err(ArmError::bad_request("InvalidApiVersionParameter", message).at(key));
        }
        if ambiguous && key.starts_with('$') {
            let message = format!("The query parameter '{name}' is there more than once, and differs: send one.");
            return Err(ArmError::bad_request("InvalidQueryParameter", message).at(name));
        }
    }
    Ok(query)
}

/// The literals of a route after `providers`: a type, and the action if there is one.
fn literals_of(matched: &str) -> Vec<&str> {
    let after = matched.split_once("/providers/").map_or("", |(_, after)| after);
    after.split('/').filter(|segment| !segment.is_empty() && !segment.starts_with('{')).collect()
}

/// The full type behind a route: its literals after `providers`, without a trailing action.
fn type_of(matched: &str, method: &Method) -> String {
    let mut literals = literals_of(matched);
    if *method == Method::POST && literals.len() > 2 {
        literals.pop();
    }
    literals.join("/")
}

/// The resource ID that a path names; of a list or an action, that of what holds it.
pub(crate) fn target(path: &str) -> Result<ResourceId, ArmError> {
    let segments = segments(path)?;
    name_in(path, &segments)
}

/// The segments of a path, decoded, none of which can reach elsewhere.
///
/// # Errors
/// 400 `InvalidResourceName`.
pub(crate) fn segments(path: &str) -> Result<Vec<String>, ArmError> {
    if path.len() > MAX_LENGTH {
        let message = format!("The path is too long: a resource ID has at most {MAX_LENGTH} characters.");
        return Err(ArmError::bad_request("InvalidResourceName", message));
    }
    let mut segments = Vec::new();
    for raw in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = percent_decode(raw).filter(|text| {
            text.chars().count() <= 260
                && !text.contains(['/', '\\', '?', '#', '%'])
                && !text.chars().any(char::is_control)
                && text != "."
                && text != ".."
        });
        let Some(segment) = segment else {
            return Err(ArmError::bad_request(
                "InvalidResourceName",
                "A name in the path is not allowed: it is too long, or has encoded slashes, dot segments or control characters.",
            ));
        };
        segments.push(segment);
    }
    Ok(segments)
}

fn name_in(path: &str, segments: &[String]) -> Result<ResourceId, ArmError> {
    let (mut group, mut resource) = (None, Vec::new());
    let mut rest = segments.iter().map(String::as_str);
    let mut subscription = "";
    while let Some(word) = rest.next() {
        match (word, rest.next()) {
            ("subscriptions", Some(given)) if subscription.is_empty() => {
                if uuid::Uuid::try_parse(given).is_err() || given.len() != 36 {
                    return Err(ArmError::bad_request(
                        "InvalidSubscriptionId",
                        format!(
                            "The provided subscription identifier '{given}' is malformed or invalid: it must be a GUID."
                        ),
                    ));
                }
                subscription = given;
            }
            ("resourceGroups", Some(given)) if !subscription.is_empty() => {
                if !name::is_resource_group(given) {
                    return Err(ArmError::bad_request(
                        "InvalidResourceGroup",
                        format!(
                            "'{given}' is not a resource group's name: 1 to 90 letters, digits, '.', '_', '-', '(' and ')', not ending with '.'."
                        ),
                    ));
                }
                group = Some(given);
            }
            ("providers", Some(_)) => {}
            ("locations", Some(_)) => break,
            (kind, Some(name)) if !subscription.is_empty() => resource.push((kind, name)),
            (_, _) => {}
        }
    }
    match (subscription, group, resource.as_slice()) {
        ("", ..) => Err(no_resource(path)),
        (_, None, []) => Ok(ResourceId::subscription_scope(subscription)),
        (_, Some(group), []) => Ok(ResourceId::resource_group_scope(subscription, group)),
        (_, group, resource) => {
            Ok(ResourceId::nested(subscription, group.unwrap_or_default(), types::NAMESPACE, resource))
        }
    }
}

/// The 404 of a subscription that is not served.
pub(crate) fn subscription_not_found(id: &ResourceId) -> ArmError {
    let subscription = id.subscription();
    ArmError::not_found("SubscriptionNotFound", format!("The subscription '{subscription}' could not be found."))
}

fn no_resource(path: &str) -> ArmError {
    ArmError::not_found("InvalidResource", format!("'{path}' names no resource."))
}

/// Checks the name of a resource that a request would create.
///
/// # Errors
/// 400 `InvalidResourceName`.
pub(crate) fn check_name(id: &ResourceId, max: usize) -> Result<(), ArmError> {
    if name::is_valid(id.name(), max) {
        return Ok(());
    }
    Err(ArmError::bad_request(
        "InvalidResourceName",
        format!("Resource name '{}' is invalid: it must have {}.", id.name(), name::rule(max)),
    )
    .at("name"))
}

/// The parts of a scope that a list is bound to; `None` for the whole.
pub(crate) fn parts_of(reach: &Reach) -> Option<&[String]> {
    match reach {
        Reach::Whole => None,
        Reach::Parts(parts) => Some(parts),
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let digits = text.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService/fleets";

    #[test]
    fn a_list_or_an_action_is_about_what_holds_it() {
        let id = |path: &str| target(path).unwrap().to_string();
        assert_eq!(id(SCOPE), SCOPE.split("/providers").next().unwrap());
        assert_eq!(id(&format!("{SCOPE}/f")), format!("{SCOPE}/f"));
        assert_eq!(id(&format!("{SCOPE}/f/members")), format!("{SCOPE}/f"));
        assert_eq!(id(&format!("{SCOPE}/f/updateRuns/r/start")), format!("{SCOPE}/f/updateRuns/r"));
    }

    #[test]
    fn refuses_names_that_would_reach_elsewhere() {
        for name in ["a%2Fmembers%2Fb", "%2e%2e", "a%00", "%zz", "a%5cb", "%25", "%ff"] {
            assert!(target(&format!("{SCOPE}/{name}")).is_err(), "{name}");
        }
        assert!(target(&SCOPE.replace("0000-000000000001", "x")).is_err());
        assert!(target(&SCOPE.replace("rg1", "rg.")).is_err());
        let deep = format!("{SCOPE}/f{}", "/members/m".repeat(200));
        assert!(target(&deep).is_err() && target(&deep[..1000]).is_ok());
    }

    #[test]
    fn types_of_routes() {
        let route =
            "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.ContainerService/fleets/{f}/updateRuns/{n}";
        assert_eq!(type_of(route, &Method::GET), types::UPDATE_RUNS);
        assert_eq!(type_of(&format!("{route}/start"), &Method::POST), types::UPDATE_RUNS);
    }
}
