//! The provisioning state of the service's own resources.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// The `provisioningState` of a resource of this service. AKS's states are
/// [`managed_cluster::ProvisioningState`](super::managed_cluster::ProvisioningState).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ProvisioningState {
    /// The latest operation succeeded, or the resource has no operations.
    #[default]
    Succeeded,
    /// The latest operation failed.
    Failed,
    /// The latest operation was canceled.
    Canceled,
    /// A fleet is being created.
    Creating,
    /// A fleet or a member is being replaced.
    Updating,
    /// A fleet or a resource group is being deleted.
    Deleting,
    /// A member is being created.
    Joining,
    /// A member is being deleted.
    Leaving,
}

/// The text is not a provisioning state of this service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a provisioning state")]
pub struct UnknownProvisioningState(String);

impl ProvisioningState {
    const ALL: [Self; 8] = [
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::Creating,
        Self::Updating,
        Self::Deleting,
        Self::Joining,
        Self::Leaving,
    ];

    /// Whether no operation is in progress on the resource.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// The state as answers and the database have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
            Self::Creating => "Creating",
            Self::Updating => "Updating",
            Self::Deleting => "Deleting",
            Self::Joining => "Joining",
            Self::Leaving => "Leaving",
        }
    }
}

impl fmt::Display for ProvisioningState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProvisioningState {
    type Err = UnknownProvisioningState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| UnknownProvisioningState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_read_as_it_is_written() {
        for state in ProvisioningState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn an_unknown_state_is_an_error() {
        for text in ["", "succeeded", "Upgrading"] {
            assert_eq!(text.parse::<ProvisioningState>(), Err(UnknownProvisioningState(text.to_owned())));
        }
    }
}
