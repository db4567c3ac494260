//! AKS's rules for version upgrades, as pure functions.

use axum::http::StatusCode;

use crate::catalogue::Region;
use crate::errors::ArmError;
use crate::version::{RequestedVersion, Version};

/// Largest number of minor versions that an agent pool may be behind its control plane (three since Kubernetes 1.28).
const POOL_SKEW: u32 = 3;

fn bad(code: &str, message: String) -> ArmError {
    ArmError::new(StatusCode::BAD_REQUEST, code, message)
}

fn wish(text: &str, target: &'static str) -> Result<RequestedVersion, ArmError> {
    text.parse().map_err(|()| {
        ArmError::invalid(target, format!("'{text}' is not a Kubernetes version (major.minor or major.minor.patch)."))
    })
}

/// Returns the versions that a control plane can upgrade to in one step: later patches and the next minor.
pub(crate) fn control_plane_upgrades(from: Version, region: &Region) -> Vec<Version> {
    let near = |to: &Version| *to > from && to.major == from.major && to.minor <= from.minor + 1;
    region.versions.keys().copied().filter(near).collect()
}

/// Returns the versions that an agent pool may have under this control plane.
pub(crate) fn pool_versions(control_plane: Version, region: &Region) -> Vec<Version> {
    region.versions.keys().copied().filter(|version| skew(*version, control_plane).is_ok()).collect()
}

/// Returns the version that `kubernetesVersion: wanted` sets on a control plane at `current` (`None`: a new cluster).
pub(crate) fn control_plane(
    name: &str,
    current: Option<Version>,
    wanted: &str,
    region: &Region,
) -> Result<Version, ArmError> {
    let wish = wish(wanted, "properties.kubernetesVersion")?;
    if let Some(current) = current
        && keeps(wish, current)
    {
        return Ok(current);
    }
    let Some(target) = region.resolve(wish) else {
        return Err(bad(
            "K8sVersionNotSupported",
            format!(
                "Managed cluster {name} is on version {wanted}, which is not supported in this region. Please use [az aks get-versions] \
                 command to get the supported version list in this region. For more information, please check \
                 https://aka.ms/supported-version-list"
            ),
        ));
    };
    match current {
        Some(from) if !control_plane_upgrades(from, region).contains(&target) => {
            let offered: Vec<_> = control_plane_upgrades(from, region).iter().map(Version::to_string).collect();
            Err(bad(
                "OperationNotAllowed",
                format!(
                    "Upgrading Kubernetes version from {from} to {target} is not allowed. Available upgrades: [{}]. Please see \
                     https://aka.ms/aks-supported-k8s-ver for version details.",
                    offered.join(" ")
                ),
            ))
        }
        _ => Ok(target),
    }
}

/// Returns the version that `orchestratorVersion: wanted` sets on a pool at `current` (`None`: a new pool) under a control plane.
pub(crate) fn pool(
    current: Option<Version>,
    wanted: &str,
    control_plane: Version,
    region: &Region,
) -> Result<Version, ArmError> {
    let wish = wish(wanted, "properties.orchestratorVersion")?;
    if let Some(current) = current
        && keeps(wish, current)
    {
        return Ok(current);
    }
    // A new pool may have the control plane's version even if the region no longer offers it.
    let target =
        if wish == RequestedVersion::Exact(control_plane) { Some(control_plane) } else { region.resolve(wish) };
    let Some(target) = target else {
        return Err(bad(
            "AgentPoolK8sVersionNotSupported",
            format!(
                "Version {wanted} is not supported in this region. Please use [az aks get-versions] command to get the supported version \
                 list in this region. For more information, please check https://aka.ms/supported-version-list"
            ),
        ));
    };
    if let Some(from) = current.filter(|from| target < *from) {
        return Err(bad(
            "AgentPoolUpgradeVersionNotAllowed",
            format!("Downgrading agent pool version from {from} to {target} is not allowed."),
        ));
    }
    skew(target, control_plane)?;
    Ok(target)
}

