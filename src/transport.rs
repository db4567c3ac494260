//! The set-up that all HTTP clients of this room share.

use reqwest::{Certificate, Client, ClientBuilder, redirect};

/// A client that follows no redirects, and trusts `ca` beside the system's authorities.
pub fn client(ca: &[Certificate]) -> ClientBuilder {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("fleet-manager/", env!("CARGO_PKG_VERSION")));
    if ca.is_empty() { client } else { client.tls_certs_merge(ca.iter().cloned()) }
}
