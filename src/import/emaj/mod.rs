//! The configuration of E-Maj, turned into a YAML manifest.
//!
//! Three places have it: the JSON files of E-Maj 3.3 and later (`json`), the rows of the table `emaj_group_def` of older ones as `psql` writes
//! them (`rows`), and the tables of a database that has E-Maj (`database`). All of them make a [`Configuration`]; `translate` makes the manifest of
//! it, `parameters` that of E-Maj's parameters. What has no place in a manifest becomes a [`Note`]. No function of E-Maj is called.

mod database;
mod json;
mod parameters;
mod rows;
mod translate;

pub use database::read as from_database;

use crate::errors::{Error, Kind, Result};

/// Larger files are no configurations.
const MAX_BYTES: usize = 64 << 20;

/// What could not be taken over, or needs a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about: a group, a table, a parameter.
    pub about: String,
    pub text: String,
    /// Something is missing in what was written; otherwise it is only to be looked at.
    pub is_missing: bool,
}

impl Note {
    fn missing(about: impl Into<String>, text: impl Into<String>) -> Note {
        Note {
            about: about.into(),
            text: text.into(),
            is_missing: true,
        }
    }

    fn look_at(about: impl Into<String>, text: impl Into<String>) -> Note {
        Note {
            is_missing: false,
            ..Note::missing(about, text)
        }
    }
}

/// A manifest in YAML, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub yaml: String,
    pub notes: Vec<Note>,
    pub groups: usize,
    pub tables: usize,
}

/// What one source says.
#[derive(Debug, Default, PartialEq)]
pub struct Configuration {
    groups: Vec<Group>,
    /// E-Maj's parameters by their key; `None`: the source knows none.
    parameters: Option<Vec<(String, Option<String>)>>,
    notes: Vec<Note>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Group {
    name: String,
    /// `None`: not said.
    rollback: Option<bool>,
    comment: Option<String>,
    is_idle: bool,
    relations: Vec<Relation>,
}

/// A table or a sequence of a group.
#[derive(Debug, Default, Clone, PartialEq)]
struct Relation {
    schema: String,
    name: String,
    kind: Kinds,
    priority: Option<i64>,
    /// Those that are named for the log and its index.
    tablespaces: Vec<String>,
    ignored_triggers: Vec<String>,
    /// E-Maj's own name for the log, in whole or in part.
    has_log_name: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Kinds {
    Table,
    Sequence,
    /// The source does not tell.
    #[default]
    Unsaid,
}

/// Reads a file: JSON when it begins with a brace, else rows of `emaj_group_def`; `name` is the file's.
///
/// # Errors
/// [`Kind::Manifest`]: the file is neither.
pub fn read(name: &str, text: &str) -> Result<Configuration> {
    if text.len() > MAX_BYTES {
        return Err(Error::message(
            Kind::Manifest,
            format!("{name}: the file is larger than 64 MiB"),
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        json::read(name, text)
    } else {
        rows::read(name, text)
    }
}

/// Makes one manifest of all sources; `from` names them in its first line.
///
/// # Errors
/// [`Kind::Manifest`]: two of them say what only one can, or there is no group in them that could be translated.
pub fn import(from: &str, sources: Vec<Configuration>) -> Result<Imported> {
    let mut all = Configuration::default();
    for source in sources {
        for group in source.groups {
            if all.groups.iter().any(|known| known.name == group.name) {
                return Err(Error::message(
                    Kind::Manifest,
                    format!("group `{}` stands in two files", shown(&group.name)),
                )
                .hint("name one file of groups, or such as have no group in common"));
            }
            all.groups.push(group);
        }
        all.notes.extend(source.notes);
        if let Some(parameters) = source.parameters {
            if all.parameters.is_some() {
                return Err(Error::message(Kind::Manifest, "two files hold parameters").hint("name one of them"));
            }
            all.parameters = Some(parameters);
        }
    }
    translate::translate(from, all)
}

/// All that is wrong in a file, as one error.
fn wrong(problems: &[String]) -> Error {
    Error::message(Kind::Manifest, problems.join("\n"))
}

/// A text of a file, cut so that a message stays one.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let cut: String = text.chars().take(80).map(plain).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}
