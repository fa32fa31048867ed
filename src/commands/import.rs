//! `emaj import`: a manifest of another program, translated.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Context, new_file};
use crate::errors::{Error, Kind, Result};
use crate::import::{copiste, emaj};
use crate::manifest;
use crate::ui::Format;
use crate::words::count;

/// Translates what another program was told into a manifest; runs nothing of it
///
/// What cannot be translated is a comment in the result, a warning here, and exit code 3. Look at the result before you install it:
/// `emaj validate`, then `emaj plan`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("from").required(true)))]
pub struct Args {
    /// A manifest of Copiste (a Python file)
    #[arg(long, value_name = "FILE", group = "from")]
    from_copiste: Option<PathBuf>,
    /// The configuration of E-Maj: its JSON exports of groups and of parameters, or the rows of `emaj_group_def` as `\copy` writes them.
    /// Without a file: the tables of E-Maj in the database
    #[arg(long, value_name = "FILE", num_args = 0.., group = "from")]
    from_emaj: Option<Vec<PathBuf>>,
    /// Write to this file, which must not be there yet; without it to standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// A manifest, and what is to be said about it.
struct Translated {
    yaml: String,
    /// Each with whether something is missing in the manifest for it.
    notes: Vec<(String, bool)>,
    /// What was translated, in words.
    of: String,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table])?;
    let translated = match (&args.from_copiste, &args.from_emaj) {
        (Some(file), _) => from_copiste(file)?,
        (None, files) => from_emaj(files.as_deref().unwrap_or_default(), context)?,
    };
    // What is written can be installed, or is not written at all.
    manifest::parse(Path::new("emaj.yaml"), &translated.yaml).map_err(|problems| {
        let error = Error::from(problems);
        error.context("the translation is no valid manifest")
    })?;
    match &args.to {
        None => context.output.text(&translated.yaml)?,
        Some(path) => new_file::write(path, &translated.yaml, false)?,
    }
    translated.notes.iter().for_each(|(note, _)| context.output.warn(note));
    let missing = translated.notes.iter().filter(|(_, is_missing)| *is_missing).count();
    context.output.say(format!(
        "translated {}{}",
        translated.of,
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

fn from_copiste(file: &Path) -> Result<Translated> {
    let (shown, text) = read(file)?;
    let imported = copiste::import(&shown, &text)?;
    let say = |note: &copiste::Note| (note.said(&shown), note.is_missing);
    Ok(Translated {
        notes: imported.notes.iter().map(say).collect(),
        of: count(imported.bindings, "binding"),
        yaml: imported.yaml,
    })
}

fn from_emaj(files: &[PathBuf], context: &Context) -> Result<Translated> {
    let (mut names, mut sources) = (Vec::new(), Vec::new());
    for file in files {
        let (shown, text) = read(file)?;
        sources.push(emaj::read(&shown, &text)?);
        names.push(shown);
    }
    if files.is_empty() {
        let mut session = context.connect(None)?;
        sources.push(emaj::from_database(&mut *session)?);
        names.push(format!("database {}", session.wanted().dbname()));
    }
    let imported = emaj::import(&names.join(", "), sources)?;
    let say = |note: &emaj::Note| {
        let word = if note.is_missing { "not translated: " } else { "" };
        (format!("{word}{}: {}", note.about, note.text), note.is_missing)
    };
    Ok(Translated {
        notes: imported.notes.iter().map(say).collect(),
        of: format!(
            "{} with {}",
            count(imported.groups, "group"),
            count(imported.tables, "table")
        ),
        yaml: imported.yaml,
    })
}

/// Returns the file's name as it is shown, and its text.
fn read(file: &Path) -> Result<(String, String)> {
    let shown = file.display().to_string();
    let bytes = std::fs::read(file)
        .map_err(|error| Error::new(Kind::Failed, error).context(format!("failed to read `{shown}`")))?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Error::message(
            Kind::Manifest,
            format!("{shown}: this is UTF-16, and UTF-8 is expected"),
        )
        .hint("convert the file first: `iconv -f utf-16 -t utf-8`"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Error::message(Kind::Manifest, format!("{shown}:{}: this is no UTF-8", line + 1))
            .hint("convert the file first: `iconv -f latin1 -t utf-8`")
    })?;
    Ok((shown, text))
}
