//! Identity: who calls (bearer tokens), and what the caller may do (Azure RBAC: roles assigned at scopes, inherited
//! downwards).
//!
//! Tokens are JWTs shaped like Microsoft Entra's, v1.0 or v2.0. Who issues them is configuration; this room only knows
//! the issuer's keys. Errors carry the codes and messages that Azure Resource Manager answers with, as clients show
//! them to people.

pub mod access;
pub mod authorize;
pub mod caller;
mod claims;
pub mod issuer;
mod key;
pub mod roles;
pub mod verifier;

pub use access::{Access, Grant, Reach};
pub use authorize::{Action, Authorized, ChangeAction, authorize, authorize_any};
pub use caller::{Caller, CallerKind};
pub use issuer::Issuer;
pub use key::VerificationKey;
pub use verifier::Verifier;

/// The audiences that Azure Resource Manager accepts; tokens that public clients ask for by default carry one of them.
pub const ARM_AUDIENCES: [&str; 4] = [
    "https://management.core.windows.net/",
    "https://management.core.windows.net",
    "https://management.azure.com/",
    "https://management.azure.com",
];
