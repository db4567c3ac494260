//! The caller of a request, as a verified token names it.

use uuid::Uuid;

/// What a caller is; `createdByType` in a resource's system data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallerKind {
    /// A person.
    User,
    /// A service principal with a credential of its own.
    Application,
    /// A service principal that Azure manages for a resource.
    ManagedIdentity,
}

impl CallerKind {
    /// As ARM's system data spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Application => "Application",
            Self::ManagedIdentity => "ManagedIdentity",
        }
    }
}

/// An authenticated caller. Made by [`Verifier::verify`](super::Verifier::verify).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal's object ID in its tenant (`oid`): what role assignments name.
    pub object_id: Uuid,
    /// The client application (`appid`, `azp`): the caller itself unless a person is behind it.
    pub app_id: Option<String>,
    /// What a person recognises: `upn`, `preferred_username`, `unique_name` or `name`, the first that is there.
    pub name: Option<String>,
    /// What the principal is.
    pub kind: CallerKind,
    /// The tenant that issued the token (`tid`).
    pub tenant: Uuid,
    /// Object IDs of the groups that the token names.
    pub groups: Vec<Uuid>,
}

impl Caller {
    /// The name that errors and system data show: a person's name, an application's client ID, else the object ID.
    #[must_use]
    pub fn display_name(&self) -> String {
        let known = match self.kind {
            CallerKind::User => self.name.as_ref(),
            CallerKind::Application | CallerKind::ManagedIdentity => self.app_id.as_ref(),
        };
        known.cloned().unwrap_or_else(|| self.object_id.to_string())
    }
}
