//! The jobs that use cases enqueue, and what each is about.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    database::Connection,
    work::{self, NewJob},
};

/// Upgrades the cluster of a member of a run: [`MemberJob`].
pub const UPGRADE: &str = "member.upgrade";
/// Chooses the members and node images of a run that is being started: the run's row.
pub const PLAN: &str = "run.plan";
/// Starts a run, as versions before 0016 of the schema asked for it: the run's row.
pub const START: &str = "run.start";
/// Chooses the node images of a `Consistent` run that was not started: the run's row.
pub const IMAGES: &str = "run.images";
/// Keeps the order in which members that queue get slots: the run's row.
pub const WINDOWS: &str = "run.windows";
/// The timer of the wait after a stage: [`StageJob`].
pub const WAIT: &str = "run.wait";
/// The timer of a scheduled gate: [`GateJob`].
pub const GATE: &str = "run.gate";
/// Delivers the events of a run to a webhook: [`DeliveryJob`].
pub const DELIVERY: &str = "events.deliver";
/// Makes and starts the run of an auto-upgrade profile: the profile's row.
pub const TRIGGER: &str = "profile.trigger";
/// Reads what AKS offers in a subscription: its ID in lower case.
pub const CATALOGUE: &str = "catalogue.watch";

/// Ends the creation or update of a fleet: the fleet's row, with an [`OperationJob`].
pub const PROVISION_FLEET: &str = "fleet.provision";
/// Deletes a fleet: its row, with an [`OperationJob`].
pub const DELETE_FLEET: &str = "fleet.delete";
/// Deletes a resource group: its row, with an [`OperationJob`].
pub const DELETE_GROUP: &str = "resource_group.delete";
/// Joins a member's cluster: the member's row, with an [`OperationJob`].
pub const JOIN: &str = "member.join";
/// Makes a member leave: its row, with an [`OperationJob`].
pub const LEAVE: &str = "member.leave";

/// The payload of a job that carries out an ARM operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationJob {
    /// The operation.
    pub operation: Uuid,
    /// Of a join: the fleet's Microsoft Entra tenant.
    #[serde(default)]
    pub tenant: Uuid,
}

/// The subject of a job does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{subject}' is not {wanted}")]
pub struct InvalidSubject {
    subject: String,
    wanted: &'static str,
}

/// Two parts of a subject, with a slash between them.
macro_rules! subject {
    ($(#[$doc:meta])* $name:ident { $(#[$first_doc:meta])* $first:ident: $First:ty, $(#[$second_doc:meta])* $second:ident: $Second:ty } is $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(#[$first_doc])*
            pub $first: $First,
            $(#[$second_doc])*
            pub $second: $Second,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.$first, self.$second)
            }
        }

        impl FromStr for $name {
            type Err = InvalidSubject;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let parse = || {
                    let (first, second) = text.split_once('/')?;
                    Some(Self { $first: first.parse().ok()?, $second: second.parse().ok()? })
                };
                parse().ok_or_else(|| InvalidSubject { subject: text.to_owned(), wanted: $wanted })
            }
        }
    };
}

subject! {
    /// A member of a run.
    MemberJob {
        /// The run's row.
        run: Uuid,
        /// [`crate::rollout::Member::index`].
        member: u32
    } is "a member of a run"
}
subject! {
    /// A stage of a run.
    StageJob {
        /// The run's row.
        run: Uuid,
        /// [`crate::rollout::Stage::index`].
        stage: u32
    } is "a stage of a run"
}
subject! {
    /// A gate of a run.
    GateJob {
        /// The run's row.
        run: Uuid,
        /// [`crate::rollout::Gate::id`].
        gate: Uuid
    } is "a gate of a run"
}
subject! {
    /// A webhook and a run.
    DeliveryJob {
        /// The webhook's name.
        webhook: String,
        /// The run's row.
        run: Uuid
    } is "a webhook and a run"
}

/// The job that upgrades a member.
#[must_use]
pub fn upgrade(member: &MemberJob, trace: Option<&str>) -> NewJob {
    traced(NewJob::new(UPGRADE, member.to_string()), trace)
}

/// The job that chooses the members and node images of a run that is being started.
#[must_use]
pub fn plan(run: Uuid, trace: Option<&str>) -> NewJob {
    traced(NewJob::new(PLAN, run.to_string()), trace)
}

/// The job that makes the node images of a `Consistent` run readable before it starts.
#[must_use]
pub fn images(run: Uuid, trace: Option<&str>) -> NewJob {
    traced(NewJob::new(IMAGES, run.to_string()), trace)
}

