//! Writes the content of a group's tables and sequences to files on the client, all of one instant.
//!
//! Each relation streams by COPY into a temporary file beside its place; when all are complete they get their names. Memory
//! does not grow with the tables. Called by `commands/snap`.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use postgres::{IsolationLevel, Transaction};
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::errors::{Error, Kind, Result};
use crate::names::{QualifiedName, file_name, listed};
use crate::pg::{self, Interrupt, Rows, Session};

/// One file of a snap.
#[derive(Debug, Clone, Serialize)]
pub struct File {
    pub schema: String,
    pub name: String,
    pub file: PathBuf,
    pub bytes: u64,
}

impl File {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.name)
    }
}

/// Writes a file for each relation of `group` into `directory`, which is made when it is not there.
///
/// `done` is called after each file.
///
/// # Errors
/// [`Kind::Refused`] when a file is there already, unless `force`; rights that are missing; a full disk. No file has got its name
/// then, save where the very naming of the files fails.
pub fn write(
    session: &mut Session,
    schema: &str,
    group: &str,
    directory: &Path,
    force: bool,
    done: &dyn Fn(),
) -> Result<Vec<File>> {
    let interrupt = Interrupt::listen(session)?;
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        // Whatever the role's default is.
        .read_only(false)
        .start()
        .map_err(pg::not_begun)?;
    let gathered = gather(&mut transaction, schema, group, directory, force, &interrupt, done)
        .and_then(|files| interrupt.check().map(|()| files))
        .map_err(|error| interrupt.cause(error))?;
    // From here on it is a matter of moments, and half of the names would be worse than all.
    drop(interrupt);
    let written = name(gathered, force)?;
    transaction
        .commit()
        .map_err(|error| pg::classify(error, "note the snap in the history; its files are complete"))?;
    Ok(written)
}

/// What is to be written where.
struct Piece {
    name: QualifiedName,
    query: String,
    path: PathBuf,
}

/// Writes every piece into a temporary file.
fn gather(
    transaction: &mut Transaction<'_>,
    schema: &str,
    group: &str,
    directory: &Path,
    force: bool,
    interrupt: &Interrupt,
    done: &dyn Fn(),
) -> Result<Vec<(Piece, NamedTempFile, u64)>> {
    transaction.batch_execute(&pg::same_text())?;
    let pieces = pieces(transaction, schema, group, &std::path::absolute(directory)?)?;
    if !force {
        refuse_to_overwrite(&pieces)?;
    }
    std::fs::create_dir_all(directory).map_err(|error| cannot("make the directory", directory, error))?;
    let mut files = Vec::new();
    for piece in pieces {
        interrupt.check()?;
        let (file, bytes) = copy(transaction, &piece, directory).map_err(with_own_right)?;
        files.push((piece, file, bytes));
        done();
    }
    Ok(files)
}

fn with_own_right(error: Error) -> Error {
    match error.kind() {
        Kind::Denied => error.hint(
            "a snap reads with your own rights: you need `select` on the tables, and no row policy may hide rows from you",
        ),
        _ => error,
    }
}

/// Gives the files their names.
fn name(files: Vec<(Piece, NamedTempFile, u64)>, force: bool) -> Result<Vec<File>> {
    let mut written = Vec::new();
    for (piece, file, bytes) in files {
        let named = if force {
            file.persist(&piece.path)
        } else {
            // Somebody may have made the file meanwhile.
            file.persist_noclobber(&piece.path)
        };
        named.map_err(|error| cannot("write", &piece.path, error.error))?;
        written.push(File {
            schema: piece.name.schema,
            name: piece.name.name,
            file: piece.path,
            bytes,
        });
    }
    Ok(written)
}

fn pieces(transaction: &mut Transaction<'_>, schema: &str, group: &str, directory: &Path) -> Result<Vec<Piece>> {
    let s = escape_identifier(schema);
    let rows = transaction.query(
        &format!(
            "select snap_schema, snap_relation, snap_file, snap_query from {s}.emaj_snap_queries_group($1, $2) order by 1, 2"
        ),
        &[&group, &directory.display().to_string()],
    )?;
    let mut taken = BTreeSet::new();
    Ok(rows
        .iter()
        .map(|row| Piece {
            name: QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
            query: row.get(3),
            path: directory.join(file_name(row.get(2), ".snap", &mut taken)),
        })
        .collect())
}

fn refuse_to_overwrite(pieces: &[Piece]) -> Result<()> {
    let there: Vec<_> = pieces
        .iter()
        .filter(|piece| piece.path.symlink_metadata().is_ok())
        .map(|piece| piece.path.display())
        .collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(Error::message(
        Kind::Refused,
        format!("these files are there already: {}", listed(there)),
    )
    .hint("name another directory, or say `--force` to write over them; nothing was written"))
}

/// Streams one relation into a temporary file; it goes when it is dropped without getting its name.
fn copy(transaction: &mut Transaction<'_>, piece: &Piece, directory: &Path) -> Result<(NamedTempFile, u64)> {
    let doing = format!("read `{}`", piece.name);
    let file = tempfile::Builder::new()
        .prefix(".emaj-snap-")
        .tempfile_in(directory)
        .map_err(|error| cannot("write in", directory, error))?;
    let mut target = BufWriter::new(file);
    // Read and write fail for different reasons: what the server says is its own kind of error.
    let bytes = pg::copy_out(transaction, &piece.query, Rows::Text, &doing, &mut |chunk| {
        target
            .write_all(chunk)
            .map_err(|error| cannot("write", &piece.path, error))
    })?;
    let file = target
        .into_inner()
        .map_err(|error| cannot("write", &piece.path, error.into_error()))?;
    file.as_file()
        .sync_all()
        .map_err(|error| cannot("write", &piece.path, error))?;
    Ok((file, bytes))
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Failed, error).context(format!("failed to {what} `{}`", path.display()))
}
