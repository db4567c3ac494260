//! Kubernetes versions as in AKS: `1.33.2`, or `1.33` for its newest patch.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A full Kubernetes version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubernetesVersion {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Patch number.
    pub patch: u32,
}

/// The version of an update run: a full version, or the newest patch of a minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedVersion {
    /// `x.y.z`.
    Exact(KubernetesVersion),
    /// `x.y`: the newest generally available patch in the cluster's region.
    NewestPatch {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// The text is not a Kubernetes version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a Kubernetes version such as '1.33.2' or '1.33'")]
pub struct InvalidVersion(pub String);

impl FromStr for RequestedVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            let sound = !part.is_empty()
                && part.len() <= 9
                && part.bytes().all(|b| b.is_ascii_digit())
                && (part == "0" || !part.starts_with('0'));
            if sound { part.parse::<u32>().ok() } else { None }
        };
        let parts: Option<Vec<u32>> = text.split('.').map(number).collect();
        match parts.as_deref() {
            Some([major, minor]) => Ok(Self::NewestPatch { major: *major, minor: *minor }),
            Some([major, minor, patch]) => {
                Ok(Self::Exact(KubernetesVersion { major: *major, minor: *minor, patch: *patch }))
            }
            _ => Err(InvalidVersion(text.to_owned())),
        }
    }
}

impl FromStr for KubernetesVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            RequestedVersion::Exact(version) => Ok(version),
            RequestedVersion::NewestPatch { .. } => Err(InvalidVersion(text.to_owned())),
        }
    }
}

impl TryFrom<String> for KubernetesVersion {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<KubernetesVersion> for String {
    fn from(version: KubernetesVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_others_refused() {
        let v = |text: &str| text.parse::<KubernetesVersion>().unwrap();
        assert!(v("1.9.10") < v("1.33.2"));
        assert!(v("1.33.9") < v("1.33.10"));
        assert_eq!("1.33".parse(), Ok(RequestedVersion::NewestPatch { major: 1, minor: 33 }));
        for text in ["", "1", "v1.33.2", "1.33.2-rc", "1..2", "1.33.2.1", "01.3", "1.99999999999"] {
            assert!(text.parse::<RequestedVersion>().is_err(), "{text}");
        }
    }
}
