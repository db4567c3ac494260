//! Kubernetes versions as in AKS.

use std::fmt;
use std::str::FromStr;

/// `major.minor.patch`, ordered as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Version {
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// `major.minor`, under which `kubernetesVersions` groups patches.
    pub(crate) fn minor_name(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.parse()? {
            RequestedVersion::Exact(version) => Ok(version),
            RequestedVersion::Minor { .. } => Err(()),
        }
    }
}

/// Value of `kubernetesVersion` or `orchestratorVersion`: a full version, or a minor version that resolves to its newest patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestedVersion {
    Exact(Version),
    Minor { major: u32, minor: u32 },
}

impl FromStr for RequestedVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(|part| part.parse::<u32>().map_err(|_| ()));
        let major = numbers.next().ok_or(())??;
        let minor = numbers.next().ok_or(())??;
        let requested = match numbers.next() {
            Some(patch) => Self::Exact(Version::new(major, minor, patch?)),
            None => Self::Minor { major, minor },
        };
        if numbers.next().is_some() { Err(()) } else { Ok(requested) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_numbers_and_rejects_what_is_no_version() {
        assert!("1.9.10".parse::<Version>().unwrap() < "1.10.0".parse::<Version>().unwrap());
        assert_eq!("1.33".parse::<RequestedVersion>(), Ok(RequestedVersion::Minor { major: 1, minor: 33 }));
        for text in ["", "1", "1.2.3.4", "v1.2.3", "1.2.x", "1..2", "-1.2.3"] {
            assert!(text.parse::<RequestedVersion>().is_err(), "{text}");
        }
        assert!("1.33".parse::<Version>().is_err());
    }
}
