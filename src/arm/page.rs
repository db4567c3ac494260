//! Paging: a sealed, opaque `$skipToken` that names the last key seen.
//!
//! Keyset paging is stable under concurrent inserts and deletes: an item that exists throughout is returned exactly once. The
//! token is authenticated together with the list it belongs to, so that a modified token, or one of another list, is refused.

use std::num::IntErrorKind;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ArmError;

/// Most items in a page, and the size of a page when the caller does not say.
pub const MAX_PAGE: u32 = 100;
const TAG_BYTES: usize = 16;

/// Seals and opens tokens with a key that all replicas share.
#[derive(Clone)]
pub struct TokenSealer {
    key: [u8; 32],
}

/// Which part of a list to return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Most items to return, 1–[`MAX_PAGE`].
    pub limit: u32,
    /// Returns only items with a key after this one.
    pub after: Option<String>,
}

impl TokenSealer {
    /// Returns a sealer with a secret key of 32 bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Returns a token that continues the list `list` after the item with the key `last`.
    #[must_use]
    pub fn seal(&self, list: &str, last: &str) -> String {
        let mut bytes = self.tag(list, last.as_bytes()).to_vec();
        bytes.extend_from_slice(last.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads `$top` and `$skipToken` of a request for the list `list`.
    ///
    /// # Errors
    /// 400 for a `$top` that is not a positive number and for a token that was not sealed for this list.
    pub fn page(&self, list: &str, top: Option<&str>, token: Option<&str>) -> Result<Page, ArmError> {
        let limit = match top {
            None => MAX_PAGE,
            Some(text) => match text.parse::<u32>() {
                Ok(n) if n > 0 => n.min(MAX_PAGE),
                Err(error) if *error.kind() == IntErrorKind::PosOverflow => MAX_PAGE,
                _ => {
                    return Err(ArmError::bad_request(
                        "InvalidParameter",
                        format!("$top must be a whole number from 1 on; it is a hint, at most {MAX_PAGE} items come in a page."),
                    )
                    .at("$top"));
                }
            },
        };
        let after = match token.filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => Some(self.open(list, token).ok_or_else(|| {
                ArmError::bad_request(
                    "InvalidParameter",
                    "$skipToken is not one that this list gave out: follow nextLink as it is, or start without it.",
                )
                .at("$skipToken")
            })?),
        };
        Ok(Page { limit, after })
    }

    fn open(&self, list: &str, token: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, key) = bytes.split_at_checked(TAG_BYTES)?;
        self.mac(list, key)?.verify_truncated_left(tag).ok()?;
        String::from_utf8(key.to_vec()).ok()
    }

    fn tag(&self, list: &str, key: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        if let Some(mac) = self.mac(list, key) {
            let full = mac.finalize().into_bytes();
            tag.copy_from_slice(&full[..TAG_BYTES]);
        }
        tag
    }

    fn mac(&self, list: &str, key: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(&u64::try_from(list.len()).ok()?.to_be_bytes());
        mac.update(list.as_bytes());
        mac.update(key);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_modified_token_is_refused(list in ".{0,20}", key in ".{0,40}", at in 0usize..80, bit in 0u8..8) {
            let sealer = TokenSealer::new([7; 32]);
            let token = sealer.seal(&list, &key);
            prop_assert_eq!(sealer.page(&list, None, Some(&token)).unwrap().after, Some(key));
            prop_assert!(sealer.page(&(list.clone() + "x"), None, Some(&token)).is_err());
            prop_assert!(TokenSealer::new([8; 32]).page(&list, None, Some(&token)).is_err());
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(sealer.page(&list, None, Some(&URL_SAFE_NO_PAD.encode(bytes))).is_err());
        }
    }

    #[test]
    fn top_is_bounded() {
        let sealer = TokenSealer::new([0; 32]);
        assert_eq!(sealer.page("l", Some("100000"), None).unwrap().limit, MAX_PAGE);
        for bad in ["0", "-1", "x", "1.5", ""] {
            assert!(sealer.page("l", Some(bad), None).is_err(), "{bad}");
        }
    }
}
