//! Begins a new file: `events.ndjson` becomes `events.ndjson.7`, the number always growing, and the oldest ones go.
//!
//! One name changes, once, and the note says before that it will: whatever is killed, opening finishes it. The note says as well which numbers are old files
//! of the sink: no other file is touched, whatever it is called.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::position::{Note, Position};
use super::{Target, folder_of, note_of, open_locked, sync_folder};
use crate::sink::Fault;
use crate::sink::fault::of_file;

/// Puts the file away and begins a new one.
pub(super) fn begin(target: &Target, position: &mut Position) -> Result<File, Fault> {
    let mut number = position.note.rotated + 1;
    let mut others = position.note.others;
    while is_taken(&numbered(&target.path, number))? {
        others = number;
        number += 1;
    }
    if others > position.note.others {
        tracing::warn!(
            sink = %target.sink,
            "`{}` is no old file of the sink: it stays, and so do the old files before it",
            numbered(&target.path, others).display()
        );
    }
    let note = Note {
        rotating: Some(number),
        others,
        ..position.note.clone()
    };
    position.write(note)?;
    finish(target, position)
}

/// Carries out what the note says.
pub(super) fn finish(target: &Target, position: &mut Position) -> Result<File, Fault> {
    let Some(number) = position.note.rotating else {
        return Err(Fault::down("there is no file to be put away"));
    };
    let old = numbered(&target.path, number);
    match (exists(&old)?, is_begun(&target.path)?) {
        (false, _) => std::fs::rename(&target.path, &old)
            .map_err(|error| of_file(format_args!("rename `{}`", target.path.display()), &error))?,
        // It was put away before somebody was killed.
        (true, false) => {}
        (true, true) => {
            return Err(Fault::down(format!(
                "`{}` is to be put away as `{}`, and another file is there: move that one away",
                target.path.display(),
                old.display()
            )));
        }
    }
    let file = open_locked(&target.path, true)?;
    sync_folder(&target.path)?;
    let note = Note {
        length: 0,
        rotated: number,
        rotating: None,
        ..position.note.clone()
    };
    position.write(note)?;
    for too_old in numbers(&target.path)? {
        let path = numbered(&target.path, too_old);
        let is_ours = too_old > position.note.others && too_old <= number && !exists(&note_of(&path))?;
        if is_ours && too_old + target.keep <= number {
            // (One that cannot be removed is tried again behind the next file.)
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(sink = %target.sink, "cannot remove `{}`: {error}", path.display());
            }
        }
    }
    Ok(file)
}

/// Returns the highest number of the old files that are there, before the first note is made: whoever wrote them, they stay.
pub(super) fn newest(path: &Path) -> Result<u64, Fault> {
    Ok(numbers(path)?.into_iter().max().unwrap_or(0))
}

/// Tells whether a name is somebody else's: also that of another sink whose file is not there yet.
fn is_taken(path: &Path) -> Result<bool, Fault> {
    Ok(exists(path)? || exists(&note_of(path))?)
}

fn is_begun(path: &Path) -> Result<bool, Fault> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => Ok(found
            .map_err(|error| of_file(format_args!("look at `{}`", path.display()), &error))?
            .len()
            > 0),
    }
}

fn exists(path: &Path) -> Result<bool, Fault> {
    path.try_exists()
        .map_err(|error| of_file(format_args!("look for `{}`", path.display()), &error))
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// Returns the numbers of the old files that are there.
fn numbers(path: &Path) -> Result<Vec<u64>, Fault> {
    let folder = folder_of(path);
    let failed = |error: io::Error| of_file(format_args!("list `{}`", folder.display()), &error);
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let number = number.and_then(|text| text.parse::<u32>().ok().filter(|number| number.to_string() == text));
        found.extend(number.map(u64::from));
    }
    Ok(found)
}
