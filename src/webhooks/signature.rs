//! The signature by which a receiver authenticates a delivery and its time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Returns the value of the signature header: HMAC-SHA256 over the time (seconds since 1970, decimal, as in the timestamp header),
/// a full stop, and the body. One signature for each secret, so that a secret can be rotated without rejected deliveries.
#[must_use]
pub fn sign<'a>(secrets: impl IntoIterator<Item = &'a [u8]>, seconds: i64, body: &[u8]) -> String {
    let signatures = secrets.into_iter().filter_map(|secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(format!("{seconds}.").as_bytes());
        mac.update(body);
        Some(format!("sha256={}", hex(&mac.finalize().into_bytes())))
    });
    signatures.collect::<Vec<_>>().join(",")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_equals_that_of_openssl() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of some length'
        let signature = sign([b"a secret of some length".as_slice()], 1_700_000_000, br#"{"a":1}"#);
        assert_eq!(signature, "sha256=e09db3ce6e6e8f9b633a62851e5074a9e9148ac19b1c0e1a8f7c352380be630b");
    }

    proptest::proptest! {
        #[test]
        fn another_time_or_body_has_another_signature(
            times in (0i64..10_000_000_000, 0i64..10_000_000_000), bodies in ("[0-9.]{0,12}", "[0-9.]{0,12}"),
        ) {
            let signature = |time, body: &str| sign([b"a secret".as_slice()], time, body.as_bytes());
            let same = (times.0, &bodies.0) == (times.1, &bodies.1);
            assert_eq!(signature(times.0, &bodies.0) == signature(times.1, &bodies.1), same);
        }
    }

    #[test]
    fn each_secret_adds_a_signature_over_time_and_body() {
        let (one, two) = (b"first".as_slice(), b"second".as_slice());
        let both = sign([one, two], 1, b"x");
        assert_eq!(both, format!("{},{}", sign([one], 1, b"x"), sign([two], 1, b"x")));
        let distinct: std::collections::BTreeSet<String> =
            [sign([one], 1, b"x"), sign([one], 2, b"x"), sign([one], 1, b"y"), sign([two], 1, b"x")].into();
        assert_eq!(distinct.len(), 4);
    }
}
