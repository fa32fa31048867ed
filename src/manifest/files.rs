//! Which files the arguments mean, and their texts.
//!
//! A file stands for itself, a folder for its `*.yaml` and `*.yml`, sorted by name. Every problem is a diagnostic, so
//! that one unreadable file does not hide what is wrong in the others.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::yaml::MAX_BYTES;

/// Returns the files that `paths` mean, each once.
pub(super) fn find(paths: &[PathBuf], out: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        let found = if path.is_dir() {
            in_folder(path, out)
        } else {
            vec![path.clone()]
        };
        for file in found {
            let same = |other: &PathBuf| {
                *other == file
                    || other
                        .canonicalize()
                        .ok()
                        .is_some_and(|o| Some(o) == file.canonicalize().ok())
            };
            if !files.iter().any(same) {
                files.push(file);
            }
        }
    }
    files
}

fn in_folder(folder: &Path, out: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => {
            out.push(Diagnostic::of_file(
                folder,
                format!("failed to read the folder: {error}"),
            ));
            return Vec::new();
        }
    };
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "yml") && !path.is_dir();
    let is_hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut files: Vec<PathBuf> = entries
        .iter()
        .map(std::fs::DirEntry::path)
        .filter(|path| is_yaml(path) && !is_hidden(path))
        .collect();
    files.sort();
    if files.is_empty() {
        out.push(
            Diagnostic::of_file(folder, "the folder holds no manifest")
                .expected("files that end in `.yaml` or `.yml`")
                .next("name the manifest's file, or the folder that holds it"),
        );
    }
    files
}

/// Returns the text of `file`.
pub(super) fn read(file: &Path) -> Result<String, Diagnostics> {
    let mut bytes = Vec::new();
    // A device has no size to ask for, so the reading itself is bounded.
    std::fs::File::open(file)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(file, &error))?;
    if bytes.len() > MAX_BYTES {
        return Err(Diagnostic::of_file(file, "the file is too large for a manifest")
            .expected(format!("at most {} MiB", MAX_BYTES / 1024 / 1024))
            .into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut diagnostic = Diagnostic::of_file(file, "the file is not UTF-8")
            .found(format!("the byte 0x{:02x}", error.as_bytes()[before.len()]))
            .next("save it with the encoding UTF-8");
        diagnostic.line = line;
        diagnostic.column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        diagnostic.into()
    })
}

fn unreadable(file: &Path, error: &std::io::Error) -> Diagnostic {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Diagnostic::of_file(file, "there is no such file").next("name a manifest, or write one as `./emaj.yaml`")
        }
        _ => Diagnostic::of_file(file, format!("failed to read the file: {error}")),
    }
}

/// Returns the manifest's name when it does not give itself one: the file's, or the folder's.
///
/// `paths` are the arguments, `found` the files they mean; several of each make no name.
pub(super) fn default_name(paths: &[PathBuf], found: &[PathBuf]) -> Option<String> {
    match (paths, found) {
        ([folder], _) if folder.is_dir() => file_name(&folder.canonicalize().ok()?),
        (_, [file]) => file_name(&file.with_extension("")),
        _ => None,
    }
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}
