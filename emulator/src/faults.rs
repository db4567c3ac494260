//! Injected faults: what happens to matching requests instead of, or in addition to, their normal response.

use serde::{Deserialize, Serialize};

use crate::call::Call;

/// Which requests a fault applies to. An absent condition matches all requests.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Match {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// A part of the path, compared without case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Name of the cluster; also matches the polling of its operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
}

impl Match {
    fn fits(&self, call: &Call, cluster: Option<&str>) -> bool {
        self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(call.method.as_str()))
            && self.path.as_ref().is_none_or(|part| call.path.to_lowercase().contains(&part.to_lowercase()))
            && self
                .cluster
                .as_ref()
                .is_none_or(|name| cluster.is_some_and(|cluster| name.eq_ignore_ascii_case(cluster)))
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cut {
    /// The request is not executed.
    Before,
    /// The request is executed, and its response is lost.
    After,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// The effect of a fault.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Action {
    /// Return this error without executing the request.
    Status {
        status: u16,
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Do not execute the request. Close the connection after this many seconds without a response.
    Timeout {
        timeout: f64,
    },
    Cut {
        cut: Cut,
    },
    /// The operation that the request starts ends Failed.
    FailOperation {
        fail_operation: Failure,
    },
    /// The operation that the request starts stays InProgress until released.
    HangOperation {
        hang_operation: bool,
    },
    /// Execute the request, and delay the response by this many seconds.
    Delay {
        delay: f64,
    },
    /// Do not execute the request. Return 200 with a body that is not JSON.
    Garbage {
        garbage: bool,
    },
}

impl Action {
    fn is_about_operations(&self) -> bool {
        matches!(self, Self::FailOperation { .. } | Self::HangOperation { .. })
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    #[serde(default, rename = "match")]
    pub(crate) matches: Match,
    /// Number of requests that the fault still applies to.
    #[serde(default = "once")]
    pub(crate) times: u32,
    pub(crate) action: Action,
}

fn once() -> u32 {
    1
}

/// Active faults, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        if fault.times > 0 {
            self.0.push(fault);
        }
    }

    pub(crate) fn all(&self) -> &[Fault] {
        &self.0
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault that applies to a request when it arrives, and counts the use.
    pub(crate) fn take_request(&mut self, call: &Call, cluster: Option<&str>) -> Option<Action> {
        self.take(call, cluster, false)
    }

    /// Returns the fault that applies to the operation that a request started, and counts the use.
    pub(crate) fn take_operation(&mut self, call: &Call, cluster: Option<&str>) -> Option<Action> {
        self.take(call, cluster, true)
    }

    fn take(&mut self, call: &Call, cluster: Option<&str>, operations: bool) -> Option<Action> {
        let fits =
            |fault: &Fault| fault.action.is_about_operations() == operations && fault.matches.fits(call, cluster);
        let at = self.0.iter().position(fits)?;
        let fault = self.0.get_mut(at)?;
        fault.times -= 1;
        let action = fault.action.clone();
        if fault.times == 0 {
            self.0.remove(at);
        }
        Some(action)
    }
}
