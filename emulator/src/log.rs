//! The log of all requests except GET and HEAD, including refused ones.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{Call, Note};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// Position in the order of execution, from 1.
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) caller: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Status of the response; null if the connection was cut.
    pub(crate) status: Option<u16>,
    pub(crate) cluster: Option<String>,
    /// `ControlPlane`, `Cluster`, `AgentPool:{name}`, `NodeImage:{name}`, `Maintenance:{name}` and so on.
    pub(crate) step: Option<String>,
    /// The requested version or image.
    pub(crate) target: Option<String>,
    /// The requested image, in a request that also sets a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_image: Option<String>,
    /// Whether the request changed the world.
    pub(crate) applied: bool,
    #[serde(skip)]
    pub(crate) operation: Option<Uuid>,
}

#[derive(Debug, Default)]
pub(crate) struct Log(Vec<Entry>);

impl Log {
    pub(crate) fn add(&mut self, call: &Call, note: Note, status: Option<u16>, now: Timestamp) {
        self.0.push(Entry {
            sequence: self.0.len() as u64 + 1,
            time: now,
            caller: call.caller.clone(),
            method: call.method.to_string(),
            path: call.path.clone(),
            status,
            cluster: note.cluster,
            step: note.step,
            target: note.target,
            node_image: note.node_image,
            applied: note.applied,
            operation: note.operation,
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the entries after a sequence number, of one method or all, each with the current state of its operation.
    pub(crate) fn read(&self, after: u64, method: Option<&str>, operation: impl Fn(Uuid) -> Value) -> Value {
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        let wanted = self
            .0
            .iter()
            .skip(skipped)
            .filter(|entry| method.is_none_or(|method| entry.method.eq_ignore_ascii_case(method)));
        let shown = wanted.map(|entry| {
            let mut shown = json!(entry);
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("operation".into(), entry.operation.map_or(Value::Null, &operation));
            }
            shown
        });
        json!({ "value": shown.collect::<Vec<_>>() })
    }
}
