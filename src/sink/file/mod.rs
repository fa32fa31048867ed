//! The sink `file`: one line of JSON for each delivery, in a file that is found again after a crash, or on stdout.
//!
//! A batch is written, synced, and only then noted beside the file (`position`); opening cuts off what is not noted. So each delivery
//! is in the file once, whatever is killed. What is at the path is looked at before a batch and before its note: nothing is noted that is not there. A symbolic
//! link is followed first, so that the note is beside the file itself; the file is locked too, for it may have several names (`names`).
//! `line` makes the lines, `rotate` begins new files. `docs/sinks/file.md` is the page for people.

mod line;
mod names;
mod position;
mod rotate;
mod stream;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use rustix::fs::Access;
use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;

use crate::errors::Result;
use crate::manifest;
use crate::pg::Environment;

use self::names::{followed, open_locked};
use self::position::{Note, Position};
use super::fault::of_file;
use super::resume::arrived;
use super::{Delivery, Fault, Finding, Offset, Opener, Outcome, Sink};

const BATCH: usize = 5_000;
const MIB: u64 = 1 << 20;

/// Finds out where to write. A relative path counts from the folder of the manifest.
pub(super) fn opener(
    name: &str,
    file: &manifest::FileSink,
    environment: &Environment,
    source: &str,
) -> Result<Box<dyn Opener>> {
    let env = |name: &str| environment.get(name).map(str::to_owned);
    let path = file.path.resolve(&env)?;
    if path == "-" {
        return Ok(Box::new(stream::Stdout));
    }
    let folder = file.path.place().file().parent().map(PathBuf::from).unwrap_or_default();
    Ok(Box::new(Target {
        path: folder.join(path),
        limit: file.rotate_mib.map(|mib| u64::from(mib) * MIB),
        keep: u64::from(file.keep),
        source: source.to_owned(),
        sink: name.to_owned(),
    }))
}

#[derive(Debug, Clone)]
struct Target {
    path: PathBuf,
    /// Begins a new file rather than let one grow beyond.
    limit: Option<u64>,
    keep: u64,
    source: String,
    sink: String,
}

impl Target {
    fn note_path(&self) -> PathBuf {
        note_of(&self.path)
    }
}

fn note_of(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".emaj");
    name.into()
}

/// A file that comes to the limit of its size (`ulimit -f`, `LimitFSIZE=`) fails to be written: the signal would end the worker, with all its sinks.
fn survive_the_limit_of_files() {
    static SURVIVES: Once = Once::new();
    SURVIVES.call_once(|| {
        if let Err(error) = flag::register(SIGXFSZ, Arc::default()) {
            tracing::warn!("a file that comes to its limit of size ends the worker: {error}");
        }
    });
}

