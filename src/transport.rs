//! The set-up that all HTTP clients of the service share. Callers add their own timeouts.

use reqwest::{Certificate, Client, ClientBuilder, redirect};

/// Returns a client that follows no redirects, names the service as its user agent, and trusts the certificate authorities `ca` in
/// addition to the system's.
///
/// Redirects are not followed, so that only the configuration decides where tokens, events and requests go.
pub fn client(ca: &[Certificate]) -> ClientBuilder {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("fleet-manager/", env!("CARGO_PKG_VERSION")));
    if ca.is_empty() { client } else { client.tls_certs_merge(ca.iter().cloned()) }
}
