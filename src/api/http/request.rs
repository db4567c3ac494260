//! What every handler is given: the caller, the API version, the resource ID, and the right to act on it.
//!
//! The order is that of the request path: authenticate, API version, resource ID; then the handler authorises.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Query};
use http::{HeaderMap, request::Parts};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

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
    identity::{Action, Authorized, Reach},
    model::{
        name, types,
        versions::{self, Since},
    },
    store::resources::Author,
};

/// Characters that are escaped in a query's values: all but the unreserved ones (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An authenticated request to a route of this provider.
pub struct ArmRequest {
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
    /// Proof that the caller may perform `A` on the resource that the path names.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn authorize<A: Action>(&self, app: &App) -> ApiResult<Authorized<A>> {
        self.principal.authorize(app, &self.id).await
    }

    /// Proof that the caller has some role here or in what is here.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed`.
    pub(crate) async fn enter<A: Action>(&self, app: &App) -> ApiResult<()> {
        self.principal.enter(app, &A::name(), &self.id).await
    }

    /// In which part of this scope the caller may perform `A`: a list shows no more.
    ///
    /// # Errors
    /// 403 `AuthorizationFailed` where that is nowhere.
    pub(crate) async fn reach<A: Action>(&self, app: &App) -> ApiResult<Reach> {
        self.principal.reach_any(app, &[&A::name()], &self.id).await
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
                link.push_str(&format!("&{name}={}", utf8_percent_encode(value, ESCAPED)));
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

/// Which API versions a route accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Accepts {
    /// Every well-formed version: ARM's own types, which are the same in all of them.
    Any,
    /// Every text: the URLs of operations, which the service hands out itself.
    AnyText,
    /// The versions that have a resource type, or an action on it.
    Since(&'static str, Since),
}

impl Accepts {
    fn negotiate(self, given: Option<&str>) -> Result<ApiVersion, ArmError> {
        match self {
            Self::Any => ApiVersion::any(given),
            Self::AnyText => Ok(given.and_then(|text| text.parse().ok()).unwrap_or(versions::NEWEST)),
            Self::Since(resource_type, since) => ApiVersion::negotiate(given, resource_type, since.versions()),
        }
    }
}

impl ArmRequest {
    /// Reads a request: authenticates, negotiates the version, parses the resource ID.
    ///
    /// # Errors
    /// 401; 400 for a version, a query or a name that is not allowed; 404 `SubscriptionNotFound`.
    pub(crate) async fn read(parts: &Parts, app: &App, accepts: Accepts) -> ApiResult<Self> {
        let now = Timestamp::now();
        let principal = Principal::of(parts, app, now).await?;
        let query = query_of(parts)?;
        let version = accepts.negotiate(query.get("api-version").map(String::as_str))?;
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

impl FromRequestParts<App> for ArmRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::read(parts, app, Accepts::Any).await
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
        // What is no escape stays, and a percent sign is refused below.
        let decoded = percent_decode_str(raw).decode_utf8().ok();
        let segment = decoded.filter(|text| {
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
        segments.push(segment.into_owned());
    }
    Ok(segments)
}

fn name_in(path: &str, segments: &[String]) -> Result<ResourceId, ArmError> {
    let (mut group, mut resource) = (None, Vec::new());
    let mut rest = segments.iter().map(String::as_str);
    let mut subscription = "";
    let mut in_provider = false;
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
            // One of each, and in this order: the scope that is judged must be the scope that the upstream reads.
            ("subscriptions" | "resourceGroups", Some(_))
                if group.is_some() || in_provider || (word == "subscriptions" && !subscription.is_empty()) =>
            {
                return Err(ArmError::bad_request(
                    "InvalidResourceId",
                    format!(
                        "The path names '{word}' a second time, or after a resource provider: it has one place for it."
                    ),
                ));
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
            ("providers", Some(_)) => in_provider = true,
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
        let again = "/f/subscriptions/00000000-0000-0000-0000-000000000002";
        for more in [again, "/f/resourceGroups/rg2", "/f/subscriptions/x/resourceGroups/rg2"] {
            assert!(target(&format!("{SCOPE}{more}")).is_err(), "{more}");
        }
        assert!(target(&SCOPE.replace("/rg1", "/rg1/resourceGroups/rg2")).is_err());
        assert!(target(&format!("{SCOPE}/resourceGroups")).is_ok(), "a name like any other");
        let deep = format!("{SCOPE}/f{}", "/members/m".repeat(200));
        assert!(target(&deep).is_err() && target(&deep[..1000]).is_ok());
    }
}
