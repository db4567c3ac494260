//! Events: what is told of an update run's changes, in which shape, to whom, and how it is signed and sent.
//!
//! The outbox is in the database (`store::outbox`, `store::deliveries`), and which event goes when is decided by a job (`jobs::webhook_deliveries`). Here is
//! what both need: [`describe()`] makes events of changes, [`render()`] writes them as receivers get them, [`Webhooks`] is the
//! setting, [`sign`] and [`Sender`] are the last mile.

mod describe;
mod render;
mod sender;
mod signature;
mod webhook;

pub use describe::{NewEvent, TYPES, describe, gate_events, types};
pub use render::{Recorded, render};
pub use sender::{Failure, Sender, SenderError, SenderSettings};
pub use signature::sign;
pub use webhook::{Schema, Secret, SecretError, Webhook, WebhookError, Webhooks};
