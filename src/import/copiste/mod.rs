//! A Copiste manifest, which is a Python program, turned into a YAML manifest. The program is read and never run.
//!
//! The road: `lex` cuts the text into lines of tokens, `parse` makes expressions of them, `value` says what each name stands for, as far as
//! literals and calls go, `translate` makes sinks and bindings of what `bindings` holds, `yaml` prints them. Whatever cannot be followed
//! (a loop, a function, a class of one's own) becomes a [`Note`] with its line, and a comment in what is written.

mod lex;
mod parse;
mod template;
mod translate;
mod value;

use super::yaml;
use crate::errors::{Error, Kind, Result};
use crate::names::one_line;

/// Larger files are no manifests.
const MAX_BYTES: usize = 4 << 20;

/// What could not be taken over, or needs a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
    /// Something is missing in what was written; otherwise it is only to be looked at.
    pub is_missing: bool,
}

impl Note {
    /// Returns the note with its place in the file `name`, for people.
    pub fn said(&self, name: &str) -> String {
        let word = if self.is_missing { "not translated: " } else { "" };
        format!("{name}:{}: {word}{}", self.line, one_line(&self.text))
    }
}

/// A manifest in YAML, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub yaml: String,
    /// In the order of lines.
    pub notes: Vec<Note>,
    pub bindings: usize,
}

/// Translates the manifest in `text`; `name` is its file's, for the first line.
///
/// # Errors
/// [`Kind::Manifest`]: the text cannot be cut into Python's tokens, or there is nothing in it that could be translated; then with all notes.
pub fn import(name: &str, text: &str) -> Result<Imported> {
    if text.len() > MAX_BYTES {
        return Err(Error::message(
            Kind::Manifest,
            format!("{name}: the file is larger than 4 MiB"),
        ));
    }
    let lines = lex::lines(text).map_err(|(line, what)| {
        Error::message(Kind::Manifest, format!("{name}:{line}: {what}"))
            .hint("a Copiste manifest is a Python file: is this the right one?")
    })?;
    let mut notes = Vec::new();
    let names = value::run(&lines, &mut notes);
    let made = translate::translate(&names, &mut notes);
    notes.sort_by_key(|note| note.line);
    notes.dedup();
    if made.bindings.is_empty() {
        let all = notes.iter().map(|note| format!("\n{}", note.said(name)));
        let error = format!("{name}: no binding could be translated{}", all.collect::<String>());
        let error = Error::message(Kind::Manifest, error);
        return Err(match names.get("bindings") {
            Some(value::Value::List(all)) if !all.is_empty() => error,
            _ => error.hint("a Copiste manifest says `bindings = [Bind(trigger, function), …]`"),
        });
    }
    Ok(Imported {
        yaml: write(name, &made, &notes),
        bindings: made.bindings.len(),
        notes,
    })
}

fn write(name: &str, made: &translate::Made, notes: &[Note]) -> String {
    let lines = notes.iter().map(|note| {
        let word = if note.is_missing { "not translated" } else { "look at" };
        format!("{word}: line {}: {}", note.line, note.text)
    });
    let parts = [
        ("database", made.database.as_slice()),
        ("sinks", &made.sinks),
        ("bindings", &made.bindings),
    ];
    yaml::write(&format!("{name}, a manifest of Copiste"), lines, &parts)
}
