//! Events as receivers get them: CloudEvents 1.0 (JSON format), or the schema of Azure Event Grid.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::webhook::Schema;

/// An event as recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    /// The same in every delivery.
    pub id: Uuid,
    /// Its place among the events of its run, from 1.
    pub sequence: i64,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// When it happened.
    #[serde(rename = "time")]
    pub at: Timestamp,
    /// What happened.
    pub data: Value,
}

impl Recorded {
    /// The subscription, in whose name Azure sends such events.
    fn source(&self) -> &str {
        let end = self.subject.match_indices('/').nth(2).map_or(self.subject.len(), |(at, _)| at);
        self.subject.get(..end).unwrap_or_default()
    }

    /// CloudEvents 1.0, with the extension `sequence` (which compares as a string).
    fn cloud_event(&self) -> Value {
        json!({
            "specversion": "1.0",
            "id": self.id,
            "source": self.source(),
            "type": self.kind,
            "subject": self.subject,
            "time": self.at,
            "datacontenttype": "application/json",
            "sequence": format!("{:012}", self.sequence),
            "data": self.data,
        })
    }

    /// The schema of Azure Event Grid.
    fn grid_event(&self) -> Value {
        json!({
            "id": self.id,
            "topic": self.source(),
            "subject": self.subject,
            "eventType": self.kind,
            "eventTime": self.at,
            "dataVersion": "1",
            "metadataVersion": "1",
            "data": self.data,
        })
    }
}

/// Content type and body of a delivery. `batched`: the receiver takes more than one event at a time.
#[must_use]
pub fn render(schema: Schema, batched: bool, events: &[Recorded]) -> (&'static str, Vec<u8>) {
    let (kind, body) = match (schema, events) {
        (Schema::CloudEvents, [one]) if !batched => ("application/cloudevents+json; charset=utf-8", one.cloud_event()),
        (Schema::CloudEvents, _) => (
            "application/cloudevents-batch+json; charset=utf-8",
            events.iter().map(Recorded::cloud_event).collect::<Vec<_>>().into(),
        ),
        (Schema::EventGrid, _) => {
            ("application/json; charset=utf-8", events.iter().map(Recorded::grid_event).collect::<Vec<_>>().into())
        }
    };
    (kind, body.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Recorded {
        Recorded {
            id: Uuid::from_u128(7),
            sequence: 42,
            kind: "T".to_owned(),
            subject: "/subscriptions/s/resourceGroups/g/providers/P/fleets/f".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            data: json!({"a": 1}),
        }
    }

    fn body(schema: Schema, batched: bool, events: &[Recorded]) -> (&'static str, Value) {
        let (kind, body) = render(schema, batched, events);
        (kind, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_cloud_event_has_what_the_specification_wants() {
        let (kind, body) = body(Schema::CloudEvents, false, &[event()]);
        assert_eq!(kind, "application/cloudevents+json; charset=utf-8");
        assert_eq!(
            body,
            json!({
                "specversion": "1.0", "id": "00000000-0000-0000-0000-000000000007", "source": "/subscriptions/s",
                "type": "T", "subject": event().subject, "time": "1970-01-01T00:00:00Z",
                "datacontenttype": "application/json", "sequence": "000000000042", "data": {"a": 1},
            })
        );
    }

    #[test]
    fn batches_are_lists_even_of_one() {
        let (kind, list) = body(Schema::CloudEvents, true, &[event()]);
        assert_eq!((kind, list.as_array().unwrap().len()), ("application/cloudevents-batch+json; charset=utf-8", 1));
        let (kind, list) = body(Schema::EventGrid, false, &[event(), event()]);
        assert_eq!(kind, "application/json; charset=utf-8");
        assert_eq!(list[1]["eventType"], "T");
        assert_eq!(list[1]["topic"], "/subscriptions/s");
        assert_eq!(list[1]["metadataVersion"], "1");
    }
}
