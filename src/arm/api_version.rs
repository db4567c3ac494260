//! API versions: `2026-06-01`, `2026-06-02-preview`.

use std::{fmt, str::FromStr};

use jiff::civil::Date;

use super::ArmError;

/// A version of a resource provider's API. Ordered by date; at the same date a preview comes before the stable one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    date: Date,
    stable: bool,
}

impl ApiVersion {
    /// A stable version, for tables in code.
    #[must_use]
    pub const fn stable(year: i16, month: i8, day: i8) -> Self {
        Self { date: Date::constant(year, month, day), stable: true }
    }

    /// A preview version, for tables in code.
    #[must_use]
    pub const fn preview(year: i16, month: i8, day: i8) -> Self {
        Self { date: Date::constant(year, month, day), stable: false }
    }

    /// Whether this is a preview.
    #[must_use]
    pub const fn is_preview(self) -> bool {
        !self.stable
    }

    /// Parses the `api-version` of a request to one of ARM's own types, which have the same shape in every version.
    ///
    /// # Errors
    /// 400 `MissingApiVersionParameter` or `InvalidApiVersionParameter`.
    pub fn any(given: Option<&str>) -> Result<Self, ArmError> {
        let Some(text) = given.filter(|text| !text.is_empty()) else {
            let message = "The api-version query parameter (?api-version=) is required for all requests.";
            return Err(ArmError::bad_request("MissingApiVersionParameter", message).at("api-version"));
        };
        text.parse().map_err(|()| {
            let shown: String = text.chars().take(64).collect();
            let message = format!("The api-version '{shown}' is invalid: it is a date such as 2024-11-01.");
            ArmError::bad_request("InvalidApiVersionParameter", message).at("api-version")
        })
    }

    /// Parses the `api-version` of a request to a type with the versions `supported` (newest first).
    ///
    /// # Errors
    /// 400 `MissingApiVersionParameter`, `InvalidApiVersionParameter` (malformed) or
    /// `NoRegisteredProviderFound` (unknown to this type), as Azure Resource Manager answers.
    pub fn negotiate(
        given: Option<&str>,
        resource_type: &str,
        supported: impl Iterator<Item = Self> + Clone,
    ) -> Result<Self, ArmError> {
        let listed = || supported.clone().map(|version| version.to_string()).collect::<Vec<_>>().join(", ");
        let Some(text) = given.filter(|text| !text.is_empty()) else {
            return Err(ArmError::bad_request(
                "MissingApiVersionParameter",
                format!(
                    "The api-version query parameter (?api-version=) is required for all requests. The supported versions are '{}'.",
                    listed()
                ),
            )
            .at("api-version"));
        };
        let version = text.parse::<Self>().map_err(|()| {
            ArmError::bad_request(
                "InvalidApiVersionParameter",
                format!(
                    "The api-version '{}' is invalid. The supported versions are '{}'.",
                    text.chars().take(64).collect::<String>(),
                    listed()
                ),
            )
            .at("api-version")
        })?;
        if supported.clone().any(|known| known == version) {
            return Ok(version);
        }
        Err(ArmError::bad_request(
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for API version '{version}' for type '{resource_type}'. The supported api-versions are '{}'.",
                listed()
            ),
        )
        .at("api-version"))
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let (date, stable) = lower.strip_suffix("-preview").map_or((lower.as_str(), true), |date| (date, false));
        let digits = |at: std::ops::Range<usize>| date.get(at).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        if date.len() != 10 || date.get(4..5) != Some("-") || date.get(7..8) != Some("-") {
            return Err(());
        }
        let (Some(y), Some(m), Some(d)) = (digits(0..4), digits(5..7), digits(8..10)) else { return Err(()) };
        let date = Date::new(y.parse().map_err(drop)?, m.parse().map_err(drop)?, d.parse().map_err(drop)?);
        Ok(Self { date: date.map_err(drop)?, stable })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.date, if self.stable { "" } else { "-preview" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_malformed_ones_refused() {
        let v = |text: &str| text.parse::<ApiVersion>();
        assert!(v("2026-06-01").unwrap() < v("2026-06-02-preview").unwrap());
        assert!(v("2026-06-01-preview").unwrap() < v("2026-06-01").unwrap());
        for bad in ["", "2026", "2026-13-01", "2026-06-01-beta", "2026-6-1", "20260601", "2026-06-0١", "+026-06-01"] {
            assert!(v(bad).is_err(), "{bad}");
        }
        let known = [ApiVersion::stable(2026, 6, 1)];
        let code =
            |given| ApiVersion::negotiate(given, "N/t", known.into_iter()).err().map(|e| e.detail().code.to_string());
        assert_eq!(code(None).as_deref(), Some("MissingApiVersionParameter"));
        assert_eq!(code(Some("x")).as_deref(), Some("InvalidApiVersionParameter"));
        assert_eq!(code(Some("2020-01-01")).as_deref(), Some("NoRegisteredProviderFound"));
        assert_eq!(code(Some("2026-06-01")), None);
    }
}
