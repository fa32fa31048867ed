//! The note beside a file: how long the file is that counts, and up to which offset. `<path>.emaj`, locked while it is open.
//!
//! Two slots are written in turn, each with a check sum, each synced: a note that was half written is not read, and the one before it
//! still holds. The note is never replaced, so that its lock holds for all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::hex;
use crate::sink::fault::of_file;
use crate::sink::{Delivery, Fault, Outcome};

/// Room for one note; an offset is some dozen characters, with a long key some hundred.
const SLOT: usize = 4096;

/// What is noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Grows with each note.
    pub(super) number: u64,
    pub(super) source: String,
    pub(super) sink: String,
    pub(super) offset: Option<String>,
    /// The bytes of the file that count.
    pub(super) length: u64,
    /// The number of the newest old file.
    pub(super) rotated: u64,
    /// The file is about to become the old file of this number.
    pub(super) rotating: Option<u64>,
    /// The old files up to this number are not known to be the sink's, and stay.
    #[serde(default)]
    pub(super) others: u64,
    /// What was written of what was tried again, the last of it: that has no place in the order of the rest.
    #[serde(default)]
    pub(super) again: Vec<String>,
}

/// So many are noted of what was tried again.
const MOST_AGAIN: usize = 64;

impl Note {
    /// Tells whether a delivery that is tried again was written.
    pub(super) fn has_again(&self, delivery: &Delivery) -> bool {
        delivery.retried && self.again.contains(&name_of(delivery))
    }

    /// Notes those of a batch that were tried again and written now.
    pub(super) fn written_again(&mut self, batch: &[Delivery], outcomes: &[Outcome]) {
        let all = batch.iter().zip(outcomes);
        let written = all.filter(|(delivery, outcome)| delivery.retried && **outcome == Outcome::Written);
        self.again.extend(written.map(|(delivery, _)| name_of(delivery)));
        self.again.drain(..self.again.len().saturating_sub(MOST_AGAIN));
    }
}

/// Names what was set aside: the row that is sent by two `init` has one id, and so has what is delivered twice on request.
fn name_of(delivery: &Delivery) -> String {
    let Delivery { id, offset, replay, .. } = delivery;
    sum(&format!("{id} {} {replay:?}", offset.0))
}

/// The open note of a file.
#[derive(Debug)]
pub(super) struct Position {
    file: File,
    path: PathBuf,
    pub(super) note: Note,
    /// Whether there was one.
    pub(super) found: bool,
}

impl Position {
    /// Opens the note, or makes an empty one, and keeps every other process away.
    pub(super) fn open(path: PathBuf) -> Result<Position, Fault> {
        let failed = |error: io::Error| of_file(format_args!("open `{}`", path.display()), &error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let note = read(&file).ok().and_then(|(note, _)| note);
                let whose = note.map_or_else(String::new, |note| {
                    format!(" for the sink `{}` of `{}`", note.sink, note.source)
                });
                Fault::down(format!(
                    "another process writes there{whose}: it holds `{}`",
                    path.display()
                ))
            }
            TryLockError::Error(error) => of_file(format_args!("lock `{}`", path.display()), &error),
        })?;
        let (found, length) = read(&file).map_err(failed)?;
        // A first note that was half written leaves nothing to read; a longer file once held one.
        if found.is_none() && length > SLOT {
            return Err(Fault::down(format!(
                "`{0}` is damaged, so how far the file counts is not known: move it away to go on at the end of the file",
                path.display()
            )));
        }
        Ok(Position {
            file,
            path,
            found: found.is_some(),
            note: found.unwrap_or_default(),
        })
    }

    /// Reads the note without keeping anybody away; `None`: there is none, or none that can be read.
    pub(super) fn look(path: &Path) -> Result<Option<Note>, Fault> {
        let failed = |error: io::Error| of_file(format_args!("open `{}`", path.display()), &error);
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(file.and_then(|file| read(&file)).map_err(failed)?.0),
        }
    }

    /// Notes for good.
    pub(super) fn write(&mut self, note: Note) -> Result<(), Fault> {
        let number = self.note.number + 1;
        let note = Note { number, ..note };
        let failed = |error: io::Error| of_file(format_args!("write `{}`", self.path.display()), &error);
        let text = serde_json::to_string(&note).map_err(Fault::down)?;
        let mut slot = format!("{} {text}", sum(&text)).into_bytes();
        if slot.len() >= SLOT {
            return Err(Fault::down("the offset is too long to be noted"));
        }
        slot.resize(SLOT - 1, b' ');
        slot.push(b'\n');
        self.file
            .write_all_at(&slot, (number % 2) * SLOT as u64)
            .and_then(|()| self.file.sync_data())
            .map_err(failed)?;
        self.note = note;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the newest note, and how many bytes there are.
fn read(file: &File) -> io::Result<(Option<Note>, usize)> {
    let mut bytes = vec![0; 2 * SLOT];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    let slots = [&bytes[..SLOT], &bytes[SLOT..]];
    let found = slots.into_iter().filter_map(read_slot).max_by_key(|note| note.number);
    Ok((found, length))
}

fn read_slot(slot: &[u8]) -> Option<Note> {
    let (found, text) = std::str::from_utf8(slot).ok()?.trim_end().split_once(' ')?;
    (sum(text) == found).then(|| serde_json::from_str(text).ok())?
}

fn sum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hex(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_note_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.emaj");
        let mut position = Position::open(path.clone()).unwrap();
        assert!(!position.found);
        for length in [10, 20, 30] {
            let note = Note {
                length,
                ..position.note.clone()
            };
            position.write(note).unwrap();
        }
        // The third note is in the second slot.
        let torn = position.note.number % 2 * SLOT as u64 + 40;
        position.file.write_all_at(b"#", torn).unwrap();
        drop(position);
        assert_eq!(Position::open(path).unwrap().note.length, 20);
    }

    #[test]
    fn a_note_is_open_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.emaj");
        let first = Position::open(path.clone()).unwrap();
        let fault = Position::open(path.clone()).unwrap_err();
        assert!(fault.reason.contains("another process"), "{fault}");
        drop(first);
        Position::open(path).unwrap();
    }
}
