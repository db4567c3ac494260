//! What all handlers share: the request as ARM reads it, bodies, answers, errors, authorisation, the audit trail.

pub(super) mod access;
pub(super) mod audit;
pub(super) mod body;
pub(super) mod budgets;
pub(super) mod context;
pub(super) mod error;
pub(super) mod explain_404;
pub(super) mod host;
pub(super) mod normalize_path;
pub(super) mod principal;
pub(super) mod refusals;
pub(super) mod render;
pub(super) mod request;
pub(super) mod strict_json;
