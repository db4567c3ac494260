//! Whether a cluster's maintenance windows let an upgrade begin.
//!
//! A window is a permission, not a trigger: where there is none, an upgrade may always begin. What has begun goes on to its
//! end, also when the window closes meanwhile.

use jiff::{SignedDuration, Timestamp};

use crate::{
    arm::ErrorDetail,
    calendar::State,
    model::{maintenance::MaintenanceConfiguration, update_run::ManagedClusterUpgradeType},
};

/// How soon a closed window must open for its member to be tried ahead of those without a window (product documentation).
const SOON: SignedDuration = SignedDuration::from_hours(4);

/// Stands before the opening time in the message of a closed window. [`opening`] reads the time from the message.
const OPENS_AT: &str = "it opens next at ";

const CLOSED: &str = "MaintenanceWindowClosed";
const NEVER_OPENS: &str = "MaintenanceWindowNeverOpens";
const UNREADABLE: &str = "MaintenanceConfigurationUnreadable";

/// Why an upgrade may not begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The same for people, with a code. It does not change as long as the window does not.
    pub error: ErrorDetail,
    /// When the window opens; `None`: not without somebody changing it.
    pub opens: Option<Timestamp>,
}

/// In which order the members of a group get free slots (product documentation, update orchestration).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowRank {
    /// The window is open, and may close.
    Open,
    /// The window opens within four hours.
    OpensSoon,
    /// An upgrade may always begin.
    NoWindow,
    /// The window is closed for longer, or nobody knows.
    Closed,
}

/// The name of the configuration that such upgrades obey. `default`, and whatever else AKS may come to have, is not looked
/// at (product documentation).
#[must_use]
pub const fn configuration_name(upgrade_type: ManagedClusterUpgradeType) -> &'static str {
    match upgrade_type {
        ManagedClusterUpgradeType::Full | ManagedClusterUpgradeType::ControlPlaneOnly => {
            "aksManagedAutoUpgradeSchedule"
        }
        ManagedClusterUpgradeType::NodeImageOnly => "aksManagedNodeOSUpgradeSchedule",
    }
}

/// Whether an upgrade of this type may begin now on the cluster that has these configurations.
///
/// # Errors
/// Why not, and when it may.
pub fn permission(
    configurations: &[MaintenanceConfiguration],
    upgrade_type: ManagedClusterUpgradeType,
    now: Timestamp,
) -> Result<(), Closed> {
    let Some(configuration) = find(configurations, upgrade_type) else { return Ok(()) };
    let name = configuration_name(upgrade_type);
    let (error, opens) = match configuration.window.as_ref().map(|window| window.at(now)) {
        Ok(State::Open { .. }) => return Ok(()),
        Ok(State::Closed { opens: Some(opens) }) => {
            let message = format!(
                "The cluster's maintenance window '{name}' is closed; {OPENS_AT}{opens}. The upgrade begins by itself then. Change the maintenance configuration of the cluster, or skip the member, to go on sooner."
            );
            (ErrorDetail::new(CLOSED, message), Some(opens))
        }
        Ok(State::Closed { opens: None }) => {
            let message = format!(
                "The cluster's maintenance window '{name}' never opens again: its notAllowedDates leave nothing of it. The upgrade begins once the window opens. Change or delete the maintenance configuration of the cluster, or skip the member."
            );
            (ErrorDetail::new(NEVER_OPENS, message), None)
        }
        Err(unreadable) => {
            let message = format!(
                "The cluster's maintenance configuration '{name}' cannot be read: {unreadable}. The upgrade begins once the configuration can be read and its window is open. Change or delete the maintenance configuration of the cluster, or skip the member."
            );
            (ErrorDetail::new(UNREADABLE, message), None)
        }
    };
    Err(Closed { error, opens })
}

/// The rank of a member's window, and until when it has that rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowStanding {
    /// The rank now.
    pub rank: WindowRank,
    /// When the rank changes by itself; `None`: never.
    pub until: Option<Timestamp>,
}

impl Default for WindowStanding {
    /// That of a cluster without a window.
    fn default() -> Self {
        Self { rank: WindowRank::NoWindow, until: None }
    }
}

/// The rank of a cluster that has these configurations, for an upgrade of this type.
#[must_use]
pub fn window_standing(
    configurations: &[MaintenanceConfiguration],
    upgrade_type: ManagedClusterUpgradeType,
    now: Timestamp,
) -> WindowStanding {
    let window = find(configurations, upgrade_type).map(|known| known.window.as_ref().map(|window| window.at(now)));
    let (rank, until) = match window {
        None => (WindowRank::NoWindow, None),
        Some(Ok(State::Open { until })) => (WindowRank::Open, until),
        Some(Ok(State::Closed { opens: Some(opens) })) => match opens.checked_sub(SOON) {
            Ok(soon) if soon > now => (WindowRank::Closed, Some(soon)),
            _ => (WindowRank::OpensSoon, Some(opens)),
        },
        Some(Ok(State::Closed { opens: None }) | Err(_)) => (WindowRank::Closed, None),
    };
    WindowStanding { rank, until }
}

/// Whether a member that is Pending with this error waits for a window.
#[must_use]
pub fn is_about_window(error: &ErrorDetail) -> bool {
    [CLOSED, NEVER_OPENS, UNREADABLE].contains(&error.code.as_ref())
}