/// Checks that a pool is not newer than its control plane, and at most three minor versions older.
pub(crate) fn skew(pool: Version, control_plane: Version) -> Result<(), ArmError> {
    let incompatible = |why: &str| {
        bad(
            "NodePoolMcVersionIncompatible",
            format!(
                "Node pool version {pool} and control plane version {control_plane} are incompatible. {why} For more information, please \
                 check https://aka.ms/aks/UpgradeVersionRules"
            ),
        )
    };
    if pool.minor > control_plane.minor {
        return Err(incompatible(&format!(
            "Minor version of node pool version {} is bigger than control plane version {}.",
            pool.minor, control_plane.minor
        )));
    }
    if pool > control_plane {
        return Err(incompatible("Node pool version is bigger than control plane version."));
    }
    if pool.major != control_plane.major || control_plane.minor - pool.minor > POOL_SKEW {
        return Err(incompatible(&format!("Node pool version may be at most {POOL_SKEW} minor versions older.")));
    }
    Ok(())
}

/// Whether the requested version is the current version, or its minor version, so that nothing is upgraded.
fn keeps(wish: RequestedVersion, current: Version) -> bool {
    match wish {
        RequestedVersion::Exact(version) => version == current,
        RequestedVersion::Minor { major, minor } => (major, minor) == (current.major, current.minor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn control_plane_moves_up_one_minor_at_a_time() {
        let catalogue = Catalogue::new();
        let east = catalogue.region("eastus").unwrap();
        let sweden = catalogue.region("swedencentral").unwrap();
        let step = |from: &str, to: &str, region| {
            control_plane("c", Some(v(from)), to, region).map(|to| to.to_string()).map_err(|e| e.code)
        };
        assert_eq!(step("1.32.5", "1.33.2", east), Ok("1.33.2".into()));
        assert_eq!(step("1.32.5", "1.32.7", east), Ok("1.32.7".into()));
        assert_eq!(step("1.32.5", "1.33", east), Ok("1.33.5".into()));
        assert_eq!(step("1.32.5", "1.32", east), Ok("1.32.5".into()), "the same minor never upgrades");
        assert_eq!(step("1.32.5", "1.34.1", east), Err("OperationNotAllowed".into()));
        assert_eq!(step("1.33.2", "1.32.7", east), Err("OperationNotAllowed".into()));
        assert_eq!(step("1.33.2", "1.34.1", sweden), Err("K8sVersionNotSupported".into()));
        assert_eq!(step("1.33.2", "latest", east), Err("InvalidParameter".into()));
        assert_eq!(step("1.20.2", "1.20.2", east), Ok("1.20.2".into()), "staying is fine where the version is gone");
    }

    #[test]
    fn a_pool_stays_within_three_minors_below_its_control_plane() {
        let catalogue = Catalogue::new();
        let east = catalogue.region("eastus").unwrap();
        let step = |from: &str, to: &str, top: &str| {
            pool(Some(v(from)), to, v(top), east).map(|to| to.to_string()).map_err(|e| e.code)
        };
        assert_eq!(step("1.31.9", "1.33.2", "1.33.2"), Ok("1.33.2".into()), "pools may skip");
        assert_eq!(step("1.32.5", "1.33.5", "1.33.2"), Err("NodePoolMcVersionIncompatible".into()));
        assert_eq!(step("1.32.7", "1.32.5", "1.33.2"), Err("AgentPoolUpgradeVersionNotAllowed".into()));
        assert_eq!(step("1.32.7", "1.33.9", "1.34.1"), Err("AgentPoolK8sVersionNotSupported".into()));
        assert!(skew(v("1.31.9"), v("1.34.1")).is_ok());
        assert!(skew(v("1.30.9"), v("1.34.1")).is_err());
    }
}
