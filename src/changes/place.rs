//! Where changes are written to: a stream, or files that get their names when all of them are complete.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::Target;
use crate::errors::{Error, Kind, Result};

/// A target that is being written to.
pub(super) enum Place<'a> {
    Stream(&'a mut dyn Write),
    Directory {
        path: &'a Path,
        force: bool,
        files: Vec<(PathBuf, BufWriter<NamedTempFile>)>,
    },
}

impl<'a> Place<'a> {
    /// Makes the directory, when it is one and is not there.
    pub(super) fn new(target: Target<'a>) -> Result<Place<'a>> {
        match target {
            Target::Stream(stream) => Ok(Place::Stream(stream)),
            Target::Directory { path, force } => {
                std::fs::create_dir_all(path).map_err(|error| cannot("make the directory", path, error))?;
                Ok(Place::Directory {
                    path,
                    force,
                    files: Vec::new(),
                })
            }
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Place::Stream(_))
    }

    /// Begins the file `name`; of a stream there is only one.
    pub(super) fn open(&mut self, name: &str) -> Result<()> {
        let Place::Directory { path, force, files } = self else {
            return Ok(());
        };
        let own = path.join(name);
        if !*force && own.symlink_metadata().is_ok() {
            return Err(
                Error::message(Kind::Refused, format!("`{}` is there already", own.display()))
                    .hint("name another directory, or say `--force` to write over it; nothing was written"),
            );
        }
        let file = tempfile::Builder::new()
            .prefix(".emaj-changes-")
            .tempfile_in(*path)
            .map_err(|error| cannot("write in", path, error))?;
        files.push((own, BufWriter::new(file)));
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Place::Stream(stream) => stream
                .write_all(bytes)
                .map_err(|error| Error::from(error).context("failed to write to standard output")),
            Place::Directory { path, files, .. } => {
                let Some((own, file)) = files.last_mut() else {
                    return Err(cannot("write in", path, std::io::ErrorKind::NotFound.into()));
                };
                file.write_all(bytes).map_err(|error| cannot("write", own, error))
            }
        }
    }

    /// Puts everything on disk and gives the files their names; returns these.
    pub(super) fn finish(self) -> Result<Vec<PathBuf>> {
        let (force, files) = match self {
            Place::Stream(stream) => {
                stream
                    .flush()
                    .map_err(|error| Error::from(error).context("failed to write to standard output"))?;
                return Ok(Vec::new());
            }
            Place::Directory { force, files, .. } => (force, files),
        };
        let mut complete = Vec::new();
        for (own, file) in files {
            let file = file
                .into_inner()
                .map_err(|error| cannot("write", &own, error.into_error()))?;
            file.as_file()
                .sync_all()
                .map_err(|error| cannot("write", &own, error))?;
            complete.push((own, file));
        }
        let mut names = Vec::new();
        for (own, file) in complete {
            let named = if force {
                file.persist(&own)
            } else {
                // Somebody may have made the file meanwhile.
                file.persist_noclobber(&own)
            };
            named.map_err(|error| cannot("write", &own, error.error))?;
            names.push(own);
        }
        Ok(names)
    }
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Failed, error).context(format!("failed to {what} `{}`", path.display()))
}