/// When the maintenance window opens, by the error of a member that waits for it; `None` for other errors.
#[must_use]
pub fn opening(error: &ErrorDetail) -> Option<Timestamp> {
    let (_, time) = error.message.split_once(OPENS_AT).filter(|_| error.code == CLOSED)?;
    time.split_once(". ").map_or(time.strip_suffix('.'), |(time, _)| Some(time))?.parse().ok()
}

fn find(
    configurations: &[MaintenanceConfiguration],
    upgrade_type: ManagedClusterUpgradeType,
) -> Option<&MaintenanceConfiguration> {
    configurations.iter().find(|known| known.name.eq_ignore_ascii_case(configuration_name(upgrade_type)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::update_run::ManagedClusterUpgradeType::{ControlPlaneOnly, Full, NodeImageOnly};

    const VERSIONS: &str = "aksManagedAutoUpgradeSchedule";
    const IMAGES: &str = "aksManagedNodeOSUpgradeSchedule";

    fn configuration(name: &str, properties: Value) -> MaintenanceConfiguration {
        serde_json::from_value(json!({"name": name, "properties": properties})).unwrap()
    }

    /// Every day from this time on, for four hours.
    fn daily(name: &str, from: &str, closed: Value) -> MaintenanceConfiguration {
        let schedule = json!({"daily": {"intervalDays": 1}});
        let window = json!({"schedule": schedule, "startTime": from, "durationHours": 4, "notAllowedDates": closed});
        configuration(name, json!({ "maintenanceWindow": window }))
    }

    fn noon() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn refused(configurations: &[MaintenanceConfiguration], upgrade_type: ManagedClusterUpgradeType) -> Option<Closed> {
        let closed = permission(configurations, upgrade_type, noon()).err();
        assert!(closed.as_ref().is_none_or(|closed| is_about_window(&closed.error)));
        closed
    }

    #[test]
    fn each_type_of_upgrade_obeys_its_own_configuration() {
        let both = [daily(VERSIONS, "20:00", json!([])), daily(&IMAGES.to_lowercase(), "10:00", json!([]))];
        for versions in [Full, ControlPlaneOnly] {
            let closed = refused(&both, versions).unwrap();
            assert_eq!(closed.opens, Some("2026-03-01T20:00:00Z".parse().unwrap()));
            assert_eq!((closed.error.code.as_ref(), opening(&closed.error)), ("MaintenanceWindowClosed", closed.opens));
            assert!(
                closed.error.message.contains("at 2026-03-01T20:00:00Z") && closed.error.message.contains(VERSIONS)
            );
        }
        assert_eq!(refused(&both, NodeImageOnly), None);
        assert_eq!(refused(&both[1..], Full), None, "no window, no bar");
    }

    #[test]
    fn the_default_and_what_nobody_knows_are_not_looked_at() {
        let weekly = json!({"timeInWeek": [{"day": "Monday", "hourSlots": [1]}], "notAllowedTime": []});
        let other = [
            configuration("default", weekly),
            daily("default", "20:00", json!([])),
            daily("aksManagedX", "20:00", json!([])),
        ];
        for upgrade_type in [Full, ControlPlaneOnly, NodeImageOnly] {
            assert_eq!(refused(&other, upgrade_type), None);
            assert_eq!(window_standing(&other, upgrade_type, noon()), WindowStanding::default());
        }
    }

    #[test]
    fn a_window_that_never_opens_or_cannot_be_read_says_what_to_do() {
        let never = daily(VERSIONS, "20:00", json!([{"start": "2000-01-01", "end": "9999-12-31"}]));
        let garbage = configuration(VERSIONS, json!({"maintenanceWindow": {"schedule": {"hourly": {}}}}));
        let old_form = configuration(VERSIONS, json!({"timeInWeek": []}));
        for (configuration, code, why) in [
            (never, "MaintenanceWindowNeverOpens", "notAllowedDates"),
            (garbage, "MaintenanceConfigurationUnreadable", "schedule is not exactly one of"),
            (old_form, "MaintenanceConfigurationUnreadable", "no maintenanceWindow"),
        ] {
            let standing = window_standing(std::slice::from_ref(&configuration), Full, noon());
            assert_eq!(standing, WindowStanding { rank: WindowRank::Closed, until: None });
            let closed = refused(&[configuration], Full).unwrap();
            assert_eq!((closed.error.code.as_ref(), closed.opens, opening(&closed.error)), (code, None, None));
            assert!(closed.error.message.contains(why) && closed.error.message.contains("skip the member"));
        }
    }

    #[test]
    fn ranks_and_when_they_change() {
        let at = |from: &str| {
            let standing = window_standing(&[daily(VERSIONS, from, json!([]))], Full, noon());
            (standing.rank, standing.until.unwrap().to_string())
        };
        let today = |time: &str| format!("2026-03-01T{time}:00Z");
        assert_eq!(at("08:01"), (WindowRank::Open, today("12:01")));
        assert_eq!(at("12:00"), (WindowRank::Open, today("16:00")));
        assert_eq!(at("12:01"), (WindowRank::OpensSoon, today("12:01")));
        assert_eq!(at("16:00"), (WindowRank::OpensSoon, today("16:00")));
        assert_eq!(at("16:01"), (WindowRank::Closed, today("12:01")));
        let order = [WindowRank::Open, WindowRank::OpensSoon, WindowRank::NoWindow, WindowRank::Closed];
        assert!(order.is_sorted());
    }
}
