//! Where PostgreSQL's programs are.
//!
//! Asked for by the caller, else `EMAJ_PG_BINDIR`, else Debian's newest `/usr/lib/postgresql/*/bin`, else what
//! `pg_config` says, else `PATH`. A place that was named and does not hold them is an error, not a reason to look on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::errors::{Error, Kind, Result};

const DEBIAN: &str = "/usr/lib/postgresql";

/// Returns the directory that holds `postgres` and `initdb`.
///
/// # Errors
/// When there is none, with the line that installs PostgreSQL as hint.
pub fn find_bindir(named: Option<&Path>) -> Result<PathBuf> {
    let variable = std::env::var_os("EMAJ_PG_BINDIR").filter(|value| !value.is_empty());
    match (named, variable) {
        (Some(named), _) => named_place(named, "the given directory"),
        (None, Some(value)) => named_place(Path::new(&value), "EMAJ_PG_BINDIR"),
        (None, None) => newest_below(Path::new(DEBIAN))
            .or_else(pg_config_bindir)
            .or_else(|| std::env::var_os("PATH").and_then(on_path))
            .ok_or_else(not_found),
    }
}

fn named_place(directory: &Path, origin: &str) -> Result<PathBuf> {
    if holds_server(directory) {
        return Ok(directory.to_path_buf());
    }
    let place = directory.display();
    Err(Error::message(
        Kind::Failed,
        format!("no `postgres` and `initdb` in `{place}` ({origin})"),
    )
    .hint(format!(
        "name the directory that holds them, for example `{DEBIAN}/15/bin`"
    )))
}

fn not_found() -> Error {
    let looked = format!("looked in {DEBIAN}/*/bin, in what `pg_config --bindir` says, and in PATH");
    Error::message(
        Kind::Failed,
        format!("PostgreSQL's server programs were not found ({looked})"),
    )
    .hint("install them: `sudo apt-get install postgresql`")
    .hint("or name their directory: `EMAJ_PG_BINDIR=/path/to/bin`")
}

/// Returns the `bin` of the highest version below `root` that holds a server.
fn newest_below(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root).ok()?.flatten();
    versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| holds_server(bin))
        .max_by_key(|(version, _)| *version)
        .map(|(_, bin)| bin)
}

fn pg_config_bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let bin = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    holds_server(&bin).then_some(bin)
}

fn on_path(path: OsString) -> Option<PathBuf> {
    std::env::split_paths(&path).find(|directory| holds_server(directory))
}

fn holds_server(directory: &Path) -> bool {
    ["postgres", "initdb"]
        .iter()
        .all(|program| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_in(directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        for program in ["postgres", "initdb"] {
            std::fs::write(directory.join(program), "").unwrap();
        }
    }

    #[test]
    fn the_newest_version_with_a_server_wins_by_number() {
        let root = tempfile::tempdir().unwrap();
        server_in(&root.path().join("9/bin"));
        server_in(&root.path().join("15/bin"));
        std::fs::create_dir_all(root.path().join("18/bin")).unwrap();
        server_in(&root.path().join("other/bin"));
        assert_eq!(newest_below(root.path()), Some(root.path().join("15/bin")));
    }

    #[test]
    fn nothing_below_a_directory_that_is_not_there() {
        assert_eq!(newest_below(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn path_is_searched_in_its_order() {
        let root = tempfile::tempdir().unwrap();
        server_in(&root.path().join("b"));
        server_in(&root.path().join("c"));
        let path = std::env::join_paths(["a", "b", "c"].map(|name| root.path().join(name))).unwrap();
        assert_eq!(on_path(path), Some(root.path().join("b")));
    }

    #[test]
    fn a_named_place_without_a_server_is_an_error_that_names_it() {
        let error = find_bindir(Some(Path::new("/nowhere"))).unwrap_err();
        insta::assert_snapshot!(error, @"no `postgres` and `initdb` in `/nowhere` (the given directory)");
    }

    #[test]
    fn not_found_prints_the_line_that_installs() {
        assert!(
            not_found()
                .hints()
                .iter()
                .any(|hint| hint.contains("sudo apt-get install postgresql"))
        );
    }
}
