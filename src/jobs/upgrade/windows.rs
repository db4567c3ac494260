//! Maintenance windows: whether a member may begin, and how long it waits when it may not.

use std::time::Duration;

use jiff::Timestamp;

use super::{Task, UpgradeMember, span};
use crate::{
    jobs::outcome::JobError,
    model::maintenance::MaintenanceConfiguration,
    rollout::upgrade::{self, Closed, WaitsFor},
    upstreams::azure::{Freshness, UpstreamError},
    work::Outcome,
};

/// Least time until AKS is asked again that had no answer to spare.
const THROTTLED: Duration = Duration::from_secs(1);

/// What is known of a member's maintenance window.
pub(super) enum May {
    /// It may begin.
    Begin,
    /// It may not.
    Not(Closed),
    /// AKS's limit is reached: to be asked again after this time.
    AskAgain(Duration),
}

impl UpgradeMember {
    /// Whether the member may begin now.
    pub(super) async fn may_begin(&self, task: &Task<'_>, freshness: Freshness) -> Result<May, UpstreamError> {
        let (windows, upgrade_type) = (&self.upstreams.azure.maintenance, task.goal.upgrade_type);
        // The configuration that told when the window opens need not be asked for again the moment that it does.
        let known = windows.known(&task.cluster);
        if known.is_some_and(|known| upgrade::permission(&known, upgrade_type, Timestamp::now()).is_ok()) {
            return Ok(May::Begin);
        }
        let by = |known: &[MaintenanceConfiguration]| match upgrade::permission(known, upgrade_type, Timestamp::now()) {
            Ok(()) => May::Begin,
            Err(closed) => May::Not(closed),
        };
        match windows.of(&task.cluster, freshness).await {
            Ok(now) => Ok(by(&now)),
            Err(UpstreamError::Throttled { after, .. }) if freshness == Freshness::Required => Ok(May::AskAgain(after)),
            Err(error) if !error.is_throttled() => Err(error),
            // A member that may begin by an old answer asks again before it does.
            Err(_) => Ok(match windows.last(&task.cluster) {
                Some(last) => by(&last),
                None => {
                    let opens = task.row.error.as_ref().and_then(upgrade::opening);
                    go_on_waiting(opens, self.policy.window_recheck, Timestamp::now())
                }
            }),
        }
    }

    /// The window is closed: the member gives its slot back, or goes on waiting.
    pub(super) async fn closed(&self, task: &Task<'_>, closed: Closed) -> Result<Outcome, JobError> {
        self.blocked(task, closed.error, WaitsFor::Window(closed.opens)).await
    }
}

/// For a member that waits, when AKS cannot be asked and this process knows nothing of its window but what the member tells:
/// when it opens. Then the member asks as one that begins, with a slot, so that not all ask who wait.
fn go_on_waiting(opens: Option<Timestamp>, recheck: Duration, now: Timestamp) -> May {
    match opens {
        Some(opens) if opens <= now => May::Begin,
        opens => May::AskAgain(until_next_look(opens, spread(recheck.max(THROTTLED)), now)),
    }
}

/// Once to twice the time, by chance.
fn spread(time: Duration) -> Duration {
    time.mul_f64(1.0 + rand::random::<f64>())
}

/// Until a closed window is looked at again: until it opens, and no longer than `recheck`, as it may be changed. Never sooner
/// than it opens, by this process's clock, for that reason.
pub(super) fn until_next_look(opens: Option<Timestamp>, recheck: Duration, now: Timestamp) -> Duration {
    opens.map_or(recheck, |opens| span(now, opens).min(recheck))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_unasked_comes_as_seldom_as_others_and_at_the_opening() {
        let recheck = Duration::from_secs(60);
        let opens: Timestamp = "2026-03-01T02:00:00Z".parse().unwrap();
        let wait = |opens, now: &str| match go_on_waiting(opens, recheck, now.parse().unwrap()) {
            May::AskAgain(delay) => Some(delay),
            May::Begin => None,
            May::Not(closed) => panic!("{closed:?}"),
        };
        for opens in [Some(opens), None] {
            let delays: Vec<_> = (0..50).filter_map(|_| wait(opens, "2026-02-01T00:00:00Z")).collect();
            assert!(delays.len() == 50 && delays.iter().all(|delay| (recheck..=2 * recheck).contains(delay)));
            assert!(delays.iter().any(|delay| *delay != delays[0]), "not all at once");
        }
        assert_eq!(wait(Some(opens), "2026-03-01T01:59:59.75Z"), Some(Duration::from_millis(250)));
        assert_eq!(wait(Some(opens), "2026-03-01T02:00:00Z"), None, "it asks with a slot");
    }

    #[test]
    fn wakes_at_the_opening_and_never_before() {
        let recheck = Duration::from_secs(60);
        let opens: Timestamp = "2026-03-01T02:00:00Z".parse().unwrap();
        let look = |now: &str| until_next_look(Some(opens), recheck, now.parse().unwrap());
        assert_eq!(look("2026-02-01T00:00:00Z"), recheck);
        assert_eq!(look("2026-03-01T01:59:00Z"), recheck);
        assert_eq!(look("2026-03-01T01:59:00.000000001Z"), Duration::from_nanos(59_999_999_999));
        assert_eq!(look("2026-03-01T01:59:59.75Z"), Duration::from_millis(250));
        assert_eq!(look("2026-03-01T02:00:00Z"), Duration::ZERO);
        assert_eq!(until_next_look(None, recheck, opens), recheck, "it may be changed");

        // Look after look, whatever the time of the first one: the last is at the opening to the nanosecond.
        let mut now: Timestamp = "2026-02-28T21:13:07.123456789Z".parse().unwrap();
        while now < opens {
            let delay = until_next_look(Some(opens), recheck, now);
            assert!(delay <= recheck && !delay.is_zero());
            now += delay;
        }
        assert_eq!(now, opens);
    }
}
