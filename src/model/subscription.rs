//! The subscriptions that the service serves. The configuration lists which of the tenant's subscriptions these are.

use std::str::FromStr;

use uuid::Uuid;

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Subscription ID, a GUID.
    pub id: Uuid,
    /// Display name.
    pub display_name: String,
}

impl FromStr for Subscription {
    type Err = String;

    /// Parses `GUID` or `GUID=Display name`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, name) = text.split_once('=').unwrap_or((text, text));
        let id = Uuid::try_parse(id.trim()).map_err(|_| format!("'{}' is not a subscription's GUID", id.trim()))?;
        let display_name = name.trim().to_owned();
        if display_name.is_empty() || display_name.chars().count() > 64 {
            return Err("a subscription's display name has 1 to 64 characters".to_owned());
        }
        Ok(Self { id, display_name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ids_with_and_without_a_name() {
        let id = "00000000-0000-0000-0000-000000000001";
        let read = |text: &str| text.parse::<Subscription>().map(|s| (s.id.to_string(), s.display_name));
        assert_eq!(read(id), Ok((id.to_owned(), id.to_owned())));
        assert_eq!(read(&format!("{id}= Production = EU")), Ok((id.to_owned(), "Production = EU".to_owned())));
        for bad in ["", "x", "x=y", &format!("{id}="), &format!("{id}={}", "n".repeat(65))] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
