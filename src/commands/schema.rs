//! `emaj schema`: the JSON Schema of a manifest.

use std::process::ExitCode;

use super::Context;
use crate::errors::{Error, Kind, Result};
use crate::manifest;
use crate::ui::Format;

/// Prints the JSON Schema of a manifest
///
/// It is for editors that complete and check while you write.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table, Format::Json])?;
    let text = serde_json::to_string_pretty(&manifest::schema())
        .map_err(|error| Error::new(Kind::Failed, error).context("failed to write the schema as JSON"))?;
    context.output.text(&(text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
