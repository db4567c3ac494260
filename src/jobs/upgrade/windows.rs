//! Maintenance windows: whether a member may begin, and how long it waits when it may not.

use std::time::Duration;

use jiff::Timestamp;

use super::task::{Task, UpgradeMember, time_between};
use crate::{
    model::maintenance::MaintenanceConfiguration,
    rollout::upgrade::{self, Closed},
    upstreams::azure::{Freshness, UpstreamError},
};

/// Shortest time between two calls for a window while AKS's limit is reached.
const SHORTEST_RECHECK: Duration = Duration::from_secs(1);

/// Whether a member may begin, by its maintenance window.
pub(super) enum BeginPermission {
    /// The window is open, or the member has none.
    Granted,
    /// The window is closed.
    WindowClosed(Closed),
    /// AKS's limit on calls is reached. Check again after this time.
    AskAgain(Duration),
}

impl UpgradeMember {
    /// Whether the member may begin now.
    pub(super) async fn may_begin(
        &self,
        task: &Task<'_>,
        freshness: Freshness,
    ) -> Result<BeginPermission, UpstreamError> {
        let (windows, upgrade_type) = (&self.upstreams.azure.maintenance, task.goal.upgrade_type);
        // The configuration that was read while the window was closed is still good at the moment when the window opens.
        let known = windows.known(&task.cluster);
        if known.is_some_and(|known| upgrade::permission(&known, upgrade_type, Timestamp::now()).is_ok()) {
            return Ok(BeginPermission::Granted);
        }
        let by = |known: &[MaintenanceConfiguration]| match upgrade::permission(known, upgrade_type, Timestamp::now()) {
            Ok(()) => BeginPermission::Granted,
            Err(closed) => BeginPermission::WindowClosed(closed),
        };
        match windows.of(&task.cluster, freshness).await {
            Ok(now) => Ok(by(&now)),
            Err(UpstreamError::Throttled { after, .. }) if freshness == Freshness::Required => {
                Ok(BeginPermission::AskAgain(after))
            }
            Err(error) if !error.is_throttled() => Err(error),
            // A member that may begin by an old answer reads the window again before it begins.
            Err(_) => Ok(match windows.last(&task.cluster) {
                Some(last) => by(&last),
                None => {
                    let opens = task.row.error.as_ref().and_then(upgrade::opening);
                    permission_by_stored_opening(opens, self.policy.window_recheck, Timestamp::now())
                }
            }),
        }
    }
}

/// When AKS is throttled and no window is cached, uses the opening time that is stored on the member. From that time on the member
/// takes a slot and reads its window before it begins, so that only members with a slot call AKS.
fn permission_by_stored_opening(opens: Option<Timestamp>, recheck: Duration, now: Timestamp) -> BeginPermission {
    match opens {
        Some(opens) if opens <= now => BeginPermission::Granted,
        opens => BeginPermission::AskAgain(until_next_check(opens, spread(recheck.max(SHORTEST_RECHECK)), now)),
    }
}

/// Returns a random duration between `time` and twice `time`.
fn spread(time: Duration) -> Duration {
    time.mul_f64(1.0 + rand::random::<f64>())
}

/// Returns how long to wait before the next check of a closed window: until it opens, and at most `recheck`, since the window may be
/// changed. The last check is never before the opening by this process's clock.
pub(super) fn until_next_check(opens: Option<Timestamp>, recheck: Duration, now: Timestamp) -> Duration {
    opens.map_or(recheck, |opens| time_between(now, opens).min(recheck))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_aks_a_member_checks_at_the_recheck_interval_and_at_the_opening() {
        let recheck = Duration::from_secs(60);
        let opens: Timestamp = "2026-03-01T02:00:00Z".parse().unwrap();
        let wait = |opens, now: &str| match permission_by_stored_opening(opens, recheck, now.parse().unwrap()) {
            BeginPermission::AskAgain(delay) => Some(delay),
            BeginPermission::Granted => None,
            BeginPermission::WindowClosed(closed) => panic!("{closed:?}"),
        };
        for opens in [Some(opens), None] {
            let delays: Vec<_> = (0..50).filter_map(|_| wait(opens, "2026-02-01T00:00:00Z")).collect();
            assert!(delays.len() == 50 && delays.iter().all(|delay| (recheck..=2 * recheck).contains(delay)));
            assert!(delays.iter().any(|delay| *delay != delays[0]), "not all at once");
        }
        assert_eq!(wait(Some(opens), "2026-03-01T01:59:59.75Z"), Some(Duration::from_millis(250)));
        assert_eq!(wait(Some(opens), "2026-03-01T02:00:00Z"), None, "it takes a slot");
    }

    #[test]
    fn the_last_check_is_at_the_opening_and_never_before() {
        let recheck = Duration::from_secs(60);
        let opens: Timestamp = "2026-03-01T02:00:00Z".parse().unwrap();
        let check = |now: &str| until_next_check(Some(opens), recheck, now.parse().unwrap());
        assert_eq!(check("2026-02-01T00:00:00Z"), recheck);
        assert_eq!(check("2026-03-01T01:59:00Z"), recheck);
        assert_eq!(check("2026-03-01T01:59:00.000000001Z"), Duration::from_nanos(59_999_999_999));
        assert_eq!(check("2026-03-01T01:59:59.75Z"), Duration::from_millis(250));
        assert_eq!(check("2026-03-01T02:00:00Z"), Duration::ZERO);
        assert_eq!(until_next_check(None, recheck, opens), recheck, "it may be changed");

        // Whatever the time of the first check, the last check is at the opening to the nanosecond.
        let mut now: Timestamp = "2026-02-28T21:13:07.123456789Z".parse().unwrap();
        while now < opens {
            let delay = until_next_check(Some(opens), recheck, now);
            assert!(delay <= recheck && !delay.is_zero());
            now += delay;
        }
        assert_eq!(now, opens);
    }
}
