//! Faults on request: what matching requests meet instead of, or besides, their answer.

use serde::{Deserialize, Serialize};

use crate::call::Call;

/// Which requests a fault is for; what is absent matches all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Match {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// Part of the path, without case.
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
    /// Nothing is changed.
    Before,
    /// The change is made, its answer lost.
    After,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// What happens; exactly one form.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Action {
    /// Answer this error, changing nothing.
    Status {
        status: u16,
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Change nothing, keep silent for so many seconds, then cut the connection.
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
    /// Carry out the request, answer it so many seconds late.
    Delay {
        delay: f64,
    },
    /// Change nothing and answer 200 with a body that is not JSON.
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
    /// How many requests are still to meet it.
    #[serde(default = "once")]
    pub(crate) times: u32,
    pub(crate) action: Action,
}

fn once() -> u32 {
    1
}

/// Faults still waiting, oldest first.
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

    /// The fault that meets a request on arrival, used up by one.
    pub(crate) fn take_request(&mut self, call: &Call, cluster: Option<&str>) -> Option<Action> {
        self.take(call, cluster, false)
    }

    /// The fault that meets the operation a request has started, used up by one.
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
