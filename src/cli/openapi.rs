//! `fleet-manager openapi`.

use std::io::Write;

use clap::Args;

use crate::api::openapi;

/// Print the OpenAPI document of the newest stable API version
#[derive(Debug, Args)]
pub(super) struct OpenApi {}

impl OpenApi {
    pub(super) fn run() -> anyhow::Result<()> {
        Ok(std::io::stdout().write_all(openapi::document().as_bytes())?)
    }
}
