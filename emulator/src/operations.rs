//! Long-running operations. A request starts an operation; it ends after its duration. Due operations are ended before each read.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::is_terminal;
use crate::world::World;

/// The effect of an operation that succeeds. Versions show the target from the beginning.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Image { pool: String, image: String },
    Power { stopped: bool },
    RemovePool(String),
    RemoveCluster,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Status {
    InProgress,
    Succeeded,
    Failed,
    Canceled,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) subscription: String,
    pub(crate) location: String,
    /// Key of the cluster in the world.
    pub(crate) cluster: String,
    pub(crate) cluster_name: String,
    /// The agent pool of the operation; `None`: cluster-level.
    pub(crate) pool: Option<String>,
    /// Agent pools that show the cluster's state during the operation.
    pools: Vec<String>,
    effects: Vec<Effect>,
    pub(crate) started: Timestamp,
    /// When it ends; `None`: it hangs until released.
    due: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) status: Status,
    /// Code and message, if the operation will fail.
    failure: Option<(String, String)>,
    /// Whether a succeeded operation also shows NotLatestOperation, as recorded for stop and start.
    not_latest: bool,
}

/// A new operation.
pub(crate) struct Begin<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) pool: Option<String>,
    pub(crate) pools: Vec<String>,
    /// Provisioning state during the operation: Upgrading, Updating …
    pub(crate) state: &'a str,
    pub(crate) effects: Vec<Effect>,
    /// Duration, if not the default.
    pub(crate) seconds: Option<f64>,
    pub(crate) not_latest: bool,
}

impl<'a> Begin<'a> {
    pub(crate) fn on_cluster(cluster: &'a str, state: &'a str) -> Self {
        Self { cluster, pool: None, pools: Vec::new(), state, effects: Vec::new(), seconds: None, not_latest: false }
    }

    pub(crate) fn on_pool(cluster: &'a str, pool: &str, state: &'a str) -> Self {
        Self { pool: Some(pool.to_owned()), ..Self::on_cluster(cluster, state) }
    }

    pub(crate) fn with(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}

/// Returns the time this many seconds later, or the last possible time.
pub(crate) fn later(now: Timestamp, seconds: f64) -> Timestamp {
    let span = jiff::SignedDuration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(jiff::SignedDuration::MAX);
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Formats a time as AKS does, with seven digits: `2023-06-25T03:06:50.0431958Z`.
pub(crate) fn stamp(time: Timestamp) -> String {
    format!("{time:.7}")
}

impl Operation {
    pub(crate) fn body(&self, id: Uuid) -> Value {
        let mut body = json!({"name": id, "status": self.status.name(), "startTime": stamp(self.started)});
        let Some(fields) = body.as_object_mut() else { return body };
        if let Some(ended) = self.ended {
            fields.insert("endTime".into(), stamp(ended).into());
        }
        let error = match (self.status, &self.failure) {
            (Status::Failed, Some((code, message))) => json!({"code": code, "message": message}),
            (Status::Canceled, _) => json!({"code": "Canceled", "message": "The operation was aborted."}),
            _ if self.not_latest => json!({
                "code": "NotLatestOperation",
                "message": "Cannot proceed with the operation. Either the operation has been preempted by another one, or the information \
                            needed by the operation failed to be saved (or hasn't been saved yet).",
            }),
            _ => return body,
        };
        fields.insert("error".into(), error);
        body
    }

    pub(crate) fn is_hanging(&self) -> bool {
        self.status == Status::InProgress && self.due.is_none()
    }
}

impl World {
    /// Starts an operation. The caller has checked that the cluster exists and has no conflicting operation.
    pub(crate) fn begin(&mut self, begin: Begin<'_>, now: Timestamp) -> Uuid {
        let id = self.fresh_id();
        let etag = self.fresh_etag();
        let seconds_of_all = self.settings.upgrade_seconds;
        let Some(cluster) = self.clusters.get_mut(begin.cluster) else { return id };
        let due = later(now, begin.seconds.or(cluster.upgrade_seconds).unwrap_or(seconds_of_all));
        cluster.changed(etag.clone());
        match &begin.pool {
            None => {
                cluster.running = Some(id);
                cluster.state = begin.state.to_owned();
                cluster.error = None;
            }
            Some(name) => {
                if let Some(pool) = cluster.pool_mut(name) {
                    pool.running = Some(id);
                }
            }
        }
        for name in begin.pool.iter().chain(&begin.pools) {
            if let Some(pool) = cluster.pool_mut(name) {
                pool.state = begin.state.to_owned();
                pool.error = None;
                pool.etag = etag.clone();
            }
        }
        let operation = Operation {
            subscription: cluster.subscription.clone(),
            location: cluster.location.clone(),
            cluster: begin.cluster.to_owned(),
            cluster_name: cluster.name.clone(),
            pool: begin.pool,
            pools: begin.pools,
            effects: begin.effects,
            started: now,
            due: Some(due),
            ended: None,
            status: Status::InProgress,
            failure: None,
            not_latest: begin.not_latest,
        };
        self.due.insert((due, id));
        self.operations.insert(id, operation);
        id
    }

    /// Records an operation without effect, which ends at once.
    pub(crate) fn begin_finished(&mut self, cluster: &str, now: Timestamp) -> Uuid {
        let id = self.fresh_id();
        if let Some(cluster_now) = self.clusters.get(cluster) {
            let operation = Operation {
                subscription: cluster_now.subscription.clone(),
                location: cluster_now.location.clone(),
                cluster: cluster.to_owned(),
                cluster_name: cluster_now.name.clone(),
                pool: None,
                pools: Vec::new(),
                effects: Vec::new(),
                started: now,
                due: None,
                ended: Some(now),
                status: Status::Succeeded,
                failure: None,
                not_latest: false,
            };
            self.operations.insert(id, operation);
        }
        id
    }

    /// Ends all due operations.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        while let Some(&(at, id)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            let failed = self.operations.get(&id).is_some_and(|operation| operation.failure.is_some());
            self.finish(id, if failed { Status::Failed } else { Status::Succeeded }, at);
        }
    }

