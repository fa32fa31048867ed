//! Begins a new file: `events.ndjson` becomes `events.ndjson.7`, the number always growing, and the oldest ones go.
//!
//! One name changes, once, and the note says before that it will: whatever is killed, opening finishes it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::position::{Note, Position};
use super::{Target, folder_of, sync_folder};
use crate::sink::Fault;
use crate::sink::fault::of_file;

/// Puts the file away and begins a new one.
pub(super) fn begin(target: &Target, position: &mut Position) -> Result<File, Fault> {
    let newest = numbers(&target.path)?.into_iter().max().unwrap_or(0);
    let number = newest.max(position.note.rotated) + 1;
    let note = Note {
        rotating: Some(number),
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
    if !exists(&old)? {
        std::fs::rename(&target.path, &old)
            .map_err(|error| of_file(format_args!("rename `{}`", target.path.display()), &error))?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&target.path)
        .map_err(|error| of_file(format_args!("open `{}`", target.path.display()), &error))?;
    sync_folder(&target.path)?;
    let note = Note {
        length: 0,
        rotated: number,
        rotating: None,
        ..position.note.clone()
    };
    position.write(note)?;
    for too_old in numbers(&target.path)? {
        if too_old + target.keep <= number {
            let path = numbered(&target.path, too_old);
            std::fs::remove_file(&path)
                .map_err(|error| of_file(format_args!("remove `{}`", path.display()), &error))?;
        }
    }
    Ok(file)
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
        found.extend(number.and_then(|text| text.parse::<u64>().ok().filter(|number| number.to_string() == text)));
    }
    Ok(found)
}