/// The job that keeps the order in which members that queue get slots.
#[must_use]
pub fn windows(run: Uuid, at: Timestamp) -> NewJob {
    NewJob::new(WINDOWS, run.to_string()).run_at(at)
}

/// The timer of the wait after a stage.
#[must_use]
pub fn wait(stage: &StageJob, at: Timestamp, trace: Option<&str>) -> NewJob {
    traced(NewJob::new(WAIT, stage.to_string()).run_at(at), trace)
}

/// The timer of a scheduled gate.
#[must_use]
pub fn gate(gate: &GateJob, at: Timestamp, trace: Option<&str>) -> NewJob {
    traced(NewJob::new(GATE, gate.to_string()).run_at(at), trace)
}

/// The job that delivers the events of a run to a webhook.
#[must_use]
pub fn delivery(backlog: &DeliveryJob, trace: Option<&str>) -> NewJob {
    traced(NewJob::new(DELIVERY, backlog.to_string()), trace)
}

/// The job that decides whether a profile makes a run.
#[must_use]
pub fn trigger(profile: Uuid) -> NewJob {
    NewJob::new(TRIGGER, profile.to_string())
}

/// The job that reads what AKS offers in a subscription.
#[must_use]
pub fn catalogue(subscription: &str) -> NewJob {
    NewJob::new(CATALOGUE, subscription.to_lowercase())
}

/// The job that ends the creation or update of a fleet.
#[must_use]
pub fn provision_fleet(fleet: Uuid, operation: Uuid, trace: &str) -> NewJob {
    of_operation(PROVISION_FLEET, fleet, operation, Uuid::nil(), trace)
}

/// The job that deletes a fleet and all in it.
#[must_use]
pub fn delete_fleet(fleet: Uuid, operation: Uuid, trace: &str) -> NewJob {
    of_operation(DELETE_FLEET, fleet, operation, Uuid::nil(), trace)
}

/// The job that deletes a resource group and all in it.
#[must_use]
pub fn delete_group(group: Uuid, operation: Uuid, trace: &str) -> NewJob {
    of_operation(DELETE_GROUP, group, operation, Uuid::nil(), trace)
}

/// The job that joins a member's cluster. `tenant`: the fleet's.
#[must_use]
pub fn join(member: Uuid, operation: Uuid, tenant: Uuid, trace: &str) -> NewJob {
    of_operation(JOIN, member, operation, tenant, trace)
}

/// The job that makes a member leave.
#[must_use]
pub fn leave(member: Uuid, operation: Uuid, trace: &str) -> NewJob {
    of_operation(LEAVE, member, operation, Uuid::nil(), trace)
}

fn of_operation(kind: &'static str, row: Uuid, operation: Uuid, tenant: Uuid, trace: &str) -> NewJob {
    NewJob::new(kind, row.to_string()).payload(json!(OperationJob { operation, tenant })).trace(trace)
}

/// Takes back all jobs of a run that is deleted. The run must be locked.
pub async fn cancel_run(tx: &mut Connection, run: Uuid) -> Result<(), sqlx::Error> {
    // In the order of the names, as all that lock several jobs do.
    for kind in [IMAGES, PLAN, START, WINDOWS] {
        work::cancel(tx, kind, &run.to_string()).await?;
    }
    for kind in [WAIT, GATE, UPGRADE] {
        work::cancel_prefix(tx, kind, &format!("{run}/")).await?;
    }
    Ok(())
}

fn traced(job: NewJob, trace: Option<&str>) -> NewJob {
    match trace {
        Some(trace) => job.trace(trace),
        None => job,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_as_it_was_written() {
        let (run, gate) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let member = MemberJob { run, member: 12 };
        assert_eq!(member.to_string(), format!("{run}/12"));
        assert_eq!(member.to_string().parse(), Ok(member));
        let gate = GateJob { run, gate };
        assert_eq!(gate.to_string().parse(), Ok(gate));
        let delivery = DeliveryJob { webhook: "ops".to_owned(), run };
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
        for text in ["", "/", "x/1", &format!("{run}"), &format!("{run}/"), &format!("{run}/-1"), &format!("{run}/1/2")]
        {
            let error = text.parse::<MemberJob>().unwrap_err();
            assert_eq!(error.to_string(), format!("'{text}' is not a member of a run"));
            assert!(text.parse::<StageJob>().is_err() && text.parse::<GateJob>().is_err());
        }
    }
}