impl Opener for Target {
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        survive_the_limit_of_files();
        match std::fs::metadata(&self.path).map(|found| found.file_type()) {
            Ok(found) if found.is_char_device() => {
                let file = OpenOptions::new().append(true).open(&self.path);
                let file = file.map_err(|error| of_file(format_args!("open `{}`", self.path.display()), &error))?;
                Ok(Box::new(stream::Stream::new(
                    self.path.display().to_string(),
                    Box::new(file),
                )))
            }
            Ok(found) if !found.is_file() => Err(Fault::down(format!(
                "`{}` is no file: name a file, or `-` for stdout",
                self.path.display()
            ))),
            _ => Ok(Box::new(FileSink {
                named: self.clone(),
                open: None,
            })),
        }
    }

    fn batch(&self) -> usize {
        BATCH
    }

    /// It takes all, or is down.
    fn refuses(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

/// A file; looked at without being touched until something is to be delivered.
struct FileSink {
    /// As the manifest names it.
    named: Target,
    open: Option<Writer>,
}

impl FileSink {
    fn target(&self) -> Target {
        Target {
            path: followed(&self.named.path),
            ..self.named.clone()
        }
    }

    /// Returns the open file. One that is not at its path any more, or shorter than it was, is opened anew: that says what is wrong with it.
    fn writer(&mut self) -> Result<&mut Writer, Fault> {
        let target = self.target();
        let writer = match self.open.take() {
            Some(writer) if writer.target.path == target.path && writer.is_in_place(writer.position.note.length)? => {
                writer
            }
            gone => {
                // (Its note is locked as long as it lives.)
                drop(gone);
                Writer::open(target)?
            }
        };
        Ok(self.open.insert(writer))
    }
}

/// The open file, with its note locked.
struct Writer {
    target: Target,
    file: File,
    position: Position,
    lines: Vec<u8>,
}

impl Writer {
    fn open(target: Target) -> Result<Writer, Fault> {
        let mut position = Position::open(target.note_path())?;
        let note = &position.note;
        if position.found && (&note.source, &note.sink) != (&target.source, &target.sink) {
            return Err(Fault::down(format!(
                "`{}` is the file of the sink `{}` of `{}`: give this sink another file, or move `{}` away to go on at its end",
                target.path.display(),
                note.sink,
                note.source,
                position.path().display()
            )));
        }
        if position.note.rotating.is_some() {
            rotate::finish(&target, &mut position)?;
        }
        let file = if position.found {
            reopen(&target, &position)?
        } else {
            let (file, length) = begin(&target.path)?;
            let newest = rotate::newest(&target.path)?;
            let note = Note {
                source: target.source.clone(),
                sink: target.sink.clone(),
                length,
                rotated: newest,
                others: newest,
                ..Note::default()
            };
            position.write(note)?;
            file
        };
        sync_folder(&target.path)?;
        Ok(Writer {
            target,
            file,
            position,
            lines: Vec::new(),
        })
    }

    /// Tells whether the open file is the one at its path, with all of `length`.
    ///
    /// # Errors
    /// The path cannot be looked at, or there is more in it: somebody else writes there.
    fn is_in_place(&self, length: u64) -> Result<bool, Fault> {
        let path = &self.target.path;
        let failed = |error: io::Error| of_file(format_args!("look at `{}`", path.display()), &error);
        let there = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            there => there.map_err(failed)?,
        };
        let ours = self.file.metadata().map_err(failed)?;
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) || there.len() < length {
            return Ok(false);
        }
        if there.len() > length {
            return Err(Fault::down(format!(
                "`{}` has {} bytes where {length} were written: somebody else writes there; what is behind the {length} is cut off",
                path.display(),
                there.len()
            )));
        }
        Ok(true)
    }

    /// Writes what is in `lines`, and waits until it is on the disk; returns how long the file is then. Of what fails nothing is left: readers
    /// should not see half a line.
    fn write_lines(&mut self) -> Result<u64, Fault> {
        let before = self.position.note.length;
        let lines = std::mem::take(&mut self.lines);
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| {
            _ = self.file.set_len(before);
            of_file(format_args!("write `{}`", self.target.path.display()), &error)
        })?;
        Ok(before + lines.len() as u64)
    }

    fn note(&mut self, length: u64, batch: &[Delivery], outcomes: &[Outcome]) -> Result<(), Fault> {
        let mut note = self.position.note.clone();
        note.length = length;
        // (It never goes back.)
        note.offset = arrived(batch, outcomes).map(|offset| offset.0.clone()).max(note.offset);
        note.written_again(batch, outcomes);
        self.position.write(note)
    }

    fn carry_out(&mut self, batch: &[Delivery]) -> (Vec<Outcome>, Option<Fault>) {
        let mut outcomes = Vec::with_capacity(batch.len());
        // What is before this place of the batch is on the disk and noted.
        let mut safe = 0;
        let mut run = || -> Result<(), Fault> {
            for (at, delivery) in batch.iter().enumerate() {
                if self.position.note.has_again(delivery) {
                    outcomes.push(Outcome::Unchanged);
                    continue;
                }
                let before = self.lines.len();
                match line::add(&mut self.lines, delivery) {
                    Ok(()) => outcomes.push(Outcome::Written),
                    Err(fault) => {
                        self.lines.truncate(before);
                        outcomes.push(Outcome::Failed(fault));
                        continue;
                    }
                }
                let length = self.position.note.length;
                let is_full = |limit: u64| length + self.lines.len() as u64 > limit && length + before as u64 > 0;
                // What one change became is noted at once, so it stays in one file.
                let is_other = at == 0 || batch[at - 1].offset != delivery.offset;
                if is_other && self.target.limit.is_some_and(is_full) {
                    let line = self.lines.split_off(before);
                    self.flush(&batch[safe..at], &outcomes[safe..at])?;
                    safe = at;
                    self.file = rotate::begin(&self.target, &mut self.position)?;
                    self.lines = line;
                }
            }
            self.flush(&batch[safe..], &outcomes[safe..])?;
            safe = batch.len();
            Ok(())
        };
        let fault = run().err();
        outcomes.truncate(safe);
        (outcomes, fault)
    }

    fn flush(&mut self, batch: &[Delivery], outcomes: &[Outcome]) -> Result<(), Fault> {
        if self.lines.is_empty() && arrived(batch, outcomes).is_none() {
            return Ok(());
        }
        let length = self.write_lines()?;
        if !self.is_in_place(length)? {
            return Err(Fault::down(format!(
                "`{}` was moved or cut while it was written to: what was written last comes again",
                self.target.path.display()
            )));
        }
        self.note(length, batch, outcomes)
    }
}