    /// Ends an operation with the given result, so that its cluster or pool accepts new ones.
    pub(crate) fn finish(&mut self, id: Uuid, status: Status, at: Timestamp) {
        let etag = self.fresh_etag();
        let Some(operation) = self.operations.get_mut(&id).filter(|operation| operation.status == Status::InProgress)
        else {
            return;
        };
        if let Some(due) = operation.due.take() {
            self.due.remove(&(due, id));
        }
        operation.status = status;
        operation.ended = Some(at);
        let operation = operation.clone();
        let error = operation.failure.clone().filter(|_| status == Status::Failed);
        let Some(cluster) = self.clusters.get_mut(&operation.cluster) else { return };
        cluster.changed(etag.clone());
        if cluster.running == Some(id) {
            cluster.running = None;
            cluster.state = status.name().to_owned();
            cluster.error = error.clone();
        }
        for name in operation.pool.iter().chain(&operation.pools) {
            if let Some(pool) = cluster.pool_mut(name) {
                pool.running = None;
                pool.state = status.name().to_owned();
                pool.error = error.clone();
                pool.etag = etag.clone();
            }
        }
        if status != Status::Succeeded {
            return;
        }
        for effect in operation.effects {
            match effect {
                Effect::Image { pool, image } => {
                    if let Some(pool) = cluster.pool_mut(&pool) {
                        pool.image = image;
                    }
                }
                Effect::Power { stopped } => {
                    cluster.stopped = stopped;
                    cluster.pools.iter_mut().for_each(|pool| pool.stopped = stopped);
                }
                Effect::RemovePool(name) => cluster.pools.retain(|pool| pool.name != name),
                Effect::RemoveCluster => {
                    self.clusters.remove(&operation.cluster);
                    return;
                }
            }
        }
    }

    pub(crate) fn fail_operation(&mut self, id: Uuid, code: String, message: String) {
        if let Some(operation) = self.operations.get_mut(&id).filter(|operation| operation.status == Status::InProgress)
        {
            operation.failure = Some((code, message));
        }
    }

    pub(crate) fn hang_operation(&mut self, id: Uuid) {
        let Some(operation) = self.operations.get_mut(&id).filter(|operation| operation.status == Status::InProgress)
        else {
            return;
        };
        if let Some(due) = operation.due.take() {
            self.due.remove(&(due, id));
        }
    }

    /// Ends hanging operations, of one cluster or all, and returns how many.
    pub(crate) fn release(&mut self, cluster: Option<&str>, now: Timestamp) -> usize {
        let of = |operation: &Operation| cluster.is_none_or(|name| name.eq_ignore_ascii_case(&operation.cluster_name));
        let hanging: Vec<Uuid> = self
            .operations
            .iter()
            .filter(|(_, operation)| operation.is_hanging() && of(operation))
            .map(|(id, _)| *id)
            .collect();
        for id in &hanging {
            let failed = self.operations.get(id).is_some_and(|operation| operation.failure.is_some());
            self.finish(*id, if failed { Status::Failed } else { Status::Succeeded }, now);
        }
        hanging.len()
    }

    /// Returns the operations in progress on a cluster: cluster-level first.
    pub(crate) fn running_on(&self, key: &str) -> Vec<Uuid> {
        let Some(cluster) = self.clusters.get(key) else { return Vec::new() };
        cluster.running.into_iter().chain(cluster.pools.iter().filter_map(|pool| pool.running)).collect()
    }
}

/// Whether a state that the control API set is busy: every state that is not terminal.
pub(crate) fn is_busy(state: &str) -> bool {
    !is_terminal(state)
}
