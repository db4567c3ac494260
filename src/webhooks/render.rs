//! The body of a delivery: CloudEvents 1.0 (JSON format), or the schema of Azure Event Grid.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::webhook::Schema;

/// An event from the outbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordedEvent {
    /// Unique; the same in every delivery of the event.
    pub id: Uuid,
    /// Position among the events of its run, from 1.
    pub sequence: i64,
    /// One of [`super::TYPES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource ID of what changed, or a path below one.
    pub subject: String,
    /// Time of the change.
    #[serde(rename = "time")]
    pub at: Timestamp,
    /// The `data` of the event.
    pub data: Value,
}

impl RecordedEvent {
    /// Returns the ID of the subscription, the source of such events in Azure.
    fn source(&self) -> &str {
        let end = self.subject.match_indices('/').nth(2).map_or(self.subject.len(), |(at, _)| at);
        self.subject.get(..end).unwrap_or_default()
    }

    /// Returns the event in CloudEvents 1.0 with the extension `sequence`, whose values sort as strings.
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

    /// Returns the event in the schema of Azure Event Grid.
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

/// Returns content type and body of a delivery. `batched`: the receiver accepts several events in one delivery.
#[must_use]
pub fn render(schema: Schema, batched: bool, events: &[RecordedEvent]) -> (&'static str, Vec<u8>) {
    let (kind, body) = match (schema, events) {
        (Schema::CloudEvents, [one]) if !batched => ("application/cloudevents+json; charset=utf-8", one.cloud_event()),
        (Schema::CloudEvents, _) => (
            "application/cloudevents-batch+json; charset=utf-8",
            events.iter().map(RecordedEvent::cloud_event).collect::<Vec<_>>().into(),
        ),
        (Schema::EventGrid, _) => {
            ("application/json; charset=utf-8", events.iter().map(RecordedEvent::grid_event).collect::<Vec<_>>().into())
        }
    };
    (kind, body.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> RecordedEvent {
        RecordedEvent {
            id: Uuid::from_u128(7),
            sequence: 42,
            kind: "T".to_owned(),
            subject: "/subscriptions/s/resourceGroups/g/providers/P/fleets/f".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            data: json!({"a": 1}),
        }
    }

    fn body(schema: Schema, batched: bool, events: &[RecordedEvent]) -> (&'static str, Value) {
        let (kind, body) = render(schema, batched, events);
        (kind, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_cloud_event_has_the_attributes_of_the_specification() {
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
    fn a_batch_of_one_event_is_a_list() {
        let (kind, list) = body(Schema::CloudEvents, true, &[event()]);
        assert_eq!((kind, list.as_array().unwrap().len()), ("application/cloudevents-batch+json; charset=utf-8", 1));
        let (kind, list) = body(Schema::EventGrid, false, &[event(), event()]);
        assert_eq!(kind, "application/json; charset=utf-8");
        assert_eq!(list[1]["eventType"], "T");
        assert_eq!(list[1]["topic"], "/subscriptions/s");
        assert_eq!(list[1]["metadataVersion"], "1");
    }
}
