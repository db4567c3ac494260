//! Findings of a validation, collected so that a caller sees all of them at once.

use super::{ArmError, ErrorDetail};

/// Most findings reported in one answer.
const MAX_REPORTED: usize = 50;

/// Findings so far, each with the path of the property it is about.
#[derive(Debug, Default)]
pub struct Problems(Vec<ErrorDetail>);

impl Problems {
    /// Adds a finding with the code `InvalidParameter`.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.add_coded("InvalidParameter", path, message);
    }

    /// Adds a finding with a code of its own.
    pub fn add_coded(&mut self, code: &'static str, path: &str, message: impl Into<String>) {
        if self.0.len() < MAX_REPORTED {
            self.0.push(ErrorDetail::new(code, message).at(path));
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The 400 that says all findings: itself when there is one, `MultipleErrorsOccurred` with details otherwise.
    ///
    /// # Errors
    /// Whenever something was found.
    pub fn into_result(mut self) -> Result<(), ArmError> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(ArmError::from_detail(http::StatusCode::BAD_REQUEST, self.0.remove(0))),
            n => {
                let mut all = ErrorDetail::new(
                    "MultipleErrorsOccurred",
                    format!("The request has {n} errors. Please see the details."),
                );
                all.details = self.0;
                Err(ArmError::from_detail(http::StatusCode::BAD_REQUEST, all))
            }
        }
    }
}
