//! Paths as ARM reads them: empty segments collapse, literal segments compare without case, names keep theirs.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use axum::extract::Request;
use http::{Uri, uri::PathAndQuery};
use tower::Service;

/// The literals of ARM's own paths, in canonical case.
const LITERALS: &[&str] = &[
    "subscriptions",
    "resourceGroups",
    "providers",
    "locations",
    "operations",
    "operationresults",
    "tenants",
    "resources",
    "register",
    "metadata",
    "endpoints",
    "roleAssignments",
    "roleDefinitions",
    "permissions",
    "tags",
];

/// Every namespace that a path may hold, in its canonical case.
const NAMESPACES: &[&str] = &["Microsoft.ContainerService", "Microsoft.Resources", "Microsoft.Authorization"];

/// Wraps a service so that it sees canonical paths. It must wrap the router from outside, as routing comes after it.
#[derive(Clone)]
pub struct NormalizePath<S> {
    inner: S,
    literals: Arc<[&'static str]>,
}

impl<S> NormalizePath<S> {
    /// With the literals of resource types and actions, besides those of ARM.
    pub(crate) fn new(inner: S, of_types: impl Iterator<Item = &'static str>) -> Self {
        Self { inner, literals: LITERALS.iter().copied().chain(of_types).collect() }
    }
}

impl<S: Service<Request>> Service<Request> for NormalizePath<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.inner.call(normalize(request, &self.literals))
    }
}

fn normalize(mut request: Request, literals: &[&'static str]) -> Request {
    let path = canonical(request.uri().path(), literals);
    if path != request.uri().path() {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Ok(path_and_query) = PathAndQuery::try_from(path + &query) {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

/// What a segment is by its place.
enum Next {
    Literal,
    Namespace,
    Name,
}

fn canonical(path: &str, literals: &[&'static str]) -> String {
    let mut out = String::with_capacity(path.len());
    // Literals and names alternate, but for the namespace after `providers`.
    let mut next = Next::Literal;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let among = |known: &[&'static str]| known.iter().find(|known| known.eq_ignore_ascii_case(segment)).copied();
        out.push('/');
        next = match next {
            Next::Literal => {
                let literal = among(literals);
                out.push_str(literal.unwrap_or(segment));
                if literal == Some("providers") { Next::Namespace } else { Next::Name }
            }
            Next::Namespace => {
                out.push_str(among(NAMESPACES).unwrap_or(segment));
                Next::Literal
            }
            Next::Name => {
                out.push_str(segment);
                Next::Literal
            }
        };
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_lose_their_case_and_names_keep_it() {
        let literals = [LITERALS, &["fleets", "members", "updateRuns", "start"]].concat();
        for (given, wanted) in [
            ("/", "/"),
            (
                "//SUBSCRIPTIONS/S/resourcegroups/Fleets//providers/microsoft.containerservice//FLEETS/Members/",
                "/subscriptions/S/resourceGroups/Fleets/providers/Microsoft.ContainerService/fleets/Members",
            ),
            (
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/fleets/START/updateruns/r/START",
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/fleets/START/updateRuns/r/start",
            ),
            (
                "/Subscriptions/s/providers/Microsoft.ContainerService/LOCATIONS/East/Operations/x",
                "/subscriptions/s/providers/Microsoft.ContainerService/locations/East/operations/x",
            ),
            ("/healthz", "/healthz"),
            (
                "/SUBSCRIPTIONS/S/Providers/microsoft.CONTAINERservice/REGISTER",
                "/subscriptions/S/providers/Microsoft.ContainerService/register",
            ),
            ("/subscriptions/s/resourcegroups/RG/Resources", "/subscriptions/s/resourceGroups/RG/resources"),
        ] {
            assert_eq!(canonical(given, &literals), wanted);
        }
    }
}
