//! The names of a file: a symbolic link is followed to it, and one that has several names is locked under all of them.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::position::Position;
use super::{folder_of, note_of};
use crate::sink::Fault;
use crate::sink::fault::of_file;

/// As many symbolic links are followed as the system follows.
const LINKS: usize = 40;

/// Returns the path that a symbolic link leads to, also where there is no file yet.
pub(super) fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(leads_to) = std::fs::read_link(&path) else { break };
        path = folder_of(&path).join(leads_to);
    }
    path
}

/// Opens a file to append to it, and keeps away whoever knows it by another name: nobody's lines are cut off by another sink.
pub(super) fn open_locked(path: &Path, create: bool) -> Result<File, Fault> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(create)
        .open(path)
        .map_err(|error| of_file(format_args!("open `{}`", path.display()), &error))
        .and_then(|file| lock(&file, path).map(|()| file))
}

fn lock(file: &File, path: &Path) -> Result<(), Fault> {
    let failed = |error| of_file(format_args!("lock `{}`", path.display()), &error);
    let is_free = match file.try_lock() {
        Err(TryLockError::Error(error)) => return Err(failed(error)),
        locked => locked.is_ok(),
    };
    let whose = match other_name(path, &file.metadata().map_err(failed)?) {
        Some(other) if !is_free || Position::look(&note_of(&other))?.is_some() => {
            format!(
                "`{}` is the same file as `{}`, to which another sink writes",
                path.display(),
                other.display()
            )
        }
        _ if !is_free => format!("another process writes to `{}`, under another name", path.display()),
        _ => return Ok(()),
    };
    Err(Fault::down(format!("{whose}: give each sink a file of its own")))
}

/// Returns another name of a file in its folder.
fn other_name(path: &Path, found: &Metadata) -> Option<PathBuf> {
    if found.nlink() < 2 {
        return None;
    }
    std::fs::read_dir(folder_of(path)).ok()?.flatten().find_map(|entry| {
        let there = entry.metadata().ok()?;
        let is_same = (there.dev(), there.ino()) == (found.dev(), found.ino());
        (is_same && Some(entry.file_name().as_os_str()) != path.file_name()).then(|| entry.path())
    })
}
