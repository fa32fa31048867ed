//! The YAML manifest, version 1: read, checked, merged, with a place for everything that can be wrong.
//!
//! The road: `files` finds them → `yaml` makes trees → `fit` holds them against `keys` → `merge` makes one
//! `RawManifest` → `checks` tie the places together → `build` makes the [`Manifest`]. All problems of all files come
//! back at once as [`Diagnostic`]s. `schema` prints the same `keys` as JSON Schema. `commands` call [`load`].

mod build;
mod build_delivery;
mod check_delivery;
mod checks;
mod columns_used;
mod delivery;
mod diagnostic;
mod engine_words;
mod files;
mod fingerprint;
mod fit;
mod in_database;
mod keys;
mod kinds;
mod mask;
mod merge;
mod model;
mod query_text;
mod rows_shared;
mod scalar;
mod schema;
mod shape;
mod sink_kinds;
mod source;
mod template_parts;
mod text;
mod yaml;

use std::path::{Path, PathBuf};

pub use delivery::*;
pub use diagnostic::{Diagnostic, Diagnostics, Related, Severity};
pub use in_database::{InDatabasePart, InDatabaseText};
pub use model::*;
pub use rows_shared::RowsOf;
pub(crate) use rows_shared::complaints as complaints_of_rows;
pub(crate) use scalar::scalar;
pub use schema::{key_paths, schema};
pub use sink_kinds::Ability;
pub use source::{Located, Place, Source};
pub(crate) use template_parts::{Part, Word, Words, blocks, parts};
pub use text::{Env, SecretText, Text};

/// Reads the manifest that `paths` (files and folders) make up together.
///
/// References (`${env:…}`, `${file:…}`) are read but not looked up; see [`Text::resolve`]. Errors with all problems of
/// all files, warnings among them, in the order of files and lines.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, Diagnostics> {
    let mut problems = Vec::new();
    if paths.is_empty() {
        problems
            .push(Diagnostic::of_file(Path::new("emaj.yaml"), "no manifest was given").next("name a file or a folder"));
    }
    let found = files::find(paths, &mut problems);
    let all_found = problems.is_empty();
    let mut files = Vec::new();
    for path in &found {
        match files::read(path) {
            Ok(text) => files.extend(read(path, &text, &mut problems)),
            Err(unreadable) => problems.extend(unreadable.0),
        }
    }
    let is_whole = all_found && files.len() == found.len();
    finish(&files, is_whole, &files::default_name(paths, &found), problems)
}

/// Reads a manifest of one file from its text; `path` is for messages, references and the default name.
///
/// Errors as [`load`] does.
pub fn parse(path: &Path, text: &str) -> Result<Loaded, Diagnostics> {
    let mut problems = Vec::new();
    let files: Vec<merge::File> = read(path, text, &mut problems).into_iter().collect();
    let default_name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    finish(&files, !files.is_empty(), &default_name, problems)
}

/// Makes a tree of one file and holds it against its shape.
fn read(path: &Path, text: &str, problems: &mut Vec<Diagnostic>) -> Option<merge::File> {
    let root = match yaml::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let source = Source::new(path, text, &mask::unreadable(text, &keys::MANIFEST));
            let mut problem = Diagnostic::error(&Place::new(&source, error.at..error.at + 1), error.message);
            problem.next = error.next.map(str::to_owned);
            problems.push(problem);
            return None;
        }
    };
    let mut secrets = Vec::new();
    mask::secrets(&root, &keys::MANIFEST, text, &mut secrets);
    let source = Source::new(path, text, &secrets);
    if matches!(root.value, yaml::Value::Null) {
        problems
            .push(Diagnostic::of_file(path, "the manifest is empty").expected("`version: 1` and at least one group"));
        return None;
    }
    fit::check(&root, &keys::MANIFEST, &source, problems);
    Some(merge::File { source, root })
}

/// Puts the files together, ties their places to each other, and builds the manifest when nothing is wrong.
///
/// With `is_whole` false, files are missing, and much would seem to be missing that is not.
fn finish(
    files: &[merge::File],
    is_whole: bool,
    default_name: &Option<String>,
    mut problems: Vec<Diagnostic>,
) -> Result<Loaded, Diagnostics> {
    let raw = merge::merge(files, &mut problems);
    checks::check(&raw, &mut problems);
    check_delivery::check(&raw, is_whole, &mut problems);
    if is_whole && let Some(first) = files.first() {
        check_whole(&raw, default_name.as_deref(), first.source.path(), &mut problems);
    }
    let problems = Diagnostics(problems).sorted().cut(fit::MAX_PROBLEMS);
    if problems.has_errors() {
        return Err(problems);
    }
    match build::build(&raw, default_name.clone().unwrap_or_default()) {
        Some(manifest) => Ok(Loaded {
            manifest,
            warnings: problems.0,
        }),
        None => Err(Diagnostic::of_file(
            Path::new("manifest"),
            "bug: the manifest passed every check and still cannot be read; please report it",
        )
        .into()),
    }
}

/// Checks what the files must say together.
fn check_whole(raw: &merge::RawManifest<'_>, default_name: Option<&str>, path: &Path, problems: &mut Vec<Diagnostic>) {
    if raw.groups.is_empty() && raw.bindings.is_empty() && problems.is_empty() {
        let nothing = Diagnostic::of_file(path, "the manifest declares no group and no binding");
        problems.push(nothing.next("write what is to be captured under `groups`"));
    }
    if raw.setting("name").is_some() {
        return;
    }
    match default_name {
        Some(name) if (kinds::NAME.check)(name).is_ok() => {}
        Some(name) => problems.push(
            Diagnostic::of_file(path, format!("`{name}` cannot be the manifest's name"))
                .next("give it one with `name: …`"),
        ),
        None => problems.push(
            Diagnostic::of_file(path, "several files were given and none says the manifest's name")
                .next("write `name: …` into one of them; it tells whose groups they are"),
        ),
    }
}