impl Sink for FileSink {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let (mut outcomes, fault) = match self.writer() {
            Ok(writer) => writer.carry_out(batch),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        if let Some(fault) = fault {
            // The next try begins with what is noted.
            self.open = None;
            outcomes.push(Outcome::Failed(fault));
        }
        outcomes
    }

    fn resume(&mut self) -> Result<Option<Offset>, Fault> {
        Ok(self.writer()?.position.note.offset.clone().map(Offset))
    }

    /// What a look at a file finds is what a delivery would run into. (Another connection may have it open, with its note locked.)
    fn reach(&mut self) -> Result<(), Fault> {
        let target = self.target();
        if let Some(note) = Position::look(&target.note_path())?.filter(|note| note.rotating.is_none()) {
            let length = match std::fs::metadata(&target.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                found => found
                    .map_err(|error| of_file(format_args!("look at `{}`", target.path.display()), &error))?
                    .len(),
            };
            if length < note.length {
                return Err(too_short(&target.path, length, note.length, &target.note_path()));
            }
        }
        match self.probe()?.into_iter().find_map(|finding| finding.problem) {
            Some(problem) => Err(Fault::down(problem)),
            None => Ok(()),
        }
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        let target = self.target();
        let path = &target.path;
        let folder = folder_of(path);
        let wrong = |what: &Path| {
            let access = Access::READ_OK | Access::WRITE_OK;
            let error = rustix::fs::access(what, access).err()?;
            let error = io::Error::from(error);
            (error.kind() != io::ErrorKind::NotFound || what == folder)
                .then(|| of_file(format_args!("write `{}`", what.display()), &error).reason)
        };
        Ok(vec![
            Finding::of(format!("make files in `{}`", folder.display()), wrong(folder)),
            Finding::of(format!("append to `{}`", path.display()), wrong(path)),
            Finding::of(
                format!("keep the position in `{}`", target.note_path().display()),
                wrong(&target.note_path()),
            ),
        ])
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        stream::preview(batch)
    }
}

/// Opens a file that nobody noted: it may hold lines of somebody else, which stay.
fn begin(path: &Path) -> Result<(File, u64), Fault> {
    let failed = |error: io::Error| of_file(format_args!("open `{}`", path.display()), &error);
    let mut file = open_locked(path, true)?;
    let length = file.metadata().map_err(failed)?.len();
    if length == 0 {
        return Ok((file, 0));
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))
        .and_then(|_| file.read_exact(&mut last))
        .map_err(failed)?;
    if last == *b"\n" {
        return Ok((file, length));
    }
    file.write_all(b"\n").and_then(|()| file.sync_data()).map_err(failed)?;
    Ok((file, length + 1))
}

/// Opens the file that was noted, and cuts off what was not.
fn reopen(target: &Target, position: &Position) -> Result<File, Fault> {
    let path = &target.path;
    let failed = |error: io::Error| of_file(format_args!("open `{}`", path.display()), &error);
    let wanted = position.note.length;
    if wanted > 0 && std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(too_short(path, 0, wanted, position.path()));
    }
    let file = open_locked(path, wanted == 0)?;
    let found = file.metadata().map_err(failed)?;
    let length = found.len();
    if length < wanted {
        return Err(too_short(path, length, wanted, position.path()));
    }
    if length > wanted && found.nlink() > 1 {
        return Err(Fault::down(format!(
            "`{}` has {length} bytes where {wanted} were written, and another name (a hard link), by which another sink may write to it: give the sink \
             a file of its own, or remove the other name",
            path.display()
        )));
    }
    if length > wanted {
        tracing::warn!(
            sink = %target.sink,
            "`{}` has {length} bytes where {wanted} were written: what is behind the {wanted} is cut off; lines of the sink among it come again",
            path.display()
        );
        file.set_len(wanted).and_then(|()| file.sync_data()).map_err(failed)?;
    }
    Ok(file)
}

fn too_short(path: &Path, length: u64, wanted: u64, note: &Path) -> Fault {
    Fault::down(format!(
        "`{}` has {length} bytes where {wanted} were written: somebody moved or cut it; put it back, or, to go on with a new file \
         after what was in it, make an empty one and run `truncate -s 0 {}`",
        path.display(),
        note.display()
    ))
}

/// Makes the names in the file's folder last.
fn sync_folder(path: &Path) -> Result<(), Fault> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| of_file(format_args!("sync `{}`", folder.display()), &error))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
