//! AKS's documented throttles: token buckets per resource, resource group or subscription.

use std::collections::HashMap;

use axum::http::{Method, StatusCode};
use jiff::Timestamp;

use crate::call::Call;
use crate::errors::ArmError;

/// Burst and refill per second, and how AKS names the operation.
struct Limit {
    name: &'static str,
    burst: f64,
    per_second: f64,
}

const LIST_SUBSCRIPTION: Limit = Limit { name: "ListManagedClustersBySubscription", burst: 500.0, per_second: 1.0 };
const LIST_GROUP: Limit = Limit { name: "ListManagedClustersByResourceGroup", burst: 60.0, per_second: 1.0 };
const PUT_CLUSTER: Limit = Limit { name: "PutManagedCluster", burst: 20.0, per_second: 1.0 / 60.0 };
const PUT_POOL: Limit = Limit { name: "PutAgentPool", burst: 20.0, per_second: 1.0 / 60.0 };
const GET_CLUSTER: Limit = Limit { name: "GetManagedCluster", burst: 60.0, per_second: 1.0 };
const GET_OPERATION: Limit = Limit { name: "GetOperationStatus", burst: 200.0, per_second: 2.0 };
const OTHER: Limit = Limit { name: "AllOtherOperations", burst: 60.0, per_second: 1.0 };

/// The limit a request counts against, and how many leading segments of its path share the bucket.
fn limit(method: &Method, lower: &[&str]) -> (Limit, usize) {
    match (method, lower) {
        (&Method::GET, ["subscriptions", _, "providers", _, "managedclusters"]) => (LIST_SUBSCRIPTION, 2),
        (&Method::GET, ["subscriptions", _, "resourcegroups", _, "providers", _, "managedclusters"]) => (LIST_GROUP, 4),
        (&Method::PUT, ["subscriptions", _, "resourcegroups", _, "providers", _, "managedclusters", _]) => {
            (PUT_CLUSTER, 8)
        }
        (&Method::GET, ["subscriptions", _, "resourcegroups", _, "providers", _, "managedclusters", _]) => {
            (GET_CLUSTER, 8)
        }
        (
            &Method::PUT,
            ["subscriptions", _, "resourcegroups", _, "providers", _, "managedclusters", _, "agentpools", _],
        ) => (PUT_POOL, 10),
        (&Method::GET, ["subscriptions", _, "providers", _, "locations", _, "operations" | "operationresults", _]) => {
            (GET_OPERATION, 2)
        }
        _ => (OTHER, 2),
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    buckets: HashMap<(&'static str, String), Bucket>,
}

impl Throttle {
    /// Takes a token for the request, or says when there is one again.
    pub(crate) fn take(&mut self, call: &Call, now: Timestamp) -> Result<(), ArmError> {
        let lower = call.lower();
        let segments: Vec<&str> = lower.iter().map(String::as_str).collect();
        let (limit, shared) = limit(&call.method, &segments);
        let scope = segments.iter().take(shared).copied().collect::<Vec<_>>().join("/");
        let bucket = self.buckets.entry((limit.name, scope)).or_insert(Bucket { tokens: limit.burst, at: now });
        let elapsed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + elapsed * limit.per_second).min(limit.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = ((1.0 - bucket.tokens) / limit.per_second).ceil().max(1.0);
        let mut refused = ArmError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Throttled",
            format!(
                "The request is being throttled as the limit has been reached for operation type - {}. Retry after {wait} seconds. For more \
                 information, see - https://aka.ms/akslimits",
                limit.name
            ),
        );
        // Whole and small: a bucket refills one token within a minute.
        refused.retry_after = Some(wait as u64);
        Err(refused)
    }
}
