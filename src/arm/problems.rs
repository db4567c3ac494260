//! Errors of a validation, collected so that the caller gets all of them in one response.

use super::{ArmError, ErrorDetail};

/// Most errors in one response.
const MAX_REPORTED: usize = 50;

/// The errors found so far, each with the path of its property.
#[derive(Debug, Default)]
pub struct Problems(Vec<ErrorDetail>);

impl Problems {
    /// Adds an error with the code `InvalidParameter`.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.add_coded("InvalidParameter", path, message);
    }

    /// Adds an error with the given code.
    pub fn add_coded(&mut self, code: &'static str, path: &str, message: impl Into<String>) {
        if self.0.len() < MAX_REPORTED {
            self.0.push(ErrorDetail::new(code, message).at(path));
        }
    }

    /// Whether there are no errors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the errors as one 400: the error itself if there is one, else `MultipleErrorsOccurred` with all in its details.
    ///
    /// # Errors
    /// If there is any error.
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
