//! `emaj import`: a manifest of another program, translated.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use crate::errors::{Error, Kind, Result};
use crate::import::copiste;
use crate::manifest;
use crate::ui::words::count;

/// Translates a manifest of another program into one of ours; reads the file and runs nothing of it
///
/// What cannot be translated is a comment in the result, a warning here, and exit code 3. Look at the result before you install it:
/// `emaj validate`, then `emaj plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A manifest of Copiste (a Python file)
    #[arg(long, value_name = "FILE", required = true)]
    from_copiste: PathBuf,
    /// Write to this file, which must not be there yet; without it to standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let shown = args.from_copiste.display().to_string();
    let bytes = std::fs::read(&args.from_copiste)
        .map_err(|error| Error::new(Kind::Failed, error).context(format!("failed to read `{shown}`")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Error::message(Kind::Manifest, format!("{shown}:{}: this is no UTF-8", line + 1))
            .hint("convert the file first: `iconv -f latin1 -t utf-8`")
    })?;
    let imported = copiste::import(&shown, &text)?;
    // What is written can be installed, or is not written at all.
    manifest::parse(std::path::Path::new("emaj.yaml"), &imported.yaml).map_err(|problems| {
        let error = Error::from(problems);
        error.context("the translation is no valid manifest")
    })?;
    match &args.to {
        None => context.output.text(&imported.yaml)?,
        Some(path) => write(path, &imported.yaml)?,
    }
    for note in &imported.notes {
        let word = if note.is_missing { "not translated: " } else { "" };
        context
            .output
            .warn(format!("{shown}:{}: {word}{}", note.line, note.text));
    }
    let missing = imported.notes.iter().filter(|note| note.is_missing).count();
    context.output.say(format!(
        "translated {}{}",
        count(imported.bindings, "binding"),
        match missing {
            0 => String::new(),
            missing => format!("; {missing} not translated"),
        }
    ));
    Ok(match missing {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(Kind::PartlyDone.exit_code()),
    })
}

/// Writes a new file; one that is there stays as it is.
fn write(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let kind = if exists { Kind::Refused } else { Kind::Failed };
        let error = Error::new(kind, error).context(format!("failed to write `{}`", path.display()));
        if exists {
            error.hint("name a file that is not there yet")
        } else {
            error
        }
    })
}
