//! Webhook events of gates and update runs: their content, format, signature and delivery over HTTP.
//!
//! The outbox is in the database (`store::outbox`, `store::deliveries`). A job, `jobs::webhook_deliveries`, decides which event is
//! delivered when. Both use this room: [`describe()`] returns the event of a change, [`render()`] formats events for a receiver,
//! [`Webhooks`] is the setting, [`sign`] computes the signature, and [`Sender`] sends the request.

mod describe;
mod render;
mod sender;
mod signature;
mod webhook;

pub use describe::{NewEvent, TYPES, describe, gate_events, types};
pub use render::{RecordedEvent, render};
pub use sender::{DeliveryFailure, Sender, SenderError, SenderSettings};
pub use signature::sign;
pub use webhook::{Schema, Secret, SecretError, Webhook, WebhookError, Webhooks};
