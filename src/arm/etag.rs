//! ETags and the conditions a request may carry (ARM resource provider contract, RFC 9110 §13).

use std::fmt;

use http::{HeaderMap, header};
use uuid::Uuid;

use super::ArmError;

/// Version of a resource. The quotes are part of its text, also in the body's `eTag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Etag(pub Uuid);

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// The condition of a request on the resource's current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    /// No condition.
    #[default]
    None,
    /// `If-Match: *`: the resource exists.
    Exists,
    /// `If-Match: "…"`: the resource exists and has this version. `None`: the text is not an ETag of this service and matches nothing.
    Is(Option<Etag>),
    /// `If-None-Match: *`: the resource does not exist.
    Absent,
}

impl Precondition {
    /// Reads `If-Match` and `If-None-Match`.
    ///
    /// # Errors
    /// 400 where both are given, or `If-None-Match` is anything but `*`.
    pub fn read(headers: &HeaderMap) -> Result<Self, ArmError> {
        // A condition that cannot be read counts as not met; ignoring it could overwrite a change.
        let text = |name| headers.get(name).map(|v: &http::HeaderValue| v.to_str().unwrap_or("unreadable").trim());
        match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
            (None, None) | (Some(""), None) | (None, Some("")) => Ok(Self::None),
            (Some("*"), None) => Ok(Self::Exists),
            (Some(tag), None) => {
                let bare = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
                Ok(Self::Is(Uuid::try_parse(bare).ok().map(Etag)))
            }
            (None, Some("*")) => Ok(Self::Absent),
            (None, Some(_)) => Err(ArmError::bad_request(
                "InvalidHeaderValue",
                "If-None-Match accepts '*' only: it asks that the resource does not exist yet.",
            )
            .at("If-None-Match")),
            (Some(_), Some(_)) => {
                Err(ArmError::bad_request("InvalidHeaderValue", "Send either If-Match or If-None-Match, not both.")
                    .at("If-Match"))
            }
        }
    }

    /// Checks the condition against the current version (`None`: the resource does not exist).
    ///
    /// # Errors
    /// 412 `PreconditionFailed`.
    pub fn check(self, current: Option<Etag>) -> Result<(), ArmError> {
        let sound = match (self, current) {
            (Self::None, _) | (Self::Exists, Some(_)) | (Self::Absent, None) => true,
            (Self::Is(wanted), Some(current)) => wanted == Some(current),
            _ => false,
        };
        if sound {
            return Ok(());
        }
        Err(match current {
            Some(_) if self == Self::Absent => {
                ArmError::precondition("If-None-Match: '*' was given, but the resource exists already.")
            }
            Some(current) => ArmError::precondition(format!(
                "The resource has been changed meanwhile: its eTag is {current}. Get it, decide again, and send the eTag you got."
            )),
            None => ArmError::precondition("If-Match was given, but the resource does not exist."),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_follow_the_table_of_the_arm_contract() {
        let tag = Etag(Uuid::from_u128(7));
        let read = |name: header::HeaderName, value: &str| {
            Precondition::read(&HeaderMap::from_iter([(name, value.parse().unwrap())])).unwrap()
        };
        let same = read(header::IF_MATCH, &tag.to_string());
        assert!(same.check(Some(tag)).is_ok());
        assert!(same.check(Some(Etag(Uuid::from_u128(8)))).is_err());
        assert!(same.check(None).is_err());
        assert!(read(header::IF_MATCH, "garbage").check(Some(tag)).is_err());
        let unreadable = http::HeaderValue::from_bytes(b"\"\xff\"").unwrap();
        let with = |name| Precondition::read(&HeaderMap::from_iter([(name, unreadable.clone())]));
        assert!(with(header::IF_MATCH).unwrap().check(Some(tag)).is_err());
        assert!(with(header::IF_NONE_MATCH).is_err());
        assert!(read(header::IF_MATCH, "*").check(Some(tag)).is_ok());
        assert!(read(header::IF_MATCH, "*").check(None).is_err());
        assert!(read(header::IF_NONE_MATCH, "*").check(None).is_ok());
        assert!(read(header::IF_NONE_MATCH, "*").check(Some(tag)).is_err());
    }
}
