//! `emaj snap`: the content of a group in files, on this side of the connection.

use std::path::PathBuf;
use std::process::ExitCode;

use super::act::{connect, with_right};
use super::{Context, InstallationArgs};
use crate::errors::Result;
use crate::snap::{self, File};
use crate::ui::{Column, List};
use crate::words::{bytes, count};

/// Writes each table and sequence of a group to a file
///
/// They are in the format of COPY and all of one instant; two snaps can be compared with `diff -r`. Only their owner can read the files.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    group: String,
    /// Directory for the files; it is made when it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.installation)?;
    let progress = context.output.progress("writing files", None);
    let written = snap::write(&mut session, &schema, &args.group, &args.dir, args.force, &|| {
        progress.advance(1);
    });
    drop(progress);
    let files = written.map_err(|error| {
        let error = if error.kind().is_signal() {
            error
        } else {
            error.context(format!("failed to snap group `{}`", args.group))
        };
        // (A table that cannot be read has been told with what it takes.)
        if error.hints().is_empty() {
            with_right(error)
        } else {
            error
        }
    })?;
    let size: u64 = files.iter().map(|file| file.bytes).sum();
    let columns = [Column::left("relation"), Column::left("file"), Column::right("bytes")];
    context.output.data(&List::new(&files, columns, row))?;
    context.output.say(format!(
        "wrote {} to `{}`: {}",
        count(files.len(), "file"),
        args.dir.display(),
        bytes(size)
    ));
    Ok(ExitCode::SUCCESS)
}

fn row(file: &File) -> Vec<String> {
    vec![
        file.qualified().to_string(),
        file.file.display().to_string(),
        file.bytes.to_string(),
    ]
}
